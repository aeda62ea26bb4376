"""The mathematics of X-ray tomography."""
