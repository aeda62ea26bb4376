"""The CTF of one series."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from tomofly.imaging.tilt_ctf import TiltCtf, fit_tilt_ctf
from tomofly.imaging.tilt_spectra import TileSpectra
from tomofly.model import Flag, ItemRef, Outcome, StageContext
from tomofly.stages.faults import blamed_on_input
from tomofly.stages.previews import TiltCurve, TiltRings, draw_over_tilts, draw_tilt_rings
from tomofly.stages.sections import microscope_of
from tomofly.stages.tilts.ctf import SeriesCtfParams
from tomofly.stages.tilts.files import (
    AlignmentFile,
    CtfFile,
    SeriesFile,
    read_alignment,
    read_series,
    read_spectra,
)

FloatArray = npt.NDArray[np.float64]

HIGH_TILT_DEG = 30.0

FLAG_WORDS = {
    "no_thon_rings": "No tilt shows Thon rings: the defocus means nothing",
    "hand_undecided": "The spectra do not tell the hand",
    "hand_contradicts_given": "The spectra say the other hand than series_ctf.hand",
    "depth_contradicts_geometry": "The defocus changes across the tilts otherwise than the angles say",
}
TILT_FLAG_WORDS = {
    "no_thon_rings": ("tilts_without_rings", "show no Thon rings, nor do their neighbours"),
    "defocus_from_neighbours": ("defocus_from_neighbours", "have their defocus from their neighbours"),
    "defocus_at_bound": ("defocus_at_bound", "have a defocus at an end of series_ctf.defocus_range_angstrom"),
}


def fit_series_ctf(item: ItemRef, params: SeriesCtfParams, ctx: StageContext) -> Outcome:
    """Fit the CTF of one series; one whose CTF cannot be fitted goes on with unknown values, and says so."""
    composed = ctx.inputs["compose"]
    series = read_series(composed.products["series"])
    if series.provisional:
        return Outcome(flags=(Flag("provisional", "The series is not complete: no CTF yet"),))
    if "spectra" not in composed.products:
        return _unknown(series, params, ctx, "no_spectra", "Some tilts have no power spectrum: no CTF")
    alignment = read_alignment(ctx.inputs["series_alignment"].products["alignment"])
    with blamed_on_input("The spectra of the series cannot be read", "Retry compose"):
        spectra = read_spectra(composed.products["spectra"])
    try:
        ctf = _fit(spectra, series, alignment, params, ctx)
    except ValueError as error:
        # Whatever is wrong with the spectra, there can be a tomogram without them.
        return _unknown(series, params, ctx, "ctf_not_fitted", f"The CTF cannot be fitted: {error}")
    products = {"ctf": ctx.new_file("_ctf.json")}
    _as_file(ctf).write(products["ctf"])
    products["defocus"], products["rings"] = _draw(ctf, series, ctx)
    metrics = _metrics(ctf, alignment, given=params.hand != 0)
    ctx.log.info(
        "%s: defocus %.0f Å at 0°, hand %+d (%s, %.1f %%)", item.key, metrics["defocus_at_zero_angstrom"],
        ctf.hand, ctf.hand_evidence.verdict, 100 * ctf.hand_evidence.certainty,
    )  # fmt: skip
    known = {name: value for name, value in metrics.items() if np.isfinite(value)}
    return Outcome(products, known, _flags(ctf))


def _fit(
    spectra: list[TileSpectra],
    series: SeriesFile,
    alignment: AlignmentFile,
    params: SeriesCtfParams,
    ctx: StageContext,
) -> TiltCtf:
    microscope = microscope_of(ctx)
    return fit_tilt_ctf(
        spectra,
        alignment.geometry().binned(series.full_pixel_size_angstrom / series.pixel_size_angstrom),
        voltage_kv=microscope.voltage_kv,
        spherical_aberration_mm=microscope.spherical_aberration_mm,
        amplitude_contrast=microscope.amplitude_contrast,
        defocus_range_angstrom=params.defocus_range_angstrom,
        nominal_defocus_angstrom=_target(series) if params.use_target_defocus else None,
        resolution_range_angstrom=params.resolution_range_angstrom,
        hand=params.hand or None,
        threads=ctx.threads,
    )


def _target(series: SeriesFile) -> float | None:
    """Give the microscope's target, where all that is known of it agrees."""
    targets = {view.target_defocus_angstrom for view in series.used} - {None}
    return next(iter(targets)) if len(targets) == 1 else None


