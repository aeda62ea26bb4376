"""Coarse alignment of a tilt series, outward from its least tilted image, by stretched cross-correlation.

Every image is correlated with the sum of those aligned before it that lie nearest in angle, all of them
stretched by the inverse cosine of their tilt. Guckenberger (1982), Mastronarde (1997).
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import fft

from tomofly.imaging.fourier import rfft_radius
from tomofly.imaging.side_by_side import for_each
from tomofly.imaging.tilt_geometry import TiltGeometry
from tomofly.imaging.tilt_stretch import edge_window, plane_to_image, stretched

FloatArray = npt.NDArray[np.float64]
FloatImages = npt.NDArray[np.float32]
ComplexImage = npt.NDArray[np.complex64]

# How many neighbours make the reference, and how fast they count less with their distance in angle: structure
# at the surfaces of the specimen loses its coherence within a few degrees.
_NEIGHBOURS = 4
_FALL_OFF_DEG = 5.0
# Correlation sees frequencies from a few periods per image to a fifth of a cycle per pixel.
_LOWEST_PERIODS = 3.0
_HIGHEST = 0.2
# A peak that stands less than this many standard deviations above its surroundings may be noise: among the
# 10⁴ places searched noise alone reaches four.
LEAST_PEAK_SIGMA = 5.0


@dataclass(frozen=True)
class CoarseAlignment:
    """Shifts in ``geometry``, and how far each correlation's peak stands out of its map, in sigmas (tilt,).

    The reference, and images with nothing in them, have a peak of infinity and 0.
    """

    geometry: TiltGeometry
    peak_sigma: FloatArray


def align_coarsely(
    images: FloatImages,
    geometry: TiltGeometry,
    has_content: npt.NDArray[np.bool_],
    *,
    largest_shift_part: float = 0.3,
    threads: int = 1,
) -> CoarseAlignment:
    """Find the shift of every image (tilt, y, x) with content, relative to the least tilted one.

    ``geometry`` gives the angles and the shifts to start from; shifts are searched up to
    ``largest_shift_part`` of an image's sides. An image without content gets the shift of its neighbours.
    """
    peaks = np.zeros(len(images))
    for reach in (largest_shift_part, 0.5 * largest_shift_part):
        planes = _transforms(images, geometry, threads)
        steps, peaks = _outward(planes, geometry, has_content, reach)
        geometry = replace(geometry, shift_yx_px=geometry.shift_yx_px + steps)
    filled = fill_shifts(geometry, has_content)
    return CoarseAlignment(filled, peaks)


def outward_order(tilt_angle_deg: npt.ArrayLike, usable: npt.NDArray[np.bool_]) -> list[int]:
    """Give the usable images from the least tilted outward."""
    tilts = np.asarray(tilt_angle_deg, dtype=np.float64)
    return [int(i) for i in np.argsort(np.abs(tilts), kind="stable") if usable[i]]


def fill_shifts(geometry: TiltGeometry, known: npt.NDArray[np.bool_]) -> TiltGeometry:
    """Give images of unknown shift that of their neighbours in angle."""
    if known.all() or not known.any():
        return geometry
    order = np.argsort(geometry.tilt_angle_deg[known], kind="stable")
    tilts, shifts = geometry.tilt_angle_deg[known][order], geometry.shift_yx_px[known][order]
    filled = geometry.shift_yx_px.copy()
    for axis in (0, 1):
        filled[~known, axis] = np.interp(geometry.tilt_angle_deg[~known], tilts, shifts[:, axis])
    return replace(geometry, shift_yx_px=filled)


def _transforms(images: FloatImages, geometry: TiltGeometry, threads: int) -> ComplexImage:
    """Give the whitened, band-passed transforms (tilt, ky, kx) of the images in the specimen's plane."""
    size = (fft.next_fast_len(images.shape[1], real=True), fft.next_fast_len(images.shape[2], real=True))
    planes = stretched(images, geometry, size, threads=threads)
    planes *= edge_window(size)
    spectra: ComplexImage = fft.rfft2(planes, workers=threads)
    radius = rfft_radius(size)
    rings = (radius * max(size)).astype(np.int64).ravel()
    band = _band(radius, _LOWEST_PERIODS / min(size))

    def whiten(index: int) -> None:
        power = np.bincount(rings, np.abs(spectra[index].ravel()) ** 2) / np.bincount(rings)
        amplitude = np.sqrt(np.maximum(power, 1e-12 * max(power.max(), 1e-12)))
        spectra[index] *= band / amplitude[rings].reshape(band.shape).astype(np.float32)

    for_each(whiten, len(images), threads)
    return spectra


