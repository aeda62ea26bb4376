"""Direct filtered back-projection: every pixel reads every projection, by linear interpolation.

Kak & Slaney (1988). Slower than gridding and free of its assumptions: what that is measured against.
"""

import numpy as np
import numpy.typing as npt
import scipy.fft
from numba import njit

from tomofly.imaging.side_by_side import for_each
from tomofly.imaging.xray.angular_weights import angular_weights
from tomofly.imaging.xray.blocks import LANES
from tomofly.imaging.xray.filters import padded_length
from tomofly.imaging.xray.lane_sums import add_two_rows

FloatArray = npt.NDArray[np.float32]

SLICES = LANES
"""Slices done together: they share the place and the weights of each sample, and lie side by side."""

_TILE = 24
_ANGLES = 16


def back_project_slices(
    projections: FloatArray,
    angles_deg: npt.ArrayLike,
    centre: float,
    response: npt.NDArray[np.floating],
    *,
    threads: int = 1,
) -> FloatArray:
    """Reconstruct slices (slice, y, x), in the inverse of a pixel, from absorption (angle, slice, s).

    ``angles_deg`` in any order and range. ``centre`` is the detector pixel (0: the middle of the first)
    onto which the axis projects. ``response`` is that of the filter at the frequencies of ``rfft`` of
    ``padded_length(width)``. Beyond the ends of the detector there is nothing. Raises ValueError for numbers
    that make no slice.
    """
    theta = np.deg2rad(np.asarray(angles_deg, np.float64))
    count, slices, width = projections.shape
    if theta.shape != (count,) or response.shape != (padded_length(width) // 2 + 1,):
        raise ValueError("as many angles as projections, and a response of the padded width, are needed")
    if not (np.isfinite(theta).all() and np.isfinite(centre)):
        raise ValueError("angles and centre must be numbers")
    result = np.empty((slices, width, width), np.float32)
    weights = angular_weights(angles_deg)
    cosines, sines = np.cos(theta).astype(np.float32), np.sin(theta).astype(np.float32)
    per_side = -(-width // _TILE)
    for first in range(0, slices, SLICES):
        chosen = slice(first, min(slices, first + SLICES))
        packed = _filtered(projections[:, chosen], weights, response, threads)

        def one_tile(index: int, packed: FloatArray = packed, chosen: slice = chosen) -> None:
            y, x = divmod(index, per_side)
            tile = result[chosen]
            _back_project_tile(packed, cosines, sines, np.float32(centre), y * _TILE, x * _TILE, tile)

        for_each(one_tile, per_side * per_side, threads)
    return result


def batch_bytes(width: int, angles: int, threads: int) -> int:
    """Memory that a batch of ``SLICES`` slices takes, beside projections and result."""
    # Each thread has padded rows of some projections, before and after, and their spectra.
    filtering = _ANGLES * SLICES * padded_length(width) * 3 * 4
    return 4 * SLICES * angles * (width + 2) + threads * filtering


def _filtered(
    projections: FloatArray,
    weights: npt.NDArray[np.float64],
    response: npt.NDArray[np.floating],
    threads: int,
) -> FloatArray:
    """Filter and weight rows; give (angle, s, slice) with one more s, of nothing, at either end."""
    count, slices, width = projections.shape
    packed = np.zeros((count, width + 2, SLICES), np.float32)
    padded = padded_length(width)

    def some_angles(block: int) -> None:
        chosen = slice(block * _ANGLES, (block + 1) * _ANGLES)
        spectra = scipy.fft.rfft(projections[chosen], padded, axis=2)
        spectra *= (weights[chosen, None, None] * response).astype(np.float32)
        rows = scipy.fft.irfft(spectra, padded, axis=2)[..., :width]
        packed[chosen, 1:-1, :slices] = rows.transpose(0, 2, 1)

    for_each(some_angles, -(-count // _ANGLES), threads)
    return packed


@njit(cache=True, nogil=True, fastmath=True)
def _back_project_tile(
    packed: FloatArray,
    cosines: FloatArray,
    sines: FloatArray,
    centre: np.float32,
    top: int,
    left: int,
    out: FloatArray,
) -> None:  # pragma: no cover - compiled
    """Sum all projections over one tile of pixels of all slices (slice, y, x) of a batch."""
    slices, side, _ = out.shape
    rows, columns = min(_TILE, side - top), min(_TILE, side - left)
    last = np.float32(side)
    total = np.zeros((_TILE, _TILE, SLICES), np.float32)
    for angle in range(len(cosines)):
        step = cosines[angle]
        for row in range(rows):
            y = np.float32(top + row - side // 2)
            # the first pixel of the packed row is empty, so all places are one further on
            start = np.float32(left - side // 2) * step - y * sines[angle] + centre + np.float32(1)
            for column in range(columns):
                s = start + np.float32(column) * step
                if s <= 0 or s >= last + 1:
                    continue
                at = int(s)
                after = s - np.float32(at)
                first = angle * packed.shape[1] + at
                add_two_rows(total, row * _TILE + column, packed, first, np.float32(1) - after, after)
    for row in range(rows):
        for column in range(columns):
            for b in range(slices):
                out[b, top + row, left + column] = total[row, column, b]
