"""Transforms of frames and patches of frames, and the statistics that frame alignment rests on."""

from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from numba import njit
from scipy import fft

from tomofly.imaging.side_by_side import for_each

FloatArray = npt.NDArray[np.float64]

# Cut-off of the kept coefficients in cycles per binned pixel: beyond it block averaging has damped the
# signal.
HIGHEST_FREQUENCY = 0.45
# Slower variations than these cycles per side are illumination, not specimen.
LOWEST_CYCLES = 3.0
_TAPER_FRACTION = 0.1


@dataclass(frozen=True)
class FrameSpectra:
    """Transforms of one area in all frames without the zero row and column, where detector stripes live.

    values: (frame, ky, kx) complex64, changed in place by `move`; ky: (2m,) cycles per pixel, both signs;
    kx: (l,) cycles per pixel, positive only; radius: (2m, l) cycles per pixel.
    """

    values: npt.NDArray[np.complex64]
    ky: FloatArray
    kx: FloatArray
    radius: FloatArray

    @property
    def n_frames(self) -> int:
        """The number of frames."""
        return len(self.values)


@dataclass(frozen=True)
class RingPowers:
    """Mean power per coefficient in rings of |k|, of the signal common to all frames and of the noise of one.

    frequency: (ring,) cycles per pixel; signal, noise: (ring,).
    """

    frequency: FloatArray
    signal: FloatArray
    noise: FloatArray


def raised_cosine_window(size: int, fraction: float = _TAPER_FRACTION) -> npt.NDArray[np.float32]:
    """Return a window (size,) that is 1 inside and falls to 0 over a fraction of the size at each end."""
    distance = (np.minimum(np.arange(size), np.arange(size)[::-1]) + 0.5) / max(fraction * size, 1.0)
    return (0.5 - 0.5 * np.cos(np.pi * np.clip(distance, 0, 1))).astype(np.float32)


