"""The CTF of a tilt series: a defocus for every tilt, one astigmatism, and the hand, from all tilts together.

Tile spectra are taken tilt by tilt, as images arrive (`tile_spectra`); the fit (`fit_tilt_ctf`) needs only
those and the geometry, and runs in seconds as often as either changes. It serves a single tilt as well.
Joint estimation with known geometry: Tegunov & Cramer (2019); tiles in a common defocus frame: Elferich et
al. (2024); likelihood: Whittle (1953).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tomofly.imaging.ctf import CtfOptics
from tomofly.imaging.ctf_quality import CtfProfile, fit_resolution
from tomofly.imaging.side_by_side import for_each
from tomofly.imaging.tilt_ctf_fit import SeriesFit, depth_scale, fit_series
from tomofly.imaging.tilt_ctf_model import Demodulated, FloatArray, TiltView, demodulate, tilt_view
from tomofly.imaging.tilt_ctf_profile import tilt_profile
from tomofly.imaging.tilt_geometry import TiltGeometry
from tomofly.imaging.tilt_hand import HandEvidence, judge_hand
from tomofly.imaging.tilt_spectra import TileSpectra, tile_spectra

# Noise alone gained at most 14.3 in 40 simulated images, 6.4 in the median.
LEAST_LOG_LIKELIHOOD_GAIN = 15.0
BOUND_ANGSTROM = 100.0
# The error of an angle about which nothing is known: 180 / sqrt(12).
UNKNOWN_ANGLE_DEG = 52.0
ANGSTROM_PER_MICROMETRE = 1.0e4
# A depth scale this many standard errors from its hand's sign contradicts the geometry.
CONTRADICTION_SIGMAS = 4.0
LEAST_CONTRADICTION = 0.15


@dataclass(frozen=True)
class TiltCtf:
    """The CTF of a series; vectors are (tilt,), in the order of the geometry.

    Lengths in Å, underfocus positive, at the tilt axis; U at least V, the angle that of U from +x towards +y
    (rows in order of increasing index), 0 to 180. Elsewhere the defocus is that at the axis + `hand` · depth.
    Errors are standard errors; `own_error_angstrom` is that without the help of neighbouring tilts.
    `defocus_gradient_angstrom_per_um`: rise of the defocus per µm of the image across the axis, towards
    (cos, sin) of the axis angle in (x, y). `depth_scale`: the gradient that the spectra show over that of the
    geometry; 1 or -1, as the hand, where both agree. `fit_resolution_angstrom` is NaN where no rings are
    followed. `log_likelihood_gain` is over a spectrum without rings.

    `tilt_flags`: "no_thon_rings" (neither the tilt nor its neighbours tell its defocus),
    "defocus_from_neighbours", "defocus_at_bound". `flags`: "hand_undecided", "hand_contradicts_given",
    "depth_contradicts_geometry", "no_thon_rings".
    """

    defocus_u_angstrom: FloatArray
    defocus_v_angstrom: FloatArray
    astigmatism_angle_deg: float
    defocus_error_angstrom: FloatArray
    own_error_angstrom: FloatArray
    astigmatism_error_angstrom: float
    angle_error_deg: float
    fit_resolution_angstrom: FloatArray
    defocus_gradient_angstrom_per_um: FloatArray
    hand: int
    hand_evidence: HandEvidence
    depth_scale: float
    depth_scale_error: float
    log_likelihood_gain: FloatArray
    profiles: tuple[CtfProfile, ...]
    tilt_flags: tuple[tuple[str, ...], ...]
    flags: tuple[str, ...]

    @property
    def defocus_angstrom(self) -> FloatArray:
        """Mean of U and V at the axis (tilt,)."""
        return 0.5 * (self.defocus_u_angstrom + self.defocus_v_angstrom)

    @property
    def astigmatism_angstrom(self) -> float:
        """U - V."""
        return float(self.defocus_u_angstrom[0] - self.defocus_v_angstrom[0])


def estimate_tilt_ctf(
    images: npt.NDArray[Any],
    geometry: TiltGeometry,
    *,
    pixel_size_angstrom: float,
    voltage_kv: float,
    spherical_aberration_mm: float,
    amplitude_contrast: float,
    defocus_range_angstrom: tuple[float, float] = (5000.0, 80000.0),
    nominal_defocus_angstrom: float | None = None,
    resolution_range_angstrom: tuple[float, float] = (40.0, 5.0),
    hand: int | None = None,
    threads: int = 1,
) -> TiltCtf:
    """The CTF of the summed tilts `images` (tilt, y, x), any real type, unaligned, of one series.

    As `fit_tilt_ctf`, which see; the geometry's shifts are in pixels of these images.
    """
    spectra = [
        tile_spectra(
            image,
            pixel_size_angstrom=pixel_size_angstrom,
            resolution_range_angstrom=resolution_range_angstrom,
            threads=threads,
        )
        for image in images
    ]
    return fit_tilt_ctf(
        spectra,
        geometry,
        voltage_kv=voltage_kv,
        spherical_aberration_mm=spherical_aberration_mm,
        amplitude_contrast=amplitude_contrast,
        defocus_range_angstrom=defocus_range_angstrom,
        nominal_defocus_angstrom=nominal_defocus_angstrom,
        resolution_range_angstrom=resolution_range_angstrom,
        hand=hand,
        threads=threads,
    )


def fit_tilt_ctf(
    spectra: Sequence[TileSpectra],
    geometry: TiltGeometry,
    *,
    voltage_kv: float,
    spherical_aberration_mm: float,
    amplitude_contrast: float,
    defocus_range_angstrom: tuple[float, float] = (5000.0, 80000.0),
    nominal_defocus_angstrom: float | None = None,
    resolution_range_angstrom: tuple[float, float] = (40.0, 5.0),
    hand: int | None = None,
    threads: int = 1,
) -> TiltCtf:
    """Fit the CTF to the tile spectra of the tilts of one series, in the order of `geometry`.

    The geometry's shifts are in pixels of the images that the spectra are of. `nominal_defocus_angstrom`
    only weighs on what the spectra leave open. `hand` +1 or -1 is taken as given, and what the data say of
    it is reported beside; None: the likelier one. Raises ValueError for senseless settings.
    """
    optics = CtfOptics(voltage_kv, spherical_aberration_mm, amplitude_contrast)
    _check(spectra, geometry, defocus_range_angstrom, hand)
    views = [tilt_view(one, geometry, i, optics, resolution_range_angstrom) for i, one in enumerate(spectra)]

    def fit(sense: int) -> SeriesFit:
        return fit_series(
            _demodulated(views, sense, threads),
            sense,
            geometry.tilt_angle_deg,
            defocus_range_angstrom,
            nominal_defocus_angstrom,
        )

    right, inverted = fit(1), fit(-1)
    evidence = judge_hand(right.gain, inverted.gain, geometry.tilt_angle_deg)
    chosen = right if (hand or evidence.likelier) == 1 else inverted
    return _described(chosen, evidence, spectra, optics, defocus_range_angstrom, hand)


def _check(
    spectra: Sequence[TileSpectra],
    geometry: TiltGeometry,
    defocus_range: tuple[float, float],
    hand: int | None,
) -> None:
    """Raise ValueError for input that can have no CTF."""
    if len(spectra) == 0 or len(spectra) != len(geometry):
        raise ValueError(f"{len(spectra)} spectra do not fit a geometry of {len(geometry)} tilts")
    if not (np.isfinite(defocus_range).all() and 0 < defocus_range[0] < defocus_range[1]):
        raise ValueError(f"a defocus range rises from above 0, in Å; got {defocus_range}")
    if hand not in (None, 1, -1):
        raise ValueError(f"the hand is 1, -1 or None; got {hand}")


def _demodulated(views: list[TiltView], hand: int, threads: int) -> list[Demodulated]:
    """All tilts in the frame of their axes, for one hand."""
    results: list[Demodulated | None] = [None] * len(views)

    def work(i: int) -> None:
        results[i] = demodulate(views[i], hand)

    for_each(work, len(views), threads)
    return [one for one in results if one is not None]


def _described(
    fit: SeriesFit,
    evidence: HandEvidence,
    spectra: Sequence[TileSpectra],
    optics: CtfOptics,
    defocus_range: tuple[float, float],
    hand: int | None,
) -> TiltCtf:
    """All that a fit says, in the terms of people."""
    half = float(np.hypot(*fit.astigmatism))
    angle = 0.5 * np.arctan2(fit.astigmatism[1], fit.astigmatism[0])
    scale, scale_error = depth_scale(fit)
    profiles = tuple(_profile(fit, i, one, optics) for i, one in enumerate(spectra))
    resolution = [fit_resolution(profile) for profile in profiles]
    tilt_flags = _tilt_flags(fit, defocus_range)
    length_error, angle_error = _astigmatism_errors(fit, half, angle)
    return TiltCtf(
        defocus_u_angstrom=fit.defocus + half,
        defocus_v_angstrom=fit.defocus - half,
        astigmatism_angle_deg=float(np.rad2deg(angle) % 180.0),
        defocus_error_angstrom=fit.defocus_error,
        own_error_angstrom=fit.data_error,
        astigmatism_error_angstrom=length_error,
        angle_error_deg=angle_error,
        fit_resolution_angstrom=np.array([np.nan if one is None else one for one in resolution]),
        defocus_gradient_angstrom_per_um=np.array(
            [fit.hand * tilt.view.slope * ANGSTROM_PER_MICROMETRE for tilt in fit.tilts]
        ),
        hand=fit.hand,
        hand_evidence=evidence,
        depth_scale=scale,
        depth_scale_error=scale_error,
        log_likelihood_gain=fit.gain,
        profiles=profiles,
        tilt_flags=tilt_flags,
        flags=_flags(fit, evidence, scale, scale_error, hand),
    )


def _profile(fit: SeriesFit, tilt: int, spectra: TileSpectra, optics: CtfOptics) -> CtfProfile:
    """The averaged rings of one tilt."""
    view = fit.tilts[tilt].view
    background = np.interp(view.frequency**2, spectra.cells.bin_squared, spectra.background)
    return tilt_profile(
        view, fit.hand, float(fit.defocus[tilt]), fit.astigmatism, fit.evaluations[tilt], background, optics
    )


def _astigmatism_errors(fit: SeriesFit, half: float, angle: float) -> tuple[float, float]:
    """Standard errors of U - V (Å) and its angle (degrees) from those of the vector."""
    along = np.array([np.cos(2 * angle), np.sin(2 * angle)])
    across = np.array([-along[1], along[0]])
    covariance = fit.astigmatism_covariance
    across_error = float(np.sqrt(across @ covariance @ across))
    # Noise makes a vector longer, which understates the error of its direction (Rice 1945).
    true_squared = half**2 - across_error**2
    angle_error = UNKNOWN_ANGLE_DEG
    if true_squared > 0:
        angle_error = float(np.rad2deg(0.5 * np.arctan2(across_error, np.sqrt(true_squared))))
    return 2.0 * float(np.sqrt(along @ covariance @ along)), angle_error


def _tilt_flags(fit: SeriesFit, defocus_range: tuple[float, float]) -> tuple[tuple[str, ...], ...]:
    """What a person must know of each tilt."""
    found = []
    for gain, own, defocus, expected in zip(
        fit.gain, fit.data_error, fit.defocus, fit.chain.expected_precision, strict=True
    ):
        seen = gain >= LEAST_LOG_LIKELIHOOD_GAIN
        led = expected * own**2 > 1.0
        low, high = defocus_range
        conditions = {
            "no_thon_rings": not seen and not led,
            "defocus_from_neighbours": not seen and led,
            "defocus_at_bound": not low + BOUND_ANGSTROM < defocus < high - BOUND_ANGSTROM,
        }
        found.append(tuple(name for name, holds in conditions.items() if holds))
    return tuple(found)


def _flags(
    fit: SeriesFit, evidence: HandEvidence, scale: float, scale_error: float, given: int | None
) -> tuple[str, ...]:
    """What a person must know of the series."""
    decided = evidence.verdict != "undecided"
    away = abs(scale * fit.hand - 1.0)
    conditions = {
        "no_thon_rings": not np.any(fit.gain >= LEAST_LOG_LIKELIHOOD_GAIN),
        "hand_undecided": not decided,
        "hand_contradicts_given": decided and given is not None and evidence.likelier != given,
        "depth_contradicts_geometry": decided
        and away > max(LEAST_CONTRADICTION, CONTRADICTION_SIGMAS * scale_error),
    }
    return tuple(name for name, holds in conditions.items() if holds)
