"""Where the rotation axis projects onto the detector, found in the sinograms of a scan.

A sinogram of half a turn, continued with its own mirror image, is that of a whole turn only where it is
mirrored about the axis. Everywhere else the seam puts power outside the double wedge that a sinogram's
transform fills: Vo et al. (2014).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.fft

from tomofly.imaging.side_by_side import for_each

FloatArray = npt.NDArray[np.float32]
FloatVector = npt.NDArray[np.float64]

_COARSE_WIDTH = 320
_COARSE_ANGLES = 240
_FINE_ANGLES = 720
_COARSE_STEP = 0.75
_FINE_STEP = 0.25
_OBJECT_RADIUS = 0.9
_LEAST_COVERAGE = np.deg2rad(160)
_EDGE = 0.12
"""Part of the width next to the edge where no centre is looked for: little overlaps there."""


@dataclass(frozen=True)
class Centre:
    """The axis: its detector pixel, and how deep the minimum is that shows it (0: no more than elsewhere, 1).

    ``by_row`` is what single sinograms say, ``spread_px`` how far they differ (median absolute deviation).
    """

    pixel: float
    certainty: float
    by_row: FloatVector
    spread_px: float


def half_turn(angles_deg: npt.ArrayLike) -> npt.NDArray[np.intp] | None:
    """Choose the projections of one half turn, in the order of angles; None where there is none."""
    theta = np.deg2rad(np.asarray(angles_deg, np.float64))
    span = float(np.ptp(theta))
    if span < _LEAST_COVERAGE:
        return None
    start = theta.min()
    turned = np.mod(theta - start, 2 * np.pi)
    # Exactly half a turn on is the mirror image of the first, and would count twice.
    inside = np.flatnonzero(turned < np.pi - 0.5 * np.pi / len(theta))
    chosen = inside[np.argsort(turned[inside], kind="stable")]
    gaps = np.diff(turned[chosen], append=np.pi)
    return chosen if len(chosen) > 8 and gaps.max() < np.pi - _LEAST_COVERAGE else None


def search_centre(
    sinograms: FloatArray,
    *,
    guess: float | None = None,
    half_width: float | None = None,
    threads: int = 1,
) -> Centre:
    """Find the axis in sinograms (row, angle, s) of absorption over one half turn, in the order of angles.

    Looks ``half_width`` pixels to either side of ``guess`` (by default, everywhere but at the edges of the
    detector): coarsely in small sinograms, then in steps of a quarter of a pixel, then between them. Raises
    ValueError where nothing can be seen.
    """
    _, angles, width = sinograms.shape
    binning = max(1, round(width / _COARSE_WIDTH))
    small = _binned(sinograms[:, :: max(1, angles // _COARSE_ANGLES)], binning)
    low, high = _range(width, guess, half_width)
    coarse = np.arange((low + 0.5) / binning - 0.5, (high + 0.5) / binning, _COARSE_STEP)
    curves = np.stack(_curves(small, coarse, threads))
    weight = _depth(curves).max(axis=1)
    if not weight.any() or not np.isfinite(curves).all():
        raise ValueError("no sinogram shows where the axis is")
    together = _together(curves, weight)
    depth = _depth(together[None])[0]
    best = (coarse[int(np.argmax(depth))] + 0.5) * binning - 0.5
    reach = _COARSE_STEP * binning + 0.5
    fine = best + np.arange(-reach, reach + 0.1, _FINE_STEP)
    exact = np.stack(_curves(sinograms[:, :: max(1, angles // _FINE_ANGLES)], fine, threads))
    by_row = np.array([_valley(fine, curve) for curve in exact])
    trusted = by_row[weight >= 0.5 * weight.max()]
    return Centre(
        pixel=_valley(fine, _together(exact, weight)),
        certainty=float(depth.max()),
        by_row=by_row,
        spread_px=float(np.median(np.abs(trusted - np.median(trusted)))),
    )


def opposite_pairs(angles_deg: npt.ArrayLike, within_deg: float, most: int) -> list[tuple[int, int]]:
    """Find projections half a turn apart: some pairs, spread over the scan."""
    theta = np.asarray(angles_deg, np.float64)
    pairs = []
    for first in range(len(theta)):
        away = np.abs(np.mod(theta - theta[first], 360) - 180)
        second = int(np.argmin(away))
        if first < second and away[second] <= within_deg:
            pairs.append((first, second))
    return [pairs[i] for i in np.unique(np.linspace(0, len(pairs) - 1, most).astype(int))] if pairs else []


def _range(width: int, guess: float | None, half_width: float | None) -> tuple[float, float]:
    middle = (width - 1) / 2 if guess is None else guess
    reach = width if half_width is None else half_width
    low, high = max(_EDGE * width, middle - reach), min((1 - _EDGE) * width, middle + reach)
    if not low < high:
        raise ValueError(f"there is no centre to look for between {low:.0f} and {high:.0f}")
    return low, high


def _binned(sinograms: FloatArray, binning: int) -> FloatArray:
    if binning == 1:
        return sinograms
    kept = sinograms.shape[2] // binning * binning
    rows, angles, _ = sinograms.shape
    binned: FloatArray = sinograms[..., :kept].reshape(rows, angles, -1, binning).mean(axis=3)
    return binned


def _depth(curves: FloatVector) -> FloatVector:
    """Say how deep each place of curves (row, place) lies below the lower of the heights on either side.

    Near the edges of a detector only air overlaps, and the curves are low there without a valley.
    """
    left = np.maximum.accumulate(curves, axis=1)
    right = np.maximum.accumulate(curves[:, ::-1], axis=1)[:, ::-1]
    depth: FloatVector = 1 - curves / np.minimum(left, right)
    return depth


def _together(curves: FloatVector, weight: FloatVector) -> FloatVector:
    """Put the curves of several rows together, each by how clearly it speaks."""
    scaled = curves / np.median(curves, axis=1, keepdims=True)
    together: FloatVector = (weight[:, None] * scaled).sum(axis=0) / weight.sum()
    return together


def _curves(sinograms: FloatArray, candidates: FloatVector, threads: int) -> list[FloatVector]:
    curves = [np.empty(len(candidates)) for _ in sinograms]

    def one(index: int) -> None:
        row, place = divmod(index, len(candidates))
        curves[row][place] = _outside_the_wedge(sinograms[row], float(candidates[place]))

    for_each(one, len(sinograms) * len(candidates), threads)
    return curves


def _outside_the_wedge(sinogram: FloatArray, centre: float) -> float:
    """Mean magnitude outside the double wedge, of a sinogram continued with its mirror image."""
    angles, width = sinogram.shape
    shift = 2 * centre - (width - 1)
    mirrored = sinogram[:, ::-1]
    padded = int(scipy.fft.next_fast_len(width + int(np.ceil(abs(shift))) + 8, real=True))
    turn = np.exp(-2j * np.pi * shift * np.arange(padded // 2 + 1) / padded)
    # Less its own edge, so that there is no step where the image ends and the padding begins.
    edge = 0.5 * (mirrored[:, :1] + mirrored[:, -1:])
    moved = scipy.fft.irfft(scipy.fft.rfft(mirrored - edge, padded, axis=1) * turn, padded, axis=1)
    whole = np.empty((2 * angles, width), np.float32)
    whole[:angles] = sinogram
    whole[angles:] = moved[:, :width] + edge
    # Where the mirrored image has nothing, the seam must not show: there the image itself is continued.
    gone = np.arange(width) < shift if shift > 0 else np.arange(width) > width - 1 + shift
    whole[angles:, gone] = sinogram[::-1][:, gone]
    magnitude = np.abs(scipy.fft.rfft2(whole))
    down = np.abs(scipy.fft.fftfreq(2 * angles) * 2 * angles)[:, None]
    across = scipy.fft.rfftfreq(width)[None] * 2 * np.pi * (_OBJECT_RADIUS * width / 2)
    return float(magnitude[down > 1.1 * across + 2].mean())


def _valley(places: FloatVector, curve: FloatVector) -> float:
    """Place the lowest point between samples: where straight lines down from either side meet."""
    at = int(np.argmin(curve))
    if not 0 < at < len(curve) - 1:
        return float(places[at])
    left, middle, right = (float(value) for value in curve[at - 1 : at + 2])
    steeper = max(left, right) - middle
    offset = 0.5 * (left - right) / steeper if steeper > 0 else 0.0
    return float(places[at] + offset * (places[1] - places[0]))
