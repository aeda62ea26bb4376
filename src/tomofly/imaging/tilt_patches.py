"""Patches of the specimen followed through an aligned tilt series.

Each patch is a slab of its own, smaller than the field: all its images together, stretched onto the
specimen's plane about its centre, say by how much each is off the others (see ``tilt_slab``). So a patch is
matched with all tilts at once, each counting as much as it can know of the others, and not with a neighbour
whose error it would take over.
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import fft

from tomofly.imaging.side_by_side import for_each
from tomofly.imaging.tilt_geometry import TiltGeometry
from tomofly.imaging.tilt_refinement import SlabState
from tomofly.imaging.tilt_slab import SlabFit, SlabSpectra, fit_slab, moved, slab_model, slab_spectra
from tomofly.imaging.tilt_stretch import edge_window, plane_to_image, stretched

FloatArray = npt.NDArray[np.float64]
FloatImages = npt.NDArray[np.float32]

# A patch is seen in a tilt if this part of its width lies within the image.
_INSIDE_PART = 0.5
_LEAST_TILTS = 5
_LOWEST_PERIODS = 2.5
_ROUNDS = 3
# A patch that seems to move further than this part of its side was lost.
_LOST_PART = 0.12


@dataclass(frozen=True)
class PatchTracks:
    """Patches followed through a series, in pixels of its images; NaN where a patch was not seen.

    ``centre_zyx_px`` (patch, 3): centred, in the specimen. ``track_yx_px`` (patch, tilt, 2): where the centre
    is seen, centred (y, x) in the unshifted image. ``error_yx_px`` (patch, tilt, 2): standard errors.
    """

    centre_zyx_px: FloatArray
    track_yx_px: FloatArray
    error_yx_px: FloatArray


def follow_patches(
    images: FloatImages, state: SlabState, *, side_px: int, highest: float, threads: int = 1
) -> PatchTracks:
    """Follow patches of ``side_px`` in the specimen's plane, half overlapping, through images (tilt, y, x).

    ``state``: where the series was aligned to. ``highest``: the highest frequency used, cycles per pixel.
    """
    side = fft.next_fast_len(side_px, real=True)
    centres = patch_centres(state.geometry, (images.shape[1], images.shape[2]), side)
    tracks = np.full((len(centres), len(images), 2), np.nan)
    errors = tracks.copy()

    def follow(number: int) -> None:
        seen = np.flatnonzero(_seen(state.geometry, centres[number], images.shape[1:], side))
        if len(seen) < _LEAST_TILTS:
            return
        here = replace(state, geometry=state.geometry.subset(seen), tilt_noise=state.tilt_noise[seen])
        steps, error = _followed(images[seen], here, centres[number], side, highest)
        kept = np.hypot(*steps.T) <= _LOST_PART * side
        place = here.geometry.project(centres[number][None])[:, 0] - steps
        tracks[number, seen[kept]], errors[number, seen[kept]] = place[kept], error[kept]

    for_each(follow, len(centres), threads)
    found = np.isfinite(tracks[..., 0]).sum(axis=1) >= _LEAST_TILTS
    return PatchTracks(centres[found], tracks[found], errors[found])


def patch_centres(geometry: TiltGeometry, shape_yx: tuple[int, int], side: int) -> FloatArray:
    """Give centres (patch, 3) at height 0 on a grid in the plane that the least tilted image shows."""
    least = int(np.argmin(np.abs(geometry.tilt_angle_deg)))
    reach = int(np.hypot(*shape_yx) / side) + 1
    steps = 0.5 * side * np.arange(-reach, reach + 1)
    y, x = np.meshgrid(steps, steps, indexing="ij")
    grid = np.stack([np.zeros(y.size), y.ravel(), x.ravel()], axis=1)
    inside = [_seen(geometry.subset([least]), centre, shape_yx, side)[0] for centre in grid]
    return np.asarray(grid[np.array(inside, dtype=bool)])


def _seen(
    geometry: TiltGeometry, centre: FloatArray, shape_yx: tuple[int, ...], side: int
) -> npt.NDArray[np.bool_]:
    """Say in which tilts most of a patch lies within the image."""
    place = np.abs(geometry.project(centre[None])[:, 0])
    room = np.array(shape_yx) / 2 - _INSIDE_PART * side / 2
    return np.asarray(np.all(place <= room, axis=1))


def _followed(
    images: FloatImages, state: SlabState, centre: FloatArray, side: int, highest: float
) -> tuple[FloatArray, FloatArray]:
    """Give what must be applied (tilt, 2) to the images at a patch on top of their shifts, and its errors."""
    geometry = state.geometry
    planes = stretched(images, geometry, (side, side), centre_zyx=centre)
    spectra = slab_spectra(planes, edge_window((side, side)), _LOWEST_PERIODS / side, highest)
    total = np.zeros((len(images), 2))
    bound = 0.5 / highest
    for turn in range(_ROUNDS + 1):
        fit = _fit(spectra, state)
        if turn == _ROUNDS:
            break
        step = np.clip(fit.step_yx_px, -bound, bound)
        spectra, total = moved(spectra, step), total + step
    matrices = plane_to_image(geometry)
    steps = np.einsum("tij,tj->ti", matrices, total)
    return _without_movement(geometry, steps), _errors(geometry, matrices, fit)


def _fit(spectra: SlabSpectra, state: SlabState) -> SlabFit:
    tilts = state.geometry.tilt_angle_deg
    model = slab_model(spectra, tilts, np.cos(np.deg2rad(tilts)), state.thickness_px)
    return fit_slab(spectra, replace(model, tilt_noise=state.tilt_noise))


def _without_movement(geometry: TiltGeometry, steps: FloatArray) -> FloatArray:
    """Take out of steps (tilt, 2) the movement of the patch, which images do not tell from its place."""
    whole = geometry.rotations()[:, 1::-1, :].reshape(-1, 3)
    flat = steps.ravel()
    return np.asarray((flat - whole @ np.linalg.lstsq(whole, flat)[0]).reshape(-1, 2))


def _errors(geometry: TiltGeometry, matrices: FloatArray, fit: SlabFit) -> FloatArray:
    tilts = len(geometry)
    covariance = fit.covariance.reshape(tilts, 2, tilts, 2)
    inside = np.einsum("tij,tjuk,ulk->tiul", matrices, covariance, matrices, optimize=True)
    whole = geometry.rotations()[:, 1::-1, :].reshape(2 * tilts, 3)
    free = np.eye(2 * tilts) - whole @ np.linalg.pinv(whole)
    variance = np.diag(free @ inside.reshape(2 * tilts, 2 * tilts) @ free.T)
    return np.asarray(np.sqrt(np.maximum(variance, 0.0)).reshape(tilts, 2))
