"""Where the specimen is in a tomogram: thickness, height and slopes of the slab, or that none is to be seen.

Two tomograms, from every other tilt each, agree where the specimen is. Noise and the streaks that lead from
each detail along the beam do not: above and below the specimen they are different, or of opposite sign, as
the filter of back-projection makes them. So the covariance of the two, slice by slice, is above 0 within the
slab and at or below 0 outside, and the slab is the interval with the largest sum of covariances.
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import fft

from tomofly.imaging.binning import bin_mean
from tomofly.imaging.gold_erasing import erase_gold
from tomofly.imaging.side_by_side import for_each
from tomofly.imaging.tilt_geometry import TiltGeometry
from tomofly.imaging.tomogram import reconstruct_tomogram

FloatArray = npt.NDArray[np.float64]
Volume = npt.NDArray[np.float32]

# Texture is compared between these sizes: finer is noise, coarser is uneven illumination.
_FINEST_ANGSTROM, _COARSEST_ANGSTROM = 20.0, 140.0
_GOLD_ANGSTROM = 100.0
_PATCHES = 6
# Of the height and width: what lies nearer to the sides is seen by few tilts.
_MARGIN = 0.08
# What is further from 0 than so many standard deviations may be gold, and counts no more than this.
_OUTLIER = 3.0
# Steps of the search for the slopes, degrees, and how far it looks.
_SEARCH_DEG = (2.0, 0.5, 0.125)
_STEEPEST_DEG = 16.0
# What the agreement has to be to count: in standard errors over the patches, and of the variance.
_LEAST_SIGNIFICANCE, _LEAST_AGREEMENT = 6.0, 0.02


@dataclass(frozen=True)
class Slab:
    """The slab of specimen in a tomogram, lengths in voxels, or the reason why none was found.

    The middle plane is z = ``centre_z`` + x·tan ``slope_x_deg`` + y·tan ``slope_y_deg`` in centred
    coordinates; the thickness is across it. Errors are standard errors (jackknife over patches). All are NaN
    where there is a ``reason``.
    """

    thickness: float = np.nan
    thickness_error: float = np.nan
    centre_z: float = np.nan
    centre_error: float = np.nan
    slope_x_deg: float = np.nan
    slope_x_error_deg: float = np.nan
    slope_y_deg: float = np.nan
    slope_y_error_deg: float = np.nan
    reason: str = ""

    @property
    def detectable(self) -> bool:
        """Whether both surfaces were found."""
        return not self.reason


def find_slab_in_series(
    images: npt.NDArray[np.float32],
    geometry: TiltGeometry,
    pixel_size_angstrom: float,
    depth_px: int,
    *,
    threads: int = 1,
) -> Slab:
    """Find the slab that an aligned series (tilt, y, x) shows, within ``depth_px`` about the centre.

    The images are binned to about 20 Å for this, and gold in them is covered up. Lengths are in pixels of the
    images given. Raises ValueError for fewer than four tilts.
    """
    if len(images) < 4:
        raise ValueError(
            f"a slab is found in two halves of at least two tilts each, not in {len(images)} tilts"
        )
    binning = max(1, round(_FINEST_ANGSTROM / pixel_size_angstrom))
    binned = np.stack([bin_mean(image, binning) for image in images])
    binned = erase_gold(binned, _GOLD_ANGSTROM / pixel_size_angstrom / binning, threads=threads)
    order = np.argsort(geometry.tilt_angle_deg, kind="stable")
    height, width = binned.shape[1:]
    halves = [
        reconstruct_tomogram(
            binned[order[first::2]], _binned(geometry.subset(order[first::2]), images.shape, binning),
            (-(-depth_px // binning), height, width), cutoff=(0.5, 0.5), threads=threads,
        )
        for first in (0, 1)
    ]  # fmt: skip
    slab = find_slab(halves[0], halves[1], pixel_size_angstrom * binning, threads=threads)
    lengths = ("thickness", "thickness_error", "centre_z", "centre_error")
    return replace(slab, **{name: getattr(slab, name) * binning for name in lengths})


def _binned(geometry: TiltGeometry, shape: tuple[int, ...], binning: int) -> TiltGeometry:
    """Give the geometry of block means, whose index n // 2 is not where that of the images lies."""
    sizes = np.array(shape[1:])
    first_block_centre = (binning - 1) / 2
    moved = sizes // 2 - ((sizes // binning) // 2 * binning + first_block_centre)
    return replace(geometry, shift_yx_px=(geometry.shift_yx_px - moved) / binning)


