"""Bundle fit: the geometry of a tilt series from points that were followed through its images.

What is minimised is the distance between where points are seen and where the geometry has them, over the
points, the shifts and the direction of the tilt axis together. The points are eliminated first, as is usual
in bundle adjustment (Triggs et al., 2000); views that do not fit lose their weight (Huber, then Tukey's
biweight).

Points alone tell neither where the specimen is nor how it is inclined, as all of it could be moved or turned
before it is tilted. These freedoms are fixed so: shifts change from those given by no part that a movement of
the whole specimen would make; and the tilt offset, and the x-tilt if free, are such that the plane through
the points lies level.
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from tomofly.imaging.tilt_geometry import TiltGeometry

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

LEAST_POINTS = 3
_LEAST_VIEWS = 3
# Axis and slope with larger errors than these, in degrees, are not told by the points.
_VAGUE_AXIS_DEG, _VAGUE_SLOPE_DEG = 5.0, 8.0
# Points in a strip narrower than this part of its length tell of no plane.
_NARROW = 0.02
# Below this range of tilts, points do not show the direction of the axis.
_LEAST_RANGE_DEG = 10.0
_MOST_STEPS, _HUBER_STEPS = 40, 8
_HUBER, _TUKEY = 1.5, 5.0
# The median length of a normal error in the plane, in standard deviations of one axis.
_MEDIAN_LENGTH = 1.1774
_LEAST_SIGMA_PX = 1e-8
_SETTLED = 1e-8


@dataclass(frozen=True)
class BundleFit:
    """Geometry and points that agree, and by how much; lengths in pixels, NaN where nothing is known.

    ``geometry``: refined. ``point_zyx_px`` (point, 3): centred positions in the specimen.
    ``residual_yx_px`` (point, tilt, 2): seen less expected, NaN where unseen. ``inlier`` (point, tilt): views
    that kept some weight. ``shift_uncertainty_yx_px`` (tilt, 2): standard errors, a movement of the whole
    specimen set aside; NaN for a tilt without points, which keeps its shift.
    ``leave_one_out_px``: median distance of a point's view from where a fit that has not seen this one view
    expects it, over all views (by their leverage, which is exact for a linear fit). ``flags``:
    "too_few_points", "tilts_without_points", "axis_kept" and "level_kept", where points do not tell these.
    """

    geometry: TiltGeometry
    point_zyx_px: FloatArray
    residual_yx_px: FloatArray
    inlier: BoolArray
    shift_uncertainty_yx_px: FloatArray
    axis_uncertainty_deg: float
    tilt_offset_uncertainty_deg: float
    leave_one_out_px: float
    flags: tuple[str, ...]


def fit_bundle(
    track_yx_px: npt.ArrayLike,
    geometry: TiltGeometry,
    *,
    free_axis: bool = True,
    free_tilt_offset: bool = True,
    free_x_tilt: bool = False,
    robust: bool = True,
    weights: npt.ArrayLike | None = None,
) -> BundleFit:
    """Refine a geometry on tracks (point, tilt, 2): centred (y, x) in the unshifted images, NaN if unseen.

    ``weights`` (point, tilt): how much each view counts, all alike if not given. ``robust``: whether views
    that do not fit lose their weight. Raises ValueError for tracks of another shape than (point, tilt, 2).
    """
    track = np.asarray(track_yx_px, dtype=np.float64)
    if track.ndim != 3 or track.shape[1:] != (len(geometry), 2):
        raise ValueError(f"tracks are (point, {len(geometry)}, 2), not {track.shape}")
    given = np.ones(track.shape[:2]) if weights is None else np.asarray(weights, dtype=np.float64)
    if given.shape != track.shape[:2]:
        raise ValueError(f"weights are {track.shape[:2]}, not {given.shape}")
    sight = _sight(track, given)
    if np.count_nonzero(sight.followed) < LEAST_POINTS:
        return _nothing(track, geometry)
    turning = free_axis and bool(np.ptp(geometry.tilt_angle_deg[sight.tilts]) >= _LEAST_RANGE_DEG)
    state = _settled(sight, geometry, turning, robust)
    if turning and not _axis_error(sight, state) <= _VAGUE_AXIS_DEG:
        turning = False
        state = _settled(sight, geometry, turning, robust)
    flags = () if sight.tilts.all() else ("tilts_without_points",)
    flags = flags if turning or not free_axis else (*flags, "axis_kept")
    return _described(sight, _anchored(state, geometry), (free_tilt_offset, free_x_tilt), flags)


@dataclass(frozen=True)
class _Sight:
    """Tracks with 0 where unseen, the weight of each view (0: unseen), and the points and tilts with any."""

    track: FloatArray
    weight: FloatArray
    followed: BoolArray
    tilts: BoolArray


def _sight(track: FloatArray, weights: FloatArray) -> _Sight:
    seen = np.isfinite(track).all(axis=2) & (weights > 0)
    followed = seen.sum(axis=1) >= _LEAST_VIEWS
    seen &= followed[:, None]
    weight = np.where(seen, weights, 0.0)
    return _Sight(np.where(seen[..., None], track, 0.0), weight, followed, np.any(seen, axis=0))


@dataclass(frozen=True)
class _State:
    """Geometry, points (point, 3) as x, y, z, residuals, weights (point, tilt), and the last equations."""

    geometry: TiltGeometry
    points: FloatArray
    residual: FloatArray
    weight: FloatArray
    normal: "_Normal"


@dataclass(frozen=True)
class _Normal:
    """The normal equations with the points eliminated.

    Unknowns: shifts (2 tilt), then the axis if it turns. ``inverse``: without movements of the whole.
    ``pinned`` (point, 3, 3): inverse of each point's own; ``across`` (point, 3, unknown): with the others.
    """

    inverse: FloatArray
    pinned: FloatArray
    across: FloatArray
    slope: FloatArray
    turning: bool


def _settled(sight: _Sight, geometry: TiltGeometry, turning: bool, robust: bool) -> _State:
    """Take steps on everything, the weights following, until nothing changes any more."""
    points = np.zeros((len(sight.track), 3))
    weight = sight.weight
    state = _step(sight, geometry, points, weight, turning=False)
    for turn in range(_MOST_STEPS):
        before = state
        if robust:
            weight = sight.weight * _trust(sight, state.residual, turn)
        state = _step(sight, state.geometry, state.points, weight, turning=turning)
        change = np.abs(state.geometry.shift_yx_px - before.geometry.shift_yx_px).max()
        turned = np.abs(state.geometry.axis_angle_deg - before.geometry.axis_angle_deg).max()
        if turn > _HUBER_STEPS and max(change, turned) < _SETTLED:
            break
    return state


def _trust(sight: _Sight, residual: FloatArray, turn: int) -> FloatArray:
    """Give the weights (point, tilt) of Huber, and later of Tukey, for the residuals of a state."""
    distance = np.hypot(residual[..., 0], residual[..., 1])
    seen = sight.weight > 0
    sigma = max(float(np.median(distance[seen])) / _MEDIAN_LENGTH, _LEAST_SIGMA_PX)
    if turn < _HUBER_STEPS:
        return np.asarray(np.minimum(1.0, _HUBER * sigma / np.maximum(distance, 1e-12)))
    return np.asarray(np.maximum(0.0, 1.0 - (distance / (_TUKEY * sigma)) ** 2) ** 2)


def _step(
    sight: _Sight, geometry: TiltGeometry, points: FloatArray, weight: FloatArray, *, turning: bool
) -> _State:
    """Take one Gauss-Newton step on shifts, axis and points."""
    rotation = geometry.rotations()
    view = rotation[:, 1::-1, :]
    residual = sight.track - _expected(view, points, geometry.shift_yx_px)
    normal, pull, own_pull = _normal_equations(view, points, residual, weight, turning)
    step = normal.inverse @ (pull - np.einsum("pik,pij,pj->k", normal.across, normal.pinned, own_pull))
    points = points + np.einsum("pij,pj->pi", normal.pinned, own_pull - normal.across @ step)
    tilts = len(geometry)
    geometry = replace(
        geometry,
        shift_yx_px=geometry.shift_yx_px + step[: 2 * tilts].reshape(tilts, 2),
        axis_angle_deg=geometry.axis_angle_deg + (np.rad2deg(step[-1]) if turning else 0.0),
    )
    view = geometry.rotations()[:, 1::-1, :]
    return _State(
        geometry, points, sight.track - _expected(view, points, geometry.shift_yx_px), weight, normal
    )


def _expected(view: FloatArray, points: FloatArray, shift: FloatArray) -> FloatArray:
    """Give where points (point, 3) are seen by the views (tilt, 2, 3): (point, tilt, 2)."""
    return np.asarray(np.einsum("tij,pj->pti", view, points) - shift[None])


def _normal_equations(
    view: FloatArray, points: FloatArray, residual: FloatArray, weight: FloatArray, turning: bool
) -> tuple[_Normal, FloatArray, FloatArray]:
    """Give the reduced system, the pull on its unknowns (unknown,) and that on the points (point, 3)."""
    count, tilts = weight.shape
    seen = np.einsum("tij,pj->pti", view, points)
    slope = np.stack([seen[..., 1], -seen[..., 0]], axis=-1)
    own = (weight @ (view.transpose(0, 2, 1) @ view).reshape(tilts, 9)).reshape(count, 3, 3)
    own += np.eye(3) * (1e-12 * np.trace(own, axis1=1, axis2=2)[:, None, None] + 1e-12)
    across = -np.einsum("pt,tij->pjti", weight, view).reshape(count, 3, 2 * tilts)
    whole = np.diag(np.repeat(weight.sum(axis=0), 2))
    pull = -np.einsum("pt,pti->ti", weight, residual).ravel()
    if turning:
        bend = np.einsum("pt,tij,pti->pj", weight, view, slope)
        across = np.concatenate([across, bend[..., None]], axis=2)
        edge = -np.einsum("pt,pti->ti", weight, slope).ravel()
        whole = np.block([[whole, edge[:, None]], [edge[None], np.sum(weight[..., None] * slope**2)]])
        pull = np.append(pull, np.sum(weight[..., None] * slope * residual))
    pinned: FloatArray = np.linalg.inv(own).astype(np.float64)
    flat = across.reshape(3 * count, -1)
    reduced = whole - flat.T @ (pinned @ across).reshape(3 * count, -1)
    inverse = _inverse_without_movement(reduced, view, weight.sum(axis=0) > 0)
    own_pull = np.einsum("pt,tij,pti->pj", weight, view, residual)
    return _Normal(inverse, pinned, across, slope, turning), pull, own_pull


def _inverse_without_movement(reduced: FloatArray, view: FloatArray, seen: BoolArray) -> FloatArray:
    """Invert the system on all directions but those of a specimen moved as a whole, and of unseen tilts."""
    free = np.zeros((len(reduced), 3))
    free[: 2 * len(view)] = np.where(seen[:, None, None], view, 0.0).reshape(-1, 3)
    basis = np.linalg.qr(free)[0]
    stiff = float(np.trace(reduced)) / len(reduced)
    blank = np.zeros(len(reduced))
    blank[: 2 * len(view)] = np.repeat(~seen, 2)
    inverse = np.linalg.inv(reduced + stiff * (basis @ basis.T) + stiff * np.diag(blank))
    rest = np.eye(len(reduced)) - basis @ basis.T - np.diag(blank)
    return np.asarray(rest @ inverse @ rest.T)


def _anchored(state: _State, start: TiltGeometry) -> _State:
    """Move points and shifts together until the shifts have changed by no movement of the whole."""
    view = state.geometry.rotations()[:, 1::-1, :]
    change = (state.geometry.shift_yx_px - start.shift_yx_px).ravel()
    by = np.linalg.lstsq(view.reshape(-1, 3), change)[0]
    shift = state.geometry.shift_yx_px - view @ by
    return replace(state, geometry=replace(state.geometry, shift_yx_px=shift), points=state.points - by)


def _described(
    sight: _Sight, state: _State, free_level: tuple[bool, bool], flags: tuple[str, ...]
) -> BundleFit:
    """Level the specimen, and say how sure everything is."""
    inlier = (state.weight > 0) & (sight.weight > 0)
    geometry, points, slope_error = _levelled(state, inlier.sum(axis=1) >= _LEAST_VIEWS, free_level)
    if any(free_level) and not np.isfinite(slope_error):
        flags = (*flags, "level_kept")
    variance = _variance(sight, state)
    tilts = len(geometry)
    error = np.sqrt(variance * np.diag(state.normal.inverse)[: 2 * tilts].clip(0)).reshape(tilts, 2)
    seen = sight.weight > 0
    return BundleFit(
        geometry=geometry,
        point_zyx_px=np.where(sight.followed[:, None], points[:, ::-1], np.nan),
        residual_yx_px=np.where(seen[..., None], state.residual, np.nan),
        inlier=inlier,
        shift_uncertainty_yx_px=np.where(sight.tilts[:, None], error, np.nan),
        axis_uncertainty_deg=_axis_error(sight, state),
        tilt_offset_uncertainty_deg=slope_error if free_level[0] else np.nan,
        leave_one_out_px=float(np.median(_unseen_distance(state)[seen])),
        flags=flags,
    )


def _variance(sight: _Sight, state: _State) -> float:
    """Give the variance of a view of weight 1, from the weighted residuals and what the fit has used up."""
    weight = state.weight
    points = np.count_nonzero((weight > 0).sum(axis=1) >= 2)
    base = np.where(sight.weight > 0, sight.weight, 1.0)
    views = float(np.sum(weight / base))
    free = 2.0 * views - 3 * points - len(state.normal.inverse) + 3
    return float(np.sum(weight[..., None] * state.residual**2) / max(free, 1.0))


def _axis_error(sight: _Sight, state: _State) -> float:
    if not state.normal.turning:
        return float("nan")
    return float(np.rad2deg(np.sqrt(_variance(sight, state) * max(state.normal.inverse[-1, -1], 0.0))))


def _unseen_distance(state: _State) -> FloatArray:
    """Give the distance (point, tilt) of each view from where the fit without it expects it.

    A view's own part in the fit is w·J·C·Jᵀ, with C the covariance of all unknowns for unit weight.
    """
    normal, weight = state.normal, state.weight
    view = state.geometry.rotations()[:, 1::-1, :]
    own = np.einsum("tij,pjk,tlk->ptil", view, normal.pinned, view, optimize=True)
    reach = -np.einsum("tij,pjk,pkm->ptim", view, normal.pinned, normal.across, optimize=True)
    tilts = np.arange(len(view))
    for axis in (0, 1):
        reach[:, tilts, axis, 2 * tilts + axis] -= 1.0
    if normal.turning:
        reach[..., -1] += normal.slope
    part = own + np.einsum("ptim,ptjm->ptij", reach @ normal.inverse, reach, optimize=True)
    rest = np.eye(2) - weight[..., None, None] * part
    safe = rest + 1e-9 * np.eye(2)
    unseen = np.linalg.solve(safe, state.residual[..., None])[..., 0]
    return np.asarray(np.hypot(unseen[..., 0], unseen[..., 1]))


def _levelled(
    state: _State, known: BoolArray, free: tuple[bool, bool]
) -> tuple[TiltGeometry, FloatArray, float]:
    """Turn points and geometry so that the plane through the points is level; give the offset's error too.

    Ry(tilt)·Rx(x_tilt)·p is kept for every point. Slopes too vague are left, and their error is NaN.
    """
    geometry, points = state.geometry, state.points
    if not any(free):
        return geometry, points, np.nan
    old = _turn(0.0, geometry.x_tilt_deg)
    slopes, errors = _plane(points[known] @ old.T)
    vague = ~(errors <= _VAGUE_SLOPE_DEG)
    slopes = np.where(vague, 0.0, slopes)
    normal = np.array([-slopes[0], -slopes[1], 1.0])
    offset = np.rad2deg(np.arctan2(normal[0], normal[2])) if free[0] else 0.0
    across = normal @ _turn(offset, 0.0)
    x_tilt = -float(np.rad2deg(np.arctan2(across[1], across[2]))) if free[1] else geometry.x_tilt_deg
    if free[1] and vague[1]:
        x_tilt = geometry.x_tilt_deg
    new = _turn(offset, x_tilt)
    error = float(errors[0]) if free[0] else float(errors[1])
    error = np.nan if error > _VAGUE_SLOPE_DEG else error
    tilted = replace(geometry, tilt_angle_deg=geometry.tilt_angle_deg + offset, x_tilt_deg=x_tilt)
    return tilted, points @ (new.T @ old).T, error


def _turn(tilt_deg: float, x_tilt_deg: float) -> FloatArray:
    """Give Ry(tilt)·Rx(x_tilt)."""
    alone = TiltGeometry(np.array([tilt_deg]), np.zeros(1), np.zeros((1, 2)), x_tilt_deg)
    return np.asarray(alone.rotations()[0])


def _plane(points_xyz: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Give the slopes (x, y) of the plane through points, and the errors of their angles in degrees."""
    place = points_xyz[:, :2] - points_xyz[:, :2].mean(axis=0) if len(points_xyz) else np.zeros((0, 2))
    widths = np.linalg.svd(place, compute_uv=False)
    if len(place) <= LEAST_POINTS or widths[-1] <= _NARROW * widths[0]:
        return np.zeros(2), np.full(2, np.nan)
    design = np.column_stack([place, np.ones(len(place))])
    weight, height = np.ones(len(place)), points_xyz[:, 2]
    for _ in range(10):
        root = np.sqrt(weight)[:, None]
        found = np.linalg.lstsq(design * root, height * root[:, 0])[0]
        off = np.abs(height - design @ found)
        sigma = max(1.4826 * float(np.median(off)), _LEAST_SIGMA_PX)
        weight = np.minimum(1.0, 2.0 * sigma / np.maximum(off, 1e-12))
    variance = np.sum(weight * off**2) / max(len(height) - 3, 1)
    covariance = variance * np.linalg.inv(design.T @ (weight[:, None] * design))
    spread = np.sqrt(np.diag(covariance)[:2]) / (1 + found[:2] ** 2)
    return found[:2], np.rad2deg(spread)


def _nothing(track: FloatArray, geometry: TiltGeometry) -> BundleFit:
    unknown = np.full(track.shape, np.nan)
    return BundleFit(
        geometry=geometry,
        point_zyx_px=np.full((len(track), 3), np.nan),
        residual_yx_px=unknown,
        inlier=np.zeros(track.shape[:2], dtype=bool),
        shift_uncertainty_yx_px=np.full((len(geometry), 2), np.nan),
        axis_uncertainty_deg=np.nan,
        tilt_offset_uncertainty_deg=np.nan,
        leave_one_out_px=np.nan,
        flags=("too_few_points",),
    )
