"""A movie together with what its detector needs: gain and stand-ins for defective pixels."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from tomofly.imaging.defects import DefectRepair, no_repair, plan_repair
from tomofly.imaging.side_by_side import for_each

NATIVE_TYPES = ("uint8", "int8", "uint16", "int16", "float32")


@dataclass(frozen=True)
class CalibratedFrames:
    """Raw frames (frame, y, x) of a type the kernels know, gain (y, x) or (0, 0) for none, and repairs."""

    raw: npt.NDArray[Any]
    gain: npt.NDArray[np.float32]
    repair: DefectRepair

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of a frame."""
        return self.raw.shape[1], self.raw.shape[2]


def calibrate_frames(
    frames: npt.NDArray[Any],
    gain: npt.NDArray[Any] | None = None,
    defects: npt.NDArray[np.bool_] | None = None,
) -> CalibratedFrames:
    """Put frames (frame, y, x) together with a gain (y, x), multiplied, and defects (y, x), True is bad.

    Nothing is copied when the frames are uint8, int8, uint16, int16 or float32 in native byte order.
    Pixels whose gain is not positive and finite count as defects. Raises ValueError for shapes that disagree.
    """
    raw = np.asarray(frames)
    if raw.ndim != 3 or 0 in raw.shape:
        raise ValueError(f"frames have shape {raw.shape}; expected (frame, y, x) with at least one frame")
    if raw.dtype.name not in NATIVE_TYPES or not raw.dtype.isnative:
        raw = raw.astype(raw.dtype.newbyteorder("=") if raw.dtype.name in NATIVE_TYPES else np.float32)
    bad = np.zeros(raw.shape[1:], dtype=np.bool_)
    if defects is not None:
        _require_shape("defects mask", defects, raw.shape[1:])
        bad |= np.asarray(defects, dtype=np.bool_)
    factor = np.zeros((0, 0), dtype=np.float32)
    if gain is not None:
        _require_shape("gain reference", gain, raw.shape[1:])
        factor = np.ascontiguousarray(gain, dtype=np.float32)
        bad |= ~(np.isfinite(factor) & (factor > 0))
    repair = plan_repair(bad) if bad.any() else no_repair(raw.shape[1])
    return CalibratedFrames(np.ascontiguousarray(raw), factor, repair)


def _require_shape(what: str, array: npt.NDArray[Any], shape: tuple[int, ...]) -> None:
    if np.shape(array) != shape:
        raise ValueError(f"the {what} has shape {np.shape(array)}, the frames {shape} (y, x)")


def bin_frames(movie: CalibratedFrames, factor: int, threads: int = 1) -> npt.NDArray[np.float32]:
    """Average blocks of factor x factor pixels of every corrected frame: (frame, y // factor, x // factor).

    A rest at the right and lower edges is left out.
    """
    height, width = movie.shape
    binned = np.empty((len(movie.raw), height // factor, width // factor), dtype=np.float32)
    repair = movie.repair

    def bin_one(index: int) -> None:
        _bin_frame(
            movie.raw[index], movie.gain, repair.row_start, repair.column, repair.source_y, repair.source_x,
            index, factor, binned[index],
        )  # fmt: skip

    for_each(bin_one, len(binned), threads)
    return binned


@njit(cache=True, nogil=True)
def corrected_pixel(frame, gain, y, x):  # type: ignore[no-untyped-def]
    """Return one gain-corrected pixel of a raw frame."""
    value = np.float32(frame[y, x])
    return value * gain[y, x] if gain.size else value


@njit(cache=True, nogil=True, fastmath=True)
def _bin_frame(frame, gain, row_start, column, source_y, source_x, index, factor, out):  # type: ignore[no-untyped-def]
    width = out.shape[1] * factor
    line = np.empty(width, np.float32)
    scale = np.float32(1.0 / (factor * factor))
    for row in range(out.shape[0]):
        line[:] = 0.0
        for y in range(row * factor, (row + 1) * factor):
            if gain.size:
                for x in range(width):
                    line[x] += np.float32(frame[y, x]) * gain[y, x]
            else:
                for x in range(width):
                    line[x] += np.float32(frame[y, x])
            for k in range(row_start[y], row_start[y + 1]):
                if column[k] >= width:
                    break
                j = (index * 7 + k) % source_y.shape[1]
                old = corrected_pixel(frame, gain, y, column[k])
                line[column[k]] += corrected_pixel(frame, gain, source_y[k, j], source_x[k, j]) - old
        for x in range(out.shape[1]):
            total = np.float32(0.0)
            for i in range(factor):
                total += line[x * factor + i]
            out[row, x] = total * scale
