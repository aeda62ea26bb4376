"""Alignment of a tilt series without markers: from nominal angles to a geometry and its errors."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from tomofly.imaging.tilt_coarse import LEAST_PEAK_SIGMA, align_coarsely
from tomofly.imaging.tilt_geometry import TiltGeometry, nominal_geometry
from tomofly.imaging.tilt_preparation import prepare_tilts

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class LocalDeformation:
    """Smooth movement on top of the global alignment.

    ``centre_zyx_px`` (patch, 3): centred positions in the specimen, pixels of the given images;
    ``shift_yx_px`` (tilt, patch, 2): what must be applied to the image there, on top of the global shift.
    """

    centre_zyx_px: FloatArray
    shift_yx_px: FloatArray


@dataclass(frozen=True)
class TiltAlignment:
    """A tilt series in place, in pixels of the images that were given; whatever was not measured is NaN.

    ``geometry``: with the tilt offset in its angles, the levelling rotation and the shifts to apply.
    ``used`` (tilt,): False where an image had no content or could not be aligned; its shift is then that of
    its neighbours. ``shift_uncertainty_yx_px`` (tilt, 2): standard deviations. ``residual_angstrom`` (tilt,):
    median distance of patches from where the model has them. ``neighbour_ncc`` (tilt,): correlation with the
    used neighbour nearest in angle, and ``ncc_at_deg``: its mean near |tilt| = 0, 20, 40 and 60 degrees.
    ``leave_one_out_angstrom``: error at patches that the bundle fit has not seen. ``flags``: fallbacks.

    An axis turned by 180° with all tilts reversed is the same geometry, and turned alone is that of a
    mirrored specimen: images do not tell these apart. The axis is given within 90° of the nominal one.
    """

    geometry: TiltGeometry
    used: BoolArray
    shift_uncertainty_yx_px: FloatArray
    residual_angstrom: FloatArray
    neighbour_ncc: FloatArray
    ncc_at_deg: dict[int, float]
    axis_angle_deg: float
    axis_uncertainty_deg: float
    tilt_offset_deg: float
    tilt_offset_uncertainty_deg: float
    x_tilt_uncertainty_deg: float
    leave_one_out_angstrom: float
    local: LocalDeformation | None
    flags: tuple[str, ...]


def align_tilt_series(
    images: npt.ArrayLike,
    tilt_angle_deg: npt.ArrayLike,
    axis_angle_deg: float,
    *,
    pixel_size_angstrom: float,  # noqa: ARG001
    axis_prior_sigma_deg: float = 3.0,  # noqa: ARG001
    largest_shift_part: float = 0.3,
    threads: int = 1,
) -> TiltAlignment:
    """Align images (tilt, y, x) of nominal angles in degrees, in any order.

    ``axis_angle_deg``: expected direction of the tilt axis, anticlockwise from the image's y axis, right
    within ``axis_prior_sigma_deg``. Shifts are searched up to ``largest_shift_part`` of an image's sides.
    Raises ValueError for images and angles that do not belong together.
    """
    tilts = np.asarray(tilt_angle_deg, dtype=np.float64)
    if tilts.shape != (len(np.asarray(images)),) or not np.all(np.isfinite(tilts)):
        raise ValueError(
            f"{len(np.asarray(images))} images need as many finite tilt angles, not {tilts.shape}"
        )
    prepared = prepare_tilts(images, threads=threads)
    start = nominal_geometry(tilts, axis_angle_deg)
    coarse = align_coarsely(
        prepared.images, start, prepared.has_content, largest_shift_part=largest_shift_part, threads=threads
    )
    geometry = replace(coarse.geometry, shift_yx_px=coarse.geometry.shift_yx_px * prepared.binning)
    used = prepared.has_content & (coarse.peak_sigma >= LEAST_PEAK_SIGMA)
    unknown = np.full(len(tilts), np.nan)
    return TiltAlignment(
        geometry,
        used,
        np.full((len(tilts), 2), np.nan),
        unknown,
        unknown,
        {},
        axis_angle_deg,
        np.nan,
        0.0,
        np.nan,
        np.nan,
        np.nan,
        None,
        ("coarse_only",),
    )
