"""Alignment of a tilt series by gold beads: found, followed, and fitted together with the geometry."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tomofly.imaging.binning import bin_mean
from tomofly.imaging.side_by_side import for_each
from tomofly.imaging.tilt_alignment import TiltAlignment
from tomofly.imaging.tilt_beads import SMALLEST_BEAD_PX, estimate_bead_diameter, find_beads
from tomofly.imaging.tilt_beads_level import level_beads
from tomofly.imaging.tilt_beads_points import intersected, measured_again, without_repeats
from tomofly.imaging.tilt_beads_tracking import follow_beads
from tomofly.imaging.tilt_bundle import BundleFit, fit_bundle
from tomofly.imaging.tilt_coarse import align_coarsely, fill_shifts
from tomofly.imaging.tilt_geometry import TiltGeometry, nominal_geometry
from tomofly.imaging.tilt_preparation import PreparedTilts, prepare_tilts
from tomofly.imaging.tilt_refinement import SlabState, neighbour_correlation, refine_shifts

FloatArray = npt.NDArray[np.float64]
FloatImages = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]

# Fewer beads than these that most tilts show do not align a series.
LEAST_BEADS = 4
# A bead keeps its place in the fit if this part of the tilts sees it where it should be.
_LEAST_SEEN, _LEAST_VIEWS = 0.3, 4
# Beads whose typical distance from the fit is this many times that of all, or this part of their diameter,
# are something else, or move.
_WRONG_TIMES, _WRONG_PART = 3.0, 0.35
# Beads are centred on images in which they are about this wide.
_WORKING_DIAMETER_PX = 10.0
_LOW_TILTS = 5
_COARSE_SIDE = 208
_HEIGHT_ANGSTROM = 1500.0
# Rounds of looking for every bead in every tilt where the last fit has it.
_ROUNDS = 3
_LEAST_VIEWS_OF_TILT = 2
_NCC_DEG, _NCC_REACH_DEG, _NCC_HIGHEST, _NCC_THICKNESS_PX = (0, 20, 40, 60), 5.0, 0.1, 30.0


def align_by_fiducials(
    images: npt.ArrayLike,
    tilt_angle_deg: npt.ArrayLike,
    axis_angle_deg: float,
    *,
    pixel_size_angstrom: float,
    bead_diameter_angstrom: float = 0.0,
    axis_prior_sigma_deg: float = 3.0,
    largest_shift_part: float = 0.3,
    threads: int = 1,
) -> TiltAlignment:
    """Align images (tilt, y, x) of nominal angles in degrees, in any order, by their gold beads.

    ``bead_diameter_angstrom``: 0 where it is not known, and estimated. ``axis_angle_deg``: expected direction
    of the tilt axis, anticlockwise from the image's y axis, right within ``axis_prior_sigma_deg``. Flags:
    "too_few_beads" (nothing is aligned then), "bead_size_estimated", "tilts_left_out", "nominal_axis_kept",
    "level_not_measured". Raises ValueError for images and angles that do not belong together.
    """
    stack, tilts = np.asarray(images), np.asarray(tilt_angle_deg, dtype=np.float64)
    if tilts.shape != stack.shape[:1] or not np.all(np.isfinite(tilts)):
        raise ValueError(f"{len(stack)} images need as many finite tilt angles, not {tilts.shape}")
    small = prepare_tilts(stack, largest_side=_COARSE_SIDE, threads=threads)
    start = nominal_geometry(tilts, axis_angle_deg)
    flags = () if bead_diameter_angstrom > 0 else ("bead_size_estimated",)
    diameter = bead_diameter_angstrom / pixel_size_angstrom or _estimated(stack, tilts, small.has_content)
    if not diameter >= SMALLEST_BEAD_PX or small.has_content.sum() < _LEAST_VIEWS:
        return _unaligned(start, small.has_content, (*flags, "too_few_beads"))
    series = _working_series(
        stack, diameter, small.has_content, _HEIGHT_ANGSTROM / pixel_size_angstrom, threads
    )
    coarse = align_coarsely(
        small.images, start, small.has_content, largest_shift_part=largest_shift_part, threads=threads
    )
    first = series.in_own_pixels(coarse.geometry.binned(1 / small.binning))
    fit = _fitted(series, first, largest_shift_part, axis_prior_sigma_deg)
    if fit is None:
        return _unaligned(start, small.has_content, (*flags, "too_few_beads"))
    return _assembled(fit, series, small, start, pixel_size_angstrom, flags)


@dataclass(frozen=True)
class _Series:
    """Images (tilt, y, x) on which beads are ``diameter`` pixels wide; all lengths in their pixels.

    ``centre_yx_px`` (2,): where their origin lies in the given images, from the origin there, in its pixels.
    """

    images: FloatImages
    diameter: float
    has_content: BoolArray
    height_sigma: float
    binning: int
    centre_yx_px: FloatArray
    threads: int

    def in_own_pixels(self, geometry: TiltGeometry) -> TiltGeometry:
        """Give a geometry of the given images for these."""
        moved = replace(geometry, shift_yx_px=geometry.shift_yx_px + self.centre_yx_px)
        return moved.binned(self.binning)

    def in_given_pixels(self, geometry: TiltGeometry) -> TiltGeometry:
        """Give a geometry of these images for the given ones."""
        larger = geometry.binned(1 / self.binning)
        return replace(larger, shift_yx_px=larger.shift_yx_px - self.centre_yx_px)


def _estimated(stack: npt.NDArray[Any], tilts: FloatArray, usable: BoolArray) -> float:
    """Give the median of the beads' diameters in the least tilted images."""
    low = [int(i) for i in np.argsort(np.abs(tilts), kind="stable") if usable[i]][:_LOW_TILTS]
    diameters = [estimate_bead_diameter(stack[i]) for i in low]
    known = [d for d in diameters if np.isfinite(d)]
    return float(np.median(known)) if len(known) > len(low) / 2 else float("nan")


