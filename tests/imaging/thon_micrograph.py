"""Micrographs with known Thon rings, from formulas that are written here and nowhere else."""

import numpy as np
import numpy.typing as npt
import scipy.constants as si


def de_broglie_angstrom(voltage_kv: float) -> float:
    """Electron wavelength from the constants of nature."""
    energy = voltage_kv * 1e3 * si.e
    momentum = np.sqrt(2 * si.m_e * energy * (1 + energy / (2 * si.m_e * si.c**2)))
    return float(si.h / momentum * 1e10)


def thon_micrograph(
    shape_yx: tuple[int, int],
    pixel: float,
    defocus_u: float,
    defocus_v: float,
    angle_deg: float,
    *,
    voltage_kv: float = 300.0,
    cs_mm: float = 2.7,
    amplitude_contrast: float = 0.07,
    phase_shift_deg: float = 0.0,
    electrons_per_pixel: float = 60.0,
    contrast: float = 0.3,
    b_factor: float = 60.0,
    seed: int = 0,
) -> npt.NDArray[np.float32]:
    """Counted electrons (y, x): amorphous specimen, lens, envelope, Poisson counting."""
    random = np.random.default_rng(seed)
    ky, kx = np.meshgrid(
        np.fft.fftfreq(shape_yx[0], pixel), np.fft.rfftfreq(shape_yx[1], pixel), indexing="ij"
    )
    # Defocus as a quadratic form: k·D·k with D = U u uᵀ + V v vᵀ, u the unit vector along the angle.
    direction = np.deg2rad(angle_deg)
    along = kx * np.cos(direction) + ky * np.sin(direction)
    across = ky * np.cos(direction) - kx * np.sin(direction)
    k2 = kx**2 + ky**2
    wavelength = de_broglie_angstrom(voltage_kv)
    path = 0.5 * wavelength**2 * (defocus_u * along**2 + defocus_v * across**2)
    path -= 0.25 * cs_mm * 1e7 * wavelength**4 * k2**2
    wave_phase = 2 * np.pi * path / wavelength + np.deg2rad(phase_shift_deg)
    transfer = np.sqrt(1 - amplitude_contrast**2) * np.sin(wave_phase) + amplitude_contrast * np.cos(
        wave_phase
    )
    specimen = np.fft.rfft2(random.standard_normal(shape_yx))
    specimen *= (1 + 2 * np.exp(-k2 * 15**2)) * np.exp(-0.25 * b_factor * k2)
    image = np.fft.irfft2(-transfer * specimen, s=shape_yx)
    expected = electrons_per_pixel * np.clip(1 + contrast * image, 0, None)
    return random.poisson(expected).astype(np.float32)
