"""One movie: the specimen, its image through the lens, its motion, and the camera that counts."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numba as nb
import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft2, rfft2

from tomofly.simulate import camera as counting
from tomofly.simulate import ice, motion, optics, specimen
from tomofly.simulate.fields import smooth_map
from tomofly.simulate.microscope import SpaMicroscope
from tomofly.simulate.truth import CameraTruth, OpticsTruth, ParticleTruth, Truth

Image = NDArray[np.float32]
Spectrum = NDArray[np.complex64]

SMALLEST_MARGIN_PX = 48


@dataclass(frozen=True)
class Exposure:
    """A movie: `frames` (frame, y, x) in the camera's number type, and what is true of it."""

    frames: NDArray[np.generic]
    truth: Truth


@lru_cache(maxsize=1)
def _camera(microscope: SpaMicroscope) -> counting.Camera:
    """The microscope's camera, kept for the next movie."""
    return counting.make_camera(microscope)


def expose(microscope: SpaMicroscope, index: int) -> Exposure:
    """Take movie number `index`: always the same one for the same microscope and number."""
    contents = specimen.draw_contents(microscope, index)
    lens = optics.draw_optics(microscope, index)
    movement = motion.draw_motion(microscope, index)
    camera = _camera(microscope)
    random = microscope.random("counting", index)
    frames = np.empty((microscope.frames, *microscope.frame_yx_px), dtype=microscope.dtype)
    for frame, intensity in enumerate(_intensities(microscope, index, contents, lens, movement)):
        counting.count_electrons(intensity, camera, microscope.electrons_per_frame_px, random, frames[frame])
    return Exposure(frames, _truth(microscope, index, contents, lens, movement, camera))


def intensity(microscope: SpaMicroscope, index: int) -> Iterator[Image]:
    """Each frame (y, x) of a movie before counting: 1 where nothing takes electrons away.

    The same array is filled anew for each frame.
    """
    contents = specimen.draw_contents(microscope, index)
    lens = optics.draw_optics(microscope, index)
    return _intensities(microscope, index, contents, lens, motion.draw_motion(microscope, index))


def _intensities(
    microscope: SpaMicroscope,
    index: int,
    contents: specimen.Contents,
    lens: OpticsTruth,
    movement: motion.Motion,
) -> Iterator[Image]:
    """Each frame before counting; the specimen is developed anew every few frames as the dose goes on."""
    reach = int(np.ceil(np.abs(movement.shift_yx_px).max()))
    margin = SMALLEST_MARGIN_PX * microscope.sampling + reach
    area = specimen.Area(microscope.frame_yx_px, margin, microscope.frame_pixel_size_angstrom)
    image = Development(microscope, index, contents, lens, area)
    frame_image = np.empty(microscope.frame_yx_px, dtype=np.float32)
    per_step = max(1, int(microscope.dose_step_e_per_a2 / microscope.dose_per_frame_e_per_a2))
    for first in range(0, microscope.frames, per_step):
        last = min(first + per_step, microscope.frames)
        coefficients = image.after(0.5 * (first + last) * microscope.dose_per_frame_e_per_a2)
        for frame in range(first, last):
            counting.warp(coefficients, movement.shift_yx_px[frame], margin, frame_image)
            yield frame_image


class Development:
    """The image of a specimen at growing doses, as coefficients of a cubic B-spline."""

    def __init__(
        self,
        microscope: SpaMicroscope,
        index: int,
        contents: specimen.Contents,
        lens: OpticsTruth,
        area: specimen.Area,
    ) -> None:
        random = microscope.random("matter", index)
        phase, transmission = specimen.solid_matter(contents, area, microscope.voltage_kv, random)
        thickness = smooth_map(microscope.random("thickness", index), area.shape_yx)
        transmission *= 1 + np.float32(microscope.ice_gradient) * thickness
        self._microscope = microscope
        self._area = area
        self._axis = optics.RadialAxis(area.shape_yx, area.pixel_size_angstrom)
        self._transfer = optics.transfer(lens, area.shape_yx, area.pixel_size_angstrom)
        self._transfer[0, 0] = 0  # Mean phase is no contrast; the mean brightness is the transmission's.
        self._protein: Spectrum = rfft2(specimen.protein_phase(contents, area, microscope.voltage_kv))
        self._steady: Spectrum = rfft2(phase, overwrite_x=True)
        self._steady *= self._transfer
        self._steady += rfft2(transmission, overwrite_x=True)
        self._ice = ice.Ice(microscope, area.shape_yx, self._axis, microscope.random("ice", index))

    def after(self, dose_e_per_a2: float) -> Image:
        """Spline coefficients (y, x) of the image after a dose; doses must not fall from call to call."""
        damage = np.ones(self._axis.bins)
        if self._microscope.damage:
            critical = optics.critical_dose_e_per_a2(self._axis.k_per_angstrom, self._microscope.voltage_kv)
            damage = np.exp(-dose_e_per_a2 / (2 * critical))
        ice_spectrum = self._ice.after(dose_e_per_a2)
        out = np.empty_like(self._protein)
        _develop(
            self._protein,
            ice_spectrum,
            self._steady,
            self._transfer,
            damage.astype(np.float32),
            self._axis.frequencies_in_bins,
            (
                _spline_filter(np.fft.fftfreq(out.shape[0])),
                _spline_filter(np.fft.rfftfreq(self._area.shape_yx[1])),
            ),
            out,
        )
        coefficients: Image = irfft2(out, s=self._area.shape_yx, overwrite_x=True)
        return coefficients


