"""Sums of aligned frames: plain, dose-weighted, even and odd, in one pass over the raw movie."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

from tomofly.imaging.calibrated_frames import CalibratedFrames, calibrate_frames, corrected_pixel
from tomofly.imaging.dose_weighting import (
    accumulated_dose,
    dose_weights,
    normalised_dose_weights,
    separable_weights,
)
from tomofly.imaging.fourier import (
    cropped_shape,
    fourier_crop,
    inverse_real_transform,
    real_transform,
    rfft_radius,
)
from tomofly.imaging.interpolation import STEPS, TAPS, tap_table
from tomofly.imaging.motion import FrameAlignment
from tomofly.imaging.side_by_side import for_each

FloatImage = npt.NDArray[np.float32]

# Within a tile the shift is taken as constant. With a field that changes by 1 px over 1000 px the error is
# 0.03 px.
TILE = 64
_SOURCE = TILE + TAPS - 1
# So many shifted tiles are kept in the cache before they are added to the sums together.
_BATCH = 4


@dataclass(frozen=True)
class FrameSums:
    """Pictures (y, x) in units of one mean corrected frame.

    average: plain mean of the aligned frames; dose_weighted: see normalised_dose_weights; even, odd: means of
    frames 0, 2, 4, ... and 1, 3, 5, ... of the chosen range. None where not asked for.
    """

    average: FloatImage
    dose_weighted: FloatImage | None
    even: FloatImage | None
    odd: FloatImage | None


def sum_frames(
    frames: npt.NDArray[Any],
    alignment: FrameAlignment | None,
    *,
    pixel_size_angstrom: float,
    gain: npt.NDArray[Any] | None = None,
    defects: npt.NDArray[np.bool_] | None = None,
    dose_per_frame: npt.ArrayLike | None = None,
    pre_exposure: float = 0.0,
    voltage_kv: float = 300.0,
    binning: float = 1.0,
    frame_range: tuple[int, int] | None = None,
    even_odd: bool = False,
    threads: int = 1,
) -> FrameSums:
    """Shift the frames (frame, y, x) by an alignment (None: not at all) and add them up.

    gain: (y, x), multiplied; defects: (y, x), True is bad; dose_per_frame: e/Å², one number or one per
    frame, None for no dose weighting; pre_exposure: e/Å² before the first frame; binning: Fourier cropping
    of the sums, at least 1; frame_range: first and last-plus-one frame to be added. The dose of frames left
    out still counts. Each tile of 64 x 64 pixels is moved by the shift at its centre, global and local in
    one interpolation with an eight-pixel windowed sinc. Beyond its edge a frame is continued by reflection,
    so that noise stays even. Raises ValueError for shapes, ranges or doses that make no sense.
    """
    movie = calibrate_frames(frames, gain, defects)
    chosen = _chosen_frames(len(movie.raw), frame_range)
    even = chosen * (np.cumsum(chosen) % 2 == 1)
    weights = [chosen, even] if even_odd else [chosen]
    temporal = spectral = None
    if dose_per_frame is not None:
        dose = accumulated_dose(len(movie.raw), dose_per_frame, pre_exposure)[chosen > 0]
        temporal, spectral = _dose_weight_factors(dose, pixel_size_angstrom, voltage_kv)
        weights.extend(_spread(temporal, chosen).T)
    sums = weighted_sums(movie, alignment, np.stack(weights, axis=1), threads)
    new_shape = cropped_shape(movie.shape, binning)
    weighted = None
    if spectral is not None:
        weighted = _combine(sums[-len(spectral) :], spectral, new_shape, threads)
    n, n_even = chosen.sum(), even.sum()
    means = [sums[0] / np.float32(n)]
    if even_odd:
        odd = np.subtract(sums[0], sums[1], out=sums[0])
        means += [sums[1] / np.float32(n_even), odd / np.float32(max(n - n_even, 1))]
    means = [_resample(mean, new_shape, threads) for mean in means]
    even_mean, odd_mean = means[1:] if even_odd else (None, None)
    return FrameSums(average=means[0], dose_weighted=weighted, even=even_mean, odd=odd_mean)


def weighted_sums(
    movie: CalibratedFrames,
    alignment: FrameAlignment | None,
    weights: npt.NDArray[np.floating],
    threads: int = 1,
) -> npt.NDArray[np.float32]:
    """Return one sum (k, y, x) of the aligned frames for each column of weights (frames, k)."""
    height, width = movie.shape
    used = np.flatnonzero(np.any(weights != 0, axis=1))
    tiles_y, tiles_x = -(-height // TILE), -(-width // TILE)
    centre_y = (np.arange(tiles_y) + 0.5) * TILE - 0.5
    centre_x = (np.arange(tiles_x) + 0.5) * TILE - 0.5
    shifts = np.zeros((len(movie.raw), tiles_y, tiles_x, 2))
    if alignment is not None:
        shifts = alignment.shift_field(centre_y, centre_x)
    sums = np.zeros((weights.shape[1], height, width), dtype=np.float32)
    shift_steps = np.rint(-shifts * STEPS).astype(np.int64)
    table = tap_table()
    columns = np.ascontiguousarray(weights, dtype=np.float32)
    repair = movie.repair

    def sum_tile_row(tile_row: int) -> None:
        _sum_tile_row(
            movie.raw, movie.gain, repair.row_start, repair.column, repair.source_y, repair.source_x, used,
            shift_steps[:, tile_row], table, columns, tile_row * TILE, sums,
        )  # fmt: skip

    for_each(sum_tile_row, tiles_y, threads)
    return sums


def _chosen_frames(n_frames: int, frame_range: tuple[int, int] | None) -> npt.NDArray[np.float64]:
    first, last = frame_range if frame_range is not None else (0, n_frames)
    if not 0 <= first < last <= n_frames:
        raise ValueError(f"frame range ({first}, {last}) holds no frame of a movie of {n_frames}")
    chosen = np.zeros(n_frames)
    chosen[first:last] = 1.0
    return chosen


def _spread(temporal: npt.NDArray[np.float64], chosen: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Put the factors of the chosen frames in the places of these frames, zero elsewhere."""
    full = np.zeros((chosen.size, temporal.shape[1]))
    full[chosen > 0] = temporal
    return full


