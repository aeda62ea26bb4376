"""Beads as points of the specimen: where their views meet, and where they are seen again."""

import numpy as np
import numpy.typing as npt

from tomofly.imaging.side_by_side import for_each
from tomofly.imaging.tilt_beads import LEAST_CONTRAST, LEAST_LIKENESS, centre_beads, level_image
from tomofly.imaging.tilt_beads_tracking import common_offset
from tomofly.imaging.tilt_geometry import TiltGeometry

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

_LEAST_VIEWS = 3
# Distances in parts of a bead's diameter: between a point and its views, between a bead and where it should
# be, and between two beads that are still seen apart.
_MEETING, _NEAR, _APART, _SAME = 0.3, 0.35, 0.85, 0.5
_LEAST_NEAR_PX = 1.5
# The shift of a tilt is looked for again if its beads are seen this far away, in diameters.
_LOST_DIAMETERS = 4.0


def intersected(
    track_yx_px: FloatArray, geometry: TiltGeometry, diameter_px: float, height_sigma_px: float
) -> FloatArray:
    """Give the points (point, 3) as (z, y, x) at which the views of tracks (bead, tilt, 2) meet.

    Tracks that do not meet, or do so far from the specimen, are left out; those with most views come first.
    """
    view = geometry.rotations()[:, 1::-1, :]
    seen = np.isfinite(track_yx_px[..., 0])
    at = np.where(seen[..., None], track_yx_px + geometry.shift_yx_px, 0.0)
    normal = np.einsum("pt,tij,tik->pjk", seen.astype(np.float64), view, view)
    # A bead seen in few tilts is as high as beads are.
    normal += np.diag([1e-9, 1e-9, (0.1 * diameter_px / height_sigma_px) ** 2])
    point = np.linalg.solve(normal, np.einsum("pt,tij,pti->pj", seen, view, at)[..., None])[..., 0]
    off = np.where(seen[..., None], np.einsum("tij,pj->pti", view, point) - at, 0.0)
    views = seen.sum(axis=1)
    spread = np.sqrt((off**2).sum(axis=(1, 2)) / np.maximum(views, 1))
    good = (views >= _LEAST_VIEWS) & (spread <= max(_MEETING * diameter_px, _LEAST_NEAR_PX))
    good &= np.abs(point[:, 2]) <= 4 * height_sigma_px
    order = np.argsort(-views, kind="stable")
    return np.asarray(point[order][good[order]][:, ::-1])


def without_repeats(point_zyx_px: FloatArray, diameter_px: float) -> FloatArray:
    """Keep of points (point, 3) closer to each other than half a bead the first one."""
    kept: list[int] = []
    for index, point in enumerate(point_zyx_px):
        if not np.any(np.linalg.norm(point_zyx_px[kept] - point, axis=1) < _SAME * diameter_px):
            kept.append(index)
    return point_zyx_px[kept]


def measured_again(
    images: npt.NDArray[np.float32],
    geometry: TiltGeometry,
    point_zyx_px: FloatArray,
    found_yx_px: list[FloatArray],
    usable: BoolArray,
    diameter_px: float,
    threads: int,
) -> FloatArray:
    """Look for beads (bead, 3) in every usable image (tilt, y, x) where the geometry has them.

    ``found_yx_px`` tells what each image holds, in case its shift is wrong. Gives tracks (bead, tilt, 2), NaN
    where a bead is not in the image, not seen, or hidden by another.
    """
    place = geometry.project(point_zyx_px)
    track = np.full((len(point_zyx_px), len(geometry), 2), np.nan)

    def measure(tilt: int) -> None:
        if usable[tilt]:
            expected = place[tilt] + _offset(place[tilt], found_yx_px[tilt], images.shape[1:], diameter_px)
            track[:, tilt] = _seen(images[tilt], expected, diameter_px)

    for_each(measure, len(geometry), threads)
    return track


def _offset(
    expected: FloatArray, found: FloatArray, shape_yx: tuple[int, ...], diameter_px: float
) -> FloatArray:
    """Give how far the beads of a tilt are from where they should be, in common; 0 if few say so."""
    half = np.array(shape_yx) / 2
    inside = np.all(np.abs(expected) < half, axis=1)
    near = np.full(int(inside.sum()), max(_NEAR * diameter_px, _LEAST_NEAR_PX))
    if not inside.any() or not len(found):
        return np.zeros(2)
    reach = np.maximum(0.3 * half, _LOST_DIAMETERS * diameter_px)
    offset, pairs = common_offset(expected[inside], found, near, reach, diameter_px)
    return offset if len(pairs) >= _LEAST_VIEWS else np.zeros(2)


def _seen(image: npt.NDArray[np.float32], expected: FloatArray, diameter_px: float) -> FloatArray:
    """Give the places of beads (bead, 2), NaN where they are not seen well near the expected ones."""
    half = np.array(image.shape) / 2 - 0.5 * diameter_px
    apart = np.hypot(*(expected[:, None] - expected[None]).transpose(2, 0, 1))
    apart[np.diag_indices(len(apart))] = np.inf
    whole = np.all(np.abs(expected) <= half, axis=1) & np.all(apart >= _APART * diameter_px, axis=1)
    places = np.full(expected.shape, np.nan)
    if not whole.any():
        return places
    centred = centre_beads(level_image(image), expected[whole], diameter_px, others_yx_px=expected)
    moved = np.hypot(*(centred.centre_yx_px - expected[whole]).T)
    typical = float(np.median(centred.contrast))
    good = (moved <= max(_NEAR * diameter_px, _LEAST_NEAR_PX)) & (centred.likeness >= LEAST_LIKENESS)
    good &= centred.contrast >= LEAST_CONTRAST * max(typical, 0.0)
    places[np.flatnonzero(whole)[good]] = centred.centre_yx_px[good]
    return places
