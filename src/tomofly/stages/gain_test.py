"""Which of the eight orientations of the gain reference the frames themselves support."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tomofly.imaging.gain import GainOrientationScore, score_gain_orientations
from tomofly.model import Flag, GainParams
from tomofly.stages.gain_reference import clockwise_turns, flip_code

# A part from the middle says enough: the correlation's error is one over the number of its sides' pixels.
CROP_PX = 512
# So many standard deviations above "nothing to do with it", or above another orientation, count as clear.
CLEAR_Z = 6.0


@dataclass(frozen=True)
class GainTest:
    """The correlation with the gain as set, in standard deviations of chance; and what speaks against it."""

    correlation: float
    z_score: float
    flags: tuple[Flag, ...]


def check_gain_orientation(
    mean_frame: npt.NDArray[np.floating], gain: npt.NDArray[np.float32], settings: GainParams
) -> GainTest | None:
    """Score the recorded gain (y, x) in all orientations against the mean of raw frames (y, x).

    None where the settings' orientation does not fit the frame's shape, or the frame says nothing.
    """
    crop = _crop_shape(mean_frame.shape)
    gain_crop = crop if gain.shape == mean_frame.shape else crop[::-1]
    scores = score_gain_orientations(_middle(mean_frame, crop), _middle(gain, gain_crop))
    wanted = _as_scored(clockwise_turns(settings), flip_code(settings))
    by_orientation = {(score.rotation, score.flip): score for score in scores}
    own = by_orientation.get(wanted)
    if own is None:
        return None
    best = scores[0]
    flags: tuple[Flag, ...] = ()
    if best.z_score < CLEAR_Z:
        message = "In no orientation has the gain reference anything to do with these frames"
        flags = (Flag("gain_unrelated", f"{message}: they may be corrected already"),)
    elif best is not own and best.z_score > own.z_score + CLEAR_Z:
        flags = (Flag("gain_orientation", _advice(own, best)),)
    return GainTest(own.correlation, own.z_score, flags)


def _as_scored(turns: int, flip: int) -> tuple[int, int]:
    """An up-down flip is a left-right flip after half a turn more."""
    return ((turns + 2) % 4, 2) if flip == 1 else (turns, flip)


def _advice(own: GainOrientationScore, best: GainOrientationScore) -> str:
    degrees = (-best.rotation % 4) * 90
    flip = {0: "none", 2: "left-right"}[best.flip]
    return (
        f"The gain reference fits better with gain.rotation_deg={degrees} and gain.flip={flip} "
        f"(correlation {best.correlation:.3f}, as set {own.correlation:.3f}); it is used as set"
    )


def _crop_shape(shape: tuple[int, ...]) -> tuple[int, int]:
    """At most 512 pixels in the picture's proportions, of its own parity so that both have one middle."""
    scale = min(1.0, CROP_PX / min(shape))
    rows, columns = (round(size * scale) for size in shape)
    return rows - (shape[0] - rows) % 2, columns - (shape[1] - columns) % 2


def _middle(image: npt.NDArray[np.floating], crop: tuple[int, int]) -> npt.NDArray[np.floating]:
    top, left = ((size - part) // 2 for size, part in zip(image.shape, crop, strict=True))
    return image[top : top + crop[0], left : left + crop[1]]
