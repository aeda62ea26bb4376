"""What patches say of an aligned series: its axis, how well the geometry holds, and what moves locally."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tomofly.imaging.tilt_bundle import BundleFit, fit_bundle
from tomofly.imaging.tilt_geometry import TiltGeometry
from tomofly.imaging.tilt_local import LEAST_PATCHES, LocalDeformation, fit_deformation
from tomofly.imaging.tilt_patches import PatchTracks, follow_patches
from tomofly.imaging.tilt_refinement import SlabState

FloatArray = npt.NDArray[np.float64]
FloatImages = npt.NDArray[np.float32]

# Patches are so large, within these parts of the image's shorter side: on simulated series patches of half
# the size are lost at high tilts, and few of double the size fit into the field.
_SIDE_ANGSTROM = 1250.0
_LEAST_SIDE_PX, _MOST_SIDE_PART = 48, 0.34
# Errors of single patches are never believed to be smaller than this part of a pixel.
_LEAST_ERROR_PX = 0.1
# At least this part of the patches' views has to agree with one geometry.
_LEAST_AGREEING = 0.5
# Found on simulated series: patches share errors, so that the axis errs three times more than they promise.
_AXIS_ERROR_SCALE = 3.0


@dataclass(frozen=True)
class PatchFit:
    """Patches, their points in the specimen, and the geometry that fits them; lengths in pixels.

    ``axis_uncertainty_deg``: as found on simulated series, larger than the bundle's own.
    """

    tracks: PatchTracks
    weight: FloatArray
    bundle: BundleFit
    axis_uncertainty_deg: float


def fit_patches(
    images: FloatImages, state: SlabState, pixel_size_angstrom: float, *, highest: float, threads: int = 1
) -> PatchFit | None:
    """Follow patches through images (tilt, y, x) aligned so far, and fit the geometry to them.

    The tilt offset and the x-tilt are left, as patches know too little of their height to tell them. None
    where the images are too small, too few patches could be followed, or they do not agree.
    """
    shorter = min(images.shape[1], images.shape[2])
    side = int(min(_SIDE_ANGSTROM / pixel_size_angstrom, _MOST_SIDE_PART * shorter))
    if side < _LEAST_SIDE_PX:
        return None
    tracks = follow_patches(images, state, side_px=side, highest=highest, threads=threads)
    if len(tracks.centre_zyx_px) < LEAST_PATCHES:
        return None
    variance = np.mean(tracks.error_yx_px**2, axis=2) + _LEAST_ERROR_PX**2
    seen = np.isfinite(variance)
    weight = np.where(seen, 1.0 / np.where(seen, variance, 1.0), 0.0)
    bundle = fit_bundle(
        tracks.track_yx_px, state.geometry, free_tilt_offset=False, weights=weight / np.median(weight[seen])
    )
    agreeing = float(np.mean(bundle.inlier[seen]))
    if "too_few_points" in bundle.flags or agreeing < _LEAST_AGREEING:
        return None
    return PatchFit(tracks, weight, bundle, _AXIS_ERROR_SCALE * bundle.axis_uncertainty_deg)


def patch_residuals(fit: PatchFit, geometry: TiltGeometry) -> FloatArray:
    """Give the residuals (patch, tilt, 2) of patches in a geometry near that of the fit, NaN where unseen.

    What shifts differ by from those of the fit is taken as found; the patches' points stay where they are
    but for a movement of all.
    """
    by = _movement(fit.bundle.geometry, geometry)
    expected = geometry.project(fit.bundle.point_zyx_px + by).transpose(1, 0, 2)
    return np.asarray(fit.tracks.track_yx_px - expected)


def _movement(old: TiltGeometry, new: TiltGeometry) -> FloatArray:
    """Give the movement (z, y, x) of the specimen that explains most of the change of shifts."""
    view = new.rotations()[:, 1::-1, :].reshape(-1, 3)
    change = (new.shift_yx_px - old.shift_yx_px).ravel()
    return np.asarray(np.linalg.lstsq(view, change)[0][::-1])


def residual_of_tilts(residual_yx_px: FloatArray) -> FloatArray:
    """Give the median length (tilt,) of residuals (patch, tilt, 2), NaN for tilts without patches."""
    distance = np.hypot(residual_yx_px[..., 0], residual_yx_px[..., 1])
    found = np.full(distance.shape[1], np.nan)
    for tilt in np.flatnonzero(np.isfinite(distance).any(axis=0)):
        found[tilt] = np.nanmedian(distance[:, tilt])
    return found


def local_deformation(
    fit: PatchFit, geometry: TiltGeometry, exposure_order: npt.ArrayLike, shape_yx: tuple[int, int]
) -> LocalDeformation | None:
    """Fit local movement to what patches have left, None where it explains too little of it."""
    residual = np.nan_to_num(patch_residuals(fit, geometry))
    angle = np.deg2rad(float(np.median(geometry.axis_angle_deg)))
    sine, cosine = abs(np.sin(angle)), abs(np.cos(angle))
    height, width = shape_yx
    half = (0.5 * (height * cosine + width * sine), 0.5 * (width * cosine + height * sine))
    weight = fit.weight * fit.bundle.inlier
    points = np.nan_to_num(fit.bundle.point_zyx_px)
    return fit_deformation(residual, weight, points, geometry, exposure_order, half).deformation
