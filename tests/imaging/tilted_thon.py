"""Tilted images with known Thon rings, from formulas that are written here and nowhere else.

The specimen is noise on a thin, tilted plane. Depth is worked out from the plane's normal, not from the
rotations that the estimator uses: tilted by +θ about the axis, what lies to the right of it sinks.
"""

import numpy as np
import numpy.typing as npt

from tests.imaging.thon_micrograph import de_broglie_angstrom

STRIP_ANGSTROM = 300.0


def tilted_thon_image(
    shape_yx: tuple[int, int],
    pixel: float,
    tilt_deg: float,
    axis_deg: float,
    defocus_u: float,
    defocus_v: float,
    astigmatism_deg: float,
    *,
    hand: int = 1,
    origin_yx_px: tuple[float, float] = (0.0, 0.0),
    electrons_per_a2: float = 3.0,
    contrast_a2: float = 0.03,
    b_factor: float = 200.0,
    thickness: float = 1500.0,
    voltage_kv: float = 300.0,
    seed: int = 0,
) -> npt.NDArray[np.float32]:
    """Counted electrons (y, x). `contrast_a2`: spectral density of the specimen's relative contrast, Å².

    `origin_yx_px`: where, from index n // 2, the tilt axis passes. The dose that passes falls with the path.
    """
    random = np.random.default_rng(seed)
    y, x = (np.arange(n) - n // 2 - o for n, o in zip(shape_yx, origin_yx_px, strict=True))
    axis = np.deg2rad(axis_deg)
    # The axis stands along (-sin, cos) in (x, y); the distance from it is measured along (cos, sin).
    distance = pixel * (x[None, :] * np.cos(axis) + y[:, None] * np.sin(axis))
    depth = hand * -np.tan(np.deg2rad(tilt_deg)) * distance
    specimen = np.fft.rfft2(random.standard_normal(shape_yx)) * np.sqrt(contrast_a2) / pixel
    levels = np.arange(depth.min(), depth.max() + STRIP_ANGSTROM, STRIP_ANGSTROM)
    image = np.zeros(shape_yx)
    for level in levels:
        share = np.clip(1 - np.abs(depth - level) / STRIP_ANGSTROM, 0, None)
        lens = _transfer(
            shape_yx, pixel, defocus_u + level, defocus_v + level, astigmatism_deg, voltage_kv, b_factor
        )
        image += share * np.fft.irfft2(-lens * specimen, s=shape_yx)
    passed = np.exp(-thickness / 3000.0 / np.cos(np.deg2rad(tilt_deg)))
    expected = electrons_per_a2 * pixel**2 * passed * np.clip(1 + image, 0, None)
    return random.poisson(expected).astype(np.float32)


def _transfer(
    shape_yx: tuple[int, int],
    pixel: float,
    defocus_u: float,
    defocus_v: float,
    angle_deg: float,
    voltage_kv: float,
    b_factor: float,
) -> npt.NDArray[np.float64]:
    """sin chi with its envelope, from the path difference in wavelengths; Cs 2.7 mm, 7 % amplitude."""
    ky = np.fft.fftfreq(shape_yx[0], pixel)[:, None]
    kx = np.fft.rfftfreq(shape_yx[1], pixel)[None, :]
    direction = np.deg2rad(angle_deg)
    along = kx * np.cos(direction) + ky * np.sin(direction)
    across = ky * np.cos(direction) - kx * np.sin(direction)
    k2 = kx**2 + ky**2
    wavelength = de_broglie_angstrom(voltage_kv)
    path = 0.5 * wavelength**2 * (defocus_u * along**2 + defocus_v * across**2)
    path -= 0.25 * 2.7e7 * wavelength**4 * k2**2
    phase = 2 * np.pi * path / wavelength + np.arcsin(0.07)
    return np.asarray(np.sin(phase) * (1 + 2 * np.exp(-k2 * 15**2)) * np.exp(-0.25 * b_factor * k2))
