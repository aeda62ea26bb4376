"""The power spectra of one tilt's tiles, kept apart: what the CTF of a tilted specimen is fitted to.

Each tile of a tilted image has a defocus of its own, so the spectra must not be averaged before the geometry
is known. They are reduced to cells of equal area, by azimuth and squared frequency, in which Thon rings are
evenly spaced: a tilt of 4096 × 4096 pixels becomes less than a megabyte, and is ready as soon as it arrives.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.fft

from tomofly.imaging.ctf_ring import CROSS_HALF_WIDTH_BINS, smooth_background
from tomofly.imaging.side_by_side import for_each
from tomofly.imaging.spectrum import checked_stack, tile_starts, tile_taper

FloatArray = npt.NDArray[np.float64]

SECTORS = 12
# Enough for 5 bins to a Thon ring at 6 µm of underfocus, 300 kV and 5 Å.
RING_BINS = 256
SHORTEST_TILE_PX = 64
LARGEST_TILE_FRACTION = 0.5
# Tiles whose power is this far from that of the others show an edge, a bar or contamination.
LEVEL_RANGE = (0.4, 2.5)
# Cells that stick out by more than this many standard deviations count as this much.
OUTLIER_SIGMAS = 6.0
HIGHEST_PART_OF_NYQUIST = 0.98


@dataclass(frozen=True)
class TileSpectra:
    """The tile spectra of one tilt, relative to their common smooth background.

    `power` (tile, sector, bin) float16, 1 on average; `centre_yx_px` (tile, 2) the middle of each tile from
    the image's origin at index n // 2; `background` (bin,) what the power was divided by. Bins are evenly
    spaced in squared frequency between `low_squared` and `high_squared` (Å⁻²), sectors in azimuth from
    +x towards +y, the first around 0. `independence`: independent complex values behind each sample.
    """

    power: npt.NDArray[np.float16]
    centre_yx_px: FloatArray
    background: FloatArray
    tile_px: int
    pixel_size_angstrom: float
    low_squared: float
    high_squared: float
    independence: float

    @property
    def tile_length_angstrom(self) -> float:
        """Side of a tile."""
        return self.tile_px * self.pixel_size_angstrom

    @property
    def cells(self) -> Cells:
        """Where the samples of the tiles' transforms lie among sectors and bins."""
        return cells_of(self.tile_px, self.pixel_size_angstrom, self.low_squared, self.high_squared)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """Give everything as named arrays, ready for `numpy.savez`."""
        return {field.name: np.asarray(getattr(self, field.name)) for field in fields(self)}


def tile_spectra_from(arrays: Any) -> TileSpectra:
    """Rebuild the spectra from the mapping that `TileSpectra.arrays` gave."""
    values: dict[str, Any] = {field.name: np.asarray(arrays[field.name]) for field in fields(TileSpectra)}
    return TileSpectra(**{name: value if value.ndim else value.item() for name, value in values.items()})


@dataclass(frozen=True)
class Cells:
    """Which cell each sample of a half-plane transform belongs to.

    `index` (y, x) is sector · RING_BINS + bin, -1 outside; `count` (sector, bin) samples in each cell;
    `squared` (sector, bin) their mean squared frequency in Å⁻²; `bin_squared` (bin,) that of the bin;
    `azimuth_rad` (sector,).
    """

    index: npt.NDArray[np.int32]
    count: FloatArray
    squared: FloatArray
    bin_squared: FloatArray
    azimuth_rad: FloatArray