def area_spectra(
    area: npt.NDArray[np.float32], highest_frequency: float = HIGHEST_FREQUENCY, threads: int = 1
) -> FrameSpectra:
    """Transform an area (frame, y, x) of all frames: mean removed, edges tapered, frequencies cropped."""
    n_frames, height, width = area.shape
    half_y = max(1, min(int(highest_frequency * height), (height - 1) // 2))
    half_x = max(1, min(int(highest_frequency * width), (width - 1) // 2))
    rows = np.concatenate([np.arange(1, half_y + 1), np.arange(-half_y, 0)])
    window_y, window_x = raised_cosine_window(height), raised_cosine_window(width)
    total = float(window_y.sum(dtype=np.float64) * window_x.sum(dtype=np.float64))
    values = np.empty((n_frames, 2 * half_y, half_x), dtype=np.complex64)

    def transform(index: int) -> None:
        mean = float(np.dot((area[index] @ window_x).astype(np.float64), window_y)) / total
        windowed = np.empty((height, width), dtype=np.float32)
        _taper(area[index], np.float32(mean), window_y, window_x, windowed)
        spectrum = fft.rfft(windowed, axis=1)[:, 1 : half_x + 1]
        values[index] = fft.fft(spectrum, axis=0, overwrite_x=True)[rows]

    for_each(transform, n_frames, threads)
    ky, kx = rows / height, np.arange(1, half_x + 1) / width
    return FrameSpectra(values, ky, kx, np.hypot(ky[:, None], kx))


def move(spectra: FrameSpectra, shift_yx_px: FloatArray, threads: int = 1) -> None:
    """Apply a shift (frame, 2) to every frame, in place, by a phase ramp."""

    def turn(index: int) -> None:
        shift_y, shift_x = shift_yx_px[index]
        phase_y = np.exp(-2j * np.pi * spectra.ky * shift_y).astype(np.complex64)
        phase_x = np.exp(-2j * np.pi * spectra.kx * shift_x).astype(np.complex64)
        _turn(spectra.values[index], phase_y, phase_x)

    for_each(turn, spectra.n_frames, threads)


def group_frames(spectra: FrameSpectra, group: int) -> FrameSpectra:
    """Average runs of `group` frames; the last run also takes the rest."""
    runs = max(1, spectra.n_frames // group)
    edges = np.append(np.arange(runs) * group, spectra.n_frames)
    means = np.stack([spectra.values[a:b].mean(axis=0) for a, b in pairwise(edges)])
    return replace(spectra, values=means)


def ring_powers(spectra: FrameSpectra, smoothing: int = 2) -> RingPowers:
    """Split the power of aligned frames into what they share and what they do not, ring by ring.

    |sum F|² = n² signal + n noise and sum |F|² = n signal + n noise, both averaged over each ring and over
    `smoothing` rings to each side. Negative estimates of the signal become zero.
    """
    n = spectra.n_frames
    step = max(spectra.ky[0], spectra.kx[0])
    ring = np.rint(spectra.radius / step).astype(np.int64).ravel()
    of_sum, of_frames = _powers(spectra.values)
    counts = np.bincount(ring)
    kernel = np.ones(2 * smoothing + 1)
    weight = np.maximum(np.convolve(counts, kernel, "same"), 1)
    coherent = np.convolve(np.bincount(ring, of_sum.ravel()), kernel, "same") / weight
    total = np.convolve(np.bincount(ring, of_frames.ravel()), kernel, "same") / weight
    signal = np.clip((coherent - total) / max(n * (n - 1), 1), 0.0, None)
    noise = np.maximum(total / n - signal, 1e-30)
    return RingPowers(np.arange(counts.size) * step, signal, noise)


@njit(cache=True, nogil=True, fastmath=True)
def _taper(picture, mean, window_y, window_x, out):  # type: ignore[no-untyped-def]
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            out[y, x] = (picture[y, x] - mean) * window_y[y] * window_x[x]


@njit(cache=True, nogil=True, fastmath=True)
def _turn(frame, phase_y, phase_x):  # type: ignore[no-untyped-def]
    for y in range(frame.shape[0]):
        for x in range(frame.shape[1]):
            frame[y, x] *= phase_y[y] * phase_x[x]


@njit(cache=True, nogil=True, fastmath=True)
def _powers(values):  # type: ignore[no-untyped-def]
    """Return |sum over frames|² and sum over frames of |.|², each (ky, kx)."""
    n, height, width = values.shape
    coherent = np.zeros((height, width), np.complex64)
    total = np.zeros((height, width), np.float32)
    for i in range(n):
        for y in range(height):
            for x in range(width):
                value = values[i, y, x]
                coherent[y, x] += value
                total[y, x] += value.real * value.real + value.imag * value.imag
    power = np.empty((height, width), np.float32)
    for y in range(height):
        for x in range(width):
            power[y, x] = coherent[y, x].real ** 2 + coherent[y, x].imag ** 2
    return power, total


@njit(cache=True, nogil=True, fastmath=True)
def weighted_phase_gradients(values, weight, ky, kx):  # type: ignore[no-untyped-def]
    """Return d/ds of sum over k of w Re[F_i conj(R_i)], R_i the sum of the other frames: (frame, 2)."""
    n, height, width = values.shape
    total = np.zeros((height, width), np.complex64)
    for i in range(n):
        for y in range(height):
            for x in range(width):
                total[y, x] += values[i, y, x]
    gradient = np.zeros((n, 2))
    for i in range(n):
        for y in range(height):
            along_y = np.float32(0.0)
            along_x = np.float32(0.0)
            for x in range(width):
                value = values[i, y, x]
                # Im[F conj(S - F)] = Im[F conj(S)], for F conj(F) is real.
                turned = weight[y, x] * (value.imag * total[y, x].real - value.real * total[y, x].imag)
                along_y += turned
                along_x += turned * kx[x]
            gradient[i, 0] += along_y * ky[y]
            gradient[i, 1] += along_x
    return gradient * (2.0 * np.pi)
