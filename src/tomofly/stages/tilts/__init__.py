"""The stages of a tilt series: from tilts as they arrive to picks in tomograms."""
