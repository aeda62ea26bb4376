"""Beads followed from tilt to tilt, outward from the least tilted image.

Where a bead will be in the next tilt is where it was in the nearest one, moved as its place in the specimen
says, which is known the better the longer it has been followed. What all beads of a tilt have in common is
the error of that tilt's shift; it is found first, as the offset that brings most beads onto something. Beads
on the other surface of a thick specimen agree on another offset as long as no one knows their height.
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from tomofly.imaging.tilt_coarse import outward_order
from tomofly.imaging.tilt_geometry import TiltGeometry

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]

# Views further away in angle count less for where a bead will be next, as the axis is not known yet.
_MEMORY_DEG = 15.0
# A bead that was last seen this far away is not expected any more.
_LONGEST_GAP_DEG = 20.0
# Errors of a bead's centre, and of what is expected of it beside its unknown height, in parts of its
# diameter; and the largest distance that is allowed for.
_VIEW_SIGMA, _NEAR, _FARTHEST = 0.1, 0.25, 1.2
_LEAST_NEAR_PX = 1.5
# So many beads that agree on an offset are a surface of the specimen.
_LEAST_SURFACE = 3
# An offset is looked for nearby, and in the whole reach if fewer than this part of the beads agree.
_NEARBY_DIAMETERS, _AGREEING = 3.0, 0.6
_BIN_PX = 1.0


@dataclass(frozen=True)
class BeadTracks:
    """``track_yx_px`` (bead, tilt, 2): centred places, NaN where not seen; ``geometry``: shifts corrected."""

    track_yx_px: FloatArray
    geometry: TiltGeometry


def follow_beads(
    found_yx_px: list[FloatArray],
    geometry: TiltGeometry,
    usable: BoolArray,
    *,
    diameter_px: float,
    height_sigma_px: float,
    reach_yx_px: npt.ArrayLike,
) -> BeadTracks:
    """Join the beads found in each tilt (bead, 2) to tracks, through the ``usable`` (tilt,) ones.

    ``height_sigma_px``: how far from the middle plane beads may lie; ``reach_yx_px``: how far the shifts of
    ``geometry`` may be off.
    """
    following = _Following(
        found_yx_px, geometry, diameter_px, height_sigma_px, np.asarray(reach_yx_px, float)
    )
    for tilt in outward_order(geometry.tilt_angle_deg, usable):
        following.take(tilt)
    return BeadTracks(following.track, following.geometry)


class _Following:
    """The tracks so far; tilts are taken one after the other."""

    def __init__(
        self,
        found: list[FloatArray],
        geometry: TiltGeometry,
        diameter: float,
        height_sigma: float,
        reach: FloatArray,
    ) -> None:
        self.geometry = geometry
        self.track = np.full((0, len(geometry), 2), np.nan)
        self._found = found
        self._view = geometry.rotations()[:, 1::-1, :]
        self._diameter = diameter
        self._height_sigma = height_sigma
        self._reach = reach

    def take(self, tilt: int) -> None:
        """Join what was found in one tilt to the tracks, and begin tracks with the rest."""
        found = self._found[tilt]
        place, sigma = self._expected(tilt)
        known = np.flatnonzero(np.isfinite(place).all(axis=1))
        joined = np.zeros(len(found), dtype=bool)
        if known.size and len(found):
            least = max(_NEAR * self._diameter, _LEAST_NEAR_PX)
            near = np.clip(2 * sigma[known], least, max(_FARTHEST * self._diameter, least))
            offset, pairs = common_offset(place[known], found, near, self._reach, self._diameter)
            shift = self.geometry.shift_yx_px.copy()
            shift[tilt] -= offset
            self.geometry = replace(self.geometry, shift_yx_px=shift)
            pairs += _other_surface(place[known] + offset, found, near, 4 * sigma[known], pairs)
            for row, bead in pairs:
                self.track[known[row], tilt] = found[bead]
                joined[bead] = True
        self._begin(found[~joined], tilt)

    def _begin(self, beads: FloatArray, tilt: int) -> None:
        new = np.full((len(beads), len(self.geometry), 2), np.nan)
        new[:, tilt] = beads
        self.track = np.concatenate([self.track, new])

    def _expected(self, tilt: int) -> tuple[FloatArray, FloatArray]:
        """Give where each track should be seen (track, 2), NaN if unknown, and how sure that is (track,)."""
        distance = np.abs(self.geometry.tilt_angle_deg - self.geometry.tilt_angle_deg[tilt])
        seen = np.isfinite(self.track[..., 0])
        away = np.where(seen, distance, np.inf)
        nearest = np.argmin(away, axis=1) if len(away) else np.empty(0, dtype=np.int64)
        rows = np.arange(len(away))
        point, covariance = self._points(seen, np.exp(-distance / _MEMORY_DEG))
        step = self._view[tilt] - self._view[nearest]
        moved = np.einsum("pij,pj->pi", step, point)
        moved -= self.geometry.shift_yx_px[tilt] - self.geometry.shift_yx_px[nearest]
        place = self.track[rows, nearest] + moved
        place[~(away[rows, nearest] <= _LONGEST_GAP_DEG)] = np.nan
        sigma = np.sqrt(np.einsum("pij,pjk,pik->p", step, covariance, step))
        return place, sigma

    def _points(self, seen: BoolArray, trust: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Give places in the specimen (track, 3) as x, y, z from all views, and their covariances."""
        weight = np.where(seen, trust, 0.0) / (_VIEW_SIGMA * self._diameter) ** 2
        at = np.where(seen[..., None], self.track + self.geometry.shift_yx_px, 0.0)
        normal = np.einsum("pt,tij,tik->pjk", weight, self._view, self._view)
        normal = normal + np.diag([1e-9, 1e-9, self._height_sigma**-2])
        right = np.einsum("pt,tij,pti->pj", weight, self._view, at)
        covariance = np.linalg.inv(normal)
        return np.asarray(np.einsum("pij,pj->pi", covariance, right)), covariance


