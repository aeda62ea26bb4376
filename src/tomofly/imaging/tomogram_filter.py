"""Filters that make a tomogram easier to look at; what they return is for viewing only, not for measuring."""

from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy import fft

from tomofly.imaging.ctf import CtfOptics, ctf_1d
from tomofly.imaging.ctf_strips import NOISE_OVER_SIGNAL
from tomofly.imaging.tomogram_fsc import inverse_in_place, shell_correlation

FloatArray = npt.NDArray[np.float64]
Volume = npt.NDArray[np.float32]
Corrected = Literal["none", "flip", "wiener"]

_TABLE = 2048
# Detail beyond this is uneven illumination: the deconvolution fades it out, 1/Å.
_COARSEST_PER_ANGSTROM = 1.0 / 900.0


def deconvolve_for_view(
    volume: Volume,
    voxel_size_angstrom: float,
    defocus_angstrom: float,
    optics: CtfOptics,
    *,
    strength: float = 1.0,
    falloff: float = 1.0,
    corrected: Corrected = "flip",
    threads: int = 1,
) -> Volume:
    """Give contrast back that the transfer function took from a volume (z, y, x), for viewing.

    The Wiener-like filter of Tegunov & Cramer (2019): CTF/(CTF² + 1/SNR) with an assumed
    SNR(k) = exp(−100·falloff·k)·10^(3·strength) at k in 1/Å, rising from 0 at the coarsest. What is undone is
    the transfer that is left after the volume was ``corrected`` as by ``correct_tilted_ctf``. Contrast stays
    as it is at low frequencies.
    """
    frequency = _table_frequency() / voxel_size_angstrom
    measured = np.asarray(ctf_1d(frequency, defocus_angstrom, optics), dtype=np.float64)
    ctf = _left_transfer(-measured, corrected)
    high_pass = 0.5 - 0.5 * np.cos(np.pi * np.minimum(1.0, frequency / _COARSEST_PER_ANGSTROM))
    snr = np.exp(-100.0 * falloff * frequency) * 10.0 ** (3.0 * strength) * high_pass
    wiener = ctf * snr / (ctf**2 * snr + 1.0)
    return apply_radial(volume, wiener, threads=threads)


def _left_transfer(ctf: FloatArray, corrected: Corrected) -> FloatArray:
    if corrected == "none":
        return ctf
    if corrected == "flip":
        return np.abs(ctf)
    return np.asarray((1 + NOISE_OVER_SIGNAL) * ctf**2 / (ctf**2 + NOISE_OVER_SIGNAL))


def smooth_for_view(
    volume: Volume, voxel_size_angstrom: float, finest_angstrom: float, *, threads: int = 1
) -> Volume:
    """Fade out the fine detail of a volume (z, y, x), for viewing: by half at the resolution ``finest``."""
    frequency = _table_frequency() / voxel_size_angstrom
    return apply_radial(volume, 0.5 ** (frequency * finest_angstrom) ** 2, threads=threads)


def half_weights(first: Volume, second: Volume, *, threads: int = 1) -> FloatArray:
    """Give weights 2·FSC/(1 + FSC), evenly spaced from frequency 0 to 0.5, from two half tomograms (z, y, x).

    The halves are from even and odd frames; the weight is the best linear one for their mean (Rosenthal &
    Henderson, 2003). Beyond the first shell of no agreement there is nothing.
    """
    frequency, correlation = shell_correlation(first, second, threads=threads)
    smooth = np.convolve(np.pad(correlation, 1, mode="edge"), np.ones(3) / 3, mode="valid")
    agreed = np.clip(smooth, 0.0, 1.0)
    lost = np.flatnonzero(smooth <= 0.0)
    if lost.size:
        agreed[lost[0] :] = 0.0
    return np.interp(_table_frequency(), frequency, 2 * agreed / (1 + agreed))


def filter_by_halves(first: Volume, second: Volume, *, threads: int = 1) -> Volume:
    """Average two half tomograms (z, y, x) with the weights of ``half_weights``, for viewing."""
    mean = np.float32(0.5) * (np.asarray(first, np.float32) + np.asarray(second, np.float32))
    return apply_radial(mean, half_weights(first, second, threads=threads), threads=threads)


def apply_radial(volume: Volume, weights: FloatArray, *, threads: int = 1) -> Volume:
    """Multiply a volume (z, y, x) in Fourier space by weights, evenly spaced from frequency 0 to 0.5.

    In the corners, beyond 0.5 cycles per voxel, the last weight goes on.
    """
    spectrum = fft.rfftn(np.asarray(volume, dtype=np.float32), workers=threads)
    ky = np.fft.fftfreq(volume.shape[1])[:, None]
    kx = np.fft.rfftfreq(volume.shape[2])[None, :]
    at = np.linspace(0.0, 0.5, len(weights))
    for z, kz in enumerate(np.fft.fftfreq(volume.shape[0])):
        radius = np.sqrt(kx**2 + ky**2 + kz**2)
        spectrum[z] *= np.interp(radius, at, weights).astype(np.float32)
    return inverse_in_place(spectrum, volume.shape, threads)


def _table_frequency() -> FloatArray:
    return np.linspace(0.0, 0.5, _TABLE)
