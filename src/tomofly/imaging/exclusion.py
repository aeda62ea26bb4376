"""Areas of a micrograph where no particle can be: contamination, carbon, gold, dead borders.

The contrast transfer function takes the low frequencies away from a particle but not from what absorbs or
scatters electrons out of the image: smoothed over its own diameter a particle all but vanishes, and thick
matter remains. So the search runs on a strongly smoothed image, before anything is picked.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from tomofly.imaging.binning import bin_mean

Image = NDArray[np.float32]

PIXELS_PER_DIAMETER = (
    10  # coarse enough to be quick, fine enough to draw a contaminant the size of a particle
)
SMOOTHING_DIAMETERS = 0.4  # sigma of the Gaussian; at this width a phase object has lost its contrast
OUTLINE_DIAMETERS = 0.12  # the same for drawing the outline of what was found
SEED_SIGMA = 6.0  # a dark spot of contamination has to be this deep somewhere ...
EDGE_SIGMA = 3.0  # ... and reaches out to here
LEAST_MATERIAL_AREA = 12.0  # in squared diameters; smaller is contamination
STEP_WIDTH_DIAMETERS = 0.8  # at this smoothing a sharp step rises through its middle in 0.4
STEP_SIGMA = 5.0  # two flat levels further apart than this are two materials
RIM_DEPTH = 0.35
RIM_SLOPE = 0.45  # of the depth, that a rim rises within a diameter at the least
FLATTER_SHARE = 0.5  # so much nearer to the pixels must a surface be that trusts their bright side alone
LEAST_ICE = (
    0.3  # part of the image that is clear, at the least, where a surface can be judged by what lies on it
)
OPENING_DIAMETERS = 0.25  # radius; what is narrower is a crack of noise
GROWTH_DIAMETERS = 0.2  # radius; fringes around a contaminant look like particles
OPAQUE_FRACTION = 0.6  # darker than this part of the ice level: gold, a grid bar


@dataclass(frozen=True)
class Exclusion:
    """Where not to pick.

    ``mask`` (y, x) is True in bad areas, at a sampling ``scale`` times coarser than the image: mask pixel i
    covers unbinned pixels ``i * scale`` to ``(i + 1) * scale - 1``. Fractions are parts of the image area.
    """

    mask: NDArray[np.bool_]
    scale: int
    contamination_fraction: float
    carbon_fraction: float
    gold_or_edge_fraction: float

    @property
    def fraction(self) -> float:
        """The part of the image that is excluded."""
        return float(self.mask.mean())

    def at(self, position_yx_px: NDArray[np.floating]) -> NDArray[np.bool_]:
        """For each position (n, 2), in unbinned pixels, whether it lies in an excluded area."""
        index = np.floor((np.asarray(position_yx_px, dtype=float) + 0.5) / self.scale).astype(int)
        limit = np.array(self.mask.shape) - 1
        index = np.clip(index, 0, limit)
        return np.asarray(self.mask[index[:, 0], index[:, 1]])


def exclusion_mask(
    image: NDArray[np.float32],
    *,
    pixel_size_angstrom: float,
    diameter_angstrom: float,
    inverted: bool = False,
) -> Exclusion:
    """Find contamination, carbon, gold and dead borders in a micrograph (y, x).

    ``diameter_angstrom`` is that of the particle, which sets every length. ``inverted`` is for images where
    matter is bright. Raises ValueError where the image cannot be judged: not finite, constant, too small.
    """
    diameter_px = checked_diameter_px(image, pixel_size_angstrom, diameter_angstrom)
    scale = max(1, int(diameter_px / PIXELS_PER_DIAMETER))
    coarse = bin_mean(image, scale)
    coarse = -coarse if inverted else coarse
    diameter = diameter_px / scale
    edge = _dead_border(coarse)
    level = _smoothed(coarse, edge, SMOOTHING_DIAMETERS * diameter)
    carbon = _darker_material(level, edge, diameter)
    outline = _smoothed(coarse, edge, OUTLINE_DIAMETERS * diameter)
    dark = _dark_spots(level, outline, carbon, diameter) | carbon | edge
    opaque = _opaque(level, dark) & dark if not inverted else np.zeros_like(edge)
    grown = _grow(dark, GROWTH_DIAMETERS * diameter)
    return _named(grown, {"gold": opaque | edge, "carbon": carbon, "contamination": dark}, scale)


def checked_diameter_px(
    image: NDArray[np.float32], pixel_size_angstrom: float, diameter_angstrom: float
) -> float:
    """The diameter in pixels, once the image (y, x) is fit to be searched; ValueError says why it is not."""
    if image.ndim != 2:
        raise ValueError(f"a micrograph has two axes (y, x), this array has {image.ndim}")
    if not (np.isfinite(pixel_size_angstrom) and pixel_size_angstrom > 0):
        raise ValueError(f"the pixel size must be above 0 Å, not {pixel_size_angstrom}")
    if not (np.isfinite(diameter_angstrom) and diameter_angstrom > 0):
        raise ValueError(f"the particle diameter must be above 0 Å, not {diameter_angstrom}")
    diameter_px = diameter_angstrom / pixel_size_angstrom
    if diameter_px < 4:
        raise ValueError(f"the particle covers {diameter_px:.1f} pixels; at least 4 are needed to find it")
    if min(image.shape) < 2 * diameter_px:
        raise ValueError(
            f"the image, {image.shape[0]} × {image.shape[1]} pixels, is too small for a particle "
            f"of {diameter_px:.0f} pixels: each side must be at least two diameters"
        )
    low, high = float(image.min()), float(image.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError("the image holds values that are not finite (NaN or infinite)")
    if low == high:
        raise ValueError(f"the image is constant: every pixel is {low:g}")
    return diameter_px


def disc(radius_px: float) -> NDArray[np.bool_]:
    """A filled circle as a structuring element (odd, odd)."""
    half = int(np.floor(max(radius_px, 1.0)))
    yy, xx = np.mgrid[-half : half + 1, -half : half + 1]
    return np.asarray(yy**2 + xx**2 <= max(radius_px, 1.0) ** 2)


def robust_sigma(values: NDArray[np.floating]) -> tuple[float, float]:
    """Median and standard deviation of a Gaussian with the same median absolute deviation."""
    enough = thinned(values)
    median = float(np.median(enough))
    return median, 1.4826 * float(np.median(np.abs(enough - median)))


def thinned(values: NDArray[np.floating]) -> NDArray[np.floating]:
    """Every k-th value (flat), so that a hundred thousand are left: enough for a quantile."""
    return values.ravel()[:: max(1, values.size // 100_000)]


def _dead_border(coarse: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Flat areas: zeros moved in from outside by the frame alignment, or a masked part of the detector."""
    flat = ndimage.maximum_filter(coarse, 3) == ndimage.minimum_filter(coarse, 3)
    return np.asarray(ndimage.binary_dilation(flat, np.ones((3, 3))) if flat.any() else flat)


