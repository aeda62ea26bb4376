"""How well a CTF fits: radial profile, the resolution it holds to, aliasing and ice."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tomofly.imaging.ctf import CtfOptics, defocus_along, phase_aberration
from tomofly.imaging.ctf_fit import CtfFit, CtfParameters, RingModel
from tomofly.imaging.ctf_ring import FloatVector, ThonRing
from tomofly.imaging.spectrum import PowerSpectrum, taper_coherence

# A fit holds while the local correlation of rings and model is at least this (Rohou & Grigorieff 2015).
AGREEMENT_THRESHOLD = 0.5
# Fewer bins than this from one Thon ring to the next cannot show them.
FEWEST_BINS_PER_RING = 2.5
ICE_PEAK_ANGSTROM = (3.9, 3.5)
ICE_FLANKS_ANGSTROM = ((4.5, 4.0), (3.4, 3.1))


@dataclass(frozen=True)
class CtfProfile:
    """The spectrum averaged along lines of equal phase; every vector is (bin,), float64.

    `frequency` Å⁻¹ along the mean defocus; `power` the averaged power relative to its smooth background;
    `measured` the same scaled to run from 0 to 1 with the rings; `fitted` CTF² with the fitted parameters;
    `background` of the power spectrum; `depth` of the rings' modulation, 0 to 1; `agreement` the local
    correlation of measured and fitted rings, -1 to 1.
    """

    frequency: FloatVector
    power: FloatVector
    measured: FloatVector
    fitted: FloatVector
    background: FloatVector
    depth: FloatVector
    agreement: FloatVector


def ctf_profile(ring: ThonRing, optics: CtfOptics, fit: CtfFit) -> CtfProfile:
    """Equal-phase average of `ring` with the model of `fit`, whose parameters are kept."""
    model = RingModel(ring, optics)
    p = fit.parameters.vector()
    background, depth = model.curves_at(p)
    size = background.size
    equal_phase = np.sqrt(_equal_phase_frequency_squared(model, p))
    where = np.rint(equal_phase / ring.step).astype(np.int64)
    within = where < size
    count = np.bincount(where[within], minlength=size).astype(np.float64)
    relative = ring.power / background[ring.radial_bin] - 1.0
    excess = np.bincount(where[within], relative[within], minlength=size) / np.maximum(count, 1.0)
    first = int(ring.radial_bin.min())
    frequency = ring.bin_frequency
    chi = phase_aberration(frequency**2, p[0], optics, float(np.rad2deg(p[3])))
    lag = ripple_lag(frequency, p[0], optics)
    faded = taper_coherence(lag / ring.tile_length_angstrom).astype(np.float64)
    ripple = -np.cos(2 * chi) * faded
    # Where the rings drown in noise, the noise is shown at a third of the scale and not blown up.
    noise = 3.0 / np.sqrt(np.maximum(count, 1.0) * ring.samples_dof)
    scale = np.maximum(depth * faded, np.maximum(noise, 1e-3))
    kept = slice(first, size)
    agreement = _local_correlation(
        excess, ripple, count, _ring_period_bins(frequency, p[0], optics, ring.step)
    )
    return CtfProfile(
        frequency=frequency[kept],
        power=1.0 + excess[kept],
        measured=0.5 + 0.5 * excess[kept] / scale[kept],
        fitted=np.sin(chi[kept]) ** 2,
        background=(ring.background * background)[kept],
        depth=depth[kept],
        agreement=agreement[kept],
    )


def fit_resolution(profile: CtfProfile) -> float | None:
    """Finest resolution in Å to which the rings follow the model without a break; None where they never do.

    The end of the longest run of frequencies whose local correlation is at least 0.5; gaps of up to three
    bins do not break a run.
    """
    good = np.flatnonzero(profile.agreement >= AGREEMENT_THRESHOLD)
    if good.size == 0:
        return None
    runs = np.split(good, np.flatnonzero(np.diff(good) > 4) + 1)
    longest = max(runs, key=len)
    return float(1.0 / profile.frequency[longest[-1]]) if longest.size >= 4 else None


def aliasing_resolution(
    step: float, highest_frequency: float, defocus_angstrom: float, optics: CtfOptics
) -> float | None:
    """Resolution in Å beyond which the rings are too narrow for the tiles; None where that is no such."""
    frequency = step * np.arange(1, int(highest_frequency / step) + 1, dtype=np.float64)
    narrow = np.flatnonzero(
        _ring_period_bins(frequency, defocus_angstrom, optics, step) < FEWEST_BINS_PER_RING
    )
    return float(1.0 / frequency[narrow[0]]) if narrow.size else None


def ripple_lag(frequency: FloatVector, defocus_angstrom: float, optics: CtfOptics) -> FloatVector:
    """How far the CTF delocalises a frequency, Å: the inverse of the local spacing of the Thon rings."""
    slope = (
        2 * optics.defocus_coefficient * defocus_angstrom * frequency
        - 4 * optics.spherical_coefficient * frequency**3
    )
    return np.abs(slope) / np.pi


def ice_ring(spectrum: PowerSpectrum) -> float | None:
    """Mean power at 3.9-3.5 Å over what its surroundings suggest: 1 without crystalline ice.

    None where the spectrum does not reach far enough to tell.
    """
    if spectrum.nyquist < 1.0 / ICE_FLANKS_ANGSTROM[1][1]:
        return None
    radial = radial_mean(spectrum)
    frequency = spectrum.step * np.arange(radial.size)

    def band(limits: tuple[float, float]) -> tuple[float, float]:
        inside = (frequency >= 1 / limits[0]) & (frequency <= 1 / limits[1])
        return float(frequency[inside].mean()), float(np.log(radial[inside].mean() + np.finfo(float).tiny))

    (below, level_below), (above, level_above) = band(ICE_FLANKS_ANGSTROM[0]), band(ICE_FLANKS_ANGSTROM[1])
    centre, level = band(ICE_PEAK_ANGSTROM)
    expected = np.interp(centre, (below, above), (level_below, level_above))
    return float(np.exp(level - expected))


def radial_mean(spectrum: PowerSpectrum) -> FloatVector:
    """Mean power by radial bin up to Nyquist, the central cross left out where possible; (box / 2,)."""
    half = spectrum.box_px // 2
    y = np.fft.fftfreq(spectrum.box_px, 1.0 / spectrum.box_px)[:, None]
    x = np.arange(half + 1)[None, :]
    where = np.rint(np.hypot(y, x)).astype(np.int64)
    inside = (where < half) & ((np.abs(y) > 1) & (x > 1) | (where < 4))
    count = np.bincount(where[inside], minlength=half)
    return np.bincount(where[inside], spectrum.power[inside], minlength=half) / np.maximum(count, 1)


def display_spectrum(
    spectrum: PowerSpectrum, profile: CtfProfile, parameters: CtfParameters, optics: CtfOptics
) -> npt.NDArray[np.float32]:
    """The whole spectrum with zero frequency in the middle, CTF² of the fit in the quadrant +x, +y.

    (y, x) float32; measured parts are the background-free power, scaled so that most of it lies in 0 to 1.
    """
    size = spectrum.box_px
    y = (np.arange(size) - size // 2)[:, None]
    x = (np.arange(size) - size // 2)[None, :]
    frequency = spectrum.step * np.hypot(y, x)
    upper = np.fft.fftshift(spectrum.power, axes=0)
    whole = np.empty((size, size))
    whole[:, size // 2 :] = upper[:, :-1]
    # Friedel's law: the other half is the point reflection of this one.
    whole[:, : size // 2] = np.roll(upper[::-1, :0:-1], 1, axis=0)
    whole /= np.interp(frequency, profile.frequency, profile.background)
    low, high = np.percentile(whole[::3, ::3], (2, 98))
    whole = (whole - low) / max(high - low, 1e-12)
    defocus = defocus_along(
        np.arctan2(y, x), parameters.defocus_u, parameters.defocus_v, parameters.angle_deg
    )
    chi = phase_aberration(frequency**2, defocus, optics, float(np.rad2deg(parameters.phase_shift_rad)))
    quadrant = (y >= 0) & (x >= 0) & (frequency < spectrum.nyquist)
    return np.where(quadrant, np.sin(chi) ** 2, whole).astype(np.float32)


def _equal_phase_frequency_squared(model: RingModel, p: FloatVector) -> FloatVector:
    """Where, at the mean defocus, each sample's phase is found: the smaller root of a quadratic in k²."""
    kappa = model.optics.defocus_coefficient * p[0]
    sigma = model.optics.spherical_coefficient
    phase = model.chi(p) - model.optics.amplitude_phase_rad - p[3]
    discriminant = np.maximum(kappa**2 - 4 * sigma * phase, 0.0)
    return np.asarray(np.maximum(2 * phase / (kappa + np.sqrt(discriminant)), 0.0))


def _ring_period_bins(
    frequency: FloatVector, defocus_angstrom: float, optics: CtfOptics, step: float
) -> FloatVector:
    """Bins from one Thon ring to the next."""
    lag = ripple_lag(frequency, defocus_angstrom, optics)
    return 1.0 / (np.maximum(lag, 1e-6) * step)


def _local_correlation(
    measured: FloatVector, fitted: FloatVector, weight: FloatVector, period_bins: FloatVector
) -> FloatVector:
    """Weighted correlation in a window of about two rings, at least nine bins, around each bin."""
    size = measured.size
    result = np.zeros(size)
    first = int(np.flatnonzero(weight)[0])
    for i in range(first, size):
        half = int(np.clip(period_bins[i], 4, size // 4))
        window = slice(max(first, i - half), min(size, i + half + 1))
        w = weight[window]
        total = max(float(w.sum()), 1e-12)
        a = measured[window] - float(w @ measured[window]) / total
        b = fitted[window] - float(w @ fitted[window]) / total
        scale = float((w @ a**2) * (w @ b**2))
        result[i] = float(w @ (a * b)) / np.sqrt(scale) if scale > 0 else 0.0
    return result
