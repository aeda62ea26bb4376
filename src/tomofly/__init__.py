"""tomofly: electron and X-ray tomography data, processed while the instrument is still collecting them.

``tomofly.Session`` makes, runs and reads sessions; the functions of ``tomofly.imaging`` that do the work of
single stages can be called on arrays. Each is loaded when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tomofly._version import __version__

if TYPE_CHECKING:
    from tomofly.imaging.ctf_estimate import estimate_ctf
    from tomofly.imaging.exclusion import exclusion_mask
    from tomofly.imaging.extraction import extract_boxes, normalise_relion
    from tomofly.imaging.frame_sum import sum_frames
    from tomofly.imaging.motion import align_frames
    from tomofly.imaging.picking import find_particles, select_picks
    from tomofly.services.session_api import Session

_LOADED_ON_USE = {
    "Session": "tomofly.services.session_api",
    "align_frames": "tomofly.imaging.motion",
    "sum_frames": "tomofly.imaging.frame_sum",
    "estimate_ctf": "tomofly.imaging.ctf_estimate",
    "exclusion_mask": "tomofly.imaging.exclusion",
    "find_particles": "tomofly.imaging.picking",
    "select_picks": "tomofly.imaging.picking",
    "extract_boxes": "tomofly.imaging.extraction",
    "normalise_relion": "tomofly.imaging.extraction",
}

__all__ = [
    "Session",
    "__version__",
    "align_frames",
    "estimate_ctf",
    "exclusion_mask",
    "extract_boxes",
    "find_particles",
    "normalise_relion",
    "select_picks",
    "sum_frames",
]


def __getattr__(name: str) -> Any:
    if name not in _LOADED_ON_USE:
        raise AttributeError(f"module 'tomofly' has no attribute {name!r}")
    return getattr(import_module(_LOADED_ON_USE[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