def _smoothed(coarse: NDArray[np.float32], dead: NDArray[np.bool_], sigma: float) -> NDArray[np.float32]:
    """Gaussian low-pass that takes nothing from dead pixels."""
    if not dead.any():
        return np.asarray(ndimage.gaussian_filter(coarse, sigma, mode="reflect", truncate=3.0))
    alive = (~dead).astype(np.float32)
    total = ndimage.gaussian_filter(coarse * alive, sigma, truncate=3.0)
    weight = ndimage.gaussian_filter(alive, sigma, truncate=3.0)
    middle = float(np.median(coarse[~dead])) if not dead.all() else 0.0
    return np.asarray(np.where(weight > 0.05, total / np.maximum(weight, 0.05), middle), dtype=np.float32)


def _polynomial(shape: tuple[int, ...], degree: int) -> NDArray[np.float64]:
    """The terms (y, x, term) of a polynomial surface, coordinates from -1 to 1."""
    ys, xs = (np.linspace(-1, 1, n) for n in shape)
    powers = [(i, total - i) for total in range(degree + 1) for i in range(total + 1)]
    return np.stack([np.outer(ys**i, xs**j) for i, j in powers], axis=-1)


def _surface(level: Image, usable: NDArray[np.bool_]) -> tuple[NDArray[np.float64], float]:
    """A quadratic surface through the usable pixels, outliers given up in turn, and the spread around it.

    Where matter covers much of the image, a surface fitted to all of it at first bends down into the matter;
    one that starts flat from the bright side then lies much nearer to the pixels of the ice, and is taken.
    """
    terms = _polynomial(level.shape, 2)
    thin = max(1, int(np.sqrt(level.size / 4000)))
    basis, values = terms[::thin, ::thin].reshape(-1, 6), level[::thin, ::thin].ravel().astype(np.float64)
    good = usable[::thin, ::thin].ravel().copy()
    bent = _bright_fit(basis, values, good, (6,) * 6)
    if not good.any():
        return np.asarray(terms @ bent[0]), bent[1]
    flat = _bright_fit(basis, values, good, (1, 1, 3, 3, 6, 6, 6))
    nearness = [float(np.quantile(np.abs(values - basis @ fit[0])[good], LEAST_ICE)) for fit in (bent, flat)]
    coefficients, sigma = flat if nearness[1] < FLATTER_SHARE * nearness[0] else bent
    return np.asarray(terms @ coefficients), sigma