def _spline_filter(frequency: NDArray[np.floating]) -> NDArray[np.float32]:
    """Turns samples into coefficients of the cubic B-spline through them (Unser 1999), cycles/pixel."""
    coefficients: NDArray[np.float32] = (3 / (2 + np.cos(2 * np.pi * frequency))).astype(np.float32)
    return coefficients


@nb.njit(cache=True, nogil=True)
def _develop(
    protein: Spectrum,
    ice_spectrum: Spectrum,
    steady: Spectrum,
    transfer: Image,
    damage: NDArray[np.float32],
    bins: tuple[NDArray[np.float64], NDArray[np.float64]],
    spline: tuple[NDArray[np.float32], NDArray[np.float32]],
    out: Spectrum,
) -> None:
    """Fill `out` with the spectrum of the image's spline coefficients; all are half spectra (y, x)."""
    bin_y, bin_x = bins
    spline_y, spline_x = spline
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            radius = int(np.sqrt(bin_y[y] * bin_y[y] + bin_x[x] * bin_x[x]) + 0.5)
            wave = protein[y, x] * damage[radius] + ice_spectrum[y, x]
            out[y, x] = (wave * transfer[y, x] + steady[y, x]) * (spline_y[y] * spline_x[x])


def _truth(
    microscope: SpaMicroscope,
    index: int,
    contents: specimen.Contents,
    lens: OpticsTruth,
    movement: motion.Motion,
    camera: counting.Camera,
) -> Truth:
    """Everything known about a movie, as written beside it."""
    grid = slice(None, None, motion.TRUTH_STRIDE)
    return Truth(
        key=f"movie_{index:05d}",
        seed=microscope.seed,
        index=index,
        frames=microscope.frames,
        frame_yx_px=microscope.frame_yx_px,
        pixel_size_angstrom=microscope.frame_pixel_size_angstrom,
        dose_per_frame_e_per_a2=microscope.dose_per_frame_e_per_a2,
        total_dose_e_per_a2=microscope.dose_per_frame_e_per_a2 * microscope.frames,
        optics=lens,
        shift_yx_px=movement.centre_shift_yx_px.round(4).tolist(),
        mean_shift_yx_px=movement.mean_shift_yx_px.round(4).tolist(),
        grid_y_px=movement.node_y_px[grid].tolist(),
        grid_x_px=movement.node_x_px[grid].tolist(),
        local_shift_yx_px=movement.shift_yx_px[:, grid, grid].round(4).tolist(),
        particles=_particles_in_field(microscope, contents, lens, movement),
        carbon=contents.hole,
        discs=list(contents.discs),
        camera=CameraTruth(hot_yx_px=camera.hot_yx_px.tolist(), dead_yx_px=camera.dead_yx_px.tolist()),
    )


def _particles_in_field(
    microscope: SpaMicroscope,
    contents: specimen.Contents,
    lens: OpticsTruth,
    movement: motion.Motion,
) -> list[ParticleTruth]:
    """The particles whose centre lies in frame 0."""
    height, width = microscope.frame_yx_px
    found = []
    for placed in contents.particles:
        if not (0 <= placed.y_px <= height - 1 and 0 <= placed.x_px <= width - 1):
            continue
        middle_y, middle_x = movement.seen_at(microscope.frames // 2, placed.y_px, placed.x_px)
        rot, tilt, psi = placed.euler_deg
        found.append(
            ParticleTruth(
                y_px=placed.y_px,
                x_px=placed.x_px,
                middle_y_px=middle_y,
                middle_x_px=middle_x,
                structure=placed.particle.name,
                diameter_angstrom=placed.particle.diameter_angstrom,
                rot_deg=rot,
                tilt_deg=tilt,
                psi_deg=psi,
                defocus_u_angstrom=lens.defocus_u_angstrom,
                defocus_v_angstrom=lens.defocus_v_angstrom,
            )
        )
    return found
