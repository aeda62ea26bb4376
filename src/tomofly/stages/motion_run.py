"""Motion, at work: read the movie, align it, write micrographs, shifts and their pictures."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tomofly.formats.eer import EerRendering, plan_fractions
from tomofly.formats.motion_star import MotionRecord, write_motion_star
from tomofly.formats.movie import read_frames, read_header
from tomofly.formats.mrc import write_image
from tomofly.imaging.defects import find_defects, unaligned_sum
from tomofly.imaging.frame_sum import FrameSums, sum_frames
from tomofly.imaging.motion import FrameAlignment, align_frames
from tomofly.imaging.motion_metrics import motion_metrics, relion_motion_model
from tomofly.model import BadInput, Flag, GainParams, ItemRef, MicroscopeParams, Outcome, StageContext
from tomofly.stages.faults import blamed_on_input
from tomofly.stages.gain_reference import gain_for_frames
from tomofly.stages.motion import MotionParams
from tomofly.stages.previews import draw_drift, draw_micrograph
from tomofly.stages.sections import gain_of, microscope_of

# Defects stand out in a sum of frames; in so few they are hard to tell from electrons.
FEWEST_FRAMES_FOR_DEFECTS = 4

# What the alignment says of itself, for people.
FLAG_WORDS = {
    "single_frame": "The movie has one frame: the micrograph is that frame, nothing was aligned",
    "not_converged": "The shifts still changed after the last round of alignment",
    "low_signal": "The frames hold too little signal to know their shifts within a pixel",
    "max_shift_reached": "Some shifts are larger than motion.max_shift_angstrom: they may be wrong",
    "local_motion_not_significant": "No local motion above the noise: the global alignment is used alone",
    "local_model_rejected": "The local motion fits no smooth model: the global alignment is used alone",
    "patches_downweighted": "Some patches moved unlike the others and count less in the local motion",
    "too_small_for_patches": "The frames are too small or too few for patches: global alignment alone",
}


@dataclass(frozen=True)
class _Movie:
    """The frames (frame, y, x) to be used, and all that the mathematics asks about them."""

    frames: npt.NDArray[Any]
    first: int
    pixel_size_angstrom: float
    dose_per_frame: float | None
    pre_exposure: float
    gain: npt.NDArray[np.float32] | None
    defects: npt.NDArray[np.bool_] | None
    eer_grouping: int | None
    flags: tuple[Flag, ...]

    @property
    def calibration(self) -> dict[str, Any]:
        """The detector's corrections as the mathematics takes them."""
        return {
            "pixel_size_angstrom": self.pixel_size_angstrom,
            "gain": self.gain,
            "defects": self.defects,
        }


def correct_motion(item: ItemRef, params: MotionParams, ctx: StageContext) -> Outcome:
    """Align one movie and write its micrographs, its shifts and their pictures."""
    path = ctx.inputs["transfer"].products["movie"]
    with blamed_on_input("The movie cannot be aligned", "Look at the movie and at the settings of motion"):
        movie = _load(path, params, ctx)
        alignment = align_frames(
            movie.frames,
            **movie.calibration,
            patches=params.patches,
            bfactor_angstrom2=params.bfactor_angstrom2,
            max_shift_angstrom=params.max_shift_angstrom,
            iterations=params.iterations,
            group=params.group,
            threads=ctx.threads,
        )
        sums = _add_up(movie, alignment, params, ctx)
    pixel_size = movie.pixel_size_angstrom * movie.frames.shape[2] / sums.average.shape[1]
    products = _write_sums(sums, pixel_size, params, ctx)
    products["shifts"] = _write_shifts(item, movie, alignment, pixel_size, params, ctx)
    products |= _draw(sums, alignment, movie.pixel_size_angstrom, pixel_size, ctx)
    metrics = _metrics(movie, alignment, pixel_size)
    ctx.log.info(
        "%s: moved %.1f Å in %d frames", item.key, metrics["total_motion_angstrom"], len(movie.frames)
    )
    flags = (*movie.flags, *(Flag(code, FLAG_WORDS.get(code, code)) for code in alignment.flags))
    return Outcome(products=products, metrics=metrics, flags=flags)


