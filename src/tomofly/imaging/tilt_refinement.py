"""Shifts of a tilt series refined on the likelihood of a slab, in a given band of frequencies."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import fft

from tomofly.imaging.tilt_geometry import TiltGeometry
from tomofly.imaging.tilt_slab import (
    SlabFit,
    SlabModel,
    SlabSpectra,
    fit_slab,
    moved,
    slab_model,
    slab_spectra,
)
from tomofly.imaging.tilt_stretch import edge_window, plane_to_image, stretched

FloatArray = npt.NDArray[np.float64]
FloatImages = npt.NDArray[np.float32]

# The part of the field that is compared: what most tilts see, whatever their shifts.
_FIELD_PART = 0.8
# Slower variations than this many periods over the field are illumination and thickness.
_LOWEST_PERIODS = 3.0
# A tilt's noise relative to the others is followed within these bounds.
_TILT_NOISE_RANGE = (0.2, 100.0)


@dataclass(frozen=True)
class SlabState:
    """Where a series stands: geometry and thickness in pixels of the images, and the noise of its tilts."""

    geometry: TiltGeometry
    thickness_px: float
    tilt_noise: FloatArray

    def binned(self, factor: float) -> "SlabState":
        """Give the same state for images whose pixels are ``factor`` times as large."""
        return SlabState(self.geometry.binned(factor), self.thickness_px / factor, self.tilt_noise)


@dataclass(frozen=True)
class Refinement:
    """A state, the last fit, its model, and the spectra in place."""

    state: SlabState
    fit: SlabFit
    model: SlabModel
    spectra: SlabSpectra


def refine_shifts(
    images: FloatImages,
    state: SlabState,
    *,
    highest: float,
    rounds: int,
    follow_noise: bool = True,
    threads: int = 1,
) -> Refinement:
    """Take ``rounds`` steps on the shifts of images (tilt, y, x), with frequencies up to ``highest``.

    Frequencies are in cycles per pixel. Steps are bounded by half a period of the highest frequency, and by
    half as much again for a tilt whenever its steps go to and fro.
    """
    size = field_size(images.shape[1:])
    planes = stretched(images, state.geometry, size, threads=threads)
    spectra = slab_spectra(planes, edge_window(size), _LOWEST_PERIODS / min(size), highest, threads)
    matrices = plane_to_image(state.geometry)
    tilts = state.geometry.tilt_angle_deg
    compression = np.cos(np.deg2rad(tilts))
    noise, total = state.tilt_noise, np.zeros((len(images), 2))
    bound = np.full((len(images), 1), min(0.5 / highest, 0.1 * min(size)))
    before = np.zeros((len(images), 2))
    for turn in range(rounds + 1):
        model = replace(slab_model(spectra, tilts, compression, state.thickness_px), tilt_noise=noise)
        fit = fit_slab(spectra, model)
        if turn == rounds:
            break
        step = np.clip(fit.step_yx_px, -bound, bound)
        turned_back = np.sum(step * before, axis=1, keepdims=True) < 0
        bound = np.where(turned_back, 0.5 * bound, bound)
        step = np.clip(step, -bound, bound)
        spectra, total, before = moved(spectra, step), total + step, step
        if follow_noise:
            noise = np.clip(noise * fit.misfit, *_TILT_NOISE_RANGE)
    shift = state.geometry.shift_yx_px + np.einsum("tij,tj->ti", matrices, total)
    geometry = replace(state.geometry, shift_yx_px=shift)
    return Refinement(replace(state, geometry=geometry, tilt_noise=noise), fit, model, spectra)


def attainable_likelihood(fit: SlabFit, highest: float) -> float:
    """Give the likelihood that further steps would lead to, of which none goes beyond half a period.

    Of a step cut to the part p, the gain is 2·p − p² of the whole, as on any parabola.
    """
    length = np.abs(fit.step_yx_px).max(axis=1)
    part = np.minimum(1.0, 0.5 / highest / np.maximum(length, 1e-12))
    return fit.log_likelihood + float(np.sum((2 * part - part**2) * fit.expected_gain))


def field_size(shape_yx: tuple[int, ...]) -> tuple[int, int]:
    """Give the size of the compared field in the specimen's plane: a square, quick to transform."""
    side = fft.next_fast_len(int(_FIELD_PART * min(shape_yx)), real=True)
    return side, side


def shift_errors(refinement: Refinement) -> FloatArray:
    """Give the standard deviation (tilt, 2) of the shifts, a movement of the whole set aside."""
    geometry = refinement.state.geometry
    matrices = plane_to_image(geometry)
    tilts = len(geometry)
    to_image = np.zeros((2 * tilts, 2 * tilts))
    for tilt in range(tilts):
        to_image[2 * tilt : 2 * tilt + 2, 2 * tilt : 2 * tilt + 2] = matrices[tilt]
    covariance = to_image @ refinement.fit.covariance @ to_image.T
    whole = geometry.rotations()[:, 1::-1, :].reshape(2 * tilts, 3)
    free = np.eye(2 * tilts) - whole @ np.linalg.pinv(whole)
    variance = np.diag(free @ covariance @ free.T).reshape(tilts, 2)
    return np.asarray(np.sqrt(np.maximum(variance, 0.0)))


def neighbour_correlation(refinement: Refinement) -> FloatArray:
    """Give the correlation (tilt,) of each aligned image with the nearest in angle, in the band."""
    tilts, values = refinement.state.geometry.tilt_angle_deg, refinement.spectra.values
    distance = np.abs(tilts[:, None] - tilts[None, :]) + np.where(np.eye(len(tilts)) > 0, np.inf, 0.0)
    nearest = np.argmin(distance, axis=1)
    power = np.sum(np.abs(values) ** 2, axis=(0, 2))
    product = np.sum(np.real(values * np.conj(values[:, nearest])), axis=(0, 2))
    return np.asarray(product / np.sqrt(np.maximum(power * power[nearest], 1e-30)), dtype=np.float64)
