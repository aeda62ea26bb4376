"""X-ray scans in HDF5 files: Data Exchange, and NXtomo."""
