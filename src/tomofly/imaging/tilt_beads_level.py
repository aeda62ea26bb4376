"""How the specimen lies, from its beads: on one surface of it, or on both, which are parallel."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from tomofly.imaging.tilt_geometry import TiltGeometry

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

LEAST_BEADS = 4
# Two surfaces are told from one if they hold so many beads each, and so many together; beads are this near to
# theirs, in parts of the distance between the two.
_LEAST_ON_A_SURFACE, _LEAST_FOR_TWO, _THIN = 3, 8, 0.15
# Slopes that are tried for two surfaces, degrees.
_STEEPEST_DEG, _SLOPE_STEP_DEG = 24.0, 1.0
_VAGUE_DEG = 6.0


@dataclass(frozen=True)
class BeadLevel:
    """The turns that make a specimen level: added to the tilts, and about x; errors are NaN where not known.

    ``thickness_px``: distance of the two surfaces that beads lie on, and ``middle_px``: height of the middle
    between them; NaN for one surface.
    """

    offset_deg: float
    x_tilt_deg: float
    offset_error_deg: float
    x_tilt_error_deg: float
    thickness_px: float
    middle_px: float

    def applied(self, geometry: TiltGeometry) -> TiltGeometry:
        """Give the geometry of the level specimen, its middle at height 0 if two surfaces tell it."""
        level = replace(
            geometry,
            tilt_angle_deg=geometry.tilt_angle_deg + self.offset_deg,
            x_tilt_deg=self.x_tilt_deg,
        )
        if not np.isfinite(self.middle_px):
            return level
        raised = self.middle_px * level.rotations()[:, 1::-1, 2]
        return replace(level, shift_yx_px=level.shift_yx_px - raised)


def level_beads(point_zyx_px: FloatArray, x_tilt_deg: float = 0.0) -> BeadLevel:
    """Find the plane, or two parallel planes, that beads (bead, 3), given with an x-tilt, lie on.

    Slopes that the beads do not tell to within some degrees are left as they are.
    """
    kept = BeadLevel(0.0, x_tilt_deg, np.nan, np.nan, np.nan, np.nan)
    if len(point_zyx_px) < LEAST_BEADS:
        return kept
    turn = np.deg2rad(x_tilt_deg)
    z, y, x = point_zyx_px.T
    seen = np.column_stack([x, y * np.cos(turn) - z * np.sin(turn), y * np.sin(turn) + z * np.cos(turn)])
    plane = _plane(seen, _upper_beads(seen))
    if not plane.error_deg.max() <= _VAGUE_DEG:
        return kept
    offset, x_tilt = _turns(plane.slope)
    flatness = 1 / np.sqrt(1 + float(plane.slope @ plane.slope))
    error = plane.error_deg
    return BeadLevel(
        offset, x_tilt, float(error[0]), float(error[1]), plane.gap * flatness, plane.middle * flatness
    )


def _turns(slope: FloatArray) -> tuple[float, float]:
    """Give the angles about y and x, in degrees, that turn the z axis onto the normal of a plane."""
    normal = np.array([-slope[0], -slope[1], 1.0])
    offset = np.arctan2(normal[0], normal[2])
    x_tilt = -np.arctan2(normal[1], np.hypot(normal[0], normal[2]))
    return float(np.rad2deg(offset)), float(np.rad2deg(x_tilt))


def _upper_beads(seen: FloatArray) -> BoolArray | None:
    """Tell the beads (bead,) of the upper of two surfaces; None where one explains them as well."""
    if len(seen) < _LEAST_FOR_TWO:
        return None
    steps = np.tan(np.deg2rad(np.arange(-_STEEPEST_DEG, _STEEPEST_DEG + 0.5, _SLOPE_STEP_DEG)))
    slopes = np.stack(np.meshgrid(steps, steps, indexing="ij"), axis=-1).reshape(-1, 2)
    height = seen[:, 2] - slopes @ seen[:, :2].T
    order = np.argsort(height, axis=1)
    ranked = np.take_along_axis(height, order, axis=1)
    split, within = _best_split(ranked)
    best = int(np.argmin(within))
    upper = np.zeros(len(seen), dtype=bool)
    upper[order[best, split[best] :]] = True
    plane = _plane(seen, upper)
    rest = seen[:, 2] - seen[:, :2] @ plane.slope
    spread = np.sqrt(np.mean([np.var(rest[side]) for side in (upper, ~upper)]))
    return upper if spread < _THIN * abs(plane.gap) else None


def _best_split(ranked: FloatArray) -> tuple[npt.NDArray[np.int64], FloatArray]:
    """Give where to divide rows of rising values (row, value) in two, and the squares left within both."""
    count = ranked.shape[1]
    total, squares = np.cumsum(ranked, axis=1), np.cumsum(ranked**2, axis=1)
    sizes = np.arange(_LEAST_ON_A_SURFACE, count - _LEAST_ON_A_SURFACE + 1)
    low, low_squares = total[:, sizes - 1], squares[:, sizes - 1]
    high, high_squares = total[:, -1:] - low, squares[:, -1:] - low_squares
    within = low_squares - low**2 / sizes + high_squares - high**2 / (count - sizes)
    best = np.argmin(within, axis=1)
    return sizes[best], within[np.arange(len(best)), best]


@dataclass(frozen=True)
class _Plane:
    """Slopes along x and y with their errors, distance of the second plane, height between the two."""

    slope: FloatArray
    error_deg: FloatArray
    gap: float
    middle: float


def _plane(seen: FloatArray, upper: BoolArray | None) -> _Plane:
    """Fit a plane, or two parallel ones, by least squares in which outliers count less."""
    design = np.column_stack([seen[:, :2], np.ones(len(seen))])
    if upper is not None:
        design = np.column_stack([design, upper.astype(np.float64)])
    weight = np.ones(len(seen))
    found = np.zeros(design.shape[1])
    off = np.zeros(len(seen))
    for _ in range(10):
        root = np.sqrt(weight)
        found = np.linalg.lstsq(design * root[:, None], seen[:, 2] * root)[0]
        off = np.abs(seen[:, 2] - design @ found)
        weight = np.minimum(1.0, 2.0 * 1.4826 * float(np.median(off)) / np.maximum(off, 1e-9))
    free = max(len(seen) - design.shape[1], 1)
    covariance = np.linalg.pinv(design.T @ (weight[:, None] * design)) * float(np.sum(weight * off**2) / free)
    error = np.sqrt(np.diag(covariance)[:2]) / (1 + found[:2] ** 2)
    gap = float(found[3]) if upper is not None else float("nan")
    return _Plane(found[:2], np.rad2deg(error), gap, float(found[2]) + 0.5 * gap)
