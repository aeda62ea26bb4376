"""Instruments with known truth: physics of their own, to test what measures them.

Names of the single-particle microscope are given here; what they need is loaded when one is asked for, so
that other instruments start without it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tomofly.simulate.camera import gain_reference
    from tomofly.simulate.exposure import Exposure, expose
    from tomofly.simulate.microscope import SpaMicroscope
    from tomofly.simulate.spa import GAIN_FILE, write_session
    from tomofly.simulate.truth import TRUTH_SUFFIX, Truth, exclusion_mask, truth_beside
    from tomofly.simulate.writing import PARTIAL_SUFFIX

__all__ = [
    "GAIN_FILE",
    "PARTIAL_SUFFIX",
    "TRUTH_SUFFIX",
    "Exposure",
    "SpaMicroscope",
    "Truth",
    "exclusion_mask",
    "expose",
    "gain_reference",
    "truth_beside",
    "write_session",
]

_MODULES = {
    "GAIN_FILE": "spa", "write_session": "spa", "PARTIAL_SUFFIX": "writing", "TRUTH_SUFFIX": "truth",
    "Truth": "truth", "exclusion_mask": "truth", "truth_beside": "truth", "Exposure": "exposure",
    "expose": "exposure", "SpaMicroscope": "microscope", "gain_reference": "camera",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
