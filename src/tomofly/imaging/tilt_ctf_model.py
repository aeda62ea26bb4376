"""The likelihood of a CTF whose defocus varies across a tilted field.

All tiles are brought to a common defocus frame without moving a sample: a tile at depth d shows the ripple
``-cos(2 chi + 2 s d)`` with s = pi lambda k², so that the sum over tiles of ``power · exp(2i s d)`` holds all
that the data say of the CTF at the tilt axis, for any defocus. The depth is taken once, the fit is cheap.
The excess of the power over its background is a smooth curve plus the ripple times a depth of modulation that
falls with frequency; both are linear, and fitted anew at every step. Noise is that of averaged powers
(Whittle 1953).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls

from tomofly.imaging.ctf import CtfOptics
from tomofly.imaging.ctf_ring import spline_basis
from tomofly.imaging.spectrum import taper_coherence, taper_noise
from tomofly.imaging.tilt_geometry import TiltGeometry
from tomofly.imaging.tilt_spectra import TileSpectra

FloatArray = npt.NDArray[np.float64]
ComplexArray = npt.NDArray[np.complex128]

# Distance of the background's knots, Å⁻¹: for any defocus, and where rings are known to be close together;
# wide ones leave a part of the background to the rings, which moves their defocus by up to 1 %.
WIDE_KNOTS, CLOSE_KNOTS = 0.035, 0.014
FEWEST_SPLINES = 6
# The modulation is a sum of these fall-offs, as B factors in Å², none negative: it only falls.
FALL_OFFS_ANGSTROM2 = (0.0, 60.0, 200.0, 600.0, 2000.0)
# How much of a tile's side its tapered window spreads over.
EFFECTIVE_SIDE = 0.8
# Beyond this tilt the height of a point in the plane is no longer meaningful.
STEEPEST_COSINE = 0.1
PARAMETERS = 4


@dataclass(frozen=True)
class TiltView:
    """One tilt's excess over its background, with where each tile lies along the beam.

    `excess` (tile, sector, bin) float32; `depth` (tile,) height above the tilt axis, Å; `slope` its rise per
    distance across the axis, towards (cos, sin) of the axis angle in (x, y). Of the samples: `count`
    (sector, bin) in each cell, phase per Å of defocus `turn` (sector, bin) and `bin_turn` (bin,), what the
    phase holds besides defocus `fixed`, frequency (bin,) Å⁻¹, `cos_2a` and `sin_2a` (sector, 1). How far the
    CTF carries a frequency along x and y, in tiles, is `lag_scale` · (defocus - `fixed_lag`); `spread` is
    what the range of depths within a tile leaves of the rings. `independence`: independent values per
    sample; `misfit`: variance of the excess over that of averaged noise, at least 1; `knots`: distance of
    those of the background, Å⁻¹.
    """

    excess: npt.NDArray[np.float32]
    depth: FloatArray
    slope: float
    count: FloatArray
    turn: FloatArray
    bin_turn: FloatArray
    fixed: FloatArray
    frequency: FloatArray
    cos_2a: FloatArray
    sin_2a: FloatArray
    lag_scale: tuple[FloatArray, FloatArray]
    fixed_lag: FloatArray
    spread: FloatArray
    independence: float
    misfit: float
    knots: float = WIDE_KNOTS


def tilt_view(
    spectra: TileSpectra,
    geometry: TiltGeometry,
    tilt: int,
    optics: CtfOptics,
    resolution_range_angstrom: tuple[float, float],
) -> TiltView:
    """Lay the spectra of tilt number `tilt` out for the fit; raises ValueError where too little is left."""
    cells = spectra.cells
    kept = (cells.bin_squared >= resolution_range_angstrom[0] ** -2) & (
        cells.bin_squared <= resolution_range_angstrom[1] ** -2
    )
    if kept.sum() < 3 * FEWEST_SPLINES:
        raise ValueError(f"the spectra hold too little of the range {resolution_range_angstrom} Å")
    depth, rise = plane_depth(geometry, tilt, spectra.centre_yx_px)
    axis = np.deg2rad(geometry.axis_angle_deg[tilt])
    count, squared = cells.count[:, kept], cells.squared[:, kept]
    excess = spectra.power[..., kept].astype(np.float32) - 1.0
    frequency = np.sqrt(squared)
    unit = np.pi * spectra.tile_length_angstrom
    azimuth = cells.azimuth_rad[:, None]
    span = EFFECTIVE_SIDE * spectra.tile_length_angstrom * float(np.hypot(*rise))
    return TiltView(
        excess=excess,
        depth=depth * spectra.pixel_size_angstrom,
        slope=float(rise @ (np.cos(axis), np.sin(axis))),
        count=count,
        turn=optics.defocus_coefficient * squared,
        bin_turn=optics.defocus_coefficient * cells.bin_squared[kept],
        fixed=optics.amplitude_phase_rad - optics.spherical_coefficient * squared**2,
        frequency=np.sqrt(cells.bin_squared[kept]),
        cos_2a=np.cos(2 * azimuth),
        sin_2a=np.sin(2 * azimuth),
        lag_scale=(
            2 * optics.defocus_coefficient * frequency * np.abs(np.cos(azimuth)) / unit,
            2 * optics.defocus_coefficient * frequency * np.abs(np.sin(azimuth)) / unit,
        ),
        fixed_lag=2 * optics.spherical_coefficient * squared / optics.defocus_coefficient,
        spread=np.sinc(optics.wavelength_angstrom * squared * span),
        independence=spectra.independence,
        misfit=max(1.0, float(np.mean(np.square(excess, dtype=np.float64) * count))),
    )


def plane_depth(geometry: TiltGeometry, tilt: int, at_yx_px: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Height in pixels of the specimen's middle plane where it is seen, and how steep that plane is.

    `at_yx_px` (point, 2) from the image's origin. Returns (point,) and the rise along the beam per distance
    along x and y of the image (2,).
    """
    turn = geometry.rotations()[tilt]
    inverse = np.linalg.inv(turn[:2, :2] if abs(turn[2, 2]) > STEEPEST_COSINE else np.eye(2))
    rise = turn[2, :2] @ inverse
    depth = (at_yx_px + geometry.shift_yx_px[tilt])[:, ::-1] @ rise
    return np.asarray(depth), np.asarray(rise)