def _working_series(
    stack: npt.NDArray[Any], diameter: float, usable: BoolArray, height_sigma: float, threads: int
) -> _Series:
    """Bin the images so far that beads keep about ten pixels; their origin moves."""
    binning = max(1, int(diameter / _WORKING_DIAMETER_PX))
    shape = (stack.shape[1] // binning, stack.shape[2] // binning)
    images = np.empty((len(stack), *shape), dtype=np.float32)

    def reduce(index: int) -> None:
        images[index] = bin_mean(np.asarray(stack[index], dtype=np.float32), binning)

    for_each(reduce, len(stack), threads)
    # The middle of a block lies between pixels; and blocks that are not full are left out.
    centre = binning * (np.array(shape) // 2) + 0.5 * (binning - 1) - np.array(stack.shape[1:]) // 2
    return _Series(images, diameter / binning, usable, height_sigma / binning, binning, centre, threads)


def _fitted(
    series: _Series, first: TiltGeometry, largest_shift_part: float, axis_sigma_deg: float
) -> BundleFit | None:
    """Find, follow and fit the beads; look for each again where the fit has it; None for too few."""
    found = find_beads(series.images, series.diameter, threads=series.threads)
    places = [beads.centre_yx_px for beads in found]
    tracks = follow_beads(
        places,
        first,
        series.has_content,
        diameter_px=series.diameter,
        height_sigma_px=series.height_sigma,
        reach_yx_px=largest_shift_part * np.array(series.images.shape[1:]),
    )
    fit = _bundle(_long(tracks.track_yx_px, series), tracks.geometry, axis_sigma_deg)
    if fit is None:
        return None
    points = intersected(tracks.track_yx_px, fit.geometry, series.diameter, series.height_sigma)
    geometry = fit.geometry
    for _ in range(_ROUNDS):
        points = without_repeats(points, series.diameter)
        track = measured_again(
            series.images, geometry, points, places, series.has_content, series.diameter, series.threads
        )
        fit = _bundle(_long(track, series), geometry, axis_sigma_deg)
        if fit is None:
            return None
        geometry, points = fit.geometry, fit.point_zyx_px[_right(fit, series)]
    return fit if len(points) >= LEAST_BEADS else None


def _long(track: FloatArray, series: _Series) -> FloatArray:
    """Keep the tracks that enough tilts see."""
    seen = np.isfinite(track[..., 0]).sum(axis=1)
    return np.asarray(track[seen >= max(_LEAST_VIEWS, _LEAST_SEEN * series.has_content.sum())])


def _bundle(track: FloatArray, geometry: TiltGeometry, axis_sigma_deg: float) -> BundleFit | None:
    """Fit shifts and axis; keep the axis where the beads tell less of it than is known."""
    if len(track) < LEAST_BEADS:
        return None
    fit = fit_bundle(track, geometry, free_tilt_offset=False)
    if fit.axis_uncertainty_deg > axis_sigma_deg:
        fit = fit_bundle(track, geometry, free_axis=False, free_tilt_offset=False)
        fit = replace(fit, flags=(*fit.flags, "axis_kept"))
    return None if "too_few_points" in fit.flags else fit


def _right(fit: BundleFit, series: _Series) -> BoolArray:
    """Tell the beads (bead,) that are where the fit has them in most of the tilts that see them."""
    distance = np.hypot(fit.residual_yx_px[..., 0], fit.residual_yx_px[..., 1])
    seen = np.isfinite(distance)
    typical = np.array([np.median(d[s]) if s.any() else np.inf for d, s in zip(distance, seen, strict=True)])
    limit = min(_WRONG_TIMES * float(np.median(typical)) + 0.1, _WRONG_PART * series.diameter)
    kept = fit.inlier.sum(axis=1) >= 0.5 * seen.sum(axis=1)
    return np.asarray((typical <= limit) & kept & np.isfinite(fit.point_zyx_px).all(axis=1))


def _assembled(
    fit: BundleFit,
    series: _Series,
    small: PreparedTilts,
    start: TiltGeometry,
    pixel_size_angstrom: float,
    flags: tuple[str, ...],
) -> TiltAlignment:
    """Level the specimen by its beads, and give everything in pixels of the given images."""
    right = _right(fit, series)
    used = (fit.inlier & right[:, None]).sum(axis=0) >= _LEAST_VIEWS_OF_TILT
    level = level_beads(fit.point_zyx_px[right], fit.geometry.x_tilt_deg)
    geometry = series.in_given_pixels(level.applied(fit.geometry))
    geometry = fill_shifts(geometry, used)
    fallbacks = {
        "tilts_left_out": not used.all(),
        "nominal_axis_kept": "axis_kept" in fit.flags,
        "level_not_measured": not np.isfinite(level.offset_error_deg),
    }
    distance = np.hypot(fit.residual_yx_px[..., 0], fit.residual_yx_px[..., 1])[right]
    scale = series.binning * pixel_size_angstrom
    ncc = _neighbour_ncc(small, geometry, used, series.threads)
    return TiltAlignment(
        geometry=geometry,
        used=used,
        shift_uncertainty_yx_px=np.where(used[:, None], series.binning * fit.shift_uncertainty_yx_px, np.nan),
        residual_angstrom=scale * _medians(distance),
        neighbour_ncc=ncc,
        ncc_at_deg=_ncc_at(start.tilt_angle_deg, ncc),
        axis_angle_deg=float(geometry.axis_angle_deg[0]),
        axis_uncertainty_deg=fit.axis_uncertainty_deg,
        tilt_offset_deg=level.offset_deg,
        tilt_offset_uncertainty_deg=level.offset_error_deg,
        x_tilt_uncertainty_deg=level.x_tilt_error_deg,
        leave_one_out_angstrom=scale * fit.leave_one_out_px,
        local=None,
        flags=(*flags, *(name for name, holds in fallbacks.items() if holds)),
    )


def _medians(distance: FloatArray) -> FloatArray:
    """Give the median (tilt,) of the beads' distances (bead, tilt) that are known; NaN where none is."""
    known = [column[np.isfinite(column)] for column in distance.T]
    return np.array([np.median(column) if column.size else np.nan for column in known])


def _neighbour_ncc(small: PreparedTilts, geometry: TiltGeometry, used: BoolArray, threads: int) -> FloatArray:
    """Give the correlation (tilt,) of the used images with their neighbours, NaN for others."""
    ncc = np.full(len(used), np.nan)
    if used.sum() >= 2:
        of_used = geometry.subset(used).binned(small.binning)
        state = SlabState(of_used, _NCC_THICKNESS_PX, np.ones(len(of_used)))
        placed = refine_shifts(small.images[used], state, highest=_NCC_HIGHEST, rounds=0, threads=threads)
        ncc[used] = neighbour_correlation(placed)
    return ncc


def _ncc_at(tilts: FloatArray, ncc: FloatArray) -> dict[int, float]:
    """Give the mean correlation near some tilts on either side."""
    means = {}
    for angle in _NCC_DEG:
        near = (np.abs(np.abs(tilts) - angle) <= _NCC_REACH_DEG) & np.isfinite(ncc)
        means[angle] = float(ncc[near].mean()) if near.any() else float("nan")
    return means


def _unaligned(start: TiltGeometry, used: BoolArray, flags: tuple[str, ...]) -> TiltAlignment:
    """Give the nominal geometry, with nothing measured."""
    unknown = np.full(len(start), np.nan)
    return TiltAlignment(
        geometry=start,
        used=used,
        shift_uncertainty_yx_px=np.full((len(start), 2), np.nan),
        residual_angstrom=unknown,
        neighbour_ncc=unknown,
        ncc_at_deg=_ncc_at(start.tilt_angle_deg, unknown),
        axis_angle_deg=float(start.axis_angle_deg[0]),
        axis_uncertainty_deg=np.nan,
        tilt_offset_deg=0.0,
        tilt_offset_uncertainty_deg=np.nan,
        x_tilt_uncertainty_deg=np.nan,
        leave_one_out_angstrom=np.nan,
        local=None,
        flags=flags,
    )