def _other_surface(
    expected: FloatArray,
    found: FloatArray,
    near: FloatArray,
    reach: FloatArray,
    pairs: list[tuple[int, int]],
) -> list[tuple[int, int]]:
    """Pair what is left where the heights of tracks, unknown yet, let them be farther away than ``near``."""
    rows, beads = ({pair[side] for pair in pairs} for side in (0, 1))
    rest = np.array([i for i, far in enumerate(reach > near) if far and i not in rows], dtype=np.int64)
    free = np.array([i for i in range(len(found)) if i not in beads], dtype=np.int64)
    rest = np.array(
        [row for row in range(len(expected)) if row not in rows and reach[row] > near[row]], dtype=int
    )
    free = np.array([bead for bead in range(len(found)) if bead not in beads], dtype=int)
    if len(rest) < _LEAST_SURFACE or len(free) < _LEAST_SURFACE:
        return []
    _, more = _agreed(expected[rest], found[free], near[rest], np.full(2, float(reach[rest].max())))
    if len(more) < max(_LEAST_SURFACE, 0.5 * len(rest)):
        return []
    return [(int(rest[row]), int(free[bead])) for row, bead in more]


def common_offset(
    expected: FloatArray, found: FloatArray, near: FloatArray, reach_yx: FloatArray, diameter: float
) -> tuple[FloatArray, list[tuple[int, int]]]:
    """Give the offset (2,) from expected places (track, 2) to found ones (bead, 2), and who belongs to whom.

    ``near`` (track,): how far from its place, the offset taken, each may be. An offset nearby is preferred.
    """
    close = np.minimum(reach_yx, _NEARBY_DIAMETERS * diameter)
    offset, pairs = _agreed(expected, found, near, close)
    if len(pairs) < _AGREEING * len(expected):
        wide, more = _agreed(expected, found, near, reach_yx)
        if len(more) > 1.5 * len(pairs) and len(more) >= 3:
            return wide, more
    return offset, pairs


def _agreed(
    expected: FloatArray, found: FloatArray, near: FloatArray, reach: FloatArray
) -> tuple[FloatArray, list[tuple[int, int]]]:
    """Find the offset on which most pairs agree, and then the pairs; twice, the second time more exactly."""
    offset = _most_frequent(expected, found, float(np.median(near)), reach)
    pairs: list[tuple[int, int]] = []
    for wider in (1.5, 1.0):
        pairs = nearest_pairs(expected + offset, found, wider * near)
        if not pairs:
            return np.zeros(2), []
        rows, beads = np.array(pairs).T
        offset = np.median(found[beads] - expected[rows], axis=0)
    return offset, nearest_pairs(expected + offset, found, near)


def _most_frequent(expected: FloatArray, found: FloatArray, blur: float, reach: FloatArray) -> FloatArray:
    """Give the most frequent difference (2,) within reach, the smaller of equally frequent ones."""
    difference = (found[None] - expected[:, None]).reshape(-1, 2)
    difference = difference[np.all(np.abs(difference) <= reach, axis=1)]
    if not len(difference):
        return np.zeros(2)
    half = np.ceil(reach / _BIN_PX).astype(np.int64) + 1
    counts = np.zeros(2 * half + 1)
    where = np.rint(difference / _BIN_PX).astype(np.int64) + half
    np.add.at(counts, (where[:, 0], where[:, 1]), 1.0)
    density = gaussian_filter(counts, max(0.5 * blur / _BIN_PX, 1.0), mode="constant")
    y, x = np.ogrid[-half[0] : half[0] + 1, -half[1] : half[1] + 1]
    density *= 1.0 + 0.2 * np.exp(-0.5 * ((y / half[0]) ** 2 + (x / half[1]) ** 2) / 0.3**2)
    peak = np.unravel_index(int(np.argmax(density)), density.shape)
    return np.asarray((np.array(peak) - half) * _BIN_PX, dtype=np.float64)


def nearest_pairs(expected: FloatArray, found: FloatArray, near: FloatArray) -> list[tuple[int, int]]:
    """Pair places (track, 2) and beads (bead, 2) that are each other's nearest, and near enough (track,)."""
    if not len(expected) or not len(found):
        return []
    distance = np.hypot(*(found[None] - expected[:, None]).transpose(2, 0, 1))
    bead = np.argmin(distance, axis=1)
    track = np.argmin(distance, axis=0)
    rows = np.arange(len(expected))
    mutual = (track[bead] == rows) & (distance[rows, bead] <= near)
    return [(int(row), int(bead[row])) for row in np.flatnonzero(mutual)]