def _band(radius: npt.NDArray[np.float32], lowest: float) -> npt.NDArray[np.float32]:
    band = (1 - np.exp(-0.5 * (radius / lowest) ** 2)) * np.exp(-0.5 * (radius / (_HIGHEST / 1.5)) ** 2)
    return np.asarray(band, dtype=np.float32)


def _outward(
    planes: ComplexImage, geometry: TiltGeometry, usable: npt.NDArray[np.bool_], reach: float
) -> tuple[FloatArray, FloatArray]:
    """Give the step (tilt, 2), image pixels, onto the images aligned before, and the peaks (tilt,)."""
    order = outward_order(geometry.tilt_angle_deg, usable)
    matrices = plane_to_image(geometry)
    steps, peaks = np.zeros((len(planes), 2)), np.zeros(len(planes))
    rows = 2 * (planes.shape[2] - 1)
    ky = np.fft.fftfreq(planes.shape[1])[:, None]
    kx = (np.arange(planes.shape[2]) / rows)[None, :]
    done: list[int] = []
    for index in order:
        if not done:
            peaks[index] = np.inf
        else:
            reference = _reference(planes, geometry.tilt_angle_deg, index, done)
            limit = reach * np.array([planes.shape[1], rows])
            step, peaks[index] = _peak(np.conj(planes[index]) * reference, matrices[index], limit)
            planes[index] *= np.exp(-2j * np.pi * (ky * step[0] + kx * step[1])).astype(np.complex64)
            steps[index] = matrices[index] @ step
        done.append(index)
    return steps, peaks


def _reference(planes: ComplexImage, tilt_deg: FloatArray, index: int, done: list[int]) -> ComplexImage:
    """Sum the nearest of the images aligned before; the image itself is never among them."""
    distance = np.abs(tilt_deg[done] - tilt_deg[index])
    nearest = np.argsort(distance, kind="stable")[:_NEIGHBOURS]
    weight = np.exp(-(distance[nearest] - distance[nearest[0]]) / _FALL_OFF_DEG)
    chosen = planes[np.asarray(done)[nearest]]
    return np.asarray(np.tensordot(weight.astype(np.float32), chosen, axes=1), dtype=np.complex64)


def _peak(product: ComplexImage, matrix: FloatArray, limit_yx: FloatArray) -> tuple[FloatArray, float]:
    """Give the shift (y, x) in the plane at the highest correlation, and the height in sigmas of the map.

    ``limit_yx`` bounds the shift in the image, which is shorter than that in the plane by the cosine.
    """
    grid = (product.shape[0], 2 * (product.shape[1] - 1))
    correlation = fft.fftshift(fft.irfft2(product, s=grid))
    y = (np.arange(grid[0]) - grid[0] // 2)[:, None]
    x = (np.arange(grid[1]) - grid[1] // 2)[None, :]
    in_image = [matrix[i, 0] * y + matrix[i, 1] * x for i in (0, 1)]
    allowed = (np.abs(in_image[0]) <= limit_yx[0]) & (np.abs(in_image[1]) <= limit_yx[1])
    allowed[[0, -1]] = allowed[:, [0, -1]] = False
    row, column = np.unravel_index(int(np.argmax(np.where(allowed, correlation, -np.inf))), grid)
    near = correlation[row - 1 : row + 2, column - 1 : column + 2].astype(np.float64)
    place = np.array([row - grid[0] // 2, column - grid[1] // 2]) + _parabola(near)
    spread = float(correlation[allowed].std())
    return place, float(near[1, 1]) / spread if spread > 0 else 0.0


def _parabola(near: FloatArray) -> FloatArray:
    """Give the place (y, x) of the top of a parabola along each axis through 3 × 3 values."""
    place = np.zeros(2)
    for axis, (a, b) in enumerate(((near[0, 1], near[2, 1]), (near[1, 0], near[1, 2]))):
        bend = 2 * near[1, 1] - a - b
        if bend > 0:
            place[axis] = np.clip(0.5 * (b - a) / bend, -0.5, 0.5)
    return place