def _bright_fit(
    basis: NDArray[np.float64], values: NDArray[np.float64], good: NDArray[np.bool_], terms: tuple[int, ...]
) -> tuple[NDArray[np.float64], float]:
    """Coefficients (6,) of a surface through the bright values, and the spread above it.

    Each round uses so many of the basis (n, 6), by rising degree; few at first trust the bright side alone.
    """
    start = float(np.quantile(values[good], 0.75)) if good.any() else 0.0
    rest: NDArray[np.float64] = values - start
    near = good & (rest > 0) if terms[0] == 1 else good
    sigma = robust_sigma(rest[near])[1] if near.any() else 0.0
    coefficients = np.array([start, 0, 0, 0, 0, 0], dtype=np.float64)
    for count in terms:
        kept = good & (rest > -2.5 * sigma) & (rest < 3.0 * sigma)
        if kept.sum() < 30:
            break
        coefficients[:count] = np.linalg.lstsq(basis[kept, :count], values[kept], rcond=None)[0]
        rest = np.asarray(values - basis @ coefficients, dtype=np.float64)
        # the matter-free side, above the surface, alone tells the spread
        above = rest[good & (rest > 0)]
        sigma = 1.4826 * float(np.median(above)) if above.size else sigma
    return coefficients, sigma


def _darker_material(level: Image, dead: NDArray[np.bool_], diameter: float) -> NDArray[np.bool_]:
    """The darker of two materials that share the image: carbon or gold foil beside ice.

    Each is flat but for the slope and bend of the ice; a step as sharp as the smoothing allows parts them.
    """
    none = np.zeros(level.shape, dtype=bool)
    values = level[~dead].astype(np.float64)
    if values.size < 100:
        return none
    bent = level - _surface(level, ~dead)[0]
    starts = [image < _otsu(image[~dead].astype(np.float64)) for image in (level, bent)]
    fits = [_step(level, start & ~dead, dead) for start in starts]
    # of two explanations the one that takes more of the variance away
    material, step, ice, sigma = max(fits, key=lambda fit: fit[1] / max(fit[3], 1e-30) * fit[0].std())
    material = _large(material, LEAST_MATERIAL_AREA * diameter**2)
    rest = level - ice
    share = float(material[~dead].mean())
    if not 0.02 < share < 0.98 or step < STEP_SIGMA * sigma:
        return none
    between = (rest < -0.3 * step) & (rest > -0.7 * step) & ~dead
    border = material & ~ndimage.binary_erosion(material, border_value=1)
    # a slope takes its time from one level to the other, and so do the flanks of a round contaminant
    if between.sum() > STEP_WIDTH_DIAMETERS * diameter * border.sum():
        return none
    return material


def _large(mask: NDArray[np.bool_], least_area: float) -> NDArray[np.bool_]:
    """The connected areas of at least the given number of pixels."""
    label, _ = ndimage.label(mask)
    sizes = np.bincount(label.ravel())
    sizes[0] = 0
    return np.asarray((sizes >= least_area)[label])


def _step(
    level: Image, darker: NDArray[np.bool_], dead: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], float, NDArray[np.float64], float]:
    """Fit cubic ice and a constant step down in one area, area and fit in turn: area, step, ice, spread."""
    terms = _polynomial(level.shape, 3)
    thin = max(1, int(np.sqrt(level.size / 4000)))
    basis = terms[::thin, ::thin].reshape(-1, terms.shape[-1])
    values = level[::thin, ::thin].ravel().astype(np.float64)
    good = ~dead[::thin, ::thin].ravel()
    ice, step, sigma = np.full(level.shape, values[good].max(initial=0.0)), 0.0, 1.0
    for _ in range(8):
        design = np.column_stack([basis, -darker[::thin, ::thin].ravel().astype(np.float64)])
        kept = good
        for _ in range(2):
            coefficients = np.linalg.lstsq(design[kept], values[kept], rcond=None)[0]
            rest = np.abs(values - design @ coefficients)
            sigma = 1.4826 * float(np.median(rest[good]))
            kept = good & (rest <= 3.0 * sigma)
        ice, step = terms @ coefficients[:-1], float(coefficients[-1])
        moved = (level < ice - step / 2) & ~dead
        if step <= 0 or (moved == darker).all():
            break
        darker = moved
    return darker, step, ice, sigma


def _otsu(values: NDArray[np.float64]) -> float:
    """The cut that parts two classes best (Otsu 1979)."""
    counts, edges = np.histogram(values, bins=128)
    centres = (edges[1:] + edges[:-1]) / 2
    below = np.cumsum(counts)[:-1]
    above = counts.sum() - below
    sums = np.cumsum(counts * centres)
    mean_below = sums[:-1] / np.maximum(below, 1)
    mean_above = (sums[-1] - sums[:-1]) / np.maximum(above, 1)
    return float(edges[1 + int(np.argmax(below * above * (mean_below - mean_above) ** 2))])


