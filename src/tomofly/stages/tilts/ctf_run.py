"""The CTF of one series."""

import numpy as np
import numpy.typing as npt

from tomofly.imaging.tilt_ctf import TiltCtf, fit_tilt_ctf
from tomofly.model import Flag, ItemRef, Outcome, StageContext
from tomofly.stages.faults import blamed_on_input
from tomofly.stages.previews import TiltCurve, draw_over_tilts
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

HIGH_TILT_DEG = 30.0

FLAG_WORDS = {
    "no_thon_rings": "No tilt shows Thon rings: the defocus means nothing",
    "hand_undecided": "The spectra do not tell the hand",
    "hand_contradicts_given": "The spectra say the other hand than series_ctf.hand",
    "depth_contradicts_geometry": "The defocus changes across the tilts otherwise than the angles say",
}


def fit_series_ctf(item: ItemRef, params: SeriesCtfParams, ctx: StageContext) -> Outcome:
    """Fit the CTF of one series; a provisional one, or one without spectra, goes without and says so."""
    composed = ctx.inputs["compose"]
    series = read_series(composed.products["series"])
    if series.provisional:
        return Outcome(flags=(Flag("provisional", "The series is not complete: no CTF yet"),))
    if "spectra" not in composed.products:
        return Outcome(flags=(Flag("no_spectra", "Some tilts have no power spectrum: no CTF"),))
    alignment = read_alignment(ctx.inputs["series_alignment"].products["alignment"])
    microscope = microscope_of(ctx)
    with blamed_on_input("The CTF of the series cannot be fitted", "Look at the tilts and at series_ctf"):
        ctf = fit_tilt_ctf(
            read_spectra(composed.products["spectra"]),
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
    products = {"ctf": ctx.new_file("_ctf.json"), "defocus": ctx.new_file("_defocus.webp")}
    _as_file(ctf).write(products["ctf"])
    draw_over_tilts(
        series.tilt_angle_deg,
        [TiltCurve("defocus", _mean(ctf) / 1e4, ctf.defocus_error_angstrom / 1e4)],
        unit="underfocus / µm",
        path=products["defocus"],
    )
    metrics = _metrics(ctf, alignment)
    ctx.log.info("%s: defocus %.0f Å at 0°, hand %s", item.key, metrics["defocus_at_zero_angstrom"], ctf.hand)
    flags = tuple(Flag(code, FLAG_WORDS.get(code, code)) for code in ctf.flags)
    known = {name: value for name, value in metrics.items() if np.isfinite(value)}
    return Outcome(products, known, flags)


def _target(series: SeriesFile) -> float | None:
    """Give the microscope's target, where all that is known of it agrees."""
    targets = {view.target_defocus_angstrom for view in series.used} - {None}
    return next(iter(targets)) if len(targets) == 1 else None


def _mean(ctf: TiltCtf) -> npt.NDArray[np.float64]:
    return (ctf.defocus_u_angstrom + ctf.defocus_v_angstrom) / 2


def _as_file(ctf: TiltCtf) -> CtfFile:
    count = len(ctf.defocus_u_angstrom)
    return CtfFile(
        defocus_u_angstrom=tuple(map(float, ctf.defocus_u_angstrom)),
        defocus_v_angstrom=tuple(map(float, ctf.defocus_v_angstrom)),
        astigmatism_angle_deg=(float(ctf.astigmatism_angle_deg),) * count,
        defocus_error_angstrom=tuple(map(float, ctf.defocus_error_angstrom)),
        fit_resolution_angstrom=tuple(map(float, ctf.fit_resolution_angstrom)),
        hand=ctf.hand,
        hand_verdict=ctf.hand_evidence.verdict,
    )


def _metrics(ctf: TiltCtf, alignment: AlignmentFile) -> dict[str, float]:
    tilts = np.abs(alignment.tilt_angle_deg)
    high = tilts >= HIGH_TILT_DEG
    resolution = ctf.fit_resolution_angstrom
    return {
        "defocus_at_zero_angstrom": float(_mean(ctf)[int(np.argmin(tilts))]),
        "defocus_error_median_angstrom": float(np.median(ctf.defocus_error_angstrom)),
        "series_astigmatism_angstrom": float(np.median(ctf.defocus_u_angstrom - ctf.defocus_v_angstrom)),
        "series_astigmatism_angle_deg": float(ctf.astigmatism_angle_deg),
        "resolution_low_tilt_angstrom": _median(resolution[~high]),
        "resolution_high_tilt_angstrom": _median(resolution[high]),
        "hand": float(ctf.hand),
        "hand_certainty": float(ctf.hand_evidence.certainty),
        "tilts_without_rings": float(sum(bool(flags) for flags in ctf.tilt_flags)),
    }


def _median(values: npt.NDArray[np.float64]) -> float:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if known.size else float("nan")
