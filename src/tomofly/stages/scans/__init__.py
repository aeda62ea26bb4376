"""The stages of an X-ray scan: from captured files to volumes."""
