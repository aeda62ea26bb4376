"""The power spectrum of a micrograph, averaged over overlapping tiles (Welch 1967)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.fft

# Cosine tapers of a quarter tile on each side and a hop of three quarters: the tapers of neighbours
# add up, so nearly every pixel counts once, at less than twice the cost of tiles without overlap.
TAPER_FRACTION = 0.25
# Frequencies beyond 1/2.8 Å⁻¹ carry no Thon rings in practice; cropping there keeps the rings wide in bins.
FINEST_RESOLUTION_ANGSTROM = 2.8
SMALLEST_TILE_PX = 64

FloatArray = npt.NDArray[np.float64]
Float32Array = npt.NDArray[np.float32]
LagArray = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class PowerSpectrum:
    """A tile-averaged power spectrum in the layout of `rfft2`, zero frequency at [0, 0].

    `power` (y, x // 2 + 1) float64, 1 on average; `step` Å⁻¹ between bins; `tile_px` and
    `tile_length_angstrom` the side of a tile; `degrees_of_freedom` the number of independent complex samples
    that an average over the whole half plane has; `independent_tiles` the number of those behind one sample.
    """

    power: FloatArray
    step: float
    tile_px: int
    tile_length_angstrom: float
    degrees_of_freedom: float
    independent_tiles: float

    @property
    def box_px(self) -> int:
        """Side of the full spectrum in bins."""
        return int(self.power.shape[0])

    @property
    def nyquist(self) -> float:
        """Highest frequency along an axis, Å⁻¹."""
        return 0.5 * self.box_px * self.step


def tile_taper(length: int) -> npt.NDArray[np.float32]:
    """One axis of the tile window: flat in the middle, raised-cosine edges; float32 (length,)."""
    edge = round(TAPER_FRACTION * length)
    window = np.ones(length)
    ramp = np.sin(0.5 * np.pi * (np.arange(edge) + 0.5) / edge)
    window[:edge] = ramp
    window[length - edge :] = ramp[::-1]
    return window.astype(np.float32)


def taper_coherence(lag_fraction: LagArray) -> Float32Array:
    """How much of a ripple in the spectrum survives the finite tile.

    A ripple of period 1/lag in the spectrum is a correlation at distance `lag` in the image; the window keeps
    its own normalised autocorrelation there. `lag_fraction`: lag / tile length, any shape. Returns 0 to 1.
    """
    return _at_lag(lag_fraction, _taper_tables()[0])


def taper_noise(lag_fraction: LagArray) -> Float32Array:
    """Variance of the noise that a ripple meets, over that of white noise on the samples; 0 to 1.

    Overlapping, tapered tiles give neighbouring samples a common part. Against a fast ripple that part
    averages out, so the noise falls with the lag, as the ripple itself does.
    """
    return _at_lag(lag_fraction, _taper_tables()[1])


@lru_cache(maxsize=1)
def _taper_tables() -> tuple[Float32Array, Float32Array]:
    """Of an endless row of tiles: the weight given to pixel pairs at each lag, as sum and sum squared."""
    samples = 256
    window = np.concatenate((tile_taper(samples).astype(np.float64), np.zeros(samples)))
    hop = round((1.0 - TAPER_FRACTION) * samples)
    signal, noise = np.zeros(samples), np.zeros(samples)
    for lag in range(samples):
        pairs = window[:samples] * window[lag : lag + samples]
        cover = np.zeros(hop)
        np.add.at(cover, np.arange(samples) % hop, pairs)
        signal[lag], noise[lag] = cover.sum(), np.square(cover).sum()
    # One entry more, for everything beyond a tile.
    tables = (np.append(signal / signal[0], 0.0), np.append(noise / noise[0], 0.0))
    return tables[0].astype(np.float32), tables[1].astype(np.float32)


def _at_lag(lag_fraction: LagArray, table: Float32Array) -> Float32Array:
    """Read a table over lags 0 to 1 tile, to the nearest of its entries; nothing is left beyond."""
    last = table.size - 1
    index = np.minimum(np.abs(lag_fraction) * last + 0.5, last).astype(np.int32)
    return table[index]


def tile_power_spectrum(
    image: npt.NDArray[Any], pixel_size_angstrom: float, box_px: int = 512, threads: int = 1
) -> PowerSpectrum:
    """Average power spectrum of the tiles of `image`.

    `image` (y, x) or (sum, y, x), any real type: the spectra of the sums are averaged. A tile covers as many
    pixels as make `box_px` bins reach 2.8 Å (fewer are never used), so small pixels need no resampling of the
    image. Each tile counts relative to its own mean power, so that contamination does not rule the average.
    Raises ValueError for images that hold no signal, NaN, or that are too small.
    """
    stack = checked_stack(image)
    tile = tile_length_px(stack.shape[1:], pixel_size_angstrom, box_px)
    crop = min(box_px, tile)
    corners = [
        (frame, y, x)
        for frame in range(stack.shape[0])
        for y in tile_starts(stack.shape[1], tile)
        for x in tile_starts(stack.shape[2], tile)
    ]
    taper = tile_taper(tile)
    chunks = [corners[i :: max(1, threads)] for i in range(max(1, threads))]
    with ThreadPoolExecutor(max_workers=len(chunks)) as pool:
        sums = list(pool.map(lambda part: _sum_of_tiles(stack, part, taper, crop), chunks))
    power = np.sum([total for total, _ in sums], axis=0)
    count = sum(used for _, used in sums)
    if count == 0:
        raise ValueError("the image is constant or zero everywhere: it has no power spectrum")
    samples = stack.shape[0] * _independent_pixels(stack.shape[1:], tile, taper) * (crop / tile) ** 2 / 2
    return PowerSpectrum(
        power=power / count,
        step=1.0 / (tile * pixel_size_angstrom),
        tile_px=tile,
        tile_length_angstrom=tile * pixel_size_angstrom,
        degrees_of_freedom=samples,
        independent_tiles=count * _independent_share(stack.shape[1:], tile, taper),
    )


def checked_stack(image: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """`image` as (sum, y, x); raises ValueError where it cannot have a power spectrum."""
    array = np.asarray(image)
    if array.ndim not in (2, 3) or array.dtype.kind not in "fiub":
        raise ValueError(
            f"expected a real image (y, x) or stack (sum, y, x); got shape {array.shape}, type {array.dtype}"
        )
    stack = array[None] if array.ndim == 2 else array
    if stack.shape[0] == 0 or min(stack.shape[1:]) < SMALLEST_TILE_PX:
        raise ValueError(
            f"an image of {stack.shape[1:]} pixels (y, x) is too small: each side needs {SMALLEST_TILE_PX}"
        )
    # The sum is finite exactly when every pixel is, and one pass without a temporary finds it out.
    if array.dtype.kind == "f" and not np.isfinite(np.sum(stack, dtype=np.float64)):
        raise ValueError("the image holds NaN or infinite values")
    return stack


def tile_length_px(shape_yx: tuple[int, ...], pixel_size_angstrom: float, box_px: int) -> int:
    """Side of a tile in pixels: even, quick to transform, at most the image."""
    if not (np.isfinite(pixel_size_angstrom) and pixel_size_angstrom > 0):
        raise ValueError(f"the pixel size must be positive, in Å; got {pixel_size_angstrom}")
    if box_px < SMALLEST_TILE_PX or box_px % 2:
        raise ValueError(f"box_px must be even and at least {SMALLEST_TILE_PX}; got {box_px}")
    oversampling = max(1.0, 0.5 * FINEST_RESOLUTION_ANGSTROM / pixel_size_angstrom)
    longest = min(shape_yx) - min(shape_yx) % 2
    tile = round(box_px * oversampling / 2) * 2
    while scipy.fft.next_fast_len(tile, real=True) != tile:
        tile += 2
    return min(tile, longest)


def tile_starts(length: int, tile: int) -> list[int]:
    """First pixels of evenly spread tiles that cover an axis."""
    hop = (1.0 - TAPER_FRACTION) * tile
    count = 1 + int(np.ceil((length - tile) / hop - 0.1)) if length > tile else 1
    return [round(start) for start in np.linspace(0, length - tile, count)]


def _sum_of_tiles(
    stack: npt.NDArray[Any], corners: list[tuple[int, int, int]], taper: npt.NDArray[np.float32], crop: int
) -> tuple[FloatArray, int]:
    """Sum of the cropped, self-normalised power spectra of some tiles, and how many had any power."""
    tile = taper.size
    half = crop // 2
    total = np.zeros((crop, half + 1))
    # Any unit of the pixels must survive squaring in single precision.
    spread = float(np.std(stack[:, ::7, ::5], dtype=np.float64))
    window = np.outer(taper, taper / (spread or 1.0)).astype(np.float32)
    pixels = np.empty((tile, tile), dtype=np.float32)
    power = np.empty((crop, half + 1), dtype=np.float32)
    used = 0
    for frame, y, x in corners:
        part = stack[frame, y : y + tile, x : x + tile]
        np.subtract(part, part.mean(dtype=np.float64), out=pixels, casting="unsafe")
        pixels *= window
        transform = scipy.fft.rfft2(pixels)
        # Keep the low frequencies: rows 0..half-1 and -half..-1, columns 0..half.
        for kept, rows in ((power[:half], transform[:half]), (power[half:], transform[tile - half :])):
            np.square(np.abs(rows[:, : half + 1], out=kept), out=kept)
        # The level is taken where |ky| is large: the steep low frequencies say little of the tile's share.
        level = float(power[crop // 8 : crop - crop // 8].mean(dtype=np.float64))
        if level > 0 and np.isfinite(level):
            power /= level
            total += power
            used += 1
    return total, used


def _independent_pixels(shape_yx: tuple[int, ...], tile: int, taper: npt.NDArray[np.float32]) -> float:
    """Pixels that the tiles use, each counted by how evenly it is used: (sum c)² / sum c²."""
    pixels = 1.0
    for length in shape_yx:
        cover = np.zeros(length)
        for start in tile_starts(length, tile):
            cover[start : start + tile] += np.square(taper, dtype=np.float64)
        pixels *= float(cover.sum() ** 2 / np.square(cover).sum())
    return pixels


def _independent_share(shape_yx: tuple[int, ...], tile: int, taper: Float32Array) -> float:
    """Independent tiles per tile: their pixels in common make the spectra of neighbours alike."""
    padded = np.concatenate((taper, np.zeros(tile, dtype=np.float32)))
    share = 1.0
    for length in shape_yx:
        starts = np.array(tile_starts(length, tile))
        lags = np.minimum(np.abs(starts[:, None] - starts[None, :]), tile).ravel()
        alike = np.array([taper @ padded[lag : lag + tile] for lag in lags]) / float(taper @ taper)
        share *= starts.size / float(np.square(alike).sum())
    return share