@dataclass(frozen=True)
class Demodulated:
    """A tilt in the frame of the defocus at its axis, for one sense of the depth.

    `data` (2, sector, bin): sums over tiles of samples · excess · exp(2i s d), plain and times d;
    `single` (2, bin) and `double` (3, bin): sums of exp(2i s d) and exp(4i s d) times powers of d;
    `moments` (3,): sums of powers of d. Every d has the sign of the hand.
    """

    view: TiltView
    data: ComplexArray
    mean: FloatArray
    single: ComplexArray
    double: ComplexArray
    moments: FloatArray


def demodulate(view: TiltView, hand: float) -> Demodulated:
    """Take the depth of the tiles out of their ripples; defocus = that at the axis + `hand` · depth."""
    depth = hand * view.depth
    turned = np.exp(2j * depth[:, None] * view.bin_turn)
    powers = depth[:, None] ** np.arange(3)
    waves = np.stack((turned, turned * depth[:, None])).astype(np.complex64)
    data = np.einsum("tsb,ptb->psb", view.excess, waves).astype(np.complex128) * view.count
    return Demodulated(
        view=view,
        data=data,
        mean=np.einsum("tsb,sb->b", view.excess, view.count),
        single=np.einsum("tp,tb->pb", powers[:, :2], turned),
        double=np.einsum("tp,tb->pb", powers, turned**2),
        moments=powers.sum(axis=0),
    )


@dataclass(frozen=True)
class Evaluation:
    """The fit of one tilt at given parameters: mean defocus, half astigmatism (cos, sin), scale of the depth.

    `gain`: log likelihood over a spectrum without rings, maximised over background and modulation.
    `gradient` (4,) and Fisher `information` (4, 4) belong to it; `modulation` and `background` are (bin,).
    All are in units of the noise that ripples as the rings do, of which overlapping tiles hold less than of
    smooth noise.
    """

    gain: float
    gradient: FloatArray
    information: FloatArray
    modulation: FloatArray
    background: FloatArray


def evaluate(tilt: Demodulated, defocus: float, astigmatism: FloatArray, finest: float) -> Evaluation:
    """Log likelihood and its derivatives; frequencies beyond `finest` (Å⁻¹) are left out."""
    view = tilt.view
    local = defocus + astigmatism[0] * view.cos_2a + astigmatism[1] * view.sin_2a
    wave = np.exp(2j * (view.turn * local + view.fixed))
    envelope, noise = window_effects(view, defocus)
    envelope = envelope * view.spread * (view.frequency <= finest)
    weight = view.count * envelope
    ripple = -(envelope * (wave * tilt.data[0]).real).sum(axis=0)
    ones = -(weight * (wave * tilt.single[0]).real).sum(axis=0)
    squares = 0.5 * (weight * envelope * (tilt.moments[0] + (wave**2 * tilt.double[0]).real)).sum(axis=0)
    background, modulation, gain = _smooth_parts(tilt, ripple, ones, squares)
    ways = (np.ones_like(view.cos_2a), view.cos_2a, view.sin_2a)
    gradient = _gradient(tilt, wave, envelope, ways, background, modulation)
    strength = 2 * view.count * (envelope * view.turn * modulation) ** 2
    information = _information(tilt, strength, wave**2, ways)
    rippling = float((strength * noise).sum()) / max(float(strength.sum()), 1e-30)
    scale = view.independence / view.misfit / (rippling if modulation.any() else 1.0)
    return Evaluation(
        gain=scale * gain,
        gradient=scale * gradient,
        information=scale * information,
        modulation=modulation,
        background=background,
    )


