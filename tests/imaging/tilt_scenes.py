"""Tilt series of a slab full of grains, projected by formulas of their own, for which the truth is known."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class TiltScene:
    """Images (tilt, y, x), nominal angles, and the truth behind them."""

    images: npt.NDArray[np.float32]
    nominal_tilt_deg: FloatArray
    axis_angle_deg: float
    offset_deg: float
    x_tilt_deg: float
    shift_yx_px: FloatArray
    points_zyx_px: FloatArray
    pixel_size_angstrom: float = 10.0


def seen_at(
    points_zyx: FloatArray, tilt_deg: float, axis_deg: float, x_tilt_deg: float
) -> tuple[FloatArray, FloatArray]:
    """Give centred v and u of points: turned about x, about y, seen along z, turned in the image."""
    z, y, x = points_zyx.T
    b, t, a = np.deg2rad([x_tilt_deg, tilt_deg, axis_deg])
    along = y * np.cos(b) - z * np.sin(b)
    height = y * np.sin(b) + z * np.cos(b)
    across = x * np.cos(t) + height * np.sin(t)
    return across * np.sin(a) + along * np.cos(a), across * np.cos(a) - along * np.sin(a)


def tilt_scene(
    shape: tuple[int, int] = (230, 250),
    tilts: FloatArray | None = None,
    *,
    axis_deg: float = 84.0,
    offset_deg: float = 0.0,
    x_tilt_deg: float = 0.0,
    thickness_px: float = 150.0,
    tracking_px: float = 10.0,
    contrast: float = 0.05,
    particles_per_megapixel: float = 2500.0,
    dose: float = 300.0,
    warp_px: float = 0.0,
    extra_shift_yx_px: npt.ArrayLike = (0.0, 0.0),
    seed: int = 1,
) -> TiltScene:
    """Make a series; ``dose`` in electrons per pixel and tilt, ``tracking_px`` the spread of the shifts.

    ``warp_px``: how far a bowl-shaped movement reaches by the last tilt, in pixels at the edge of the field.
    """
    rng = np.random.default_rng(seed)
    angles = np.arange(-60.0, 61.0, 3.0) if tilts is None else np.asarray(tilts, dtype=np.float64)
    points = _grains(rng, shape, thickness_px, particles_per_megapixel)
    shifts = rng.normal(0, 1, (len(angles), 2)) * tracking_px + np.asarray(extra_shift_yx_px)
    images = np.empty((len(angles), *shape), dtype=np.float32)
    order = np.argsort(np.argsort(np.abs(angles), kind="stable"))
    for i, angle in enumerate(angles):
        swollen = points.copy()
        swollen[:, 1:] *= 1 + warp_px / (max(shape) / 2) * order[i] / len(angles)
        v, u = seen_at(swollen, angle + offset_deg, axis_deg, x_tilt_deg)
        place = np.stack([v - shifts[i, 0], u - shifts[i, 1]]) + np.array(shape)[:, None] // 2
        matter = _matter(place, shape)
        passed = np.exp(-0.4 * (1 / np.cos(np.deg2rad(angle)) - 1))
        images[i] = rng.poisson(np.clip(dose * passed * (1 - contrast * matter), 0, None))
    return TiltScene(images, angles, axis_deg, offset_deg, x_tilt_deg, shifts, points)


def _grains(
    rng: np.random.Generator, shape: tuple[int, int], thickness_px: float, density: float
) -> FloatArray:
    """Give particles of ten grains each, uniform in a level slab three fields wide."""
    extent = 3.0 * max(shape)
    count = max(1, int(density * extent**2 / 1e6))
    centres = rng.uniform(-0.5, 0.5, (count, 3)) * (thickness_px, extent, extent)
    grains = centres[:, None, :] + rng.normal(0, 4.0, (count, 10, 3))
    return np.asarray(grains.reshape(-1, 3))


def _matter(place: FloatArray, shape: tuple[int, int]) -> FloatArray:
    """Spread points at (v, u) over pixels, blur them to grains of 2 pixels, and take the slow part away."""
    margin = 20
    size = (shape[0] + 2 * margin, shape[1] + 2 * margin)
    whole = np.floor(place).astype(int)
    part = place - whole
    image = np.zeros(size)
    for dy in (0, 1):
        for dx in (0, 1):
            weight = np.abs(1 - dy - part[0]) * np.abs(1 - dx - part[1])
            y, x = whole[0] + dy + margin, whole[1] + dx + margin
            inside = (y >= 0) & (y < size[0]) & (x >= 0) & (x < size[1])
            np.add.at(image, (y[inside], x[inside]), weight[inside])
    grains = gaussian_filter(image, 2.0) * 2 * np.pi * 4
    seen = grains - gaussian_filter(grains, 25.0)
    return np.asarray(seen[margin:-margin, margin:-margin])
