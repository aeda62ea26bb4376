"""CTF, at work: fit it, and write the spectrum, the profile and a picture of each."""

from pathlib import Path

import numpy as np

from tomofly.formats.mrc import read_image, write_image
from tomofly.imaging.ctf_estimate import CtfEstimate, estimate_ctf
from tomofly.model import BadInput, Flag, ItemRef, Outcome, StageContext
from tomofly.stages.ctf import CtfParams
from tomofly.stages.faults import blamed_on_input
from tomofly.stages.previews import draw_profile, draw_spectrum
from tomofly.stages.sections import microscope_of

# What the estimate says of itself, for people.
FLAG_WORDS = {
    "no_thon_rings": "No Thon rings above the noise: the defocus means nothing",
    "aliasing": "Thon rings are too narrow for the spectrum at high resolution: a larger ctf.box_px helps",
    "defocus_at_bound": "The defocus lies at the end of ctf.defocus_range_angstrom: widen it",
    "ambiguous_defocus": "Another defocus fits nearly as well",
}


def fit_ctf(item: ItemRef, params: CtfParams, ctx: StageContext) -> Outcome:
    """Fit the CTF of one micrograph, from the plain average: dose weights would dim its high frequencies."""
    motion, microscope = ctx.inputs["motion"], microscope_of(ctx)
    coarse, fine = params.resolution_range_angstrom
    with blamed_on_input("The CTF cannot be fitted", "Look at the micrograph and at the settings of ctf"):
        image, _ = read_image(motion.products["average"])
        estimate = estimate_ctf(
            image,
            pixel_size_angstrom=motion.metrics["micrograph_pixel_size_angstrom"],
            voltage_kv=microscope.voltage_kv,
            spherical_aberration_mm=microscope.spherical_aberration_mm,
            amplitude_contrast=microscope.amplitude_contrast,
            defocus_range_angstrom=params.defocus_range_angstrom,
            resolution_range_angstrom=(coarse, fine or None),
            box_px=params.box_px,
            phase_shift_range_deg=params.phase_shift_range_deg,
            threads=ctx.threads,
        )
    if not np.isfinite([estimate.defocus_u_angstrom, estimate.defocus_v_angstrom]).all():
        raise BadInput("The CTF fit found no finite defocus", "Look at the micrograph")
    ctx.log.info("%s: defocus %.0f Å", item.key, estimate.defocus_angstrom)
    flags = tuple(Flag(code, FLAG_WORDS.get(code, code)) for code in estimate.flags)
    return Outcome(products=_write(estimate, ctx), metrics=_metrics(estimate), flags=flags)


def _write(estimate: CtfEstimate, ctx: StageContext) -> dict[str, Path]:
    """The spectrum as an image, the profile as a table, and a picture of each."""
    profile = estimate.profile
    products = {
        "spectrum": ctx.new_file("_ctf.mrc"),
        "profile": ctx.new_file("_ctf_profile.csv"),
        "preview": ctx.new_file("_ctf.webp"),
        "plot": ctx.new_file("_ctf_profile.webp"),
    }
    # In reciprocal space a "pixel size" has no meaning that MRC could hold.
    write_image(products["spectrum"], estimate.spectrum_2d, 1.0, float16=True)
    columns = {
        "frequency_per_angstrom": profile.frequency,
        "power": profile.power,
        "measured": profile.measured,
        "fitted": profile.fitted,
        "background": profile.background,
        "agreement": profile.agreement,
    }
    table = np.stack(list(columns.values()), axis=1)
    np.savetxt(products["profile"], table, "%.6g", ",", header=",".join(columns), comments="")
    highest = float(profile.frequency[-1])
    draw_spectrum(
        estimate.spectrum_2d,
        highest_frequency=highest * estimate.spectrum_2d.shape[0] / 2 / _last_bin(estimate),
        fit_resolution_angstrom=estimate.fit_resolution_angstrom,
        caption=_caption(estimate),
        path=products["preview"],
    )
    draw_profile(
        profile.frequency,
        profile.measured,
        profile.fitted,
        profile.agreement,
        fit_resolution_angstrom=estimate.fit_resolution_angstrom,
        path=products["plot"],
    )
    return products


def _last_bin(estimate: CtfEstimate) -> float:
    """The bin of the spectrum at which the profile ends."""
    frequency = estimate.profile.frequency
    return float(frequency[-1] / (frequency[1] - frequency[0]))


def _caption(estimate: CtfEstimate) -> str:
    u, v = estimate.defocus_u_angstrom / 1e4, estimate.defocus_v_angstrom / 1e4
    phase = f"    phase {estimate.phase_shift_deg:.0f}°" if estimate.phase_shift_deg else ""
    return f"U {u:.3f} µm    V {v:.3f} µm    angle {estimate.astigmatism_angle_deg:.0f}°{phase}"


def _metrics(estimate: CtfEstimate) -> dict[str, float]:
    known: dict[str, float | None] = {
        "defocus_angstrom": estimate.defocus_angstrom,
        "defocus_u_angstrom": estimate.defocus_u_angstrom,
        "defocus_v_angstrom": estimate.defocus_v_angstrom,
        "astigmatism_angstrom": estimate.astigmatism_angstrom,
        "astigmatism_angle_deg": estimate.astigmatism_angle_deg,
        "phase_shift_deg": estimate.phase_shift_deg,
        "fit_quality": estimate.fit_quality,
        "fit_resolution_angstrom": estimate.fit_resolution_angstrom,
        "aliasing_resolution_angstrom": estimate.aliasing_resolution_angstrom,
        "ice_ring": estimate.ice_ring,
        "defocus_error_angstrom": estimate.defocus_error_angstrom,
        "astigmatism_error_angstrom": estimate.astigmatism_error_angstrom,
        "angle_error_deg": estimate.angle_error_deg,
        "phase_shift_error_deg": estimate.phase_shift_error_deg,
        "log_likelihood_gain": estimate.log_likelihood_gain,
    }
    return {name: float(v) for name, v in known.items() if v is not None and np.isfinite(v)}
