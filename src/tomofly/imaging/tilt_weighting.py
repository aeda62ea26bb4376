"""Weights of a tilt series: the filters of weighted back-projection, dose and tilt.

A filter says, for each view and spatial frequency across the tilt axis, how strongly the view counts where
the views overlap in Fourier space. All are scaled such that the projection of the tomogram, summed over
voxels along the beam, is the image.
"""

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import fft

from tomofly.imaging.dose_weighting import dose_weights
from tomofly.imaging.fourier import inverse_real_transform, real_transform, rfft_radius
from tomofly.imaging.side_by_side import for_each

FloatArray = npt.NDArray[np.float64]
Filter = Literal["exact", "ramp", "sirt-like"]


def overlap(tilt_angle_deg: npt.ArrayLike, frequency: npt.ArrayLike, thickness_px: float) -> FloatArray:
    """Give how many views share each view's Fourier line, (tilt, frequency), at least 1.

    ``frequency`` in cycles per pixel across the axis. A specimen of the extent T along the beam blurs every
    line to a width of 1/T; two lines share what the blurred lines have in common, which falls off as a
    triangle (Harauz & van Heel, 1986).
    """
    tilt = np.deg2rad(np.asarray(tilt_angle_deg, dtype=np.float64))
    apart = np.abs(np.sin(tilt[:, None] - tilt[None, :]))
    reach = thickness_px * np.abs(np.asarray(frequency, dtype=np.float64))
    shared = np.zeros((tilt.size, reach.size))
    for other in range(tilt.size):
        shared += np.clip(1.0 - apart[:, other, None] * reach[None, :], 0.0, None)
    return shared


def exact_filter(tilt_angle_deg: npt.ArrayLike, frequency: npt.ArrayLike, thickness_px: float) -> FloatArray:
    """Give weights (tilt, frequency) that count every point of Fourier space once (Harauz & van Heel, 1986).

    The ramp at low frequencies, constant where the views no longer overlap; gaps and repeated angles are
    taken care of.
    """
    return np.asarray(1.0 / (thickness_px * overlap(tilt_angle_deg, frequency, thickness_px)))


def sirt_like_filter(
    tilt_angle_deg: npt.ArrayLike, frequency: npt.ArrayLike, thickness_px: float, iterations: int
) -> FloatArray:
    """Give weights (tilt, frequency) with which one back-projection looks like ``iterations`` of SIRT.

    What n iterations restore of a component whose share in the back-projection is r is 1 − (1 − r)^n; here r
    is the part of the views that overlap (Gilbert, 1972, for the iteration). One iteration: no filter.
    """
    shared = overlap(tilt_angle_deg, frequency, thickness_px)
    restored = 1.0 - (1.0 - shared / len(shared)) ** iterations
    return exact_filter(tilt_angle_deg, frequency, thickness_px) * restored


def ramp_filter(tilt_angle_deg: npt.ArrayLike, frequency: npt.ArrayLike, thickness_px: float) -> FloatArray:
    """Give weights (tilt, frequency): |k| times the angle that each view stands for (Radermacher, 1988).

    At the frequency 0 the ramp has the value at a quarter of 1/thickness, because a slab's mean is not 0.
    """
    tilt = np.deg2rad(np.asarray(tilt_angle_deg, dtype=np.float64))
    k = np.maximum(np.abs(np.asarray(frequency, dtype=np.float64)), 0.25 / thickness_px)
    return view_spacing_rad(tilt)[:, None] * k[None, :]


def view_spacing_rad(tilt_rad: FloatArray) -> FloatArray:
    """Give the angle that each view stands for: half the way to its neighbours, or the whole at an end."""
    if tilt_rad.size == 1:
        return np.full(1, np.pi)
    angles, same, counts = np.unique(tilt_rad, return_inverse=True, return_counts=True)
    if angles.size == 1:
        return np.full(tilt_rad.size, np.pi / tilt_rad.size)
    gaps = np.diff(angles)
    spacing = np.concatenate([gaps[:1], 0.5 * (gaps[1:] + gaps[:-1]), gaps[-1:]])
    return np.asarray((spacing / counts)[same])


def hamming_cutoff(frequency: npt.ArrayLike, start: float, end: float) -> FloatArray:
    """Give 1 up to ``start`` and half a Hamming window from there to ``end``, 0 beyond (cycles per pixel)."""
    k = np.abs(np.asarray(frequency, dtype=np.float64))
    part = np.clip((k - start) / max(end - start, 1e-9), 0.0, 1.0)
    return np.where(k > end, 0.0, 0.54 + 0.46 * np.cos(np.pi * part))


