"""The alignment of one series, by the method that the settings name."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tomofly.imaging.slab import Slab, find_slab_in_series, levelled
from tomofly.imaging.tilt_geometry import TiltGeometry
from tomofly.imaging.tilt_weighting import tilt_contrast
from tomofly.model import Flag, ItemRef, Outcome, StageContext
from tomofly.stages.faults import blamed_on_input
from tomofly.stages.previews import TiltCurve, draw_over_tilts
from tomofly.stages.tilts.alignment import SeriesAlignmentParams
from tomofly.stages.tilts.alignment_methods import METHODS, Aligned
from tomofly.stages.tilts.files import AlignmentFile, LocalMovement, SeriesFile, read_series
from tomofly.stages.tilts.image_run import read_sections

FloatArray = npt.NDArray[np.float64]
FloatImage = npt.NDArray[np.float32]

SEARCHED_HEIGHT_ANGSTROM = 5000.0
"""Height within which the specimen is looked for."""

LEAST_SLOPE_DEG = 0.3
"""Slopes of the slab below this are left: they are within their error."""

LEAST_TILTS = 6
"""Fewer tilts than this show no slab."""


def align_series(item: ItemRef, params: SeriesAlignmentParams, ctx: StageContext) -> Outcome:
    """Align one series, find its specimen, and write where each tilt was taken from."""
    composed = ctx.inputs["compose"]
    series = read_series(composed.products["series"])
    images = read_sections(composed.products["stack"])
    with blamed_on_input("The series cannot be aligned", "Look at its tilts and at series_alignment"):
        aligned = METHODS[params.method](series, images, params, ctx)
        slab, aligned = _with_level(series, images, aligned, params, ctx.threads)
    products = {"alignment": ctx.new_file("_alignment.json")}
    record = _record(series, aligned, slab, params.method)
    record.write(products["alignment"])
    products |= _draw(series, aligned, ctx)
    metrics = _metrics(series, aligned, slab)
    ctx.log.info(
        "%s: %s, %d tilts, axis %.2f°", item.key, params.method, len(images), metrics["axis_angle_deg"]
    )
    return Outcome(products, metrics, (*aligned.flags, *_slab_flags(slab), *_unaligned_flags(aligned)))


def _with_level(
    series: SeriesFile, images: FloatImage, aligned: Aligned, params: SeriesAlignmentParams, threads: int
) -> tuple[Slab, Aligned]:
    """Find the specimen in the aligned series, and turn the geometry so that it lies flat."""
    if np.count_nonzero(aligned.used) < LEAST_TILTS or series.provisional:
        return Slab(reason="too few tilts, or provisional"), aligned
    views = np.flatnonzero(aligned.used)
    contrast = tilt_contrast(images[views])
    height = round(SEARCHED_HEIGHT_ANGSTROM / series.pixel_size_angstrom)

    def look(geometry: TiltGeometry) -> Slab:
        size = series.pixel_size_angstrom
        return find_slab_in_series(contrast, geometry.subset(views), size, height, threads=threads)

    slab = look(aligned.geometry)
    if not slab.detectable or not params.level:
        return slab, aligned
    geometry = _level_and_centred(aligned.geometry, slab)
    again = look(geometry)
    return (again if again.detectable else slab), replace(aligned, geometry=geometry)


def _level_and_centred(geometry: TiltGeometry, slab: Slab) -> TiltGeometry:
    """Turn a geometry so that a slab lies flat, and move it so that the slab lies in the middle."""
    x, y = (slope if abs(slope) > LEAST_SLOPE_DEG else 0.0 for slope in (slab.slope_x_deg, slab.slope_y_deg))
    unshifted = replace(geometry, shift_yx_px=np.zeros_like(geometry.shift_yx_px))
    moved = unshifted.project([[slab.centre_z, 0.0, 0.0]])[:, 0]
    flat = levelled(geometry, replace(slab, slope_x_deg=x, slope_y_deg=y))
    return replace(flat, shift_yx_px=geometry.shift_yx_px - moved)


def _record(series: SeriesFile, aligned: Aligned, slab: Slab, method: str) -> AlignmentFile:
    geometry = aligned.geometry
    size = series.pixel_size_angstrom
    return AlignmentFile(
        method=method,
        tilt_angle_deg=tuple(map(float, geometry.tilt_angle_deg)),
        axis_angle_deg=tuple(map(float, geometry.axis_angle_deg)),
        shift_y_px=tuple(map(float, geometry.shift_yx_px[:, 0])),
        shift_x_px=tuple(map(float, geometry.shift_yx_px[:, 1])),
        shift_error_px=tuple(map(float, aligned.shift_error_px)),
        residual_angstrom=tuple(map(float, aligned.residual_angstrom)),
        aligned=tuple(map(bool, aligned.used)),
        x_tilt_deg=float(geometry.x_tilt_deg),
        tilt_offset_deg=float(np.median(geometry.tilt_angle_deg - series.tilt_angle_deg)),
        pixel_size_angstrom=size,
        thickness_angstrom=slab.thickness * size if slab.detectable else None,
        local=None if aligned.local is None else LocalMovement.of(aligned.local),
    )


def _draw(series: SeriesFile, aligned: Aligned, ctx: StageContext) -> dict[str, Path]:
    products = {"shifts": ctx.new_file("_shifts.webp")}
    size = series.pixel_size_angstrom
    shift, error = aligned.geometry.shift_yx_px * size, aligned.shift_error_px * size
    left_out = np.array([v.tilt_angle_deg for v in series.views if v.excluded])
    draw_over_tilts(
        series.tilt_angle_deg,
        [TiltCurve("x", shift[:, 1], error), TiltCurve("y", shift[:, 0], error)],
        unit="shift / Å",
        path=products["shifts"],
        left_out_deg=left_out,
    )
    if np.isfinite(aligned.residual_angstrom).any():
        products["residuals"] = ctx.new_file("_residuals.webp")
        curve = TiltCurve("residual", aligned.residual_angstrom)
        draw_over_tilts(series.tilt_angle_deg, [curve], unit="residual / Å", path=products["residuals"])
    return products


def _metrics(series: SeriesFile, aligned: Aligned, slab: Slab) -> dict[str, float]:
    size, geometry = series.pixel_size_angstrom, aligned.geometry
    known = {
        **aligned.metrics,
        "residual_angstrom": _median(aligned.residual_angstrom),
        "shift_error_angstrom": _median(aligned.shift_error_px) * size,
        "largest_shift_angstrom": float(np.hypot(*geometry.shift_yx_px.T).max()) * size,
        "axis_angle_deg": float(np.median(geometry.axis_angle_deg)),
        "tilt_offset_deg": float(np.median(geometry.tilt_angle_deg - series.tilt_angle_deg)),
        "x_tilt_deg": float(geometry.x_tilt_deg),
        "thickness_nm": slab.thickness * size / 10,
        "thickness_error_nm": slab.thickness_error * size / 10,
        "local_movement_angstrom": _local_movement(series, aligned) * size,
        "unaligned_tilts": float(np.count_nonzero(~aligned.used)),
    }
    return {name: float(value) for name, value in known.items() if np.isfinite(value)}


def _local_movement(series: SeriesFile, aligned: Aligned) -> float:
    """Give the median length of local movement between the first and the last exposure; NaN without any."""
    if aligned.local is None:
        return float("nan")
    order = np.array([view.order for view in series.used])
    shift = aligned.local.shift_yx_px
    return float(np.median(np.hypot(*(shift[order.argmax()] - shift[order.argmin()]).T)))


def _median(values: FloatArray) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if known.size else float("nan")


def _slab_flags(slab: Slab) -> list[Flag]:
    if slab.detectable:
        return []
    return [
        Flag("thickness_not_detectable", f"The thickness of the specimen is not detectable: {slab.reason}")
    ]


def _unaligned_flags(aligned: Aligned) -> list[Flag]:
    count = int(np.count_nonzero(~aligned.used))
    if not count:
        return []
    return [Flag("tilts_not_aligned", f"{count} tilts could not be aligned and are not in the tomogram")]