@lru_cache(maxsize=4)
def cells_of(tile_px: int, pixel_size_angstrom: float, low_squared: float, high_squared: float) -> Cells:
    """Sort the samples of a tile's `rfft2` into cells; the central cross is left out, as seams show there."""
    step = 1.0 / (tile_px * pixel_size_angstrom)
    y = np.fft.fftfreq(tile_px, pixel_size_angstrom)[:, None]
    x = np.fft.rfftfreq(tile_px, pixel_size_angstrom)[None, :]
    squared = y * y + x * x
    margin = (CROSS_HALF_WIDTH_BINS + 0.5) * step
    inside = (squared >= low_squared) & (squared < high_squared) & (np.abs(y) > margin) & (x > margin)
    width = (high_squared - low_squared) / RING_BINS
    where = np.minimum(((squared - low_squared) / width).astype(np.int32), RING_BINS - 1)
    sector = np.floor(np.arctan2(y, x) / np.pi * SECTORS + 0.5).astype(np.int32) % SECTORS
    index = np.where(inside, sector * RING_BINS + where, -1).astype(np.int32)
    size = SECTORS * RING_BINS
    count = np.bincount(index[inside], minlength=size).astype(np.float64)
    total = np.bincount(index[inside], squared[inside], minlength=size)
    middle = low_squared + width * (np.arange(RING_BINS, dtype=np.float64) + 0.5)
    mean = np.where(count > 0, total / np.maximum(count, 1.0), np.tile(middle, SECTORS))
    return Cells(
        index=index,
        count=count.reshape(SECTORS, RING_BINS),
        squared=mean.reshape(SECTORS, RING_BINS),
        bin_squared=middle,
        azimuth_rad=np.pi * np.arange(SECTORS) / SECTORS,
    )


def tile_spectra(
    image: npt.NDArray[Any],
    *,
    pixel_size_angstrom: float,
    tile_length_angstrom: float = 700.0,
    resolution_range_angstrom: tuple[float, float] = (40.0, 5.0),
    threads: int = 1,
) -> TileSpectra:
    """Power spectra of the overlapping tiles of `image` (y, x), any real type, in cells of equal area.

    A tile should be longer than what the CTF delocalises, and short enough for one defocus; 700 Å serves
    1–6 µm of underfocus up to 60° of tilt. Raises ValueError for images that hold NaN or no signal, that are
    too small, or whose pixels are too large for the resolution range.
    """
    pixels = checked_stack(image)[0] if np.ndim(image) == 2 else _refuse(image)
    low, high = _band(resolution_range_angstrom, pixel_size_angstrom)
    tile = _tile_px(pixels.shape, pixel_size_angstrom, tile_length_angstrom)
    cells = cells_of(tile, float(pixel_size_angstrom), low, high)
    corners = [(y, x) for y in tile_starts(pixels.shape[0], tile) for x in tile_starts(pixels.shape[1], tile)]
    power = _cell_power(pixels, corners, tile, cells, threads)
    good = _ordinary(power, cells)
    if not good.any():
        raise ValueError("the image is constant or zero everywhere: it has no power spectrum")
    relative, background = _whitened(power[good], cells, 1.0 / (tile * pixel_size_angstrom))
    centre = np.array(corners, dtype=np.float64) + 0.5 * (tile - 1) - np.array(pixels.shape) // 2
    return TileSpectra(
        power=relative.astype(np.float16),
        centre_yx_px=centre[good],
        background=background,
        tile_px=tile,
        pixel_size_angstrom=float(pixel_size_angstrom),
        low_squared=low,
        high_squared=high,
        independence=_independence(pixels.shape, tile),
    )


def _refuse(image: npt.NDArray[Any]) -> npt.NDArray[Any]:
    raise ValueError(f"expected one image (y, x); got shape {np.shape(image)}")


def _band(resolution_range: tuple[float, float], pixel_size: float) -> tuple[float, float]:
    """Squared frequencies in Å⁻² between which rings are looked at."""
    if not (np.isfinite(pixel_size) and pixel_size > 0):
        raise ValueError(f"the pixel size must be positive, in Å; got {pixel_size}")
    coarse, fine = resolution_range
    if not 0 < fine < coarse:
        raise ValueError(f"a resolution range runs from coarse to fine, in Å; got {resolution_range}")
    high = min(1.0 / fine, HIGHEST_PART_OF_NYQUIST * 0.5 / pixel_size)
    if high < 1.5 / coarse:
        raise ValueError(
            f"pixels of {pixel_size} Å show nothing finer than {1 / high:.1f} Å: "
            f"too little of the range {coarse} to {fine} Å to find a CTF in"
        )
    return 1.0 / coarse**2, high**2


