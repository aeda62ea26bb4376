"""A first look at one series."""

from tomofly.imaging.tilt_axis_search import search_axis
from tomofly.model import Flag, ItemRef, Outcome, StageContext, section_of
from tomofly.stages.faults import blamed_on_input
from tomofly.stages.tilts.alignment import SeriesAlignmentParams
from tomofly.stages.tilts.axis import SeriesAxisParams
from tomofly.stages.tilts.axis_file import AxisFile
from tomofly.stages.tilts.files import SeriesFile, read_series
from tomofly.stages.tilts.image_run import read_sections

UNKNOWN_SIGMA_DEG = 90.0

MEASURED_METHODS = ("patches", "fiducials")


def find_axis(item: ItemRef, _params: SeriesAxisParams, ctx: StageContext) -> Outcome:
    """Look at one series for its axis, where the settings say that series are aligned at all."""
    settings = section_of(ctx.shared, "series_alignment", SeriesAlignmentParams)
    if settings.method not in MEASURED_METHODS:
        return Outcome()
    composed = ctx.inputs["compose"]
    series = read_series(composed.products["series"])
    images = read_sections(composed.products["stack"])
    expected, sigma = expected_axis(series, settings)
    with blamed_on_input("The series cannot be looked at", "Look at its tilts and at series_alignment"):
        found = search_axis(
            images,
            series.tilt_angle_deg,
            expected,
            pixel_size_angstrom=series.pixel_size_angstrom,
            axis_prior_sigma_deg=sigma,
            largest_shift_part=settings.largest_shift,
            threads=ctx.threads,
        )
    path = ctx.new_file("_axis.json")
    AxisFile.of(found).write(path)
    ctx.log.info("%s: axis %.1f° ± %.1f°", item.key, found.axis_angle_deg, found.axis_uncertainty_deg)
    if series.provisional or not found.axis_uncertainty_deg >= 0:
        return Outcome({"axis": path})
    metrics = {"first_axis_deg": found.axis_angle_deg, "first_axis_error_deg": found.axis_uncertainty_deg}
    if series.axis_source == "unknown":
        message = (
            "Neither the mdoc nor the settings tell the tilt axis: it was searched all around. Which of its "
            "two directions is right, and so the hand, only the defocus across the tilts tells"
        )
        return Outcome({"axis": path}, metrics, (Flag("axis_searched", message),))
    return Outcome({"axis": path}, metrics | {"nominal_axis_deg": series.axis_angle_deg})


def expected_axis(series: SeriesFile, settings: SeriesAlignmentParams) -> tuple[float, float]:
    """Say where the axis is expected before any series was seen, and how surely, in degrees."""
    if series.axis_source == "unknown":
        return 0.0, UNKNOWN_SIGMA_DEG
    return series.axis_angle_deg, settings.axis_sigma_deg
