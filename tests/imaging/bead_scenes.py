"""Tilt series of gold beads on faint grains, projected by formulas of their own."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from tests.imaging.tilt_scenes import seen_at

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class BeadScene:
    """Images (tilt, y, x), nominal angles, and what is true: beads (bead, 3) as z, y, x, in pixels."""

    images: npt.NDArray[np.float32]
    nominal_tilt_deg: FloatArray
    axis_angle_deg: float
    offset_deg: float
    shift_yx_px: FloatArray
    beads_zyx_px: FloatArray
    place_yx_px: FloatArray


def bead_scene(
    shape: tuple[int, int] = (252, 284),
    tilts: FloatArray | None = None,
    *,
    beads_zyx_px: FloatArray | None = None,
    count: int = 12,
    diameter_px: float = 8.0,
    axis_deg: float = 84.0,
    offset_deg: float = 0.0,
    thickness_px: float = 90.0,
    tracking_px: float = 8.0,
    strays: int = 0,
    dose: float = 200.0,
    seed: int = 1,
) -> BeadScene:
    """Make a series with beads on both surfaces; ``strays`` are discs that lie elsewhere in each tilt."""
    rng = np.random.default_rng(seed)
    angles = np.arange(-54.0, 55.0, 6.0) if tilts is None else tilts
    beads = _on_surfaces(rng, shape, count, thickness_px) if beads_zyx_px is None else beads_zyx_px
    grains = rng.uniform(-0.5, 0.5, (1500, 3)) * (thickness_px, 2 * shape[0], 2 * shape[1])
    shifts = rng.normal(0, 1, (len(angles), 2)) * tracking_px
    shifts[np.argmin(np.abs(angles))] = 0
    images = np.empty((len(angles), *shape), dtype=np.float32)
    places = np.empty((len(angles), len(beads), 2))
    for i, angle in enumerate(angles):
        tilted = angle + offset_deg
        places[i] = np.stack(seen_at(beads, tilted, axis_deg, 0.0), axis=1) - shifts[i]
        loose = rng.uniform(-0.45, 0.45, (strays, 2)) * shape
        matter = _grains(np.stack(seen_at(grains, tilted, axis_deg, 0.0), axis=1) - shifts[i], shape)
        passed = np.exp(-0.4 * (1 / np.cos(np.deg2rad(angle)) - 1)) * (1 - 0.05 * matter)
        for place in np.concatenate([places[i], loose]):
            passed *= 1 - 0.5 * _disc(shape, place, diameter_px / 2)
        images[i] = rng.poisson(dose * np.clip(passed, 0, None))
    return BeadScene(images, angles, axis_deg, offset_deg, shifts, beads, places)


def _on_surfaces(
    rng: np.random.Generator, shape: tuple[int, int], count: int, thickness_px: float
) -> FloatArray:
    across = rng.uniform(-0.42, 0.42, (count, 2)) * shape
    side = np.where(np.arange(count) % 2, 0.5, -0.5) * thickness_px
    return np.column_stack([side, across])


def _disc(shape: tuple[int, int], place_yx: FloatArray, radius: float) -> FloatArray:
    """Give the share of each pixel that a disc covers, nearly."""
    y, x = np.ogrid[: shape[0], : shape[1]]
    distance = np.hypot(y - shape[0] // 2 - place_yx[0], x - shape[1] // 2 - place_yx[1])
    return np.asarray(np.clip(0.5 + radius - distance, 0, 1))


def _grains(place_yx: FloatArray, shape: tuple[int, int]) -> FloatArray:
    image = np.zeros(shape)
    at = np.rint(place_yx).astype(int) + np.array(shape) // 2
    at = at[np.all((at >= 0) & (at < shape), axis=1)]
    np.add.at(image, (at[:, 0], at[:, 1]), 1.0)
    return np.asarray(gaussian_filter(image, 2.0) * 2 * np.pi * 4)
