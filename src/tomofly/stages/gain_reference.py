"""The gain reference of a session, read once per process and turned as the settings say."""

from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tomofly.formats.gain import read_gain
from tomofly.formats.movie import read_header
from tomofly.imaging.gain import multiplicative_gain, orient_gain
from tomofly.model import BadInput, GainParams
from tomofly.stages.faults import blamed_on_input

FloatImage = npt.NDArray[np.float32]

_FLIPS = {"none": 0, "up-down": 1, "left-right": 2}


def clockwise_turns(gain: GainParams) -> int:
    """The rotation of the settings, anticlockwise degrees, as quarter turns clockwise."""
    return (-gain.rotation_deg // 90) % 4


def flip_code(gain: GainParams) -> int:
    """The flip of the settings as RELION counts it: 0 none, 1 up-down, 2 left-right."""
    return _FLIPS[gain.flip]


def recorded_gain(gain: GainParams) -> FloatImage | None:
    """The factor per pixel (y, x) as the reference was recorded; None where the settings name none."""
    if not gain.path:
        return None
    path = Path(gain.path).expanduser()
    with blamed_on_input(f"The gain reference {path.name} cannot be used", "Check the settings of the gain"):
        stat = path.stat()
        return _read(path, gain.divide, stat.st_mtime_ns, stat.st_size)


def gain_for_frames(gain: GainParams, frame_shape: tuple[int, int]) -> FloatImage | None:
    """The factor per pixel of frames (y, x), turned as the settings say; events placed finer repeat it.

    Raises BadInput naming both sizes where they do not fit.
    """
    if not gain.path:
        return None
    path = Path(gain.path).expanduser()
    with blamed_on_input(f"The gain reference {path.name} cannot be used", "Check the settings of the gain"):
        stat = path.stat()
        oriented = _oriented(
            path, gain.divide, clockwise_turns(gain), flip_code(gain), stat.st_mtime_ns, stat.st_size
        )
    factor = frame_shape[0] // oriented.shape[0]
    if factor in (2, 4) and frame_shape == (factor * oriented.shape[0], factor * oriented.shape[1]):
        return np.ascontiguousarray(oriented.repeat(factor, axis=0).repeat(factor, axis=1))
    require_gain_fits(gain, oriented.shape, frame_shape)
    return oriented


def require_gain_fits(gain: GainParams, shape: tuple[int, ...], frame_shape: tuple[int, int]) -> None:
    """Raise BadInput naming both sizes where a gain of ``shape`` (y, x), turned, is not for these frames."""
    if tuple(shape) == tuple(frame_shape):
        return
    turned = f" after a rotation by {gain.rotation_deg}°" if gain.rotation_deg else ""
    raise BadInput(
        f"The gain reference {Path(gain.path).name} has {shape[1]} x {shape[0]} pixels{turned}, "
        f"the movie {frame_shape[1]} x {frame_shape[0]}",
        "Set gain.path to the reference of this camera mode, or correct gain.rotation_deg",
    )


def gain_shape(gain: GainParams) -> tuple[int, int] | None:
    """Rows and columns of the reference, turned as the settings say, from its header alone."""
    if not gain.path:
        return None
    path = Path(gain.path).expanduser()
    with blamed_on_input(f"The gain reference {path.name} cannot be used", "Check the settings of the gain"):
        shape = read_header(path).shape_yx
    return shape if clockwise_turns(gain) % 2 == 0 else shape[::-1]


# The file's time and size are part of what it is remembered by; the caches spare reading 64 MB per movie.
@lru_cache(maxsize=1)
def _read(path: Path, divide: bool, _mtime_ns: int, _size: int) -> FloatImage:
    return multiplicative_gain(read_gain(path).pixels, is_divisor=divide)


@lru_cache(maxsize=1)
def _oriented(path: Path, divide: bool, turns: int, flip: int, mtime_ns: int, size: int) -> FloatImage:
    oriented = orient_gain(_read(path, divide, mtime_ns, size), turns, flip)
    oriented.setflags(write=False)
    return oriented