def _dark_spots(level: Image, outline: Image, taken: NDArray[np.bool_], diameter: float) -> NDArray[np.bool_]:
    """Dark outliers of the smoothed level (y, x), drawn with the sharper outline (y, x), and what is taken.

    A spot is convicted by being deeper, or wider and still deeper, than what looks like the particles.
    """
    surface, sigma = _surface(level, ~taken)
    depth = (surface - level) / max(sigma, 1e-6 * float(np.ptp(level)) + 1e-30)
    # the smoothing has widened a deep spot: its rim lies at a fixed part of the depth nearby
    spots = (depth > np.maximum(EDGE_SIGMA, RIM_DEPTH * _highest(depth, diameter))) & ~taken
    seeds = _convicted(spots, depth, diameter) | taken
    if not seeds.any():
        return seeds
    sharp = surface - outline
    sharp_sigma = max(robust_sigma(sharp[~seeds])[1] if not seeds.all() else 0.0, 1e-30)
    # capped, or a grain on carbon would hide the carbon around it
    rim = np.minimum(RIM_DEPTH * _highest(sharp, 0.4 * diameter), 3 * EDGE_SIGMA * sharp_sigma)
    drawn = sharp > np.maximum(EDGE_SIGMA * sharp_sigma, rim)
    reached = ndimage.binary_propagation(seeds, mask=(drawn & (depth > EDGE_SIGMA)) | seeds)
    return np.asarray(ndimage.binary_opening(reached, disc(OPENING_DIAMETERS * diameter)) | taken)


def _convicted(spots: NDArray[np.bool_], depth: NDArray[np.floating], diameter: float) -> NDArray[np.bool_]:
    """The spots too deep for their area to be particles."""
    label, count = ndimage.label(spots)
    if not count:
        return np.zeros(spots.shape, dtype=bool)
    deepest = np.asarray(ndimage.maximum(depth, label, np.arange(1, count + 1)))
    area = np.bincount(label.ravel(), minlength=count + 1)[1:] / diameter**2
    alike = deepest[(area > 0.5) & (area < 1.6) & (deepest > 4.0)]
    typical = max(5.0, float(np.quantile(alike, 0.4, method="lower"))) if alike.size > 1 else 5.0
    # particles side by side are wide but no deeper than one; the wider a spot, the less depth convicts it
    limit = typical * (1.3 + 0.9 * np.exp(-np.maximum(area - 1.2, 0.0)))
    slope = np.hypot(*np.gradient(depth)) * diameter
    steepest = np.asarray(ndimage.maximum(slope, label, np.arange(1, count + 1)))
    # matter has a rim; thicker ice toward a corner darkens over many diameters
    guilty = (deepest > np.maximum(limit, SEED_SIGMA)) & (steepest > RIM_SLOPE * deepest)
    return np.asarray(np.concatenate([[False], guilty])[label])


def _highest(values: NDArray[np.floating], radius: float) -> NDArray[np.floating]:
    """The highest value within a square of the given half width."""
    return np.asarray(ndimage.maximum_filter(values, size=2 * int(np.ceil(radius)) + 1))


def _opaque(level: NDArray[np.float32], bad: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Where less than ``OPAQUE_FRACTION`` of the ice level arrives; needs counts that start at zero."""
    if bad.all() or float(level.min()) < 0:
        return np.zeros(level.shape, dtype=bool)
    return np.asarray(level < OPAQUE_FRACTION * float(np.median(level[~bad])))


def _grow(mask: NDArray[np.bool_], radius: float) -> NDArray[np.bool_]:
    if not mask.any():
        return mask
    return np.asarray(ndimage.distance_transform_edt(~mask) <= radius)


def _named(grown: NDArray[np.bool_], causes: dict[str, NDArray[np.bool_]], scale: int) -> Exclusion:
    """Give each excluded pixel to the cause nearest to it, so that the fractions add up."""
    fractions = dict.fromkeys(causes, 0.0)
    label = np.zeros(grown.shape, dtype=np.int8)
    for number, mask in enumerate(causes.values(), start=1):
        label[mask & (label == 0)] = number
    if grown.any():
        nearest = ndimage.distance_transform_edt(label == 0, return_distances=False, return_indices=True)
        label = np.where(grown, label[tuple(nearest)], 0).astype(np.int8)
        fractions = {name: float(np.mean(label == n)) for n, name in enumerate(causes, start=1)}
    return Exclusion(grown, scale, fractions["contamination"], fractions["carbon"], fractions["gold"])
