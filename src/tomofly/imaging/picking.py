"""Reference-free particle picking from a diameter, or a range of diameters.

The binned micrograph, its background taken away and its bad areas masked, is matched with soft rings and soft
discs against their surround. What matches best is a pick, and its score says by how much: in units of the
noise of that response, so that scores of different micrographs compare.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage
from scipy.spatial import cKDTree

from tomofly.imaging.binning import bin_mean
from tomofly.imaging.centring import turned_centres
from tomofly.imaging.exclusion import Exclusion, checked_diameter_px, exclusion_mask, robust_sigma, thinned
from tomofly.imaging.particle_size import DEFAULT_KEEP_THRESHOLD, DEFAULT_THRESHOLD, diameter_range

Image = NDArray[np.float32]

PIXELS_PER_DIAMETER = 20  # about 6 angstrom for a particle of 125 angstrom
BACKGROUND_DIAMETERS = 2.5  # width of the running median
CLIP_SIGMA = 3.0  # no pixel may speak louder than this
SURROUND_RADII = 1.25  # narrow, so that neighbours in a crowded field stay out of it
SCALE_STEP = 1.15  # between neighbouring diameters of a range
SEPARATION_RADII = 1.25  # smallest centre distance in radii of the largest, unless told ...
MOST_SEPARATION = 0.9  # ... but no more than this in diameters of the smallest, which may lie side by side
SIGNAL_SHARE = 0.185  # a score counts in this part of the strong responses, where that is above the noise
MARGIN_DIAMETERS = 0.32  # a particle cut by the edge further than this cannot be used
COVERED_SHARE = 0.5  # of the template's weight, that must lie on usable image
EXCLUSION_FLAG_FRACTION = 0.5
SHAPES, SHELL = 4, 0  # how many templates there are of each diameter, and which of them is the shell
COMPACT_WIDTH = (
    4 / 3
)  # of the diameter at which a compact core fits: a long particle is wider than its core tells
CENTRING_PIXELS = 40  # per diameter, about 3 to 4 angstrom, where the centre is sought
CENTRING_BLUR = 0.03  # diameters; sigma of the Gaussian before that
CENTRING_REACH = 0.23  # diameters, as far as a template may have been led astray
LEAST_SYMMETRY = 0.3  # less is chance, or a particle without symmetry, and the template is to be believed
SYMMETRY_GAIN = 0.15  # more symmetric by this is what a shell, sharply found, must be to be moved
BACKGROUND_PIXELS = 4  # per diameter, at which the background is computed


@dataclass(frozen=True)
class Picks:
    """Candidate particles of a micrograph, best first, and the threshold that parts picks from candidates.

    ``position_yx_px`` (n, 2) is in unbinned pixels, (0, 0) at the centre of the first; ``score`` (n,) in
    units of the noise of the response; ``diameter_angstrom`` (n,) the best of the range. No two are
    nearer than ``minimum_distance_px``.
    """

    position_yx_px: NDArray[np.float64]
    score: NDArray[np.float32]
    diameter_angstrom: NDArray[np.float32]
    excluded_fraction: float
    threshold: float
    keep_threshold: float
    minimum_distance_px: float
    flags: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.score)


def find_particles(
    image: Image,
    *,
    pixel_size_angstrom: float,
    diameter_angstrom: float | tuple[float, float],
    minimum_distance_angstrom: float | None = None,
    exclusion: NDArray[np.bool_] | Exclusion | None = None,
    threshold: float = DEFAULT_THRESHOLD,
    keep_threshold: float = DEFAULT_KEEP_THRESHOLD,
    inverted: bool = False,
) -> Picks:
    """Find particles of about the given diameter (angstrom, or smallest and largest) in a micrograph (y, x).

    Particles are dark on bright unless ``inverted``. ``exclusion`` is a mask (True where not to pick, any
    binning) or what ``exclusion_mask`` gave; None computes it. All above ``keep_threshold`` is returned;
    ``select_picks`` takes what is above ``threshold``, or above any other, without running this again.
    Raises ValueError for an image that cannot be searched.
    """
    smallest, largest = diameter_range(diameter_angstrom)
    diameter_px = checked_diameter_px(image, pixel_size_angstrom, smallest)
    checked_diameter_px(image, pixel_size_angstrom, largest)
    if not 0 < keep_threshold <= threshold:
        raise ValueError(f"keep_threshold must lie above 0 and not above threshold, not {keep_threshold}")
    if exclusion is None:
        middle = float(np.sqrt(smallest * largest))
        exclusion = exclusion_mask(
            image, pixel_size_angstrom=pixel_size_angstrom, diameter_angstrom=middle, inverted=inverted
        )
    factor = max(1, int(diameter_px / PIXELS_PER_DIAMETER))
    binned = bin_mean(image, factor)
    usable = ~_mask_at(exclusion, binned.shape, factor)
    apart = min(SEPARATION_RADII * largest / 2, MOST_SEPARATION * smallest)
    distance_px = (minimum_distance_angstrom or apart) / pixel_size_angstrom
    empty = Picks(
        np.zeros((0, 2)), np.zeros(0, np.float32), np.zeros(0, np.float32),
        float(1.0 - usable.mean()), threshold, keep_threshold, distance_px,
    )  # fmt: skip
    if usable.mean() < 0.02:
        return replace(empty, flags=("everything_excluded",))
    largest_binned = largest / pixel_size_angstrom / factor
    flat = flattened(binned if inverted else -binned, usable, largest_binned)
    diameters = diameters_within(smallest, largest)
    response, template = best_response(flat, usable, [d / pixel_size_angstrom / factor for d in diameters])
    smallest_binned = smallest / pixel_size_angstrom / factor
    peaks = _whole(
        _peaks(response, keep_threshold, smallest_binned), response.shape, MARGIN_DIAMETERS * smallest_binned
    )
    position, score = _refined(response, peaks)
    size, shape = np.divmod(template[tuple(peaks.T)], SHAPES)
    diameter = np.array(diameters)[size]
    position = _centred(
        image if inverted else -image,
        usable,
        position * factor + (factor - 1) / 2,
        shape == SHELL,
        np.minimum(COMPACT_WIDTH * diameter, largest) / pixel_size_angstrom,
    )
    order = _apart(position, score, distance_px)
    return replace(
        empty,
        position_yx_px=position[order],
        score=score[order].astype(np.float32),
        diameter_angstrom=diameter[order].astype(np.float32),
        flags=("mostly_excluded",) if empty.excluded_fraction > EXCLUSION_FLAG_FRACTION else (),
    )


def select_picks(
    picks: Picks, threshold: float | None = None, minimum_distance_px: float | None = None
) -> Picks:
    """The picks at or above a threshold, the better of two nearer than ``minimum_distance_px`` kept.

    The distance can only be more than that of the candidates. A lower threshold
    gives the same picks and more. Raises ValueError below the candidates' own threshold or distance.
    """
    threshold = picks.threshold if threshold is None else threshold
    distance = picks.minimum_distance_px if minimum_distance_px is None else minimum_distance_px
    if threshold < picks.keep_threshold:
        raise ValueError(
            f"candidates were kept from a score of {picks.keep_threshold:g} on; a threshold of {threshold:g} "
            "needs the picking to be run again with a lower keep_threshold"
        )
    if distance < picks.minimum_distance_px:
        raise ValueError(
            f"candidates were kept {picks.minimum_distance_px:g} pixels apart; a distance of {distance:g} "
            "needs the picking to be run again with a smaller minimum distance"
        )
    # separation before threshold: a candidate is judged by better ones only, which any threshold keeps too
    order = _apart(picks.position_yx_px, picks.score, distance)
    order = order[picks.score[order] >= threshold]
    return replace(
        picks,
        position_yx_px=picks.position_yx_px[order],
        score=picks.score[order],
        diameter_angstrom=picks.diameter_angstrom[order],
        threshold=threshold,
        minimum_distance_px=distance,
    )


def diameters_within(smallest: float, largest: float) -> list[float]:
    """Diameters from smallest to largest in equal ratios of at most ``SCALE_STEP``."""
    count = 1 + int(np.ceil(np.log(largest / smallest) / np.log(SCALE_STEP) - 1e-9))
    return [float(d) for d in np.geomspace(smallest, largest, count)]


def flattened(bright: Image, usable: NDArray[np.bool_], diameter_px: float) -> Image:
    """Take away the background, set the noise to 1, clip, and put 0 where the image (y, x) is not usable."""
    coarse_factor = max(1, int(diameter_px / BACKGROUND_PIXELS))
    coarse = bin_mean(bright, coarse_factor)
    coarse_usable = bin_mean(usable.astype(np.float32), coarse_factor) > 0.999
    if not coarse_usable.all() and coarse_usable.any():
        nearest = ndimage.distance_transform_edt(~coarse_usable, return_distances=False, return_indices=True)
        coarse = coarse[tuple(nearest)]
    width = 2 * round(BACKGROUND_DIAMETERS * diameter_px / coarse_factor / 2) + 1
    background = ndimage.median_filter(coarse, size=width, mode="reflect")
    flat = bright - _magnified(background, coarse_factor, bright.shape)
    middle, sigma = robust_sigma(flat[usable])
    if not sigma > 0:
        raise ValueError("the usable part of the image is constant")
    flat = np.clip((flat - middle) / sigma, -CLIP_SIGMA, CLIP_SIGMA)
    return np.where(usable, flat, np.float32(0.0)).astype(np.float32)


def best_response(
    flat: Image, usable: NDArray[np.bool_], diameters_px: list[float]
) -> tuple[Image, NDArray[np.intp]]:
    """The best score (y, x) over all templates, and which (y, x) gave it: SHAPES times diameter, plus shape.

    Every template has unit norm, so that white noise gives each the same spread; where a part of it lies
    outside the usable image the response is scaled to the part inside.
    """
    reach = int(np.ceil((SURROUND_RADII + 0.25) * max(diameters_px) / 2))
    size = [fft.next_fast_len(n + 2 * reach + 1, real=True) for n in flat.shape]
    spectrum, cover = fft.rfft2(flat, size), fft.rfft2(usable.astype(np.float32), size)
    white = _white_noise(flat, usable)
    best = np.full(flat.shape, -np.inf, np.float32)
    which = np.zeros(flat.shape, np.intp)
    for index, diameter in enumerate(diameters_px):
        shapes = list(templates(diameter, reach))
        # the shapes weigh the area alike, so one share serves them all
        share = _correlated(cover, np.mean(np.square(shapes), axis=0), size, flat.shape)
        outside = (share < COVERED_SHARE) | ~usable
        scale = 1.0 / np.sqrt(np.maximum(share, COVERED_SHARE))
        for kind, shape in enumerate(shapes):
            ratio = _correlated(spectrum, shape, size, flat.shape) * scale
            score = ratio / np.float32(score_unit(ratio[usable], white))
            better = (score > best) & ~outside
            best[better] = score[better]
            which[better] = SHAPES * index + kind
    return best, which


def templates(diameter_px: float, reach: int) -> Iterator[Image]:
    """Four particles minus their surround, each (2 reach + 1)², of zero sum and unit norm.

    A shell seen in projection (a bright rim, half as bright within), a full disc, and two compact cores for
    particles that are long or bent, and so narrower than their diameter.
    """
    yy, xx = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    radius = np.hypot(yy, xx) / (diameter_px / 2)
    surround = _inside(radius, SURROUND_RADII)
    shell = _inside(radius, 0.95) - 0.5 * _inside(radius, 0.6)
    for shape in (shell, _inside(radius, 0.9), _inside(radius, 0.7), _inside(radius, 0.5)):
        template = surround * (shape - (shape * surround).sum() / surround.sum())
        template -= surround * (template.sum() / surround.sum())
        yield (template / np.sqrt((template**2).sum())).astype(np.float32)


def _centred(
    bright: Image,
    usable: NDArray[np.bool_],
    position: NDArray[np.float64],
    is_shell: NDArray[np.bool_],
    diameter_px: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Positions (n, 2) in the image (y, x), those of symmetric particles brought to the centre of symmetry.

    A shell's template finds its centre more sharply than the symmetry does, unless it was led astray.
    """
    if not len(position):
        return position
    largest = float(diameter_px.max())
    factor = max(1, int(largest / CENTRING_PIXELS))
    binned = bin_mean(bright, factor)
    rows, columns = (np.arange(n) * m // n for n, m in zip(binned.shape, usable.shape, strict=True))
    flat = flattened(binned, usable[np.ix_(rows, columns)], largest / factor)
    smooth = ndimage.gaussian_filter(flat, CENTRING_BLUR * largest / factor)
    at = (position - (factor - 1) / 2) / factor
    found = turned_centres(smooth, at, diameter_px / factor, CENTRING_REACH * largest / factor)
    moved = found.symmetry >= np.where(
        is_shell, np.maximum(found.symmetry_before + SYMMETRY_GAIN, LEAST_SYMMETRY), LEAST_SYMMETRY
    )
    centre = found.centre_yx_px * factor + (factor - 1) / 2
    at_mask = np.floor((centre + 0.5) * usable.shape / np.array(bright.shape)).astype(np.intp)
    moved &= usable[tuple(np.clip(at_mask, 0, np.array(usable.shape) - 1).T)]
    return np.where(moved[:, None], centre, position)


def score_unit(response: NDArray[np.floating], white: float) -> float:
    """The response that counts as 1: its noise, widened by a share of the micrograph's own strong responses.

    In an empty micrograph the response is symmetric about its median and its spread is the noise, whatever
    the colour. Particles pull out the upper side; then the spread is theirs, and the noise is the pixels'.
    """
    low, middle, high = np.quantile(thinned(response), [0.02, 0.5, 0.98])
    spread = robust_sigma(response)[1]
    lopsided = (high - middle) / max(middle - low, 1e-12)
    symmetric = float(np.clip((1.4 - lopsided) / 0.2, 0.0, 1.0))
    noise = symmetric * spread + (1.0 - symmetric) * min(white, spread)
    return float((noise**4 + max(SIGNAL_SHARE * high, 0.0) ** 4) ** 0.25)


def _inside(radius: NDArray[np.float64], edge: float) -> NDArray[np.float64]:
    return np.asarray(1.0 / (1.0 + np.exp(np.clip((radius - edge) / 0.06, -50, 50))))


def _white_noise(flat: Image, usable: NDArray[np.bool_]) -> float:
    """Noise of a pixel from mixed second differences, to which particles add next to nothing."""
    whole = usable[:-1, :-1] & usable[1:, 1:] & usable[:-1, 1:] & usable[1:, :-1]
    mixed = flat[:-1, :-1] - flat[1:, :-1] - flat[:-1, 1:] + flat[1:, 1:]
    return robust_sigma(mixed[whole])[1] / 2


def _correlated(
    spectrum: NDArray[np.complex64], template: Image, size: list[int], shape: tuple[int, ...]
) -> Image:
    """Correlation (y, x) with a centred template; the image is taken as zero outside."""
    reach = template.shape[0] // 2
    product = spectrum * fft.rfft2(template[::-1, ::-1], size)
    whole = fft.irfft2(product, size)
    return np.asarray(whole[reach : reach + shape[0], reach : reach + shape[1]], dtype=np.float32)


def _magnified(coarse: Image, factor: int, shape: tuple[int, ...]) -> Image:
    """A coarse image (y, x) brought back to the fine sampling by linear interpolation."""
    fine = coarse
    for axis in (0, 1):
        at = np.clip((np.arange(shape[axis]) + 0.5) / factor - 0.5, 0, fine.shape[axis] - 1)
        below = np.minimum(at.astype(int), max(fine.shape[axis] - 2, 0))
        above = np.minimum(below + 1, fine.shape[axis] - 1)
        part = (at - below).astype(np.float32)
        part = part[:, None] if axis == 0 else part
        fine = np.take(fine, below, axis) * (1 - part) + np.take(fine, above, axis) * part
    return fine


def _mask_at(
    exclusion: NDArray[np.bool_] | Exclusion, shape: tuple[int, ...], factor: int
) -> NDArray[np.bool_]:
    """The exclusion at the picker's sampling; a bare mask is taken to span the image at any binning."""
    mask = exclusion.mask if isinstance(exclusion, Exclusion) else np.asarray(exclusion, dtype=bool)
    if mask.ndim != 2 or 0 in mask.shape:
        raise ValueError(f"the exclusion mask must have two axes (y, x), this one has the shape {mask.shape}")
    rows, columns = (
        ((np.arange(n) + 0.5) * factor / exclusion.scale if isinstance(exclusion, Exclusion)
         else (np.arange(n) + 0.5) * m / n).astype(int)
        for n, m in zip(shape, mask.shape, strict=True)
    )  # fmt: skip
    return np.asarray(
        mask[np.ix_(np.minimum(rows, mask.shape[0] - 1), np.minimum(columns, mask.shape[1] - 1))]
    )


def _whole(peaks: NDArray[np.intp], shape: tuple[int, ...], margin_px: float) -> NDArray[np.intp]:
    """The peaks (n, 2) farther than the margin from the image edge, where a particle is whole.

    Taken from peaks, not from the response: the flank of a particle outside would make one at the margin.
    """
    inside = (peaks >= margin_px - 0.5) & (peaks <= np.array(shape) - 0.5 - margin_px)
    return peaks[inside.all(axis=1)]


def _peaks(response: Image, least: float, diameter_px: float) -> NDArray[np.intp]:
    """Local maxima (n, 2) of at least the given height, each the highest within a quarter of a diameter."""
    width = 2 * max(1, int(diameter_px / 4)) + 1
    highest = ndimage.maximum_filter(response, size=width, mode="constant", cval=-np.inf)
    return np.argwhere((response == highest) & (response >= least))


def _refined(response: Image, peaks: NDArray[np.intp]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sub-pixel positions (n, 2) by a parabola along each axis, and the heights (n,) at the peaks."""
    position = peaks.astype(np.float64)
    height = response[tuple(peaks.T)].astype(np.float64)
    for axis in (0, 1):
        step = np.eye(2, dtype=np.intp)[axis]
        inner = (peaks[:, axis] > 0) & (peaks[:, axis] < response.shape[axis] - 1)
        before = response[tuple((peaks[inner] - step).T)].astype(np.float64)
        after = response[tuple((peaks[inner] + step).T)].astype(np.float64)
        bend = 2 * height[inner] - before - after
        curved = np.isfinite(bend) & (bend > 1e-6)
        moved = np.zeros(bend.size)
        moved[curved] = 0.5 * (after[curved] - before[curved]) / bend[curved]
        position[inner, axis] += np.clip(moved, -0.5, 0.5)
    return position, height


def _apart(position: NDArray[np.float64], score: NDArray[np.floating], distance: float) -> NDArray[np.intp]:
    """Indices by falling score of those without a better accepted one nearer than ``distance``."""
    order = np.lexsort((position[:, 1], position[:, 0], -score)) if len(score) else np.zeros(0, np.intp)
    if len(order) < 2 or distance <= 0:
        return order
    tree = cKDTree(position)
    neighbours = tree.query_ball_point(position, distance * (1 - 1e-9))
    free = np.ones(len(score), dtype=bool)
    accepted = []
    for index in order:
        if free[index]:
            accepted.append(index)
            free[neighbours[index]] = False
    return np.array(accepted, dtype=np.intp)
