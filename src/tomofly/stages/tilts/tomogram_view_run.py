"""A tomogram filtered for viewing."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tomofly.formats.mrc import read_image, write_image
from tomofly.imaging.ctf import CtfOptics
from tomofly.imaging.tomogram_filter import apply_radial, deconvolve_for_view, half_weights, smooth_for_view
from tomofly.model import Flag, ItemRef, Outcome, StageContext
from tomofly.stages.faults import blamed_on_input
from tomofly.stages.previews import draw_sections, write_slices_movie
from tomofly.stages.sections import microscope_of
from tomofly.stages.tilts.image_run import HALVES
from tomofly.stages.tilts.tomogram_file import TomogramFile, compared_part, read_tomogram_record
from tomofly.stages.tilts.tomogram_view import TomogramViewParams

Volume = npt.NDArray[np.float32]

SMOOTHED_TO_ANGSTROM = 50.0
"""Where neither halves nor a defocus are known, detail finer than this is faded out."""

WORDS = {
    "deconvolution": "deconvolved",
    "halves": "weighted by the agreement of its halves",
    "smoothing": "smoothed",
}


def filter_tomogram(item: ItemRef, params: TomogramViewParams, ctx: StageContext) -> Outcome:
    """Filter one tomogram; a provisional one is looked at as it is."""
    made = ctx.inputs["tomogram"].products
    record = read_tomogram_record(made["record"])
    if record.provisional:
        return Outcome(
            flags=(Flag("provisional", "The series is not complete: its preview is not filtered"),)
        )
    method, flags = _method(params, record, made)
    with blamed_on_input("The tomogram cannot be filtered", "Look at it, or choose another method"):
        volume = _filtered(method, made, record, params, ctx)
    products = {"view": ctx.new_file("_view.mrc")}
    write_image(
        products["view"], volume, record.voxel_size_angstrom, float16=params.float16, volume=True,
        labels=[f"tomofly: FOR VIEWING ONLY: tomogram, {WORDS[method]}"],
    )  # fmt: skip
    products |= _draw(volume, record, method, ctx)
    ctx.log.info("%s: %s", item.key, WORDS[method])
    return Outcome(products, {}, flags)


def _method(
    params: TomogramViewParams, record: TomogramFile, made: Mapping[str, Path]
) -> tuple[str, tuple[Flag, ...]]:
    """Choose the filter that can be had; another than the one asked for is flagged."""
    if params.method == "halves":
        if all(half in made for half in HALVES):
            return "halves", ()
        message = "There are no tomograms of even and odd frames (tomogram.halves)"
        method, flags = _by_defocus(record)
        return method, (Flag("no_halves", f"{message}: the view is {WORDS[method]}"), *flags)
    return _by_defocus(record)


def _by_defocus(record: TomogramFile) -> tuple[str, tuple[Flag, ...]]:
    if record.defocus_angstrom is None:
        return "smoothing", (Flag("no_defocus", "No defocus is known: the view is only smoothed"),)
    if record.defocus_source == "target":
        message = "The view is deconvolved by the microscope's target defocus: none was measured"
        return "deconvolution", (Flag("target_defocus", message),)
    return "deconvolution", ()


def _filtered(
    method: str, made: Mapping[str, Path], record: TomogramFile, params: TomogramViewParams, ctx: StageContext
) -> Volume:
    size = record.voxel_size_angstrom
    if method == "halves":
        first, second = (compared_part(_read(made[half]), record).copy() for half in HALVES)
        weights = half_weights(first, second, threads=ctx.threads)
        return apply_radial(_read(made["tomogram"]), weights, threads=ctx.threads)
    volume = _read(made["tomogram"])
    if record.defocus_angstrom is None:
        return smooth_for_view(volume, size, SMOOTHED_TO_ANGSTROM, threads=ctx.threads)
    microscope = microscope_of(ctx)
    optics = CtfOptics(
        microscope.voltage_kv, microscope.spherical_aberration_mm, microscope.amplitude_contrast
    )
    return deconvolve_for_view(
        volume, size, record.defocus_angstrom, optics, strength=params.strength, falloff=params.falloff,
        corrected=record.ctf_correction, threads=ctx.threads,
    )  # fmt: skip


def _read(path: Path) -> Volume:
    volume, _ = read_image(path)
    return np.asarray(volume, dtype=np.float32)


def _draw(volume: Volume, record: TomogramFile, method: str, ctx: StageContext) -> dict[str, Path]:
    products = {"sections": ctx.new_file("_view.webp"), "slices": ctx.new_file("_view_slices.webp")}
    voxel = record.voxel_size_angstrom
    title = f"{Path(record.name).name}, {WORDS[method]}, for viewing only"
    draw_sections(volume, voxel, products["sections"], title)
    write_slices_movie(volume, voxel, products["slices"], record.slab_z())
    return products