def find_slab(first: Volume, second: Volume, voxel_size_angstrom: float, *, threads: int = 1) -> Slab:
    """Find the slab in two tomograms (z, y, x) of the same specimen from every other tilt each.

    They reach beyond the slab on both sides. Raises ValueError for different shapes.
    """
    if first.shape != second.shape:
        raise ValueError(f"tomograms of the shapes {first.shape} and {second.shape} cannot be compared")
    profiles, places_yx = agreement_profiles(first, second, voxel_size_angstrom, threads=threads)
    heights = np.arange(first.shape[0], dtype=np.float64) - first.shape[0] // 2
    slopes = _search_slopes(heights, profiles, places_yx)
    low, high, _ = _interval(heights, _sheared(heights, profiles, places_yx, slopes))
    reason = _doubt(heights, profiles, places_yx, slopes, (low, high))
    if reason:
        return Slab(reason=reason)
    return _with_errors(heights, profiles, places_yx, slopes)


def levelled(geometry: TiltGeometry, slab: Slab) -> TiltGeometry:
    """Give the geometry in which the slab, found in a tomogram made with ``geometry``, lies level.

    Its height stays as it is. Raises ValueError where there is no slab.
    """
    if not slab.detectable:
        raise ValueError(f"what is not detectable cannot be levelled: {slab.reason}")
    x_tilt = np.deg2rad(geometry.x_tilt_deg)
    normal = np.array([-np.tan(np.deg2rad(slab.slope_x_deg)), -np.tan(np.deg2rad(slab.slope_y_deg)), 1.0])
    normal /= np.linalg.norm(normal)
    y = np.cos(x_tilt) * normal[1] - np.sin(x_tilt) * normal[2]
    z = np.sin(x_tilt) * normal[1] + np.cos(x_tilt) * normal[2]
    return replace(
        geometry,
        tilt_angle_deg=geometry.tilt_angle_deg + np.rad2deg(np.arctan2(normal[0], z)),
        x_tilt_deg=float(-np.rad2deg(np.arcsin(y))),
    )


def agreement_profiles(
    first: Volume, second: Volume, voxel_size_angstrom: float, *, threads: int = 1
) -> tuple[FloatArray, FloatArray]:
    """Give covariances (patch, z), relative to each patch's variance, and the patches' centred (y, x)."""
    passed = _high_pass(first.shape[1:], _COARSEST_ANGSTROM / voxel_size_angstrom)
    rows, columns = (_patch_edges(size) for size in first.shape[1:])
    profiles, variances = np.empty((2, _PATCHES**2, first.shape[0]))

    def compare(z: int) -> None:
        one, other = (fft.idctn(fft.dctn(volume[z]) * passed) for volume in (first, second))
        for patch in range(_PATCHES**2):
            i, j = divmod(patch, _PATCHES)
            part = np.s_[rows[i] : rows[i + 1], columns[j] : columns[j + 1]]
            ours, theirs = _clipped(one[part]), _clipped(other[part])
            profiles[patch, z] = (ours * theirs).mean(dtype=np.float64)
            variances[patch, z] = (ours**2 + theirs**2).mean(dtype=np.float64) / 2

    for_each(compare, first.shape[0], threads)
    middles = [
        0.5 * (edges[:-1] + edges[1:] - 1) - size // 2
        for edges, size in zip((rows, columns), first.shape[1:], strict=True)
    ]
    places = np.stack(np.meshgrid(*middles, indexing="ij"), axis=-1).reshape(-1, 2)
    typical = np.median(variances, axis=1, keepdims=True)
    return profiles / np.maximum(typical, np.finfo(np.float64).tiny), places


def _high_pass(shape_yx: tuple[int, ...], sigma_px: float) -> npt.NDArray[np.float32]:
    """Give what an image less its Gaussian mean is of the image, per coefficient of the cosine transform.

    The cosine transform continues an image by reflection, so that its edges need no other treatment.
    """
    y, x = (np.exp(-0.5 * (np.pi * sigma_px * np.arange(size) / size) ** 2) for size in shape_yx)
    return (1.0 - np.outer(y, x)).astype(np.float32)


def _patch_edges(size: int) -> npt.NDArray[np.intp]:
    return np.linspace(_MARGIN * size, (1 - _MARGIN) * size, _PATCHES + 1).round().astype(np.intp)


