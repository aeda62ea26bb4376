"""The contrast transfer function of a weak-phase, weak-amplitude object.

Sign: ``ctf = -sin(chi)``, which is what the recorded image carries: at underfocus the low frequencies are
negative and protein is dark on bright ice. RELION and Warp write the opposite sign, for particles whose
contrast has been inverted.

Angles: the astigmatism angle is that of the axis with the larger underfocus U, measured from +x (columns)
towards +y (rows, in order of increasing index), as in CTFFIND and RELION.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.floating[Any]]

ANGSTROM_PER_MM = 1.0e7


@dataclass(frozen=True)
class CtfOptics:
    """What the CTF needs to know of the microscope."""

    voltage_kv: float
    spherical_aberration_mm: float
    amplitude_contrast: float

    def __post_init__(self) -> None:
        if not (np.isfinite(self.voltage_kv) and self.voltage_kv > 0):
            raise ValueError(f"the voltage must be positive, in kV; got {self.voltage_kv}")
        if not (np.isfinite(self.spherical_aberration_mm) and self.spherical_aberration_mm >= 0):
            raise ValueError(
                f"the spherical aberration must be 0 or more, in mm; got {self.spherical_aberration_mm}"
            )
        if not 0 <= self.amplitude_contrast < 1:
            raise ValueError(
                f"the amplitude contrast is a fraction from 0 to below 1; got {self.amplitude_contrast}"
            )

    @property
    def wavelength_angstrom(self) -> float:
        """Relativistic electron wavelength in Å."""
        return electron_wavelength_angstrom(self.voltage_kv)

    @property
    def defocus_coefficient(self) -> float:
        """Phase in radians per (Å of underfocus x Å⁻²)."""
        return float(np.pi) * self.wavelength_angstrom

    @property
    def spherical_coefficient(self) -> float:
        """Phase in radians per Å⁻⁴, to be subtracted."""
        return float(
            0.5 * np.pi * self.spherical_aberration_mm * ANGSTROM_PER_MM * self.wavelength_angstrom**3
        )

    @property
    def amplitude_phase_rad(self) -> float:
        """The constant phase that the amplitude contrast adds."""
        return float(np.arcsin(self.amplitude_contrast))


def electron_wavelength_angstrom(voltage_kv: float) -> float:
    """Relativistic de Broglie wavelength in Å of an electron accelerated by `voltage_kv`."""
    volts = 1.0e3 * voltage_kv
    return float(12.2643247 / np.sqrt(volts + 0.978466e-6 * volts**2))


def defocus_along(
    azimuth_rad: FloatArray,
    defocus_u_angstrom: float,
    defocus_v_angstrom: float,
    astigmatism_angle_deg: float,
) -> FloatArray:
    """Defocus in Å in each direction `azimuth_rad` (from +x towards +y)."""
    mean = 0.5 * (defocus_u_angstrom + defocus_v_angstrom)
    half_difference = 0.5 * (defocus_u_angstrom - defocus_v_angstrom)
    turned = azimuth_rad - np.deg2rad(astigmatism_angle_deg)
    return np.asarray(mean + half_difference * np.cos(2.0 * turned))


def phase_aberration(
    frequency_squared: FloatArray,
    defocus_angstrom: FloatArray | float,
    optics: CtfOptics,
    phase_shift_deg: float = 0.0,
) -> FloatArray:
    """The phase chi in radians.

    `frequency_squared` in Å⁻²; `defocus_angstrom` a number or an array that broadcasts against it, underfocus
    positive. Cs, the phase plate and the amplitude contrast are included (Rohou & Grigorieff 2015, eq. 3-5).
    """
    constant = np.deg2rad(phase_shift_deg) + optics.amplitude_phase_rad
    slope = optics.defocus_coefficient * defocus_angstrom - optics.spherical_coefficient * frequency_squared
    return np.asarray(frequency_squared * slope + constant)


def ctf_1d(
    frequency: FloatArray, defocus_angstrom: float, optics: CtfOptics, phase_shift_deg: float = 0.0
) -> FloatArray:
    """The CTF without astigmatism at the given frequencies in Å⁻¹."""
    squared = np.square(np.asarray(frequency, dtype=np.float64))
    return np.asarray(-np.sin(phase_aberration(squared, defocus_angstrom, optics, phase_shift_deg)))


def ctf_2d(
    shape_yx: tuple[int, int],
    pixel_size_angstrom: float,
    defocus_u_angstrom: float,
    defocus_v_angstrom: float,
    astigmatism_angle_deg: float,
    optics: CtfOptics,
    phase_shift_deg: float = 0.0,
    *,
    half: bool = True,
) -> npt.NDArray[np.float32]:
    """The CTF on the grid of a discrete Fourier transform, zero frequency at [0, 0].

    Returns (y, x // 2 + 1), the layout of `rfft2` of an image of `shape_yx`, or (y, x) where `half` is False;
    float32.
    """
    if pixel_size_angstrom <= 0:
        raise ValueError(f"the pixel size must be positive, in Å; got {pixel_size_angstrom}")
    frequency_y = np.fft.fftfreq(shape_yx[0], pixel_size_angstrom)[:, None]
    columns = np.fft.rfftfreq if half else np.fft.fftfreq
    frequency_x = columns(shape_yx[1], pixel_size_angstrom)[None, :]
    azimuth = np.arctan2(frequency_y, frequency_x)
    defocus = defocus_along(azimuth, defocus_u_angstrom, defocus_v_angstrom, astigmatism_angle_deg)
    chi = phase_aberration(frequency_x**2 + frequency_y**2, defocus, optics, phase_shift_deg)
    return (-np.sin(chi)).astype(np.float32)
