"""The images of a series made ready to be projected back."""

import numpy as np
import numpy.typing as npt

from tomofly.imaging.ctf_strips import correct_tilted_ctf
from tomofly.imaging.fourier import evenly_cropped
from tomofly.imaging.gold_erasing import erase_gold
from tomofly.imaging.tilt_local import straightened
from tomofly.imaging.tilt_weighting import tilt_contrast, weight_tilts
from tomofly.model import StageContext
from tomofly.stages.sections import microscope_of
from tomofly.stages.tilts.tomogram import TomogramParams
from tomofly.stages.tilts.tomogram_plan import TomogramPlan

FloatImage = npt.NDArray[np.float32]


def prepared_images(
    stack: FloatImage, plan: TomogramPlan, params: TomogramParams, ctx: StageContext
) -> FloatImage:
    """Give the images (tilt, y, x): contrast, free of gold, of the volume's pixels, CTF-corrected, weighted.

    Gold is taken out first, for it would leave rings in all that follows; the pixels are made as large as
    the voxels before the CTF is corrected, because strips are wider then.
    """
    images = _straight(tilt_contrast(stack[plan.views]), plan, ctx.threads)
    if params.erase_gold_angstrom:
        diameter = params.erase_gold_angstrom / plan.series.pixel_size_angstrom
        images = erase_gold(images, diameter, threads=ctx.threads)
    images = evenly_cropped(images, plan.binning, ctx.threads)
    images = _corrected(images, plan, params, ctx)
    dose = _dose(plan, ctx) if params.dose_weighting else None
    return weight_tilts(
        images, plan.pixel_size_angstrom, tilt_angle_deg=plan.geometry.tilt_angle_deg,
        dose_e_per_angstrom2=dose, voltage_kv=microscope_of(ctx).voltage_kv, threads=ctx.threads,
    )  # fmt: skip


def _straight(images: FloatImage, plan: TomogramPlan, threads: int) -> FloatImage:
    """Take out local movement, where the alignment has found some."""
    alignment = plan.alignment
    if alignment.local is None:
        return images
    local = alignment.local.deformation().subset(plan.views)
    return straightened(images, alignment.geometry().subset(plan.views), local, threads=threads)


def _corrected(
    images: FloatImage, plan: TomogramPlan, params: TomogramParams, ctx: StageContext
) -> FloatImage:
    """Correct for the CTF strip by strip, where it is known and that is wanted."""
    if plan.correction is None or params.ctf_correction == "none":
        return images
    microscope = microscope_of(ctx)
    u, v, angle = plan.correction.defocus()
    return correct_tilted_ctf(
        images,
        plan.geometry,
        pixel_size_angstrom=plan.pixel_size_angstrom,
        defocus_u_angstrom=u,
        defocus_v_angstrom=v,
        astigmatism_angle_deg=angle,
        voltage_kv=microscope.voltage_kv,
        spherical_aberration_mm=microscope.spherical_aberration_mm,
        amplitude_contrast=microscope.amplitude_contrast,
        hand=plan.correction.hand,
        method=params.ctf_correction,
        threads=ctx.threads,
    )


def _dose(plan: TomogramPlan, ctx: StageContext) -> npt.NDArray[np.float64] | None:
    """Give the dose to the middle of each view, with what the specimen had received before its series."""
    before = plan.series.accumulated_dose
    if before is None:
        return None
    own = np.array([view.dose_e_per_a2 or 0.0 for view in plan.series.used])
    dose: npt.NDArray[np.float64] = (before + own / 2 + microscope_of(ctx).pre_exposure_e_per_a2)[plan.views]
    return dose