def _clipped(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    places = [round(part * (values.size - 1)) for part in (0.159, 0.841)]
    low, high = np.partition(values, places, axis=None)[places]
    reach = np.float32(_OUTLIER * 0.5) * (high - low)
    return np.clip(values, -reach, reach)


def _sheared(
    heights: FloatArray, profiles: FloatArray, places_yx: FloatArray, slopes_yx_deg: FloatArray
) -> FloatArray:
    """Give the profiles (patch, z) as they are along a plane with these slopes."""
    rise = places_yx @ np.tan(np.deg2rad(slopes_yx_deg))
    return np.stack(
        [np.interp(heights + at, heights, line, 0, 0) for line, at in zip(profiles, rise, strict=True)]
    )


def _interval(heights: FloatArray, profiles: FloatArray) -> tuple[float, float, float]:
    """Give the interval of heights with the largest sum, its ends where the profile crosses 0, and the sum.

    The profile is the patches' mean. The largest sum: Kadane's algorithm (Bentley, 1984).
    """
    profile = profiles.mean(axis=0)
    total = np.concatenate([[0.0], np.cumsum(profile)])
    lowest = np.minimum.accumulate(total)
    end = int(np.argmax(total - lowest))
    start = int(np.argmin(total[: end + 1]))
    if start >= end:
        return 0.0, 0.0, 0.0
    low = heights[start] - _part_beyond(profile, start, start - 1)
    high = heights[end - 1] + _part_beyond(profile, end - 1, end)
    return float(low), float(high), float(total[end] - total[start])


def _part_beyond(profile: FloatArray, inside: int, outside: int) -> float:
    """Give how far from a value above 0 the line to the next, not above 0, crosses 0."""
    if outside < 0 or outside >= len(profile):
        return 0.5
    return float(profile[inside] / max(profile[inside] - profile[outside], 1e-30))


def _search_slopes(heights: FloatArray, profiles: FloatArray, places_yx: FloatArray) -> FloatArray:
    """Find the slopes (y, x) in degrees along which the patches' slabs add up best, coarse to fine."""
    best = np.zeros(2)
    for number, step in enumerate(_SEARCH_DEG):
        reach = _STEEPEST_DEG if number == 0 else 2 * _SEARCH_DEG[number - 1]
        best = _best_slopes(heights, profiles, places_yx, best, np.arange(-reach, reach + step / 2, step))
    return best


def _best_slopes(
    heights: FloatArray, profiles: FloatArray, places_yx: FloatArray, about: FloatArray, steps: FloatArray
) -> FloatArray:
    """Try steps along x and along y in turn, until neither is better; then the top of a parabola."""
    best = about.copy()
    for _ in range(3):
        before = best.copy()
        for axis in (1, 0):
            trials = np.repeat(best[None, :], len(steps), axis=0)
            trials[:, axis] = about[axis] + steps
            sums = [_interval(heights, _sheared(heights, profiles, places_yx, trial))[2] for trial in trials]
            best[axis] = about[axis] + _top(steps, np.array(sums))
        if np.array_equal(best, before):
            break
    return best


def _top(positions: FloatArray, values: FloatArray) -> float:
    peak = int(np.argmax(values))
    if peak in (0, len(values) - 1):
        return float(positions[peak])
    before, at, after = values[peak - 1 : peak + 2]
    curvature = before - 2 * at + after
    part = 0.5 * (before - after) / curvature if curvature < 0 else 0.0
    return float(positions[peak] + part * (positions[1] - positions[0]))


def _doubt(
    heights: FloatArray,
    profiles: FloatArray,
    places_yx: FloatArray,
    slopes: FloatArray,
    interval: tuple[float, float],
) -> str:
    """Say why what was found is no slab, or nothing."""
    low, high = interval
    inside = (heights >= low) & (heights <= high)
    if not inside.any():
        return "nothing agrees between the tilts"
    sums = _sheared(heights, profiles, places_yx, slopes)[:, inside].mean(axis=1)
    error = float(sums.std(ddof=1)) / np.sqrt(len(sums))
    if sums.mean() < _LEAST_SIGNIFICANCE * error or sums.mean() < _LEAST_AGREEMENT:
        if high - low > 0.8 * len(heights):
            return f"the specimen reaches the ends of the {len(heights)} slices searched"
        return f"what agrees between the tilts is {sums.mean():.1%} ± {error:.1%} of the variance"
    if low <= heights[1] or high >= heights[-2]:
        return f"the specimen reaches the ends of the {len(heights)} slices searched"
    return ""


def _with_errors(
    heights: FloatArray, profiles: FloatArray, places_yx: FloatArray, slopes: FloatArray
) -> Slab:
    """Measure the slab, and again without each of the patches for the errors."""
    whole = _measure(heights, profiles, places_yx, slopes)
    steps: FloatArray = np.arange(-4.0, 5.0) * _SEARCH_DEG[-1] * 2
    parts = []
    for left_out in range(len(profiles)):
        kept = np.arange(len(profiles)) != left_out
        near = _best_slopes(heights, profiles[kept], places_yx[kept], slopes, steps)
        parts.append(_measure(heights, profiles[kept], places_yx[kept], near))
    spread = np.std(parts, axis=0) * np.sqrt(len(parts) - 1)
    return Slab(
        thickness=whole[0], thickness_error=spread[0], centre_z=whole[1], centre_error=spread[1],
        slope_x_deg=whole[3], slope_x_error_deg=spread[3], slope_y_deg=whole[2], slope_y_error_deg=spread[2],
    )  # fmt: skip


def _measure(
    heights: FloatArray, profiles: FloatArray, places_yx: FloatArray, slopes: FloatArray
) -> FloatArray:
    """Give thickness across the plane, height of the middle, and the slopes (y, x)."""
    low, high, _ = _interval(heights, _sheared(heights, profiles, places_yx, slopes))
    steepness = np.sqrt(1.0 + np.square(np.tan(np.deg2rad(slopes))).sum())
    return np.array([(high - low) / steepness, 0.5 * (low + high), slopes[0], slopes[1]])
