"""The ways to align a series, each giving the same."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tomofly.imaging.tilt_alignment import TiltAlignment, align_tilt_series
from tomofly.imaging.tilt_fiducials import align_by_fiducials
from tomofly.imaging.tilt_geometry import TiltGeometry, nominal_geometry
from tomofly.imaging.tilt_local import LocalDeformation
from tomofly.model import BadInput, Flag, StageContext
from tomofly.stages.tilts.alignment import SeriesAlignmentParams
from tomofly.stages.tilts.axis_file import read_axis, session_axis
from tomofly.stages.tilts.axis_run import expected_axis
from tomofly.stages.tilts.files import SeriesFile
from tomofly.stages.tilts.imported import imported_geometry

FloatArray = npt.NDArray[np.float64]
FloatImage = npt.NDArray[np.float32]

SESSION_SIGMA_DEG = 1.5
"""How far a series' axis may be off that of its session: what is said is rounded, and stages creep."""

UNLIKE_SESSION_DEG = 2.0

FLAG_WORDS = {
    "nominal_axis_kept": "The images do not tell the tilt axis: the expected direction was kept",
    "level_not_measured": "The images do not tell how the specimen is inclined: 0° is taken",
    "few_tilts": "Fewer than 7 tilts, or a range below 24°, do not tell the axis or the inclination",
    "tilts_left_out": "Some tilts show nothing that could be followed",
    "tilts_not_aligned": "Some tilts show something else than the others",
    "patches_not_followed": "Too few patches could be followed: there are no residuals",
    "local_model_skipped": "Patches show no local movement beyond their errors, or too few were followed",
    "bead_size_estimated": "The diameter of the beads was measured (series_alignment.bead_diameter_angstrom)",
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
    local: LocalDeformation | None = None


Method = Callable[[SeriesFile, FloatImage, SeriesAlignmentParams, StageContext], Aligned]


def by_patches(
    series: SeriesFile, images: FloatImage, params: SeriesAlignmentParams, ctx: StageContext
) -> Aligned:
    """Align by the specimen itself, from where the first look has the series."""
    axis, sigma, said = _expected(series, params, ctx)
    looked = ctx.inputs["series_axis"].products.get("axis")
    found = align_tilt_series(
        images,
        series.tilt_angle_deg,
        axis,
        pixel_size_angstrom=series.pixel_size_angstrom,
        axis_prior_sigma_deg=sigma,
        largest_shift_part=params.largest_shift,
        start=None if looked is None else read_axis(looked).search(),
        exposure_order=[view.order for view in series.used],
        local=params.local and not series.provisional,
        coarse=series.provisional,
        threads=ctx.threads,
    )
    return _aligned(found, said)


def by_fiducials(
    series: SeriesFile, images: FloatImage, params: SeriesAlignmentParams, ctx: StageContext
) -> Aligned:
    """Align by gold beads, and by patches where there are too few of them, or not all tilts yet."""
    if series.provisional:
        return by_patches(series, images, params, ctx)
    axis, sigma, said = _expected(series, params, ctx)
    found = align_by_fiducials(
        images,
        series.tilt_angle_deg,
        axis,
        pixel_size_angstrom=series.pixel_size_angstrom,
        bead_diameter_angstrom=params.bead_diameter_angstrom,
        axis_prior_sigma_deg=sigma,
        largest_shift_part=params.largest_shift,
        threads=ctx.threads,
    )
    if "too_few_beads" in found.flags:
        message = "Too few gold beads could be followed: the series was aligned by patches instead"
        aligned = by_patches(series, images, params, ctx)
        return replace(aligned, flags=(Flag("too_few_beads", message), *aligned.flags))
    return _aligned(found, said)


def _expected(
    series: SeriesFile, params: SeriesAlignmentParams, ctx: StageContext
) -> tuple[float, float, float | None]:
    """Say where the axis is expected, how surely, and what the session says of it."""
    nominal = None if series.axis_source == "unknown" else series.axis_angle_deg
    said = session_axis(ctx.followed.get("session_axis", ""), nominal)
    if said is None:
        return *expected_axis(series, params), None
    return said, SESSION_SIGMA_DEG, said


def _aligned(found: TiltAlignment, said: float | None) -> Aligned:
    if not found.used.any():
        raise BadInput(
            "No two tilts of the series show the same specimen",
            "Look at its images: they may be empty, or of different places",
        )
    metrics = {
        "axis_error_deg": found.axis_uncertainty_deg,
        "tilt_offset_deg": found.tilt_offset_deg,
        "tilt_offset_error_deg": found.tilt_offset_uncertainty_deg,
        "leave_one_out_angstrom": found.leave_one_out_angstrom,
        **{f"ncc_{angle}": value for angle, value in found.ncc_at_deg.items()},
    }
    flags = [Flag(code, FLAG_WORDS.get(code, code)) for code in found.flags]
    if said is not None:
        off = abs((found.axis_angle_deg - said + 90.0) % 180.0 - 90.0)
        metrics["axis_deviation_deg"] = off
        if off > UNLIKE_SESSION_DEG:
            message = f"The tilt axis lies {off:.1f}° from {said:g}°, which the session's other series show"
            flags.append(Flag("axis_unlike_session", message))
    return Aligned(
        geometry=found.geometry,
        used=found.used,
        shift_error_px=np.hypot(*found.shift_uncertainty_yx_px.T) / np.sqrt(2),
        residual_angstrom=found.residual_angstrom,
        metrics=metrics,
        flags=tuple(flags),
        local=found.local,
    )


def as_set(series: SeriesFile, *_: object) -> Aligned:
    """Take the geometry that the microscope reports."""
    message = "Shifts, axis and angles are those of the microscope: nothing was aligned"
    return _given(
        nominal_geometry(series.tilt_angle_deg, series.axis_angle_deg), "nominal_alignment", message
    )


def imported(
    series: SeriesFile, _images: FloatImage, params: SeriesAlignmentParams, _ctx: StageContext
) -> Aligned:
    """Take the geometry that another program found; it found one for the whole series, not for a part."""
    if not params.import_folder:
        raise BadInput("No folder to import alignments from", "Set series_alignment.import_folder")
    if series.provisional:
        message = "The series is not complete: its alignment is imported when it is"
        geometry = nominal_geometry(series.tilt_angle_deg, series.axis_angle_deg)
        return _given(geometry, "import_awaited", message)
    geometry, used, path = imported_geometry(Path(params.import_folder).expanduser(), series)
    given = _given(geometry, "imported_alignment", f"The alignment was imported from {path.name}")
    return replace(given, used=used)


def _given(geometry: TiltGeometry, code: str, message: str) -> Aligned:
    unknown = np.full(len(geometry), np.nan)
    used = np.ones(len(geometry), dtype=bool)
    return Aligned(geometry, used, unknown, unknown, {}, (Flag(code, message),))


METHODS: Mapping[str, Method] = {
    "patches": by_patches,
    "fiducials": by_fiducials,
    "nominal": as_set,
    "imported": imported,
}
