"""Particles of a known size in a tomogram, without a reference."""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import fft
from scipy.ndimage import maximum_filter
from scipy.spatial import cKDTree

from tomofly.imaging.binning import bin_mean
from tomofly.imaging.tomogram_fsc import inverse_in_place

FloatArray = npt.NDArray[np.float64]
Volume = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

# The matched ball's edge is this soft, and its surround this wide, in diameters.
_SOFTNESS = 0.08
_SURROUND = 1.7
# Peaks from this score on are looked at to see where particles part from noise.
LOWEST_SCORE = 2.0
# Independent values of the response in the volume of one particle.
_VALUES_PER_PARTICLE = 30.0
# Particles this wide are seen well enough: a finer volume is binned.
_ENOUGH_VOXELS = 10
_TABLE = 4096


@dataclass(frozen=True)
class TomogramPicks:
    """Picks, best first: voxel indices (pick, 3) as (z, y, x), and scores (pick,) in noise deviations.

    ``threshold``: the score from which on they count as particles.
    """

    zyx: FloatArray
    score: FloatArray
    threshold: float

    def __len__(self) -> int:
        return len(self.score)

    def above(self, threshold: float) -> "TomogramPicks":
        """Give the picks with at least this score."""
        kept = self.score >= threshold
        return TomogramPicks(self.zyx[kept], self.score[kept], threshold)


def pick_by_size(
    volume: Volume,
    voxel_size_angstrom: float,
    diameter_angstrom: float,
    *,
    slab_z: tuple[float, float] | None = None,
    gold_zyx: npt.ArrayLike | None = None,
    gold_diameter_angstrom: float = 100.0,
    distance_angstrom: float | None = None,
    threshold: float | None = None,
    dark: bool = True,
    threads: int = 1,
) -> TomogramPicks:
    """Find what has about a diameter in a tomogram (z, y, x): the candidates from the ``threshold`` on.

    Where it is None, from the score on that parts them from noise. See ``candidates_by_size``.
    """
    found = candidates_by_size(
        volume, voxel_size_angstrom, diameter_angstrom, slab_z=slab_z, gold_zyx=gold_zyx,
        gold_diameter_angstrom=gold_diameter_angstrom, distance_angstrom=distance_angstrom, dark=dark,
        threads=threads,
    )  # fmt: skip
    return found.above(found.threshold if threshold is None else threshold)


def candidates_by_size(
    volume: Volume,
    voxel_size_angstrom: float,
    diameter_angstrom: float,
    *,
    slab_z: tuple[float, float] | None = None,
    gold_zyx: npt.ArrayLike | None = None,
    gold_diameter_angstrom: float = 100.0,
    distance_angstrom: float | None = None,
    lowest: float = LOWEST_SCORE,
    dark: bool = True,
    threads: int = 1,
) -> TomogramPicks:
    """Find what may have about a diameter in a tomogram (z, y, x), by a soft ball less its surround.

    Centres lie between the two heights ``slab_z`` and half a diameter from the sides; around gold, given as
    voxel indices (bead, 3), both radii are left out. No two are nearer than ``distance_angstrom``, 0.8
    diameters where None, of which the better is kept. All from the score ``lowest`` on are given, 2 at
    least; their ``threshold`` is that which parts the scores where two groups of them are farthest apart,
    above what noise reaches. ``dark``: particles are darker than what is around them. Raises ValueError for
    a diameter below four voxels.
    """
    diameter = diameter_angstrom / voxel_size_angstrom
    if diameter < 4:
        raise ValueError(
            f"particles of {diameter_angstrom} Å are {diameter:.1f} voxels wide; it takes at least 4"
        )
    binning = max(1, min(int(diameter / _ENOUGH_VOXELS), *volume.shape))
    first = (binning - 1) / 2
    voxel = voxel_size_angstrom * binning
    response = ball_response(binned_volume(volume, binning), diameter_angstrom / voxel, threads=threads)
    if dark:
        np.negative(response, out=response)
    heights = None if slab_z is None else ((slab_z[0] - first) / binning, (slab_z[1] - first) / binning)
    allowed = _allowed(response.shape, diameter_angstrom / voxel, heights)
    if gold_zyx is not None:
        beads = (np.asarray(gold_zyx, dtype=np.float64).reshape(-1, 3) - first) / binning
        _exclude(allowed, beads, 0.5 * (diameter_angstrom + gold_diameter_angstrom) / voxel)
    apart = 0.8 * diameter_angstrom if distance_angstrom is None else distance_angstrom
    values = _VALUES_PER_PARTICLE * allowed.sum() * (voxel / diameter_angstrom) ** 3
    # The largest of so many normal values is about this, and hardly ever 1 more.
    noise_limit = float(np.sqrt(2 * np.log(values + 2))) + 1.0
    picks = _peaks(response, allowed, apart / voxel, noise_limit)
    kept = replace(picks, zyx=picks.zyx * binning + first).above(lowest)
    return replace(kept, threshold=picks.threshold)


