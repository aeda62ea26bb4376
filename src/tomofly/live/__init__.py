"""Live X-ray tomography: EPICS intake, ring, live reconstruction, capture, triggers, and the PVs that control them."""
