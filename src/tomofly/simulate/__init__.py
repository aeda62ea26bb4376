"""A single-particle microscope with known truth: physics of its own, to test what measures it."""

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
