"""The alignment of one series, by the method that the settings name."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tomofly.imaging.slab import Slab, find_slab_in_series
from tomofly.imaging.tilt_alignment import TiltAlignment, align_tilt_series
from tomofly.imaging.tilt_geometry import TiltGeometry, nominal_geometry
from tomofly.imaging.tilt_weighting import tilt_contrast
from tomofly.model import BadInput, Flag, ItemRef, Outcome, StageContext
from tomofly.stages.faults import blamed_on_input
from tomofly.stages.previews import TiltCurve, draw_over_tilts
from tomofly.stages.tilts.alignment import SeriesAlignmentParams
from tomofly.stages.tilts.files import AlignmentFile, SeriesFile, read_series
from tomofly.stages.tilts.image_run import read_sections
from tomofly.stages.tilts.imported import imported_geometry

FloatArray = npt.NDArray[np.float64]
FloatImage = npt.NDArray[np.float32]

SEARCHED_HEIGHT_ANGSTROM = 5000.0
"""Height within which the specimen is looked for."""

LEAST_SLOPE_DEG = 0.3
"""Slopes of the slab below this are left: they are within their error."""

FLAG_WORDS = {
    "nominal_axis_kept": "The images do not tell the tilt axis: its nominal direction was kept",
    "axis_at_bound": "The tilt axis lies at the end of what was searched (series_alignment.axis_sigma_deg)",
    "local_model_skipped": "Too few patches could be followed for local movements",
    "tilt_offset_unknown": "The images do not tell how the specimen is inclined: 0° is taken",
    "coarse_only": "The series was aligned coarsely: it has too few tilts, or too little to follow",
    "two_tilts": "Two tilts alone do not tell the axis or the inclination of the specimen",
    "tilts_not_aligned": "Some tilts could not be aligned and are not in the tomogram",
}


@dataclass(frozen=True)
class Aligned:
    """What every method gives: NaN where nothing was measured."""

    geometry: TiltGeometry
    used: npt.NDArray[np.bool_]
    shift_error_px: FloatArray
    residual_angstrom: FloatArray
    metrics: Mapping[str, float]
    flags: tuple[Flag, ...]


def align_series(item: ItemRef, params: SeriesAlignmentParams, ctx: StageContext) -> Outcome:
    """Align one series, find its specimen, and write where each tilt was taken from."""
    composed = ctx.inputs["compose"]
    series = read_series(composed.products["series"])
    images = read_sections(composed.products["stack"])
    with blamed_on_input("The series cannot be aligned", "Look at its tilts and at series_alignment"):
        aligned = METHODS[params.method](series, images, params, ctx)
        slab, aligned = _levelled(series, images, aligned, params, ctx.threads)
    products = {"alignment": ctx.new_file("_alignment.json")}
    record = _record(series, aligned, slab, params.method)
    record.write(products["alignment"])
    products |= _draw(series, aligned, ctx)
    metrics = _metrics(series, aligned, slab)
    ctx.log.info(
        "%s: %s, %d tilts, axis %.2f°", item.key, params.method, len(images), metrics["axis_angle_deg"]
    )
    return Outcome(products, metrics, (*aligned.flags, *_slab_flags(slab), *_unaligned_flags(aligned)))


Method = Callable[[SeriesFile, FloatImage, SeriesAlignmentParams, StageContext], Aligned]


def _by_patches(
    series: SeriesFile, images: FloatImage, params: SeriesAlignmentParams, ctx: StageContext
) -> Aligned:
    axis, sigma, flags = _expected_axis(series, params)
    found = align_tilt_series(
        images,
        series.tilt_angle_deg,
        axis,
        pixel_size_angstrom=series.pixel_size_angstrom,
        axis_prior_sigma_deg=sigma,
        largest_shift_part=params.largest_shift,
        threads=ctx.threads,
    )
    return _aligned(found, flags)


def _aligned(found: TiltAlignment, flags: tuple[Flag, ...]) -> Aligned:
    metrics = {
        "axis_error_deg": found.axis_uncertainty_deg,
        "tilt_offset_deg": found.tilt_offset_deg,
        "tilt_offset_error_deg": found.tilt_offset_uncertainty_deg,
        "leave_one_out_angstrom": found.leave_one_out_angstrom,
        **{f"ncc_{angle}": value for angle, value in found.ncc_at_deg.items()},
    }
    return Aligned(
        geometry=found.geometry,
        used=found.used,
        shift_error_px=np.hypot(*found.shift_uncertainty_yx_px.T) / np.sqrt(2),
        residual_angstrom=found.residual_angstrom,
        metrics=metrics,
        flags=(*flags, *(Flag(code, FLAG_WORDS.get(code, code)) for code in found.flags)),
    )


def _expected_axis(
    series: SeriesFile, params: SeriesAlignmentParams
) -> tuple[float, float, tuple[Flag, ...]]:
    """Say where the axis is expected, and how surely."""
    if series.axis_source == "unknown":
        message = "Neither the mdoc nor the settings tell the tilt axis: it was searched all around"
        return 0.0, 90.0, (Flag("axis_searched", message),)
    return series.axis_angle_deg, params.axis_sigma_deg, ()


def _as_set(series: SeriesFile, *_: object) -> Aligned:
    message = "Shifts, axis and angles are those of the microscope: nothing was aligned"
    return _given(
        nominal_geometry(series.tilt_angle_deg, series.axis_angle_deg), "nominal_alignment", message
    )


def _imported(
    series: SeriesFile, _images: FloatImage, params: SeriesAlignmentParams, _ctx: StageContext
) -> Aligned:
    if not params.import_folder:
        raise BadInput("No folder to import alignments from", "Set series_alignment.import_folder")
    geometry, used, path = imported_geometry(Path(params.import_folder).expanduser(), series)
    given = _given(geometry, "imported_alignment", f"The alignment was imported from {path.name}")
    return replace(given, used=used)


def _given(geometry: TiltGeometry, code: str, message: str) -> Aligned:
    unknown = np.full(len(geometry), np.nan)
    used = np.ones(len(geometry), dtype=bool)
    return Aligned(geometry, used, unknown, unknown, {}, (Flag(code, message),))


METHODS: Mapping[str, Method] = {"patches": _by_patches, "nominal": _as_set, "imported": _imported}


def _levelled(
    series: SeriesFile, images: FloatImage, aligned: Aligned, params: SeriesAlignmentParams, threads: int
) -> tuple[Slab, Aligned]:
    """Find the specimen in the aligned series, and turn the geometry so that it lies flat."""
    if np.count_nonzero(aligned.used) < 6 or series.provisional:
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
    geometry = level(aligned.geometry, slab)
    return look(geometry), replace(aligned, geometry=geometry)


def level(geometry: TiltGeometry, slab: Slab) -> TiltGeometry:
    """Turn a geometry so that a slab lies flat, and move it so that the slab lies in the middle.

    In new coordinates q = R·(p - centre), R turning the slab's normal onto z, a view of p is the same view
    of q: Rz·Ry(tilt)·Rx(x_tilt)·Rᵀ must again be a tilt about y after one about x, which makes R unique.
    """
    slopes = np.array([slab.slope_x_deg, slab.slope_y_deg])
    slopes = np.where(np.abs(slopes) > LEAST_SLOPE_DEG, slopes, 0.0)
    normal = np.array([*-np.tan(np.deg2rad(slopes)), 1.0])
    x_tilt = math.radians(geometry.x_tilt_deg)
    turn = np.array(
        [[1, 0, 0], [0, math.cos(x_tilt), -math.sin(x_tilt)], [0, math.sin(x_tilt), math.cos(x_tilt)]]
    )
    x, y, z = turn @ (normal / np.linalg.norm(normal))
    centre = np.array([[slab.centre_z, 0.0, 0.0]])
    unshifted = replace(geometry, shift_yx_px=np.zeros_like(geometry.shift_yx_px))
    return TiltGeometry(
        geometry.tilt_angle_deg + math.degrees(math.atan2(x, z)),
        geometry.axis_angle_deg,
        geometry.shift_yx_px - unshifted.project(centre)[:, 0],
        math.degrees(math.asin(-y)),
    )


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
        "unaligned_tilts": float(np.count_nonzero(~aligned.used)),
    }
    return {name: float(value) for name, value in known.items() if np.isfinite(value)}


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
