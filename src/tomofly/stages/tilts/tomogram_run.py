"""The tomogram of one series: weighted, CTF-corrected, reconstructed, and drawn."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tomofly.formats.mrc import write_image
from tomofly.imaging.fourier import cropped_shape, fourier_crop, inverse_real_transform, real_transform
from tomofly.imaging.gold_erasing import erase_gold
from tomofly.imaging.tilt_geometry import TiltGeometry
from tomofly.imaging.tilt_weighting import tilt_contrast, weight_tilts
from tomofly.imaging.tomogram import reconstruct_tomogram
from tomofly.model import Flag, ItemRef, Outcome, StageContext
from tomofly.stages.faults import blamed_on_input
from tomofly.stages.previews import draw_sections, write_slices_movie, write_tilts_movie
from tomofly.stages.sections import microscope_of
from tomofly.stages.tilts.files import AlignmentFile, SeriesFile, read_alignment, read_series
from tomofly.stages.tilts.image_run import HALVES, read_sections
from tomofly.stages.tilts.tomogram import TomogramParams

FloatImage = npt.NDArray[np.float32]

PROVISIONAL_BINNING = 2.0
"""A preview is made while tilts still come: it must cost little."""

DEFAULT_HEIGHT_ANGSTROM = 3000.0
ROOM = 1.3
LEAST_ROOM_ANGSTROM = 400.0
"""Room around the specimen, as a factor and at least so much, so that its surfaces can be seen."""


@dataclass(frozen=True)
class _Plan:
    """What a reconstruction works on: the record, where the views are, and the volume that is wanted."""

    series: SeriesFile
    alignment: AlignmentFile
    geometry: TiltGeometry
    views: npt.NDArray[np.intp]
    pixel_size_angstrom: float
    shape_yx: tuple[int, int]
    shape_zyx: tuple[int, int, int]


def make_tomogram(item: ItemRef, params: TomogramParams, ctx: StageContext) -> Outcome:
    """Reconstruct one series; while it is provisional, coarsely and without extras."""
    composed, aligned = ctx.inputs["compose"], ctx.inputs["series_alignment"]
    series = read_series(composed.products["series"])
    plan = _plan(series, read_alignment(aligned.products["alignment"]), params)
    with blamed_on_input("The tomogram cannot be made", "Look at the tilts and at their alignment"):
        images = _prepared(read_sections(composed.products["stack"]), plan, params, ctx)
        volume = _reconstructed(images, plan, params, ctx)
    products = {"tomogram": ctx.new_file(".mrc")}
    _write(products["tomogram"], volume, plan, params)
    halves = _halves(plan, params, ctx) if params.halves and not series.provisional else {}
    products |= {
        half: _write_half(half, half_volume, plan, params, ctx) for half, half_volume in halves.items()
    }
    products |= _draw(volume, images, plan, ctx)
    metrics = _metrics(volume, plan)
    ctx.log.info("%s: %d x %d x %d voxels of %.1f Å", item.key, *volume.shape[::-1], plan.pixel_size_angstrom)
    return Outcome(products, metrics, tuple(_flags(plan, params, halves)))


def _plan(series: SeriesFile, alignment: AlignmentFile, params: TomogramParams) -> _Plan:
    binning = max(params.binning, PROVISIONAL_BINNING if series.provisional else 1.0)
    shape = cropped_shape(series.shape_yx, binning)
    binning = series.shape_yx[1] / shape[1]
    views = np.flatnonzero(alignment.aligned)
    geometry = alignment.geometry().subset(views).binned(binning)
    pixel = series.pixel_size_angstrom * binning
    height = params.thickness_angstrom or _height(alignment)
    turned = abs(np.sin(np.deg2rad(float(np.median(geometry.axis_angle_deg))))) > np.sqrt(0.5)
    # Along the volume's y runs the tilt axis: an image whose axis lies across is seen on its side.
    rows, columns = (shape[1], shape[0]) if turned else shape
    return _Plan(
        series, alignment, geometry, views, pixel, shape, (2 * round(height / pixel / 2), rows, columns)
    )


def _height(alignment: AlignmentFile) -> float:
    """Give the height of the volume: the specimen with room around it, or the usual where none was seen."""
    if alignment.thickness_angstrom is None:
        return DEFAULT_HEIGHT_ANGSTROM
    return max(ROOM * alignment.thickness_angstrom, alignment.thickness_angstrom + LEAST_ROOM_ANGSTROM)


def _prepared(stack: FloatImage, plan: _Plan, params: TomogramParams, ctx: StageContext) -> FloatImage:
    """Give the images (tilt, y, x) to be projected back: contrast, weighted, of the pixel size."""
    images = tilt_contrast(stack[plan.views])
    if params.erase_gold_angstrom:
        images = erase_gold(images, params.erase_gold_angstrom / plan.series.pixel_size_angstrom)
    images = _cropped(images, plan.shape_yx, ctx.threads)
    dose = _dose(plan, ctx) if params.dose_weighting else None
    return weight_tilts(
        images, plan.pixel_size_angstrom, tilt_angle_deg=plan.geometry.tilt_angle_deg,
        dose_e_per_angstrom2=dose, voltage_kv=microscope_of(ctx).voltage_kv, threads=ctx.threads,
    )  # fmt: skip


def _cropped(images: FloatImage, shape: tuple[int, int], threads: int) -> FloatImage:
    full = (images.shape[1], images.shape[2])
    if full == shape:
        return images
    return np.stack(
        [inverse_real_transform(fourier_crop(real_transform(i, threads), full, shape), shape) for i in images]
    )


def _dose(plan: _Plan, ctx: StageContext) -> npt.NDArray[np.float64] | None:
    """Give the dose to the middle of each view, with what the specimen had received before its series."""
    before = plan.series.accumulated_dose
    if before is None:
        return None
    own = np.array([view.dose_e_per_a2 or 0.0 for view in plan.series.used])
    dose: npt.NDArray[np.float64] = (before + own / 2 + microscope_of(ctx).pre_exposure_e_per_a2)[plan.views]
    return dose


def _reconstructed(images: FloatImage, plan: _Plan, params: TomogramParams, ctx: StageContext) -> FloatImage:
    thickness = plan.alignment.thickness_angstrom
    return reconstruct_tomogram(
        images,
        plan.geometry,
        plan.shape_zyx,
        method="wbp" if plan.series.provisional else params.method,
        filtering=params.filtering,
        iterations=params.iterations,
        thickness_px=None if thickness is None else thickness / plan.pixel_size_angstrom,
        threads=ctx.threads,
    )


def _halves(plan: _Plan, params: TomogramParams, ctx: StageContext) -> dict[str, FloatImage]:
    """Reconstruct the even and the odd frames, where all tilts have them."""
    stacks = ctx.inputs["compose"].products
    if not all(half in stacks for half in HALVES):
        return {}
    return {
        half: _reconstructed(_prepared(read_sections(stacks[half]), plan, params, ctx), plan, params, ctx)
        for half in HALVES
    }


def _write_half(
    half: str, volume: FloatImage, plan: _Plan, params: TomogramParams, ctx: StageContext
) -> Path:
    path = ctx.new_file(f"_{half}.mrc")
    _write(path, volume, plan, params)
    return path


def _write(path: Path, volume: FloatImage, plan: _Plan, params: TomogramParams) -> None:
    write_image(
        path, volume, plan.pixel_size_angstrom, float16=params.float16, volume=True,
        labels=[f"tomofly: {'provisional ' if plan.series.provisional else ''}tomogram"],
    )  # fmt: skip


def _draw(volume: FloatImage, images: FloatImage, plan: _Plan, ctx: StageContext) -> dict[str, Path]:
    products = {"sections": ctx.new_file(".webp")}
    caption = f"{len(images)} tilts, provisional" if plan.series.provisional else f"{len(images)} tilts"
    draw_sections(volume, plan.pixel_size_angstrom, products["sections"], caption)
    if plan.series.provisional:
        return products
    products |= {"slices": ctx.new_file("_slices.webp"), "tilts": ctx.new_file("_tilts.webp")}
    write_slices_movie(volume, products["slices"])
    write_tilts_movie(_aligned(images, plan.geometry), plan.geometry.tilt_angle_deg, products["tilts"])
    return products


def _aligned(images: FloatImage, geometry: TiltGeometry) -> FloatImage:
    """Shift images by whole pixels to where their specimen is centred: near enough for the eye."""
    moved = [
        np.roll(image, tuple(np.rint(shift).astype(int)), axis=(0, 1))
        for image, shift in zip(images, geometry.shift_yx_px, strict=True)
    ]
    return np.stack(moved)


def _metrics(volume: FloatImage, plan: _Plan) -> dict[str, float]:
    size = plan.pixel_size_angstrom
    known = {"voxel_size_angstrom": size, "height_angstrom": volume.shape[0] * size}
    contrast = _contrast(volume, plan)
    if contrast is not None:
        known["contrast"] = contrast
    return known


def _contrast(volume: FloatImage, plan: _Plan) -> float | None:
    """Compare the slab with what is above and below it."""
    thickness = plan.alignment.thickness_angstrom
    if thickness is None:
        return None
    spread = volume.std(axis=(1, 2))
    height = np.abs(np.arange(len(spread)) - len(spread) // 2) * plan.pixel_size_angstrom
    inside, outside = spread[height < thickness / 2], spread[height > 0.6 * thickness]
    if not inside.size or not outside.size or not outside.mean() > 0:
        return None
    return float(inside.mean() / outside.mean())


def _flags(plan: _Plan, params: TomogramParams, halves: dict[str, FloatImage]) -> list[Flag]:
    """Say what was done otherwise than asked."""
    flags = []
    if plan.series.provisional:
        flags.append(Flag("provisional", "The series is not complete: a preview of what is there"))
        return flags
    if params.dose_weighting and plan.series.accumulated_dose is None:
        flags.append(Flag("not_dose_weighted", "The dose of some tilts is not known: no dose weighting"))
    if params.halves and not halves:
        flags.append(Flag("no_halves", "Some tilts have no even and odd sums (tilt_motion.even_odd)"))
    if plan.alignment.thickness_angstrom is None and not params.thickness_angstrom:
        message = f"The thickness is not known: the volume is {DEFAULT_HEIGHT_ANGSTROM / 10:.0f} nm high"
        flags.append(Flag("usual_height", message))
    return flags