def _load(path: Path, params: MotionParams, ctx: StageContext) -> _Movie:
    """Read the frames that the settings ask for, and what belongs to them."""
    microscope = microscope_of(ctx)
    header = read_header(path)
    rendering = grouping = None
    available, upsampling = header.frames, 1
    if header.format == "eer":
        plan = plan_fractions(header.frames, params.eer_fractions)
        rendering = EerRendering(params.eer_fractions, params.eer_upsampling)
        available, grouping, upsampling = plan.count, plan.raw_frames_each, params.eer_upsampling
    first, last, flags = _frame_range(available, params)
    frames = read_frames(path, frame_range=(first, last), eer=rendering, threads=ctx.threads)
    dose = ctx.inputs["import"].metrics.get("dose_per_frame_e_per_a2")
    if dose is not None:
        dose *= grouping or 1
    elif params.dose_weighting and len(frames) > 1:
        flags += (Flag("not_dose_weighted", "The dose is not known: the micrograph is not weighted by dose"),)
    gain = gain_for_frames(gain_of(ctx), (frames.shape[1], frames.shape[2]))
    return _Movie(
        frames=frames,
        first=first,
        pixel_size_angstrom=microscope.pixel_size_angstrom / upsampling,
        dose_per_frame=dose,
        pre_exposure=microscope.pre_exposure_e_per_a2 + first * (dose or 0.0),
        gain=gain,
        defects=_defects(frames, gain, params),
        eer_grouping=grouping,
        flags=flags,
    )


def _frame_range(available: int, params: MotionParams) -> tuple[int, int, tuple[Flag, ...]]:
    """First frame and one after the last, from 0. Raises BadInput where none of those wanted is there."""
    wanted = params.last_frame or available
    if params.first_frame > min(wanted, available):
        raise BadInput(
            f"The movie has {available} frames, none from motion.first_frame={params.first_frame} "
            f"to motion.last_frame={params.last_frame}",
            "Correct the range of frames, or leave the movie out",
        )
    if wanted <= available:
        return params.first_frame - 1, wanted, ()
    message = (
        f"The movie has {available} frames, fewer than motion.last_frame={wanted}: all there are are used"
    )
    return params.first_frame - 1, available, (Flag("fewer_frames", message),)


def _defects(
    frames: npt.NDArray[Any], gain: npt.NDArray[np.float32] | None, params: MotionParams
) -> npt.NDArray[np.bool_] | None:
    if params.defect_sigma == 0 or len(frames) < FEWEST_FRAMES_FOR_DEFECTS:
        return None
    total = unaligned_sum(frames, gain)
    return find_defects(total, n_sigma=params.defect_sigma, gain=gain)


def _add_up(movie: _Movie, alignment: FrameAlignment, params: MotionParams, ctx: StageContext) -> FrameSums:
    several = len(movie.frames) > 1
    return sum_frames(
        movie.frames,
        alignment if several else None,
        **movie.calibration,
        dose_per_frame=movie.dose_per_frame if several and params.dose_weighting else None,
        pre_exposure=movie.pre_exposure,
        voltage_kv=microscope_of(ctx).voltage_kv,
        binning=params.binning,
        even_odd=params.even_odd and several,
        threads=ctx.threads,
    )


def _write_sums(
    sums: FrameSums, pixel_size_angstrom: float, params: MotionParams, ctx: StageContext
) -> dict[str, Path]:
    images: Mapping[str, tuple[str, npt.NDArray[np.float32] | None]] = {
        "average": (".mrc", sums.average),
        "dose_weighted": ("_DW.mrc", sums.dose_weighted),
        "even": ("_EVN.mrc", sums.even),
        "odd": ("_ODD.mrc", sums.odd),
    }
    products = {}
    for name, (suffix, image) in images.items():
        if image is not None:
            products[name] = ctx.new_file(suffix)
            write_image(products[name], image, pixel_size_angstrom, float16=params.float16)
    return products


