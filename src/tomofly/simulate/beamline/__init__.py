"""A tomography beamline with known truth: physics and EPICS servers of its own."""
