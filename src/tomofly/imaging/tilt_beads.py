"""Gold beads in tilt images: where there are any, how large they are, and their centres below a pixel.

A bead is a dark disc at any tilt, and darker than anything else of its size. It is found by the difference
between disc and ring, and centred by least squares on the mean profile of all beads of the image, whose slope
at the edge tells the place (Mastronarde & Held, 2017, centre on edges for the same reason).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import fft
from scipy.ndimage import gaussian_filter1d, maximum_filter

from tomofly.imaging.side_by_side import for_each

FloatArray = npt.NDArray[np.float64]
FloatImage = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]

SMALLEST_BEAD_PX = 3.0
# What is beside a bead is measured on a ring between these radii, in those of the bead, and some pixels more.
RING = (1.35, 2.0)
RING_MORE_PX = 1.0
# The part of an image that centres a bead reaches this far, in radii and pixels.
REACH, REACH_MORE_PX = 1.6, 1.5
# A bead stands this many robust standard deviations out of the map of differences, is round by this much
# (correlation with a disc), and has this part of the contrast of an image's typical bead.
LEAST_SIGMA, LEAST_LIKENESS, LEAST_CONTRAST = 6.0, 0.5, 0.4
MOST_BEADS = 300
# Sampling of radial profiles, pixels.
_FINE = 0.25
# Steps on the profile of a disc, and then on the mean profile of so many beads or more.
_CENTRE_STEPS, _MORE_STEPS, _LEAST_FOR_PROFILE = 4, 2, 3
# Diameters that are tried for unknown beads: from the smallest by this factor.
_DIAMETER_RATIO = 1.15
_LARGEST_PART, _SURE_SIGMA, _SURE_BEADS = 0.08, 10.0, 24


@dataclass(frozen=True)
class Beads:
    """Beads of an image: ``centre_yx_px`` (bead, 2) from the origin at index n // 2; ``contrast`` (bead,).

    The contrast is how much darker than what is around it a bead is, in the image's own unit.
    """

    centre_yx_px: FloatArray
    contrast: FloatArray

    def __len__(self) -> int:
        return len(self.contrast)


@dataclass(frozen=True)
class CentredBeads:
    """Beads fitted at given places: ``centre_yx_px`` (bead, 2), NaN where there is none to fit.

    ``contrast`` (bead,) of the fit, ``likeness`` (bead,): its correlation with the image.
    """

    centre_yx_px: FloatArray
    contrast: FloatArray
    likeness: FloatArray


def find_beads(images: npt.NDArray[Any], diameter_px: float, *, threads: int = 1) -> list[Beads]:
    """Find dark discs of a diameter in images (tilt, y, x), each by itself, the most striking first.

    Beads whose disc is not all within the image are left out. Raises ValueError for a diameter below 3 pixels
    or images of another shape.
    """
    stack = np.asarray(images)
    if stack.ndim != 3 or min(stack.shape[1:]) < 4 * RING[1] * diameter_px:
        raise ValueError(f"beads of {diameter_px} px are looked for in larger images than {stack.shape}")
    if not diameter_px >= SMALLEST_BEAD_PX:
        raise ValueError(f"a bead is at least {SMALLEST_BEAD_PX} px wide, not {diameter_px}")
    kernels = _kernels((stack.shape[1], stack.shape[2]), diameter_px / 2)
    found: list[Beads] = [Beads(np.empty((0, 2)), np.empty(0))] * len(stack)

    def search(index: int) -> None:
        image = level_image(stack[index])
        rough = _candidates(image, kernels)
        centred = centre_beads(image, rough.centre_yx_px, diameter_px)
        found[index] = _distinct(rough, centred, diameter_px)

    for_each(search, len(stack), threads)
    return found


def estimate_bead_diameter(image: npt.NDArray[Any]) -> float:
    """Give the diameter in pixels of the darkest round things of an image (y, x); NaN if there are none."""
    level = level_image(np.asarray(image))
    largest = _LARGEST_PART * min(level.shape)
    count = max(1, 1 + int(np.log(max(largest / SMALLEST_BEAD_PX, 1.0)) / np.log(_DIAMETER_RATIO)))
    best, strength = np.nan, 0.0
    for diameter in SMALLEST_BEAD_PX * _DIAMETER_RATIO ** np.arange(count):
        rough = _candidates(level, _kernels((level.shape[0], level.shape[1]), diameter / 2))
        sure = np.sort(rough.sigma[rough.sigma >= _SURE_SIGMA])[::-1][:_SURE_BEADS]
        # A disc of the right size makes the beads stand out most.
        if sure.sum() > strength:
            best, strength = float(diameter), float(sure.sum())
    if not np.isfinite(best):
        return best
    rough = _candidates(level, _kernels((level.shape[0], level.shape[1]), best / 2))
    return _width(level, rough.centre_yx_px[:_SURE_BEADS], best)


def level_image(image: npt.NDArray[Any]) -> FloatImage:
    """Give the image (y, x) with mean 0 and without what is not a number."""
    picture = np.array(image, dtype=np.float32)
    finite = np.isfinite(picture)
    middle = np.float32(np.median(picture[finite])) if finite.any() else np.float32(0)
    return np.asarray(np.where(finite, picture - middle, np.float32(0)))


def centre_beads(
    image: FloatImage, places_yx_px: npt.ArrayLike, diameter_px: float, *, others_yx_px: Any = None
) -> CentredBeads:
    """Fit the beads of an image (y, x) near centred places (bead, 2), below a pixel.

    ``others_yx_px`` (other, 2): beads whose discs are left out of the fit; by default all other places.
    """
    places = np.asarray(places_yx_px, dtype=np.float64).reshape(-1, 2)
    others = places if others_yx_px is None else np.asarray(others_yx_px, dtype=np.float64).reshape(-1, 2)
    if not len(places):
        return CentredBeads(places, np.empty(0), np.empty(0))
    patches = _patches(image, places, others, diameter_px / 2)
    profile = _soft_disc(diameter_px / 2)
    fitted = _fitted(patches, profile, places, _CENTRE_STEPS)
    good = fitted.likeness >= LEAST_LIKENESS
    if good.sum() >= _LEAST_FOR_PROFILE:
        profile = _mean_profile(patches, fitted, good, diameter_px / 2)
        fitted = _fitted(patches, profile, fitted.centre_yx_px, _MORE_STEPS)
    return fitted


@dataclass(frozen=True)
class _Kernels:
    """Transforms of disc and ring, of their difference squared, and where each is within the image."""

    size: tuple[int, int]
    radius: float
    disc: npt.NDArray[np.complex64]
    ring: npt.NDArray[np.complex64]
    ring_share: FloatImage


@dataclass(frozen=True)
class _Rough:
    centre_yx_px: FloatArray
    sigma: FloatArray


def _kernels(shape: tuple[int, int], radius: float) -> _Kernels:
    outer = RING[1] * radius + RING_MORE_PX
    margin = int(np.ceil(outer)) + 1
    size = (
        int(fft.next_fast_len(shape[0] + margin, real=True)),
        int(fft.next_fast_len(shape[1] + margin, real=True)),
    )
    y, x = np.fft.fftfreq(size[0], 1 / size[0]), np.fft.fftfreq(size[1], 1 / size[1])
    distance = np.hypot(y[:, None], x[None, :])
    disc = _soft_edge(distance, radius)
    ring = _soft_edge(distance, outer) - _soft_edge(distance, RING[0] * radius + RING_MORE_PX)
    ones = np.zeros(size, dtype=np.float32)
    ones[: shape[0], : shape[1]] = 1
    waves = [fft.rfft2((k / k.sum()).astype(np.float32)) for k in (disc, ring)]
    share = fft.irfft2(fft.rfft2(ones) * waves[1], s=size)[: shape[0], : shape[1]]
    return _Kernels(size, radius, waves[0], waves[1], np.maximum(share, np.float32(0.05)))


def _soft_edge(distance: FloatArray, radius: float) -> FloatArray:
    return np.clip(0.5 + radius - distance, 0.0, 1.0)


def _candidates(image: FloatImage, kernels: _Kernels) -> _Rough:
    """Find the peaks of ring less disc, the highest first."""
    height, width = image.shape
    spectrum = fft.rfft2(image, s=kernels.size)
    both = (fft.irfft2(spectrum * kernel, s=kernels.size) for kernel in (kernels.disc, kernels.ring))
    disc, ring = (mean[:height, :width] for mean in both)
    difference = ring / kernels.ring_share - disc
    edge = int(np.ceil(kernels.radius))
    inner = difference[edge : height - edge, edge : width - edge]
    middle = float(np.median(inner))
    spread = 1.4826 * float(np.median(np.abs(inner - middle)))
    if not spread > 0:
        return _Rough(np.empty((0, 2)), np.empty(0))
    window = 2 * max(1, int(np.ceil(kernels.radius))) + 1
    peaks = (inner == maximum_filter(inner, window)) & (inner > middle + LEAST_SIGMA * spread)
    at = np.argwhere(peaks)
    strength = (inner[peaks] - middle) / spread
    order = np.argsort(-strength, kind="stable")[:MOST_BEADS]
    centre = at[order] + edge - np.array(image.shape) // 2
    return _Rough(centre.astype(np.float64), strength[order].astype(np.float64))


def _distinct(rough: _Rough, centred: CentredBeads, diameter_px: float) -> Beads:
    """Keep round, dark ones that the fit has not moved away, each once."""
    moved = np.hypot(*(centred.centre_yx_px - rough.centre_yx_px).T)
    good = (centred.likeness >= LEAST_LIKENESS) & (centred.contrast > 0) & (moved < 0.5 * diameter_px)
    if good.any():
        typical = float(np.median(centred.contrast[good]))
        good &= centred.contrast >= LEAST_CONTRAST * typical
    kept: list[int] = []
    for index in np.flatnonzero(good):
        apart = centred.centre_yx_px[kept] - centred.centre_yx_px[index]
        if not np.any(np.hypot(*apart.T) < 0.5 * diameter_px):
            kept.append(int(index))
    return Beads(centred.centre_yx_px[kept], centred.contrast[kept])


@dataclass(frozen=True)
class _Patches:
    """Surroundings of beads: ``value``, ``weight``, and place ``y``, ``x`` from the origin; (bead, pixel).

    The weight is 0 outside the image, beyond the reach of a bead, and on the discs of others; ``start``
    (bead, 2): where beads are expected.
    """

    value: FloatArray
    weight: FloatArray
    y: FloatArray
    x: FloatArray
    start: FloatArray


def _patches(image: FloatImage, places: FloatArray, others: FloatArray, radius: float) -> _Patches:
    reach = REACH * radius + REACH_MORE_PX
    half = int(np.ceil(reach)) + 1
    step = np.arange(-half, half + 1)
    whole = np.rint(np.nan_to_num(places)).astype(np.int64)
    y = np.broadcast_to((whole[:, 0, None] + step)[:, :, None], (len(places), step.size, step.size))
    x = np.broadcast_to((whole[:, 1, None] + step)[:, None, :], y.shape)
    row, column = y + image.shape[0] // 2, x + image.shape[1] // 2
    inside = (row >= 0) & (row < image.shape[0]) & (column >= 0) & (column < image.shape[1])
    value = image[row.clip(0, image.shape[0] - 1), column.clip(0, image.shape[1] - 1)].astype(np.float64)
    near = np.hypot(y - places[:, 0, None, None], x - places[:, 1, None, None]) <= reach
    weight = (inside & near & ~_discs_of_others(places, others, y, x, radius)).astype(np.float64)
    weight[~np.isfinite(places).all(axis=1)] = 0
    flat = (len(places), -1)
    return _Patches(
        value.reshape(flat), weight.reshape(flat), y.reshape(flat).astype(np.float64),
        x.reshape(flat).astype(np.float64), places,
    )  # fmt: skip


def _discs_of_others(
    places: FloatArray, others: FloatArray, y: npt.NDArray[np.int64], x: npt.NDArray[np.int64], radius: float
) -> BoolArray:
    """Mark pixels (bead, y, x) nearer to another bead than a radius and its edge."""
    covered = np.zeros(y.shape, dtype=bool)
    apart = np.hypot(*(places[:, None] - others[None]).transpose(2, 0, 1))
    for bead, other in np.argwhere((apart > 1e-6) & (apart < 4 * radius + 4)):
        distance = np.hypot(y[bead] - others[other, 0], x[bead] - others[other, 1])
        covered[bead] |= distance <= radius + 1.5
    return covered


def _soft_disc(radius: float) -> FloatArray:
    """Give the radial profile of a disc, -1 inside, sampled every quarter of a pixel."""
    distance = _FINE * np.arange(int((REACH * radius + REACH_MORE_PX + 4) / _FINE))
    return np.asarray(-0.5 * (1 - np.tanh((distance - radius) / 0.8)))


def _fitted(patches: _Patches, profile: FloatArray, centre: FloatArray, steps: int) -> CentredBeads:
    """Fit centre, depth, level and slope of the surroundings together, by Gauss-Newton steps."""
    slope = np.gradient(profile, _FINE)
    at = _FINE * np.arange(profile.size)
    count = len(centre)
    ones = np.ones_like(patches.value)
    amount = np.ones(count)
    terms = np.empty((count, patches.value.shape[1], 6))
    answer = np.zeros((count, 6))
    for _ in range(steps):
        dy, dx = patches.y - centre[:, :1], patches.x - centre[:, 1:]
        radius = np.hypot(dy, dx)
        pull = -np.interp(radius, at, slope) / np.maximum(radius, 1e-6)
        terms[...] = np.stack([pull * dy, pull * dx, np.interp(radius, at, profile), ones, dy, dx], axis=-1)
        answer, amount = _solved(terms, patches)
        step = answer[:, :2] / np.where(amount > 0, amount, np.inf)[:, None]
        centre = centre + np.clip(step, -1.0, 1.0)
    return CentredBeads(
        np.where(np.isfinite(patches.start), centre, np.nan), amount, _likeness(patches, terms, answer)
    )


def _solved(terms: FloatArray, patches: _Patches) -> tuple[FloatArray, FloatArray]:
    weighted = terms * patches.weight[..., None]
    turned = weighted.transpose(0, 2, 1)
    normal = turned @ terms
    normal += 1e-9 * (1.0 + np.trace(normal, axis1=1, axis2=2))[:, None, None] * np.eye(6)
    answer = np.asarray(np.linalg.solve(normal, turned @ patches.value[..., None])[..., 0], dtype=np.float64)
    return answer, answer[:, 2]


def _likeness(patches: _Patches, terms: FloatArray, answer: FloatArray) -> FloatArray:
    """Give the correlation between profile and image, the level and slope of the surroundings taken off."""
    weight = patches.weight
    rest = patches.value - (terms[..., 3:] @ answer[:, 3:, None])[..., 0]
    shape = terms[..., 2]
    total = np.maximum(weight.sum(axis=1, keepdims=True), 1.0)
    rest = rest - (weight * rest).sum(axis=1, keepdims=True) / total
    shape = shape - (weight * shape).sum(axis=1, keepdims=True) / total
    norm = np.sqrt((weight * rest**2).sum(axis=1) * (weight * shape**2).sum(axis=1))
    return np.asarray((weight * rest * shape).sum(axis=1) / np.maximum(norm, 1e-30))


def _mean_profile(patches: _Patches, fitted: CentredBeads, good: BoolArray, bead_radius: float) -> FloatArray:
    """Give the mean profile of an image's beads, with the fringe that the focus gives them."""
    start = _soft_disc(bead_radius)
    dy = patches.y[good] - fitted.centre_yx_px[good, :1]
    dx = patches.x[good] - fitted.centre_yx_px[good, 1:]
    radius, weight = np.hypot(dy, dx), patches.weight[good]
    outside = weight * (radius > bead_radius + 1)
    level = (outside * patches.value[good]).sum(axis=1) / np.maximum(outside.sum(axis=1), 1)
    scaled = (patches.value[good] - level[:, None]) / fitted.contrast[good, None]
    where = np.minimum(np.rint(radius / _FINE).astype(np.int64), start.size - 1)
    total = np.bincount(where.ravel(), (weight * scaled).ravel(), minlength=start.size)
    count = np.bincount(where.ravel(), weight.ravel(), minlength=start.size)
    # As if the soft disc had been seen a few times, so that empty radii have a value.
    mean = (total + 2.0 * start) / (count + 2.0)
    return np.asarray(gaussian_filter1d(mean, 0.4 / _FINE, mode="nearest"))


def _width(image: FloatImage, places: FloatArray, diameter: float) -> float:
    """Give the diameter at half depth of the mean profile of beads."""
    patches = _patches(image, places, places, 0.75 * diameter)
    fitted = _fitted(patches, _soft_disc(diameter / 2), places, _CENTRE_STEPS)
    good = (fitted.likeness >= LEAST_LIKENESS) & (fitted.contrast > 0)
    if good.sum() < 1:
        return float("nan")
    profile = _mean_profile(patches, fitted, good, 0.75 * diameter)
    inside = profile[: max(1, int(0.25 * diameter / _FINE))].mean()
    below = np.flatnonzero(profile > 0.5 * inside)
    return float(2 * _FINE * below[0]) if below.size else float("nan")