def _unknown(series: SeriesFile, params: SeriesCtfParams, ctx: StageContext, code: str, why: str) -> Outcome:
    """Say that nothing is known, in a file like any other."""
    unknown = (float("nan"),) * len(series.used)
    path = ctx.new_file("_ctf.json")
    CtfFile(
        defocus_u_angstrom=unknown,
        defocus_v_angstrom=unknown,
        astigmatism_angle_deg=unknown,
        defocus_error_angstrom=unknown,
        fit_resolution_angstrom=unknown,
        hand=params.hand,
        hand_verdict="undecided",
    ).write(path)
    ctx.log.warning("%s: %s", series.name, why)
    without = {"tilts_without_rings": float(len(unknown))}
    return Outcome({"ctf": path}, without, (Flag(code, why),))


def _as_file(ctf: TiltCtf) -> CtfFile:
    count = len(ctf.defocus_u_angstrom)
    return CtfFile(
        defocus_u_angstrom=_numbers(ctf.defocus_u_angstrom),
        defocus_v_angstrom=_numbers(ctf.defocus_v_angstrom),
        astigmatism_angle_deg=(float(ctf.astigmatism_angle_deg),) * count,
        defocus_error_angstrom=_numbers(ctf.defocus_error_angstrom),
        fit_resolution_angstrom=_numbers(ctf.fit_resolution_angstrom),
        hand=ctf.hand,
        hand_verdict=ctf.hand_evidence.verdict,
        hand_certainty=ctf.hand_evidence.certainty,
        hand_evidence=_numbers(ctf.hand_evidence.by_tilt),
        defocus_gradient_angstrom_per_um=_numbers(ctf.defocus_gradient_angstrom_per_um),
        view_flags=ctf.tilt_flags,
    )


def _numbers(values: FloatArray) -> tuple[float, ...]:
    return tuple(map(float, values))


def _draw(ctf: TiltCtf, series: SeriesFile, ctx: StageContext) -> tuple[Path, Path]:
    """Draw the defocus of each tilt, and their rings."""
    defocus, rings = ctx.new_file("_defocus.webp"), ctx.new_file("_rings.webp")
    draw_over_tilts(
        series.tilt_angle_deg,
        [TiltCurve("defocus", ctf.defocus_angstrom / 1e4, ctf.defocus_error_angstrom / 1e4)],
        unit="underfocus / µm",
        path=defocus,
    )
    rows = [
        TiltRings(float(angle), profile.frequency, profile.measured, profile.fitted, float(resolution))
        for angle, profile, resolution in zip(
            series.tilt_angle_deg, ctf.profiles, ctf.fit_resolution_angstrom, strict=True
        )
    ]
    draw_tilt_rings(rows, rings)
    return defocus, rings


def _flags(ctf: TiltCtf) -> tuple[Flag, ...]:
    """Tell people of the series, and of how many tilts something is to be known."""
    flags = [Flag(code, FLAG_WORDS.get(code, code)) for code in ctf.flags]
    if "no_thon_rings" in ctf.flags:
        return tuple(flags)
    for name, (code, words) in TILT_FLAG_WORDS.items():
        count = sum(name in of_tilt for of_tilt in ctf.tilt_flags)
        if count:
            flags.append(Flag(code, f"{count} of {len(ctf.tilt_flags)} tilts {words}"))
    return tuple(flags)


def _metrics(ctf: TiltCtf, alignment: AlignmentFile, *, given: bool) -> dict[str, float]:
    tilts = np.abs(alignment.tilt_angle_deg)
    high = tilts >= HIGH_TILT_DEG
    resolution = ctf.fit_resolution_angstrom
    evidence = ctf.hand_evidence
    decided = given or evidence.verdict != "undecided"
    return {
        "defocus_at_zero_angstrom": float(ctf.defocus_angstrom[int(np.argmin(tilts))]),
        "defocus_error_median_angstrom": float(np.median(ctf.defocus_error_angstrom)),
        "series_astigmatism_angstrom": ctf.astigmatism_angstrom,
        "series_astigmatism_error_angstrom": ctf.astigmatism_error_angstrom,
        "series_astigmatism_angle_deg": ctf.astigmatism_angle_deg,
        "resolution_low_tilt_angstrom": _median(resolution[~high]),
        "resolution_high_tilt_angstrom": _median(resolution[high]),
        "hand": float(ctf.hand) if decided else 0.0,
        "hand_certainty": evidence.certainty,
        "hand_deviations": abs(evidence.deviations),
        "depth_scale": ctf.depth_scale * ctf.hand,
        "depth_scale_error": float(ctf.depth_scale_error),
        "tilts_without_rings": float(sum(bool(flags) for flags in ctf.tilt_flags)),
    }


def _median(values: FloatArray) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if known.size else float("nan")
