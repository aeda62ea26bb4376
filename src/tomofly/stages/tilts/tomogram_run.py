"""The tomogram of one series: corrected, weighted, reconstructed, measured and drawn."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from tomofly.formats.mrc import write_image
from tomofly.imaging.back_projection import ViewGrid, align_views
from tomofly.imaging.fourier import evenly_cropped, evenly_cropped_shape
from tomofly.imaging.tomogram import reconstruct_tomogram
from tomofly.imaging.tomogram_fsc import half_resolution
from tomofly.model import Flag, ItemRef, Outcome, StageContext
from tomofly.stages.faults import blamed_on_input
from tomofly.stages.previews import draw_sections, write_slices_movie, write_tilts_movie
from tomofly.stages.previews.tomogram_movie import MOVIE_SIDE_PX
from tomofly.stages.tilts.image_run import HALVES, read_sections
from tomofly.stages.tilts.tomogram import TomogramParams
from tomofly.stages.tilts.tomogram_file import TomogramFile, compared_part
from tomofly.stages.tilts.tomogram_images import prepared_images
from tomofly.stages.tilts.tomogram_plan import (
    DEFAULT_HEIGHT_ANGSTROM,
    TomogramPlan,
    plan_tomogram,
    target_defocus,
)

FloatImage = npt.NDArray[np.float32]


def make_tomogram(item: ItemRef, params: TomogramParams, ctx: StageContext) -> Outcome:
    """Reconstruct one series; while it is provisional, coarsely and without extras."""
    composed = ctx.inputs["compose"].products
    plan = plan_tomogram(params, ctx)
    record = _record(plan, params)
    products = {"tomogram": ctx.new_file(".mrc"), "record": ctx.new_file(".json")}
    record.write(products["record"])
    with blamed_on_input("The tomogram cannot be made", "Look at the tilts and at their alignment"):
        images = prepared_images(read_sections(composed["stack"]), plan, params, ctx)
        volume = _reconstructed(images, plan, params, ctx)
    _write(products["tomogram"], volume, plan, params)
    metrics = _metrics(volume, plan)
    products |= _draw(volume, images, plan, record, ctx)
    # The tomogram is on the disk and drawn: what it takes is needed for its halves.
    del volume, images
    halves, resolution = _halves(plan, record, params, ctx)
    if resolution is not None and np.isfinite(resolution):
        metrics["half_resolution_angstrom"] = resolution
    size = record.size_zyx[::-1]
    ctx.log.info("%s: %d x %d x %d voxels of %.1f Å", item.key, *size, plan.pixel_size_angstrom)
    flags = (*plan.flags, *_flags(plan, params, bool(halves)))
    return Outcome(products | halves, metrics, flags)


def _record(plan: TomogramPlan, params: TomogramParams) -> TomogramFile:
    known = None
    target = target_defocus(plan.series)
    if plan.correction is not None:
        u, v, _ = plan.correction.defocus()
        known = float((u + v)[int(np.argmin(np.abs(plan.geometry.tilt_angle_deg)))] / 2)
    return TomogramFile(
        name=plan.series.name,
        size_zyx=plan.shape_zyx,
        voxel_size_angstrom=plan.pixel_size_angstrom,
        thickness_angstrom=plan.alignment.thickness_angstrom,
        tilts=len(plan.views),
        ctf_correction="none" if plan.correction is None else params.ctf_correction,
        hand=0 if plan.correction is None else plan.correction.hand,
        defocus_angstrom=target if known is None else known,
        defocus_source="measured" if known is not None else "target" if target is not None else "",
        gold_erased_angstrom=params.erase_gold_angstrom,
        provisional=plan.series.provisional,
    )


def _reconstructed(
    images: FloatImage, plan: TomogramPlan, params: TomogramParams, ctx: StageContext
) -> FloatImage:
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


def _halves(
    plan: TomogramPlan, record: TomogramFile, params: TomogramParams, ctx: StageContext
) -> tuple[dict[str, Path], float | None]:
    """Reconstruct the even and the odd frames, where all tilts have them, and say how far they agree."""
    stacks = ctx.inputs["compose"].products
    if not params.halves or plan.series.provisional or not all(half in stacks for half in HALVES):
        return {}, None
    products: dict[str, Path] = {}
    compared: list[FloatImage] = []
    for half in HALVES:
        with blamed_on_input(f"The tomogram of the {half} frames cannot be made", "Look at the tilts"):
            images = prepared_images(read_sections(stacks[half]), plan, params, ctx)
            volume = _reconstructed(images, plan, params, ctx)
        products[half] = ctx.new_file(f"_{half}.mrc")
        _write(products[half], volume, plan, params, f"{half} frames")
        compared.append(compared_part(volume, record).copy())
    first, second = compared
    return products, half_resolution(first, second, plan.pixel_size_angstrom, threads=ctx.threads)


def _write(
    path: Path, volume: FloatImage, plan: TomogramPlan, params: TomogramParams, of: str = "all frames"
) -> None:
    write_image(
        path, volume, plan.pixel_size_angstrom, float16=params.float16, volume=True,
        labels=_labels(plan, params, of),
    )  # fmt: skip


def _labels(plan: TomogramPlan, params: TomogramParams, of: str) -> list[str]:
    """Say in the header what this is, in lines of at most 80 signs."""
    what = "provisional tomogram" if plan.series.provisional else "tomogram"
    method = params.filtering if params.method == "wbp" else "SIRT"
    corrected = "not CTF-corrected" if plan.correction is None else f"CTF-corrected ({params.ctf_correction})"
    return [
        f"tomofly: {what} of {len(plan.views)} tilts, {of}",
        f"tomofly: {method}, {corrected}, specimen dark; y along the tilt axis",
    ]


def _draw(
    volume: FloatImage, images: FloatImage, plan: TomogramPlan, record: TomogramFile, ctx: StageContext
) -> dict[str, Path]:
    size, voxel = record.size_zyx[::-1], record.voxel_size_angstrom
    words = [Path(record.name).name, f"{record.tilts} tilts"]
    words += ["provisional"] if record.provisional else []
    title = ", ".join([*words, f"{size[0]} × {size[1]} × {size[2]} voxels of {voxel:.4g} Å"])
    products = {"sections": ctx.new_file(".webp")}
    draw_sections(volume, voxel, products["sections"], title)
    if record.provisional:
        return products
    products |= {"slices": ctx.new_file("_slices.webp"), "tilts": ctx.new_file("_tilts.webp")}
    write_slices_movie(volume, voxel, products["slices"], record.slab_z())
    shown, pixel = _aligned(images, plan)
    write_tilts_movie(shown, pixel, plan.geometry.tilt_angle_deg, products["tilts"])
    return products


def _aligned(images: FloatImage, plan: TomogramPlan) -> tuple[FloatImage, float]:
    """Give small images (tilt, y, x) as they are projected back, the axis upright, and their pixel size."""
    full = (images.shape[1], images.shape[2])
    binning = max(1.0, max(full) / MOVIE_SIDE_PX)
    kept, shape = evenly_cropped_shape(full, binning)
    small, binning = evenly_cropped(images, binning), kept[1] / shape[1]
    rows, columns = (max(2, round(n / binning)) for n in plan.shape_zyx[1:])
    views = align_views(small, plan.geometry.binned(binning), ViewGrid(columns, rows))
    return views.transpose(0, 2, 1), plan.pixel_size_angstrom * binning


def _metrics(volume: FloatImage, plan: TomogramPlan) -> dict[str, float]:
    size = plan.pixel_size_angstrom
    known = {
        "voxel_size_angstrom": size,
        "height_angstrom": volume.shape[0] * size,
        "ctf_corrected": float(plan.correction is not None),
    }
    contrast = _contrast(volume, plan)
    if contrast is not None:
        known["contrast"] = contrast
    return known


def _contrast(volume: FloatImage, plan: TomogramPlan) -> float | None:
    """Compare the slab with what is above and below it."""
    thickness = plan.alignment.thickness_angstrom
    if thickness is None:
        return None
    spread = np.array([float(section.std()) for section in volume])
    height = np.abs(np.arange(len(spread)) - len(spread) // 2) * plan.pixel_size_angstrom
    inside, outside = spread[height < thickness / 2], spread[height > 0.6 * thickness]
    if not inside.size or not outside.size or not outside.mean() > 0:
        return None
    return float(inside.mean() / outside.mean())


def _flags(plan: TomogramPlan, params: TomogramParams, halves: bool) -> list[Flag]:
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