def _write_shifts(
    item: ItemRef,
    movie: _Movie,
    alignment: FrameAlignment,
    pixel_size_angstrom: float,
    params: MotionParams,
    ctx: StageContext,
) -> Path:
    """Write the shifts in the form that RELION reads."""
    model = relion_motion_model(alignment)
    gain: GainParams = gain_of(ctx)
    microscope: MicroscopeParams = microscope_of(ctx)
    local = None if model.coefficients is None else model.coefficients.reshape(2, 18)[::-1]
    path = ctx.new_file(".star")
    record = MotionRecord(
        movie_name=item.key + ctx.inputs["transfer"].products["movie"].suffix,
        shape_yx=alignment.frame_shape,
        global_shift_yx_px=np.stack([model.shift_y_px, model.shift_x_px], axis=1),
        pixel_size_angstrom=movie.pixel_size_angstrom,
        voltage_kv=microscope.voltage_kv,
        dose_per_frame=movie.dose_per_frame or 0.0,
        pre_exposure=microscope.pre_exposure_e_per_a2,
        binning=pixel_size_angstrom / movie.pixel_size_angstrom,
        first_frame=movie.first + 1,
        gain_name=Path(gain.path).name if gain.path else None,
        eer_upsampling=params.eer_upsampling if movie.eer_grouping else None,
        eer_grouping=movie.eer_grouping,
        local_coefficients_yx=local,
        patch_centre_yx_px=alignment.patch_centre_yx_px if local is not None else None,
        patch_shift_yx_px=alignment.patch_shift_yx_px.transpose(1, 0, 2) if local is not None else None,
        hot_pixels_yx=None if movie.defects is None else np.argwhere(movie.defects),
    )
    write_motion_star(path, record)
    return path


def _draw(
    sums: FrameSums,
    alignment: FrameAlignment,
    movie_pixel_angstrom: float,
    pixel_size_angstrom: float,
    ctx: StageContext,
) -> dict[str, Path]:
    products = {"preview": ctx.new_file(".webp")}
    best = sums.average if sums.dose_weighted is None else sums.dose_weighted
    draw_micrograph(best, pixel_size_angstrom, products["preview"])
    if len(alignment.global_shift_yx_px) > 1:
        products["drift"] = ctx.new_file("_drift.webp")
        draw_drift(
            alignment.global_shift_yx_px * movie_pixel_angstrom,
            (alignment.patch_centre_yx_px + 0.5) / alignment.frame_shape,
            _local_shift(alignment) * movie_pixel_angstrom,
            products["drift"],
            applied=alignment.local_model is not None,
        )
    return products


def _local_shift(alignment: FrameAlignment) -> npt.NDArray[np.float64]:
    """The shifts (frame, patch, 2) in pixels that were applied to the patches; with no model, as measured."""
    if alignment.local_model is None:
        return alignment.patch_shift_yx_px
    y, x = alignment.patch_centre_yx_px.T
    return alignment.local_model.trajectories_at(y, x)


def _metrics(movie: _Movie, alignment: FrameAlignment, pixel_size_angstrom: float) -> dict[str, float]:
    """What was measured; what cannot be known, such as early motion without a dose, is left out."""
    size = movie.pixel_size_angstrom
    measured = motion_metrics(
        alignment,
        pixel_size_angstrom=size,
        dose_per_frame=movie.dose_per_frame or 0.0,
        pre_exposure=movie.pre_exposure,
    )
    known = {
        "total_motion_angstrom": measured.total_motion_angstrom,
        "local_motion_angstrom": measured.local_motion_angstrom,
        "uncertainty_angstrom": measured.uncertainty_angstrom,
        "fit_residual_angstrom": alignment.fit_residual_px * size,
        "leave_one_out_residual_angstrom": alignment.leave_one_out_residual_px * size,
        "frames_used": float(len(movie.frames)),
        "micrograph_pixel_size_angstrom": pixel_size_angstrom,
        "defect_pixels": 0.0 if movie.defects is None else float(np.count_nonzero(movie.defects)),
    }
    if movie.dose_per_frame is not None:
        known["early_motion_angstrom"] = measured.early_motion_angstrom
        known["late_motion_angstrom"] = measured.late_motion_angstrom
        known["dose_used_e_per_a2"] = movie.dose_per_frame * len(movie.frames)
    return {name: float(value) for name, value in known.items() if np.isfinite(value)}
