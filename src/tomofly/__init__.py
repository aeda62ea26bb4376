"""tomofly: electron and X-ray tomography data, processed while the instrument is still collecting them."""

from tomofly._version import __version__

__all__ = ["__version__"]
