"""Small pictures of results, drawn with Pillow: quick enough to come with every item."""

from tomofly.stages.previews.drift import draw_drift
from tomofly.stages.previews.micrograph import draw_micrograph, draw_picks
from tomofly.stages.previews.profile import draw_profile
from tomofly.stages.previews.spectrum import draw_spectrum

__all__ = ["draw_drift", "draw_micrograph", "draw_picks", "draw_profile", "draw_spectrum"]
