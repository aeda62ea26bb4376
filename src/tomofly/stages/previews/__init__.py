"""Small pictures of results, drawn with Pillow: quick enough to come with every item."""

from tomofly.stages.previews.drift import draw_drift
from tomofly.stages.previews.micrograph import draw_micrograph, draw_picks
from tomofly.stages.previews.profile import draw_profile
from tomofly.stages.previews.spectrum import draw_spectrum
from tomofly.stages.previews.tilt_rings import TiltRings, draw_tilt_rings
from tomofly.stages.previews.tilts import TiltCurve, draw_over_tilts
from tomofly.stages.previews.tomogram import VolumeMarks, draw_sections
from tomofly.stages.previews.tomogram_movie import write_slices_movie, write_tilts_movie

__all__ = [
    "TiltCurve",
    "TiltRings",
    "VolumeMarks",
    "draw_drift",
    "draw_micrograph",
    "draw_over_tilts",
    "draw_picks",
    "draw_profile",
    "draw_sections",
    "draw_spectrum",
    "draw_tilt_rings",
    "write_slices_movie",
    "write_tilts_movie",
]