def _tile_px(shape_yx: tuple[int, ...], pixel_size: float, length: float) -> int:
    """Side of a tile: even, quick to transform, at most half the image."""
    longest = int(LARGEST_TILE_FRACTION * min(shape_yx)) // 2 * 2
    tile = max(SHORTEST_TILE_PX, round(length / pixel_size / 2) * 2)
    while scipy.fft.next_fast_len(tile, real=True) != tile:
        tile += 2
    return min(tile, max(longest, SHORTEST_TILE_PX))


def _cell_power(
    pixels: npt.NDArray[Any], corners: list[tuple[int, int]], tile: int, cells: Cells, threads: int
) -> npt.NDArray[np.float32]:
    """Mean power of each tile in each cell (tile, sector, bin); empty cells hold 0."""
    taper = tile_taper(tile)
    # Any unit of the pixels must survive squaring in single precision.
    spread = float(np.std(pixels[::7, ::5], dtype=np.float64)) or 1.0
    window = np.outer(taper, taper / spread).astype(np.float32)
    inside = cells.index >= 0
    index = cells.index[inside]
    count = np.maximum(cells.count, 1.0)
    power = np.empty((len(corners), *cells.count.shape), dtype=np.float32)

    def transform(i: int) -> None:
        y, x = corners[i]
        part = pixels[y : y + tile, x : x + tile].astype(np.float32)
        transformed = scipy.fft.rfft2((part - part.mean(dtype=np.float64)) * window)[inside]
        squared = np.square(transformed.real) + np.square(transformed.imag)
        power[i] = np.bincount(index, squared, minlength=cells.count.size).reshape(count.shape) / count

    for_each(transform, len(corners), threads)
    return power


def _ordinary(power: npt.NDArray[np.float32], cells: Cells) -> npt.NDArray[np.bool_]:
    """Which tiles have about the power of the others at high frequency, where little but noise is."""
    outer = slice(RING_BINS // 2, None)
    level = np.einsum("tsb,sb->t", power[..., outer], cells.count[:, outer]) / cells.count[:, outer].sum()
    seen = level[np.isfinite(level) & (level > 0)]
    if seen.size == 0:
        return np.zeros(level.size, dtype=np.bool_)
    typical = float(np.median(seen))
    return np.asarray((level > LEVEL_RANGE[0] * typical) & (level < LEVEL_RANGE[1] * typical))


def _whitened(
    power: npt.NDArray[np.float32], cells: Cells, step: float
) -> tuple[npt.NDArray[np.float32], FloatArray]:
    """Each tile relative to its own level and the smooth background of all; strong outliers held back."""
    outer = slice(RING_BINS // 2, None)
    level = (power[..., outer] * cells.count[:, outer]).sum(axis=(1, 2)) / cells.count[:, outer].sum()
    relative = power / level[:, None, None].astype(np.float32)
    radial = (relative.mean(axis=0) * cells.count).sum(axis=0) / np.maximum(cells.count.sum(axis=0), 1.0)
    position = np.sqrt(cells.bin_squared) / step
    # Bins of equal area: as many to a ring as that ring has samples, which is the weight it deserves.
    smooth = smooth_background(radial, np.rint(position).astype(np.int64))
    background = np.interp(position, np.arange(smooth.size), smooth)
    relative /= background.astype(np.float32)
    filled = np.maximum(cells.count, 1.0)
    np.minimum(relative, (1.0 + OUTLIER_SIGMAS / np.sqrt(filled)).astype(np.float32), out=relative)
    relative[:, cells.count == 0] = 1.0
    return relative, background


def _independence(shape_yx: tuple[int, ...], tile: int) -> float:
    """Independent values per sample of the tiles: less than 1, as tiles overlap and their edges fade."""
    taper = np.square(tile_taper(tile), dtype=np.float64)
    share = 1.0
    for length in shape_yx:
        starts = tile_starts(length, tile)
        cover = np.zeros(length)
        for start in starts:
            cover[start : start + tile] += taper
        share *= float(cover.sum() ** 2 / np.square(cover).sum()) / (len(starts) * tile)
    return share