def window_effects(view: TiltView, defocus: float) -> tuple[FloatArray, FloatArray]:
    """What finite tiles leave of the ripple, and of the noise that ripples alike; (sector, bin)."""
    x, y = (scale * (defocus - view.fixed_lag) for scale in view.lag_scale)
    coherence = taper_coherence(x).astype(np.float64) * taper_coherence(y)
    return coherence, taper_noise(x).astype(np.float64) * taper_noise(y)


def _smooth_parts(
    tilt: Demodulated, ripple: FloatArray, ones: FloatArray, squares: FloatArray
) -> tuple[FloatArray, FloatArray, float]:
    """Background and modulation (bin,) by least squares, and half the sum of squares the ripple explains."""
    view = tilt.view
    basis, falls = smooth_bases(view)
    normal = basis.T @ ((tilt.moments[0] * view.count.sum(axis=0))[:, None] * basis)
    normal += 1e-9 * np.trace(normal) * np.eye(len(normal))
    cross = basis.T @ (ones[:, None] * falls)
    flat = np.linalg.solve(normal, np.column_stack((basis.T @ tilt.mean, cross)))
    # What the background cannot imitate.
    quadratic = falls.T @ (squares[:, None] * falls) - cross.T @ flat[:, 1:]
    linear = falls.T @ ripple - cross.T @ flat[:, 0]
    ridge = 1e-8 * np.trace(quadratic) + 1e-12
    factor = np.linalg.cholesky(quadratic + ridge * np.eye(len(linear)))
    amounts, _ = nnls(factor.T, np.linalg.solve(factor, linear))
    gain = float(amounts @ linear - 0.5 * amounts @ quadratic @ amounts)
    return basis @ (flat[:, 0] - flat[:, 1:] @ amounts), falls @ amounts, gain


def smooth_bases(view: TiltView) -> tuple[FloatArray, FloatArray]:
    """Curves for the background (bin, spline) and for the modulation (bin, fall-off)."""
    k = view.frequency
    return _bases(float(k[0]), float(k[-1]), k.size, view.knots)


@lru_cache(maxsize=8)
def _bases(first: float, last: float, count: int, knots: float) -> tuple[FloatArray, FloatArray]:
    """The curves for bins that are evenly spaced in squared frequency, which those of all tilts are."""
    squared = np.linspace(first**2, last**2, count)
    k = np.sqrt(squared)
    falls = np.exp(-0.25 * np.outer(squared, FALL_OFFS_ANGSTROM2))
    splines = max(FEWEST_SPLINES, 3 + round((last - first) / knots))
    return spline_basis(k, float(k[0]), float(k[-1]), splines), falls


def _gradient(
    tilt: Demodulated,
    wave: ComplexArray,
    envelope: FloatArray,
    ways: tuple[FloatArray, ...],
    background: FloatArray,
    modulation: FloatArray,
) -> FloatArray:
    """Derivatives by defocus, astigmatism and scale of the depth: residual times the slope of the ripple."""
    view = tilt.view
    steep = 2 * envelope * view.turn * modulation
    parts = np.empty(PARAMETERS)
    for power in (0, 1):
        slope = steep * (wave * tilt.data[power]).imag
        slope -= steep * view.count * background * (wave * tilt.single[power]).imag
        slope += 0.5 * steep * view.count * envelope * modulation * (wave**2 * tilt.double[power]).imag
        if power == 0:
            parts[:3] = [float((way * slope).sum()) for way in ways]
        else:
            parts[3] = float(slope.sum())
    return parts


def _information(
    tilt: Demodulated, strength: FloatArray, squared: ComplexArray, ways: tuple[FloatArray, ...]
) -> FloatArray:
    """Fisher information of defocus, astigmatism and scale of the depth, for independent samples."""
    weights = [strength * (tilt.moments[n] - (squared * tilt.double[n]).real) for n in range(3)]
    matrix = np.empty((PARAMETERS, PARAMETERS))
    for i, first in enumerate(ways):
        matrix[i, :3] = [float((weights[0] * first * second).sum()) for second in ways]
        matrix[i, 3] = matrix[3, i] = float((weights[1] * first).sum())
    matrix[3, 3] = float(weights[2].sum())
    return matrix