# Dose weights are tabulated at this many frequencies from 0 to the corner of Fourier space.
_TABLE = 512
_HIGHEST_FREQUENCY = float(np.sqrt(0.5))


def _dose_weight_factors(
    dose: npt.NDArray[np.float64], pixel_size_angstrom: float, voltage_kv: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    if not pixel_size_angstrom > 0:
        raise ValueError(f"pixel size is {pixel_size_angstrom} Å; dose weighting needs a positive one")
    frequency = np.linspace(0.0, _HIGHEST_FREQUENCY, _TABLE) / pixel_size_angstrom
    return separable_weights(normalised_dose_weights(dose_weights(frequency, dose, voltage_kv)))


def _combine(
    sums: npt.NDArray[np.float32],
    spectral: npt.NDArray[np.float64],
    new_shape: tuple[int, int],
    threads: int,
) -> FloatImage:
    """Add the transforms of the temporal sums, each times its spectral factor."""
    shape = sums.shape[1], sums.shape[2]
    radius = rfft_radius(shape)
    total = np.zeros(radius.shape, dtype=np.complex64)
    table = spectral.astype(np.float32)
    scale = np.float32((_TABLE - 1) / _HIGHEST_FREQUENCY)
    for image, factors in zip(sums, table, strict=True):
        _add_filtered(total, real_transform(image, threads), radius, factors, scale)
    return inverse_real_transform(fourier_crop(total, shape, new_shape), new_shape, threads)


def _resample(image: FloatImage, new_shape: tuple[int, int], threads: int) -> FloatImage:
    shape = image.shape[0], image.shape[1]
    if new_shape == shape:
        return image
    spectrum = fourier_crop(real_transform(image, threads), shape, new_shape)
    return inverse_real_transform(spectrum, new_shape, threads)


@njit(cache=True, nogil=True, fastmath=True)
def _add_filtered(total, spectrum, radius, factors, scale):  # type: ignore[no-untyped-def]
    for y in range(total.shape[0]):
        for x in range(total.shape[1]):
            position = radius[y, x] * scale
            below = min(int(position), factors.size - 2)
            part = position - np.float32(below)
            total[y, x] += spectrum[y, x] * (factors[below] + part * (factors[below + 1] - factors[below]))


@njit(cache=True, nogil=True)
def _reflect(index, size):  # type: ignore[no-untyped-def]
    """Continue 0..size-1 by reflection at both edges."""
    period = 2 * size
    index = index % period
    return index if index < size else period - 1 - index


@njit(cache=True, nogil=True)
def _load_row(frame, gain, repair_row, column, source_y, source_x, f, y, x0, line):  # type: ignore[no-untyped-def]
    """Fill line with corrected pixels x0, x0 + 1, ... of row y; repair_row is this row's range of defects."""
    width = frame.shape[1]
    if x0 >= 0 and x0 + _SOURCE <= width:
        if gain.size:
            for i in range(_SOURCE):
                line[i] = np.float32(frame[y, x0 + i]) * gain[y, x0 + i]
        else:
            for i in range(_SOURCE):
                line[i] = np.float32(frame[y, x0 + i])
    else:
        for i in range(_SOURCE):
            line[i] = corrected_pixel(frame, gain, y, _reflect(x0 + i, width))
    for k in range(repair_row[0], repair_row[1]):
        j = (f * 7 + k) % source_y.shape[1]
        value = corrected_pixel(frame, gain, source_y[k, j], source_x[k, j])
        inside = column[k] - x0
        if 0 <= inside < _SOURCE:
            line[inside] = value
        if x0 < 0 and 0 <= -1 - column[k] - x0 < _SOURCE:
            line[-1 - column[k] - x0] = value
        mirrored = 2 * width - 1 - column[k] - x0
        if 0 <= mirrored < _SOURCE:
            line[mirrored] = value


@njit(cache=True, nogil=True, fastmath=True)
def _shift_tile(source, tap_y, tap_x, rows, tile):  # type: ignore[no-untyped-def]
    """Interpolate source (71, 71) along x into rows (71, 64), then along y into tile (64, 64)."""
    for y in range(_SOURCE):
        for x in range(TILE):
            rows[y, x] = (
                tap_x[0] * source[y, x] + tap_x[1] * source[y, x + 1]
                + tap_x[2] * source[y, x + 2] + tap_x[3] * source[y, x + 3]
                + tap_x[4] * source[y, x + 4] + tap_x[5] * source[y, x + 5]
                + tap_x[6] * source[y, x + 6] + tap_x[7] * source[y, x + 7]
            )  # fmt: skip
    for y in range(TILE):
        for x in range(TILE):
            tile[y, x] = (
                tap_y[0] * rows[y, x] + tap_y[1] * rows[y + 1, x]
                + tap_y[2] * rows[y + 2, x] + tap_y[3] * rows[y + 3, x]
                + tap_y[4] * rows[y + 4, x] + tap_y[5] * rows[y + 5, x]
                + tap_y[6] * rows[y + 6, x] + tap_y[7] * rows[y + 7, x]
            )  # fmt: skip


@njit(cache=True, nogil=True, fastmath=True)
def _add_batch(total, tiles, weights, used, first, count):  # type: ignore[no-untyped-def]
    """Add count shifted tiles to every sum, each with its frame's weight."""
    for k in range(total.shape[0]):
        if count == _BATCH:
            w0, w1 = weights[used[first], k], weights[used[first + 1], k]
            w2, w3 = weights[used[first + 2], k], weights[used[first + 3], k]
            for y in range(TILE):
                for x in range(TILE):
                    total[k, y, x] += (
                        w0 * tiles[0, y, x] + w1 * tiles[1, y, x] + w2 * tiles[2, y, x] + w3 * tiles[3, y, x]
                    )
            continue
        for i in range(count):
            w0 = weights[used[first + i], k]
            for y in range(TILE):
                for x in range(TILE):
                    total[k, y, x] += w0 * tiles[i, y, x]


@njit(cache=True, nogil=True)
def _sum_tile_row(  # type: ignore[no-untyped-def]
    raw, gain, row_start, column, source_y, source_x, used, steps, table, weights, y_tile, sums
):
    """Sum all frames over one row of tiles; everything between load and store stays in the cache."""
    height, width = raw.shape[1], raw.shape[2]
    source = np.empty((_SOURCE, _SOURCE), np.float32)
    rows = np.empty((_SOURCE, TILE), np.float32)
    tiles = np.empty((_BATCH, TILE, TILE), np.float32)
    total = np.empty((sums.shape[0], TILE, TILE), np.float32)
    for tile_column in range(steps.shape[1]):
        x_tile = tile_column * TILE
        total[:] = 0.0
        for first in range(0, used.size, _BATCH):
            count = min(_BATCH, used.size - first)
            for i in range(count):
                f = used[first + i]
                y_step, x_step = steps[f, tile_column, 0], steps[f, tile_column, 1]
                y0 = y_tile + y_step // STEPS - (TAPS // 2 - 1)
                x0 = x_tile + x_step // STEPS - (TAPS // 2 - 1)
                for r in range(_SOURCE):
                    y = _reflect(y0 + r, height)
                    repair_row = (row_start[y], row_start[y + 1])
                    _load_row(raw[f], gain, repair_row, column, source_y, source_x, f, y, x0, source[r])
                _shift_tile(source, table[y_step % STEPS], table[x_step % STEPS], rows, tiles[i])
            _add_batch(total, tiles, weights, used, first, count)
        y_end, x_end = min(TILE, height - y_tile), min(TILE, width - x_tile)
        sums[:, y_tile : y_tile + y_end, x_tile : x_tile + x_end] = total[:, :y_end, :x_end]
