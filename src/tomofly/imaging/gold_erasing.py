"""Gold taken out of tilt images, so that its streaks do not cover the tomogram."""

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import binary_dilation, gaussian_filter

from tomofly.imaging.side_by_side import for_each
from tomofly.imaging.tilt_geometry import TiltGeometry

Image = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

# A disc is filled from the ring around it, this much wider.
_RING = 1.8
# Gold's fringe, which goes with it, as a part of its diameter.
_FRINGE = 0.15
# Filling from afar: passes over the hole, each from twice as far as the one before.
_PASSES = 4


def erase_beads(
    images: npt.NDArray[Any],
    geometry: TiltGeometry,
    beads_zyx_px: npt.ArrayLike,
    radius_px: float,
    *,
    threads: int = 1,
) -> Image:
    """Replace the discs of beads (bead, 3), at centred (z, y, x) in image pixels, in images (tilt, y, x).

    Each disc gets the plane that fits the ring around it, and the ring's own noise in random order; the
    radius should take in the bead's fringe. The same input gives the same output. Returns a copy, float32.
    Raises ValueError for a radius not above 0, or where images and geometry differ in number.
    """
    if not radius_px > 0:
        raise ValueError(f"the radius of gold must be above 0 pixels, not {radius_px}")
    if len(images) != len(geometry):
        raise ValueError(f"{len(images)} images do not fit the geometry of {len(geometry)} tilts")
    erased = np.array(images, dtype=np.float32)
    beads = np.asarray(beads_zyx_px, dtype=np.float64).reshape(-1, 3)
    places = geometry.project(beads) + np.array(erased.shape[1:]) // 2

    def erase(index: int) -> None:
        gold = _discs(erased.shape[1:], places[index], radius_px)
        for number, place in enumerate(places[index]):
            _erase_disc(erased[index], gold, place, radius_px, np.random.default_rng((index, number)))

    for_each(erase, len(erased), threads)
    return erased


def _discs(shape: tuple[int, ...], places_yx: npt.NDArray[np.float64], radius_px: float) -> Mask:
    mask = np.zeros(shape, dtype=np.bool_)
    for place in places_yx:
        window, distance = _window(shape, place, radius_px)
        mask[window] |= distance <= radius_px
    return mask


def _window(
    shape: tuple[int, ...], place_yx: npt.NDArray[np.float64], reach: float
) -> tuple[tuple[slice, slice], npt.NDArray[np.float64]]:
    """Give the part of an image that a circle lies in, and the distances there."""
    first = np.maximum(np.floor(place_yx - reach).astype(int), 0)
    last = np.maximum(np.minimum(np.ceil(place_yx + reach).astype(int) + 1, shape), first)
    y, x = np.ogrid[first[0] : last[0], first[1] : last[1]]
    window = (slice(first[0], last[0]), slice(first[1], last[1]))
    return window, np.asarray(np.hypot(y - place_yx[0], x - place_yx[1]))


def _erase_disc(
    image: Image, gold: Mask, place_yx: npt.NDArray[np.float64], radius_px: float, random: np.random.Generator
) -> None:
    window, distance = _window(image.shape, place_yx, _RING * radius_px + 1)
    part = image[window]
    inside = distance <= radius_px
    ring = (distance <= _RING * radius_px + 1) & ~gold[window]
    if not inside.any() or ring.sum() < 6:
        return
    y, x = np.indices(part.shape) / radius_px
    terms = np.stack([np.ones(part.shape), y, x], axis=-1)
    plane = np.linalg.lstsq(terms[ring], part[ring].astype(np.float64), rcond=None)[0]
    noise = part[ring] - terms[ring] @ plane
    part[inside] = terms[inside] @ plane + random.choice(noise, int(inside.sum()))


def erase_gold(
    images: npt.NDArray[Any], diameter_px: float, *, deviations: float = 8.0, threads: int = 1
) -> Image:
    """Replace gold of about a diameter in images (tilt, y, x), wherever it is, by the mean of what is near.

    Gold is what lies so many robust standard deviations below its surroundings, where details of this size
    are looked at: darker than anything else in a specimen. Returns a copy, float32. Raises ValueError for a
    diameter not above 0.
    """
    if not diameter_px > 0:
        raise ValueError(f"the diameter of gold must be above 0 pixels, not {diameter_px}")
    erased = np.array(images, dtype=np.float32)
    grow = max(1, round(_FRINGE * diameter_px))

    def erase(index: int) -> None:
        image = erased[index]
        detail = gaussian_filter(image, diameter_px / 6) - gaussian_filter(image, 2 * diameter_px)
        low, middle = np.quantile(detail, (0.159, 0.5))
        spots = detail < middle - deviations * max(float(middle - low), 1e-30)
        if spots.any():
            fill_holes(image, binary_dilation(spots, iterations=grow))

    for_each(erase, len(erased), threads)
    return erased


def fill_holes(image: Image, holes: Mask) -> None:
    """Replace the holes of an image (y, x) by the mean of the nearest that there is, in place."""
    known = ~holes
    if not known.any():
        return
    missing = holes.copy()
    for number in range(_PASSES):
        sigma = 2.0 * 2**number
        weight = gaussian_filter(known.astype(np.float32), sigma)
        near = missing & (weight > 0.05)
        total = gaussian_filter(np.where(known, image, np.float32(0)), sigma)
        image[near] = total[near] / weight[near]
        missing &= ~near
        if not missing.any():
            return
    image[missing] = image[known].mean(dtype=np.float64)
