"""CTF estimation: from a micrograph to defocus, astigmatism and what they are worth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tomofly.imaging.ctf import CtfOptics
from tomofly.imaging.ctf_fit import CtfFit, RingModel, refine_ctf
from tomofly.imaging.ctf_quality import (
    CtfProfile,
    aliasing_resolution,
    ctf_profile,
    display_spectrum,
    fit_resolution,
    ice_ring,
    ripple_lag,
)
from tomofly.imaging.ctf_ring import ThonRing, thon_ring
from tomofly.imaging.ctf_search import CtfCandidate, search_ctf
from tomofly.imaging.spectrum import PowerSpectrum, tile_power_spectrum

# The search looks at what nearly every micrograph shows; the last fit goes as far as the rings do.
SEARCH_RESOLUTION_ANGSTROM = 5.0
# Noise alone reaches a gain in log likelihood of 8 in the median and 16 at most in 200 simulated images.
LEAST_LOG_LIKELIHOOD_GAIN = 20.0
# A tile is too short when rings at the end of the ring come from further apart than this part of it.
LONGEST_LAG_FRACTION = 0.25
LARGEST_BOX_PX = 1024
LARGEST_TILE_FRACTION = 0.5
# A box that would grow by less is not worth a second spectrum.
LEAST_GROWTH = 1.4
# The last fit goes a little further than the rings are seen by eye; the likelihood ignores what is not there.
REACH_BEYOND_FIT = 1.15
# Another defocus this close in log likelihood is a real alternative.
AMBIGUOUS_LOG_LIKELIHOOD = 5.0
AMBIGUOUS_DISTANCE_ANGSTROM = 500.0
BOUND_ANGSTROM = 50.0
# The error of an angle about which nothing is known: 180 / sqrt(12).
UNKNOWN_ANGLE_DEG = 52.0


@dataclass(frozen=True)
class CtfEstimate:
    """The CTF of one micrograph.

    Lengths in Å, underfocus positive, `defocus_u_angstrom` at least `defocus_v_angstrom`; the angle is that
    of U from +x towards +y (rows in order of increasing index), 0 to 180. `fit_quality` is the correlation of
    the whitened spectrum with the model in the search ring; `fit_resolution_angstrom` and
    `aliasing_resolution_angstrom` are None where there is none; `ice_ring` is 1 without crystalline ice, None
    where the pixel is too large to tell. Errors are standard errors. `log_likelihood_gain` is that of the
    rings over a smooth spectrum. `spectrum_2d` (y, x) float32 has zero frequency in the middle and the model
    in the quadrant +x, +y. Flags: "no_thon_rings", "aliasing", "defocus_at_bound", "ambiguous_defocus".
    """

    defocus_u_angstrom: float
    defocus_v_angstrom: float
    astigmatism_angle_deg: float
    phase_shift_deg: float
    fit_quality: float
    fit_resolution_angstrom: float | None
    aliasing_resolution_angstrom: float | None
    ice_ring: float | None
    defocus_error_angstrom: float
    astigmatism_error_angstrom: float
    angle_error_deg: float
    phase_shift_error_deg: float
    log_likelihood_gain: float
    box_px: int
    profile: CtfProfile
    spectrum_2d: npt.NDArray[np.float32]
    flags: tuple[str, ...]

    @property
    def defocus_angstrom(self) -> float:
        """Mean of U and V."""
        return 0.5 * (self.defocus_u_angstrom + self.defocus_v_angstrom)

    @property
    def astigmatism_angstrom(self) -> float:
        """U - V."""
        return self.defocus_u_angstrom - self.defocus_v_angstrom


@dataclass(frozen=True)
class _Search:
    """What is looked for, and where."""

    optics: CtfOptics
    defocus_range: tuple[float, float]
    phase_range: tuple[float, float]
    low: float
    high: float | None

    @property
    def fit_phase(self) -> bool:
        return self.phase_range[1] > self.phase_range[0]


def estimate_ctf(
    image: npt.NDArray[Any],
    *,
    pixel_size_angstrom: float,
    voltage_kv: float,
    spherical_aberration_mm: float,
    amplitude_contrast: float,
    defocus_range_angstrom: tuple[float, float] = (3000.0, 50000.0),
    resolution_range_angstrom: tuple[float, float | None] = (30.0, None),
    box_px: int = 512,
    phase_shift_range_deg: tuple[float, float] | None = None,
    threads: int = 1,
) -> CtfEstimate:
    """Defocus, astigmatism and, if asked, phase shift of a micrograph, with errors and quality.

    `image` (y, x), or (sum, y, x) for sums of frames whose spectra are averaged. The second of
    `resolution_range_angstrom` may be None: the search uses 5 Å, and the fit goes as far as the Thon rings.
    `box_px` grows where the rings turn out too narrow for it. `phase_shift_range_deg` None holds the phase
    shift at 0, otherwise it is sought in that range. Raises ValueError for input that can have no CTF: NaN,
    constant, too small, senseless settings. Images without Thon rings give an estimate flagged
    "no_thon_rings".

    Power spectrum: Welch (1967); likelihood: Whittle (1953); CTF model: Rohou & Grigorieff (2015).
    """
    optics = CtfOptics(voltage_kv, spherical_aberration_mm, amplitude_contrast)
    search = _checked_search(optics, defocus_range_angstrom, resolution_range_angstrom, phase_shift_range_deg)
    spectrum = tile_power_spectrum(image, pixel_size_angstrom, box_px, threads)
    ring = _search_ring(spectrum, search)
    fits = _fit_candidates(ring, search)
    resolution = fit_resolution(ctf_profile(_whole_ring(spectrum, search), optics, fits[0]))
    larger = _box_for(spectrum, fits[0], search, resolution, image.shape[-2:])
    if _rings_seen(fits) and larger >= LEAST_GROWTH * spectrum.box_px:
        spectrum = tile_power_spectrum(image, pixel_size_angstrom, larger, threads)
    fit = _final_fit(spectrum, search, fits[0], resolution)
    # The quality is always taken on the first spectrum, so that it compares between micrographs.
    return _described(spectrum, search, fit, fits, _fit_quality(ring, optics, fit))


def _checked_search(
    optics: CtfOptics,
    defocus_range: tuple[float, float],
    resolution_range: tuple[float, float | None],
    phase_range: tuple[float, float] | None,
) -> _Search:
    """The settings of a search; raises ValueError where they make no sense."""
    if not 0 < defocus_range[0] < defocus_range[1]:
        raise ValueError(f"the defocus range must rise from above 0, in Å; got {defocus_range}")
    coarse, fine = resolution_range
    if not (coarse > 0 and (fine is None or 0 < fine < coarse)):
        raise ValueError(f"the resolution range must fall, in Å, such as (30, 5); got {resolution_range}")
    phases = (0.0, 0.0) if phase_range is None else phase_range
    if not phases[0] <= phases[1] <= phases[0] + 180:
        raise ValueError(f"the phase shift range must rise, by at most 180 degrees; got {phase_range}")
    return _Search(optics, defocus_range, phases, 1.0 / coarse, None if fine is None else 1.0 / fine)


def _search_ring(spectrum: PowerSpectrum, search: _Search) -> ThonRing:
    """The ring of the first search."""
    high = 1.0 / SEARCH_RESOLUTION_ANGSTROM if search.high is None else search.high
    return thon_ring(spectrum, search.low, high, mask_ice=search.high is None)


def _fit_candidates(ring: ThonRing, search: _Search) -> list[CtfFit]:
    """Every candidate of the search refined, the most likely first."""
    starts = search_ctf(ring, search.optics, search.defocus_range, search.phase_range)
    fits = [refine_ctf(ring, search.optics, start, fit_phase=search.fit_phase) for start in starts]
    return sorted(fits, key=lambda fit: -fit.log_likelihood_gain)


def _rings_seen(fits: list[CtfFit]) -> bool:
    """Whether the best fit is better than noise could make it."""
    return fits[0].log_likelihood_gain >= LEAST_LOG_LIKELIHOOD_GAIN


def _whole_ring(spectrum: PowerSpectrum, search: _Search) -> ThonRing:
    """Everything from the coarsest resolution asked for to Nyquist, for the profile."""
    return thon_ring(spectrum, search.low, spectrum.nyquist, mask_ice=False)


def _box_for(
    spectrum: PowerSpectrum,
    fit: CtfFit,
    search: _Search,
    resolution: float | None,
    shape_yx: tuple[int, ...],
) -> int:
    """The box that resolves the rings as far as they are seen, within what the image allows."""
    usual = 1.0 / SEARCH_RESOLUTION_ANGSTROM if search.high is None else search.high
    frequency = np.array([usual if resolution is None else max(usual, 1.0 / resolution)])
    lag = float(ripple_lag(frequency, fit.parameters.defocus_u, search.optics)[0])
    growth = lag / (LONGEST_LAG_FRACTION * spectrum.tile_length_angstrom)
    room = LARGEST_TILE_FRACTION * min(shape_yx) / spectrum.tile_px
    wanted = spectrum.box_px * min(growth, room)
    return int(min(64 * np.ceil(wanted / 64), LARGEST_BOX_PX))


def _final_fit(spectrum: PowerSpectrum, search: _Search, fit: CtfFit, resolution: float | None) -> CtfFit:
    """`fit` refined once more with all the frequencies that show rings, where that is left to us."""
    high = 1.0 / SEARCH_RESOLUTION_ANGSTROM if search.high is None else search.high
    if search.high is None and resolution is not None:
        high = max(high, REACH_BEYOND_FIT / resolution)
    ring = thon_ring(spectrum, search.low, high, mask_ice=search.high is None)
    p = fit.parameters
    start = CtfCandidate(
        p.mean_defocus, p.astigmatism_cos, p.astigmatism_sin, float(np.rad2deg(p.phase_shift_rad)), 0.0
    )
    return refine_ctf(ring, search.optics, start, fit_phase=search.fit_phase)


def _described(
    spectrum: PowerSpectrum, search: _Search, fit: CtfFit, fits: list[CtfFit], quality: float
) -> CtfEstimate:
    """The final `fit` with everything a person wants to know of it; `fits` are those of the search."""
    optics = search.optics
    profile = ctf_profile(_whole_ring(spectrum, search), optics, fit)
    resolution = fit_resolution(profile)
    aliasing = aliasing_resolution(spectrum.step, spectrum.nyquist, fit.parameters.defocus_u, optics)
    p = fit.parameters
    mean_error, astigmatism_error, angle_error, phase_error = _standard_errors(fit)
    return CtfEstimate(
        defocus_u_angstrom=p.defocus_u,
        defocus_v_angstrom=p.defocus_v,
        astigmatism_angle_deg=p.angle_deg,
        phase_shift_deg=float(np.rad2deg(p.phase_shift_rad)) % 180.0 if search.fit_phase else 0.0,
        fit_quality=quality,
        fit_resolution_angstrom=resolution,
        aliasing_resolution_angstrom=aliasing,
        ice_ring=ice_ring(spectrum),
        defocus_error_angstrom=mean_error,
        astigmatism_error_angstrom=astigmatism_error,
        angle_error_deg=angle_error,
        phase_shift_error_deg=phase_error,
        log_likelihood_gain=fits[0].log_likelihood_gain,
        box_px=spectrum.box_px,
        profile=profile,
        spectrum_2d=display_spectrum(spectrum, profile, p, optics),
        flags=_flags(search, fits, fit, resolution, aliasing),
    )


def _standard_errors(fit: CtfFit) -> tuple[float, float, float, float]:
    """Errors of the mean defocus (Å), of U - V (Å), of the angle and of the phase shift (degrees)."""
    p, covariance = fit.parameters, fit.covariance
    half = max(p.half_astigmatism, 1e-9)
    along = np.array([p.astigmatism_cos, p.astigmatism_sin]) / half
    across = np.array([-along[1], along[0]])
    vector = covariance[1:3, 1:3]
    across_error = float(np.sqrt(np.maximum(across @ vector @ across, 0.0)))
    return (
        float(np.sqrt(covariance[0, 0])),
        2.0 * float(np.sqrt(np.maximum(along @ vector @ along, 0.0))),
        _angle_error_deg(half, across_error),
        float(np.rad2deg(np.sqrt(covariance[3, 3]))),
    )


def _angle_error_deg(half_astigmatism: float, across_error: float) -> float:
    """Error of the direction of a vector whose length noise has made longer (Rice 1945)."""
    squared = half_astigmatism**2 - across_error**2
    if squared <= 0:
        return UNKNOWN_ANGLE_DEG
    return float(np.rad2deg(0.5 * np.arctan2(across_error, np.sqrt(squared))))


def _fit_quality(ring: ThonRing, optics: CtfOptics, fit: CtfFit) -> float:
    """Correlation of the whitened spectrum with the model over the samples of the ring."""
    model = RingModel(ring, optics)
    p = fit.parameters.vector()
    background, _ = model.curves_at(p)
    measured = ring.power / background[ring.radial_bin] - 1.0
    fitted = -model.coherence(p) * np.cos(2 * model.chi(p))
    return float(np.corrcoef(measured, fitted)[0, 1])


def _flags(
    search: _Search, fits: list[CtfFit], fit: CtfFit, resolution: float | None, aliasing: float | None
) -> tuple[str, ...]:
    """What a person must know of the estimate."""
    mean = fit.parameters.mean_defocus
    best = fits[0]
    rivals = [
        other
        for other in fits[1:]
        if best.log_likelihood_gain - other.log_likelihood_gain < AMBIGUOUS_LOG_LIKELIHOOD
        and abs(other.parameters.mean_defocus - best.parameters.mean_defocus) > AMBIGUOUS_DISTANCE_ANGSTROM
    ]
    low, high = search.defocus_range
    seen = _rings_seen(fits)
    conditions = {
        "no_thon_rings": not seen,
        "aliasing": seen and aliasing is not None and resolution is not None and aliasing > resolution,
        "defocus_at_bound": not low + BOUND_ANGSTROM < mean < high - BOUND_ANGSTROM,
        "ambiguous_defocus": seen and bool(rivals),
    }
    return tuple(name for name, holds in conditions.items() if holds)
