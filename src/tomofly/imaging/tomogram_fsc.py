"""Fourier shell correlation of two tomograms, also only where a tilt series has measured."""

import numpy as np
import numpy.typing as npt
from scipy import fft

FloatArray = npt.NDArray[np.float64]
Volume = npt.NDArray[np.float32]


def shell_correlation(
    first: Volume,
    second: Volume,
    *,
    shells: int | None = None,
    tilt_range_deg: tuple[float, float] | None = None,
    taper: float = 0.1,
    threads: int = 1,
) -> tuple[FloatArray, FloatArray]:
    """Give the middle frequencies (shell,) in cycles per voxel up to 0.5, and the correlations (shell,).

    Volumes are (z, y, x); their means are taken off, and their faces fade out over the part ``taper`` of each
    size. With ``tilt_range_deg`` only the frequencies between the lowest and the highest tilt about y count:
    beyond, in the missing wedge, there is nothing to compare. As many shells as half the shortest side where
    ``shells`` is None. Harauz & van Heel (1986). Raises ValueError for volumes of different shapes.
    """
    if first.shape != second.shape:
        raise ValueError(f"tomograms of the shapes {first.shape} and {second.shape} cannot be compared")
    count = max(1, min(first.shape) // 2) if shells is None else shells
    window = _window(first.shape, taper)
    one, other = (
        fft.rfftn((volume - volume.mean(dtype=np.float64)).astype(np.float32) * window, workers=threads)
        for volume in (first, second)
    )
    sums = np.zeros((3, count))
    for z, kz in enumerate(np.fft.fftfreq(first.shape[0])):
        shell, weight = _slice_shells(first.shape, float(kz), count, tilt_range_deg)
        for row, product in enumerate(
            ((one[z] * other[z].conj()).real, np.abs(one[z]) ** 2, np.abs(other[z]) ** 2)
        ):
            sums[row] += np.bincount(shell.ravel(), (weight * product).ravel(), count + 1)[:count]
    correlation = sums[0] / np.sqrt(np.maximum(sums[1] * sums[2], np.finfo(np.float64).tiny))
    return (np.arange(count) + 0.5) * 0.5 / count, correlation


def half_resolution(
    first: Volume, second: Volume, voxel_size_angstrom: float, *, threshold: float = 0.143, threads: int = 1
) -> float:
    """Give the resolution in Å at which two half tomograms (z, y, x) first correlate less than a threshold.

    At best twice the voxel; infinite where they do not agree at all. 0.143: Rosenthal & Henderson (2003).
    """
    frequency, correlation = shell_correlation(first, second, threads=threads)
    smooth = np.convolve(np.pad(correlation, 1, mode="edge"), np.ones(3) / 3, mode="valid")
    below = np.flatnonzero(smooth < threshold)
    if not below.size:
        return 2.0 * voxel_size_angstrom
    at = int(below[0])
    if at == 0:
        return float("inf")
    part = (smooth[at - 1] - threshold) / (smooth[at - 1] - smooth[at])
    crossing = frequency[at - 1] + part * (frequency[at] - frequency[at - 1])
    return float(voxel_size_angstrom / crossing)


def central_part(volume: Volume, most_zyx: tuple[int, int, int]) -> Volume:
    """Give the part of a volume (z, y, x) about its middle, no larger than ``most_zyx``."""
    starts = [max(0, (size - most) // 2) for size, most in zip(volume.shape, most_zyx, strict=True)]
    return volume[tuple(slice(s, s + most) for s, most in zip(starts, most_zyx, strict=True))]


def inverse_in_place(
    spectrum: npt.NDArray[np.complex64], shape_zyx: tuple[int, ...], threads: int = 1
) -> Volume:
    """Give the volume (z, y, x) of a real transform, which is overwritten: a copy would not fit beside it."""
    spectrum = fft.ifftn(spectrum, axes=(0, 1), workers=threads, overwrite_x=True)
    volume: Volume = fft.irfft(spectrum, n=shape_zyx[2], axis=2, workers=threads, overwrite_x=True)
    return volume


def _window(shape: tuple[int, ...], taper: float) -> Volume:
    window = np.ones((1, 1, 1), np.float32)
    for axis, size in enumerate(shape):
        width = max(1, int(taper * size))
        from_edge = np.minimum(np.arange(size), np.arange(size)[::-1]) + 0.5
        line = 0.5 - 0.5 * np.cos(np.pi * np.minimum(from_edge / width, 1.0))
        window = window * line.astype(np.float32).reshape([-1 if i == axis else 1 for i in range(3)])
    return window


def _slice_shells(
    shape: tuple[int, ...], kz: float, count: int, tilt_range_deg: tuple[float, float] | None
) -> tuple[npt.NDArray[np.intp], FloatArray]:
    """Give the shell of each frequency (y, x // 2 + 1) of a slice, ``count`` for none, and its weight."""
    ky = np.fft.fftfreq(shape[1])[:, None]
    kx = np.fft.rfftfreq(shape[2])[None, :]
    radius = np.sqrt(ky**2 + kx**2 + kz**2)
    shell = np.minimum((radius * 2 * count).astype(np.intp), count)
    shell[radius > 0.5] = count
    weight = np.full(shell.shape, 2.0)
    weight[:, 0] = 1.0
    if shape[2] % 2 == 0:
        weight[:, -1] = 1.0
    if tilt_range_deg is not None:
        # The view at the tilt θ has measured the frequencies along (cos θ, sin θ) in (x, z).
        low, high = np.tan(np.deg2rad(tilt_range_deg))
        measured = (kz >= low * kx - 1e-9) & (kz <= high * kx + 1e-9)
        weight = weight * measured
    return shell, weight