def view_filter(
    kind: Filter,
    tilt_angle_deg: npt.ArrayLike,
    frequency: npt.ArrayLike,
    thickness_px: float,
    *,
    iterations: int = 15,
    cutoff: tuple[float, float] = (0.35, 0.5),
) -> FloatArray:
    """Give the weights (tilt, frequency) of a filter by name, cut off between two frequencies.

    Raises ValueError for an unknown name.
    """
    if kind == "exact":
        weights = exact_filter(tilt_angle_deg, frequency, thickness_px)
    elif kind == "ramp":
        weights = ramp_filter(tilt_angle_deg, frequency, thickness_px)
    elif kind == "sirt-like":
        weights = sirt_like_filter(tilt_angle_deg, frequency, thickness_px, iterations)
    else:
        raise ValueError(f"the filter is exact, ramp or sirt-like, not {kind!r}")
    return weights * hamming_cutoff(frequency, *cutoff)


def filter_views(
    views: npt.NDArray[np.float32],
    kind: Filter,
    tilt_angle_deg: npt.ArrayLike,
    thickness_px: float,
    *,
    oversampling: int = 2,
    iterations: int = 15,
    cutoff: tuple[float, float] = (0.35, 0.5),
    threads: int = 1,
) -> npt.NDArray[np.float32]:
    """Filter views (tilt, u, y) across the axis and sample them finer there: (tilt, u·oversampling, y).

    The views are padded to twice their width. The loss that linear interpolation between the finer samples
    will cause is made up for.
    """
    count, width, along = views.shape
    padded = fft.next_fast_len(2 * width, real=True)
    frequency = np.fft.rfftfreq(padded)
    weights = view_filter(kind, tilt_angle_deg, frequency, thickness_px, iterations=iterations, cutoff=cutoff)
    weights = (oversampling * weights / np.sinc(frequency / oversampling) ** 2).astype(np.float32)
    fine = np.empty((count, width * oversampling, along), np.float32)

    def refine(index: int) -> None:
        spectrum = fft.rfft(views[index], n=padded, axis=0) * weights[index][:, None]
        fine[index] = fft.irfft(spectrum, n=padded * oversampling, axis=0)[: width * oversampling]

    for_each(refine, count, threads)
    return fine


def weight_tilts(
    images: npt.NDArray[Any],
    pixel_size_angstrom: float,
    *,
    tilt_angle_deg: npt.ArrayLike | None = None,
    dose_e_per_angstrom2: npt.ArrayLike | None = None,
    voltage_kv: float = 300.0,
    threads: int = 1,
) -> npt.NDArray[np.float32]:
    """Weigh images (tilt, y, x) by cos(tilt) and by what is left of the signal after their dose.

    ``dose_e_per_angstrom2`` (tilt,): accumulated before each tilt, and half its own (Grant & Grigorieff,
    2015). At each frequency the squares of the weights average 1, so that noise stays as it is. Angles or
    doses that are None do not count.
    """
    count, shape = len(images), (images.shape[1], images.shape[2])
    radial = np.linspace(0.0, np.sqrt(0.5), max(shape) + 1)
    weights = np.ones((count, radial.size))
    if dose_e_per_angstrom2 is not None:
        weights *= dose_weights(radial / pixel_size_angstrom, dose_e_per_angstrom2, voltage_kv)
    if tilt_angle_deg is not None:
        weights *= np.cos(np.deg2rad(np.asarray(tilt_angle_deg, dtype=np.float64)))[:, None]
    weights /= np.sqrt(np.maximum((weights**2).mean(axis=0), np.finfo(np.float64).tiny))
    radius = rfft_radius(shape)
    weighted = np.empty((count, *shape), np.float32)

    def weigh(index: int) -> None:
        factor = np.interp(radius, radial, weights[index]).astype(np.float32)
        weighted[index] = inverse_real_transform(real_transform(images[index]) * factor, shape)

    for_each(weigh, count, threads)
    return weighted


def tilt_contrast(images: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Divide each image (tilt, y, x) of counts by its mean, and take off 1: contrast does not know the dose.

    Raises ValueError where a mean is not above 0.
    """
    means = images.mean(axis=(1, 2), dtype=np.float64)
    if not (means > 0).all():
        raise ValueError(
            f"the mean of image {int(np.argmin(means))} is {means.min():.4g}; counts are above 0"
        )
    return np.asarray(images / means.astype(np.float32)[:, None, None] - np.float32(1.0), dtype=np.float32)
