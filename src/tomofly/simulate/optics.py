"""The electron-optical image: contrast transfer, envelope and radiation damage."""

from dataclasses import dataclass

import numba as nb
import numpy as np
from numpy.typing import NDArray

from tomofly.simulate.microscope import SpaMicroscope
from tomofly.simulate.truth import OpticsTruth


def wavelength_angstrom(voltage_kv: float) -> float:
    """Relativistic wavelength of an electron, Å."""
    volt = voltage_kv * 1e3
    return 12.2643247 / float(np.sqrt(volt + 0.978466e-6 * volt**2))


def critical_dose_e_per_a2(k_per_angstrom: NDArray[np.float64], voltage_kv: float) -> NDArray[np.float64]:
    """Dose at which the signal at a spatial frequency falls to 1/e of its power.

    Curve of Grant and Grigorieff (2015), measured at 300 kV; 0.8 of it at 200 kV, and between and
    beyond scaled with the same power of the voltage.
    """
    at_300_kv = 0.24499 * np.maximum(k_per_angstrom, 1e-4) ** -1.6649 + 2.8141
    dose: NDArray[np.float64] = at_300_kv * (voltage_kv / 300.0) ** (np.log(0.8) / np.log(2 / 3))
    return dose


def draw_optics(microscope: SpaMicroscope, index: int) -> OpticsTruth:
    """Focus and astigmatism of one movie, uniform in their ranges."""
    random = microscope.random("optics", index)
    mean = float(random.uniform(*microscope.defocus_range_angstrom))
    difference = float(random.uniform(*microscope.astigmatism_range_angstrom))
    return OpticsTruth(
        defocus_u_angstrom=mean + difference / 2,
        defocus_v_angstrom=mean - difference / 2,
        astigmatism_angle_deg=float(random.uniform(0, 180)),
        phase_shift_deg=microscope.phase_shift_deg,
        voltage_kv=microscope.voltage_kv,
        spherical_aberration_mm=microscope.spherical_aberration_mm,
        amplitude_contrast=microscope.amplitude_contrast,
        envelope_b_factor_angstrom2=microscope.envelope_b_factor_angstrom2,
    )


@nb.njit(cache=True, nogil=True)
def _fill_transfer(
    out: NDArray[np.float32],
    ky: NDArray[np.float64],
    kx: NDArray[np.float64],
    lens: tuple[float, float, float, float, float, float, float],
) -> None:
    """Fill `out` with -2 sin(chi) times the envelope; `lens` as ordered in `transfer`."""
    mean, half_difference, axis, quadratic, quartic, constant, b_factor = lens
    twice_cos, twice_sin = np.cos(2 * axis), np.sin(2 * axis)
    for y in range(ky.size):
        for x in range(kx.size):
            k2 = ky[y] * ky[y] + kx[x] * kx[x]
            # k² cos 2(a - axis) without an arctangent.
            k2_cos = (kx[x] * kx[x] - ky[y] * ky[y]) * twice_cos + 2 * kx[x] * ky[y] * twice_sin
            chi = quadratic * (mean * k2 + half_difference * k2_cos) - quartic * k2 * k2 + constant
            out[y, x] = -2.0 * np.sin(chi) * np.exp(-0.25 * b_factor * k2)


def transfer(
    optics: OpticsTruth, shape_yx: tuple[int, int], pixel_size_angstrom: float
) -> NDArray[np.float32]:
    """What the microscope makes of a weak phase, on the half spectrum (y, x // 2 + 1) of `rfft2`.

    The image is 1 + inverse FFT(transfer x FFT(phase)), transfer = -2 sin(chi) exp(-B k²/4), with
    chi = pi lambda k² df(a) - pi/2 Cs lambda³ k⁴ + phase shift + asin(amplitude contrast):
    dense matter is dark in underfocus.
    """
    wavelength = wavelength_angstrom(optics.voltage_kv)
    lens = (
        (optics.defocus_u_angstrom + optics.defocus_v_angstrom) / 2,
        (optics.defocus_u_angstrom - optics.defocus_v_angstrom) / 2,
        float(np.radians(optics.astigmatism_angle_deg)),
        np.pi * wavelength,
        np.pi / 2 * optics.spherical_aberration_mm * 1e7 * wavelength**3,
        float(np.radians(optics.phase_shift_deg) + np.arcsin(optics.amplitude_contrast)),
        optics.envelope_b_factor_angstrom2,
    )
    ky = np.fft.fftfreq(shape_yx[0], pixel_size_angstrom)
    kx = np.fft.rfftfreq(shape_yx[1], pixel_size_angstrom)
    out = np.empty((ky.size, kx.size), dtype=np.float32)
    _fill_transfer(out, ky.astype(float), kx.astype(float), lens)
    return out


@dataclass(frozen=True)
class RadialAxis:
    """Spatial frequencies at which radial curves are tabulated; fine enough to take the nearest."""

    shape_yx: tuple[int, int]
    pixel_size_angstrom: float
    bins: int = 4096

    @property
    def k_per_angstrom(self) -> NDArray[np.float64]:
        """Tabulated frequencies (bins,), from zero to the corner of the spectrum."""
        corner = np.sqrt(0.5) / self.pixel_size_angstrom
        return np.linspace(0.0, corner, self.bins)

    @property
    def frequencies_in_bins(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Vertical and horizontal frequency of the half spectrum, in units of one bin."""
        scale = (self.bins - 1) * np.sqrt(2.0)
        return np.fft.fftfreq(self.shape_yx[0]) * scale, np.fft.rfftfreq(self.shape_yx[1]) * scale
