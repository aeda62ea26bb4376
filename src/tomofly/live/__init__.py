"""Live X-ray tomography over EPICS: intake, ring, live slices, capture, triggers, and the PVs of all."""