def binned_volume(volume: Volume, binning: int) -> Volume:
    """Give means over cubes of voxels of a volume (z, y, x); those that fill none are left out."""
    if binning == 1:
        return volume
    shape = tuple(size // binning for size in volume.shape)
    binned = np.empty(shape, np.float32)
    for z in range(shape[0]):
        slices = volume[z * binning : (z + 1) * binning].mean(axis=0, dtype=np.float32)
        binned[z] = bin_mean(slices, binning)
    return binned


def ball_response(volume: Volume, diameter_px: float, *, threads: int = 1) -> Volume:
    """Give the mean within a soft ball less that of its surround, about each voxel (z, y, x)."""
    padded = tuple(fft.next_fast_len(size + int(_SURROUND * diameter_px), real=True) for size in volume.shape)
    centred = np.asarray(volume - volume.mean(dtype=np.float64), dtype=np.float32)
    spectrum = fft.rfftn(centred, s=padded, workers=threads)
    ky = np.fft.fftfreq(padded[1])[:, None]
    kx = np.fft.rfftfreq(padded[2])[None, :]
    table = _ball_transfer(np.linspace(0.0, np.sqrt(0.75), _TABLE), diameter_px)
    for z, kz in enumerate(np.fft.fftfreq(padded[0])):
        radius = np.sqrt(kz**2 + ky**2 + kx**2)
        spectrum[z] *= table[(radius * ((_TABLE - 1) / np.sqrt(0.75)) + 0.5).astype(np.int32)]
    response = inverse_in_place(spectrum, padded, threads)
    return np.ascontiguousarray(response[tuple(slice(size) for size in volume.shape)])


def _ball_transfer(frequency: FloatArray, diameter_px: float) -> Volume:
    soft = np.exp(-2.0 * (np.pi * _SOFTNESS * diameter_px * frequency) ** 2)
    inner, outer = (_ball(np.pi * frequency * width * diameter_px) for width in (1.0, _SURROUND))
    volume_ratio = _SURROUND**3
    surround = (outer * volume_ratio - inner) / (volume_ratio - 1.0)
    return np.asarray(soft * (inner - surround), dtype=np.float32)


def _ball(phase: FloatArray) -> FloatArray:
    """Give the Fourier transform of a ball with the integral 1, at the product of radius and 2π·frequency."""
    x = np.maximum(phase, 1e-2)
    return np.asarray(3.0 * (np.sin(x) - x * np.cos(x)) / x**3)


def _allowed(shape: tuple[int, ...], diameter: float, slab_z: tuple[float, float] | None) -> Mask:
    """Give where centres may be."""
    allowed = np.zeros(shape, dtype=np.bool_)
    margin = int(np.ceil(diameter / 2))
    low, high = (0.0, float(shape[0] - 1)) if slab_z is None else slab_z
    first, last = max(int(np.ceil(low)), 2), min(int(np.floor(high)), shape[0] - 3)
    allowed[first : last + 1, margin : shape[1] - margin, margin : shape[2] - margin] = True
    return allowed


def _exclude(allowed: Mask, centres_zyx: FloatArray, reach: float) -> None:
    for centre in centres_zyx:
        first = np.maximum(np.floor(centre - reach).astype(int), 0)
        last = np.maximum(np.minimum(np.ceil(centre + reach).astype(int) + 1, allowed.shape), first)
        box = tuple(slice(a, b) for a, b in zip(first, last, strict=True))
        grids = np.ogrid[box]
        squared = sum((grid - at) ** 2 for grid, at in zip(grids, centre, strict=True))
        allowed[box] &= squared > reach**2


def _peaks(response: Volume, allowed: Mask, apart: float, noise_limit: float) -> TomogramPicks:
    values = response[allowed]
    if not values.size:
        return TomogramPicks(np.zeros((0, 3)), np.zeros(0), noise_limit)
    middle = float(np.median(values))
    # Below the median there are no particles: the spread there is the noise's.
    spread = max(middle - float(np.quantile(values, 0.159)), 1e-30)
    places = peaks_above(response, allowed, middle + LOWEST_SCORE * spread, apart)
    scores = (response[tuple(places.T)].astype(np.float64) - middle) / spread
    return TomogramPicks(_refined(response, places), scores, _parting(scores, noise_limit))


def peaks_above(response: Volume, allowed: Mask, least: float, apart: float) -> npt.NDArray[np.intp]:
    """Give the local maxima (peak, 3) of a volume that reach a value, highest first, so far apart in voxels.

    Of two that are nearer, the higher is kept.
    """
    size = 2 * max(1, int(apart / 4)) + 1
    top = allowed & (response >= least) & (response == maximum_filter(response, size))
    places = np.argwhere(top)
    return places[_far_apart(places, response[top].astype(np.float64), apart)]


def _far_apart(places: npt.NDArray[np.intp], scores: FloatArray, apart: float) -> npt.NDArray[np.intp]:
    """Give the places to keep, best first: each that is not near a better one that is kept."""
    order = np.argsort(-scores, kind="stable")
    if not len(order):
        return order
    near = cKDTree(places).query_ball_point(places, apart)
    free = np.ones(len(places), dtype=np.bool_)
    kept = []
    for index in order:
        if free[index]:
            kept.append(index)
            free[near[index]] = False
    return np.array(kept, dtype=np.intp)


def _parting(scores: FloatArray, noise_limit: float) -> float:
    """Give the score that parts two groups best: that with the largest variance between them (Otsu, 1979).

    It is no lower than what noise reaches, and no higher than half of what the best reach: particles of one
    kind differ by less.
    """
    strong = scores[scores > noise_limit]
    if scores.size < 4 or not strong.size:
        return noise_limit
    ordered = np.sort(np.log(scores))
    number = np.arange(1, ordered.size)
    sums = np.cumsum(ordered)
    below, above = sums[:-1] / number, (sums[-1] - sums[:-1]) / number[::-1]
    between = number * number[::-1] * (above - below) ** 2
    at = int(np.argmax(between))
    parting = float(np.exp(0.5 * (ordered[at] + ordered[at + 1])))
    return max(noise_limit, min(parting, 0.5 * float(np.quantile(strong, 0.9))))


def _refined(response: Volume, places: npt.NDArray[np.intp]) -> FloatArray:
    """Give the tops of parabolas through each peak and its neighbours."""
    refined = places.astype(np.float64)
    for row, place in enumerate(places):
        for axis in range(3):
            step = np.zeros(3, dtype=np.intp)
            step[axis] = 1
            if not 0 < place[axis] < response.shape[axis] - 1:
                continue
            before, at, after = (float(response[tuple(place + k * step)]) for k in (-1, 0, 1))
            curvature = before - 2 * at + after
            if curvature < 0:
                refined[row, axis] += float(np.clip(0.5 * (before - after) / curvature, -0.5, 0.5))
    return refined
