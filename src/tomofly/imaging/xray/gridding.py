"""Filtered back-projection by Fourier gridding: a non-uniform FFT that knows that its samples are polar.

Dutt & Rokhlin (1993), Fessler & Sutton (2003) for the method; kernel after Beatty, Nishimura & Pauly (2005).
Two real slices are one complex one, and sixteen of them share the place and the weights of each sample: the
innermost loop is a plain sum over slices, and the spectra of a few projections at a time stay in the cache.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.fft
from numba import njit

from tomofly.imaging.side_by_side import for_each
from tomofly.imaging.xray.angular_weights import angular_weights
from tomofly.imaging.xray.filters import padded_length
from tomofly.imaging.xray.lane_taps import LANES, TAPS, spread_sample

FloatArray = npt.NDArray[np.float32]
ComplexArray = npt.NDArray[np.complex64]

SLICES = LANES
"""Slices that share one grid: eight complex numbers fill a cache line."""

_UPSAMPLING = 1.25
_STEPS = 2048
_BORDER = 4
_ANGLES = 8
"""Projections transformed at a time: their spectra fit into the second-level cache."""


@dataclass(frozen=True)
class GriddingPlan:
    """All that slices of one scan share.

    ``multiplier`` (padded) is filter, centre and scale of a spectrum; ``weights`` (angle) the share of each
    projection, in radians; ``taper`` (width) undoes the kernel along one axis of a slice.
    """

    width: int
    padded: int
    side: int
    cosines: FloatArray
    sines: FloatArray
    weights: FloatArray
    multiplier: ComplexArray
    kernel: FloatArray
    taper: FloatArray


def plan_gridding(
    angles_deg: npt.ArrayLike, width: int, centre: float, response: npt.NDArray[np.floating]
) -> GriddingPlan:
    """Prepare for slices of width x width pixels from projections at ``angles_deg``, in any order.

    ``centre`` is the detector pixel (0: the middle of the first) onto which the axis projects; ``response``
    is that of the filter at the frequencies of ``rfft`` of ``padded_length(width)``, as ``filter_response``
    gives it. Raises ValueError for numbers that make no slice.
    """
    theta = np.deg2rad(np.asarray(angles_deg, np.float64))
    padded = padded_length(width)
    if response.shape != (padded // 2 + 1,):
        raise ValueError(
            f"a response at {padded // 2 + 1} frequencies is needed, this one has {response.shape}"
        )
    if not (np.isfinite(theta).all() and np.isfinite(centre)):
        raise ValueError("angles and centre must be numbers")
    frequency = scipy.fft.fftfreq(padded)
    two_sided = np.concatenate([response, response[1 : (padded + 1) // 2][::-1]])
    if padded % 2 == 0:
        two_sided[padded // 2] = 0.0  # its phase is not known: it would leak from one slice into its twin
    multiplier = two_sided * np.exp(2j * np.pi * frequency * centre) / padded
    side = 2 * scipy.fft.next_fast_len(int(np.ceil(_UPSAMPLING * width / 2)))
    return GriddingPlan(
        width=width,
        padded=padded,
        side=side,
        cosines=np.cos(theta).astype(np.float32),
        sines=np.sin(theta).astype(np.float32),
        weights=angular_weights(angles_deg).astype(np.float32),
        multiplier=multiplier.astype(np.complex64),
        kernel=_kernel_table(side / width),
        taper=_taper(width, side),
    )


def batch_bytes(width: int, angles: int) -> int:
    """Memory that one thread needs for a batch of ``SLICES`` slices, beside projections and result."""
    side = int(np.ceil(_UPSAMPLING * width)) + 2 * _BORDER + 8
    spectra = _ANGLES * padded_length(width)
    return 2 * 8 * (SLICES // 2) * (side * side + spectra) + 4 * angles


def reconstruct_slices(projections: FloatArray, plan: GriddingPlan, *, threads: int = 1) -> FloatArray:
    """Reconstruct slices (slice, y, x), in the inverse of a pixel, from absorption (angle, slice, s).

    Filtered back-projection with the exact (sinc) interpolation of a band-limited projection, up to the error
    of the kernel, about 0.3 %.
    """
    angles, slices, width = projections.shape
    if width != plan.width or angles != len(plan.cosines):
        raise ValueError(
            f"the plan is for {len(plan.cosines)} projections {plan.width} wide, not {angles}, {width}"
        )
    result = np.empty((slices, width, width), np.float32)

    def one_batch(index: int) -> None:
        chosen = slice(index * SLICES, min(slices, (index + 1) * SLICES))
        result[chosen] = 0
        _unpack(_gridded(projections[:, chosen], plan), plan.taper, result[chosen])

    for_each(one_batch, -(-slices // SLICES), threads)
    return result


def _gridded(projections: FloatArray, plan: GriddingPlan) -> ComplexArray:
    """Give a batch of slices (y, x, pair), not yet freed of the kernel."""
    around = plan.side + 2 * _BORDER
    grid = np.zeros((around, around, SLICES), np.float32)
    packed = np.zeros((_ANGLES, plan.padded, SLICES), np.float32)
    for start in range(0, len(projections), _ANGLES):
        block = projections[start : start + _ANGLES]
        used = packed[: len(block)]
        _pack(block, used)
        spectra = scipy.fft.fft(used.view(np.complex64), axis=1)
        chosen = slice(start, start + len(block))
        spectra *= plan.multiplier[:, None]
        _spread(
            spectra.view(np.float32), plan.weights[chosen], plan.cosines[chosen], plan.sines[chosen],
            plan.kernel, plan.side, grid,
        )  # fmt: skip
    _fold(grid, _BORDER, plan.side)
    inner = grid.view(np.complex64)[_BORDER : _BORDER + plan.side, _BORDER : _BORDER + plan.side]
    columns = scipy.fft.ifft(inner, axis=0, norm="forward", overwrite_x=True)
    first = plan.side // 2 - plan.width // 2
    rows = columns[first : first + plan.width]
    image: ComplexArray = scipy.fft.ifft(rows, axis=1, norm="forward", overwrite_x=True)
    return image[:, first : first + plan.width]


def _shape_parameter(upsampling: float) -> float:
    inside = (TAPS / upsampling) ** 2 * (upsampling - 0.5) ** 2 - 0.8
    return float(np.pi * np.sqrt(inside))


def _kernel_table(upsampling: float) -> FloatArray:
    """The Kaiser-Bessel kernel at four cells, by how far (in steps) a sample lies beyond the second of them.

    Signs alternate, as the origin in the middle of the slice wants it.
    """
    beta = _shape_parameter(upsampling)
    fraction = np.arange(_STEPS + 2)[:, None] / _STEPS
    distance = fraction + 1 - np.arange(TAPS)
    inside = np.maximum(1 - (2 * distance / TAPS) ** 2, 0)
    values = np.where(np.abs(distance) <= TAPS / 2, np.i0(beta * np.sqrt(inside)), 0) / np.i0(beta)
    table: FloatArray = (values * np.array([1, -1, 1, -1])).astype(np.float32)
    return table


def _taper(width: int, side: int) -> FloatArray:
    """One over the kernel's transform at the pixels of a slice, with alternating signs."""
    beta = _shape_parameter(side / width)
    pixel = np.arange(width) - width // 2
    argument = np.emath.sqrt(beta**2 - (np.pi * TAPS * pixel / side) ** 2)
    transform = np.real(TAPS * np.sinh(argument) / argument) / np.i0(beta)
    taper: FloatArray = (np.where(np.arange(width) % 2 == 0, 1, -1) / transform).astype(np.float32)
    return taper


@njit(cache=True, nogil=True)
def _pack(projections: FloatArray, packed: FloatArray) -> None:  # pragma: no cover - compiled
    """Lay slices beside each other: (angle, slice, s) to (angle, s, slice); what is beyond stays zero."""
    angles, slices, width = projections.shape
    for angle in range(angles):
        for begin in range(0, width, 16):
            for piece in range(slices):
                for s in range(begin, min(width, begin + 16)):
                    packed[angle, s, piece] = projections[angle, piece, s]


@njit(cache=True, nogil=True, fastmath=True)
def _spread(
    spectra: FloatArray,
    weights: FloatArray,
    cosines: FloatArray,
    sines: FloatArray,
    kernel: FloatArray,
    side: int,
    grid: FloatArray,
) -> None:  # pragma: no cover - compiled
    """Add the spectra (angle, frequency, slice) of some projections to the grid (v, u, slice)."""
    angles, padded, _ = spectra.shape
    origin = np.float32(side // 2 + _BORDER)
    stride = side + 2 * _BORDER
    one, half, steps = np.float32(1), np.float32(0.5), np.float32(_STEPS)
    for angle in range(angles):
        along = cosines[angle] * np.float32(side) / np.float32(padded)
        down = -sines[angle] * np.float32(side) / np.float32(padded)
        for k in range(padded):
            frequency = np.float32(k if k < (padded + 1) // 2 else k - padded)
            u, v = frequency * along + origin, frequency * down + origin
            u0, v0 = int(u) - 1, int(v) - 1
            across = int((u - np.float32(u0) - one) * steps + half)
            below = int((v - np.float32(v0) - one) * steps + half)
            scale = weights[angle] * np.float32(1 - 2 * ((u0 + v0) & 1))
            at = v0 * stride + u0
            spread_sample(grid, at, stride, spectra, angle * padded + k, kernel, across, below, scale)


def _fold(grid: FloatArray, border: int, side: int) -> None:
    """Bring what was added beyond the edges of the periodic grid to where it belongs."""
    for axis in (0, 1):
        line = np.moveaxis(grid, axis, 0)
        line[side : side + border] += line[:border]
        line[border : 2 * border] += line[side + border :]


@njit(cache=True, nogil=True)
def _unpack(image: ComplexArray, taper: FloatArray, out: FloatArray) -> None:  # pragma: no cover - compiled
    """Take the slices out of (y, x, pair), free of the kernel."""
    slices, rows, columns = out.shape
    for y in range(rows):
        for begin in range(0, columns, 16):
            for piece in range(slices):
                for x in range(begin, min(columns, begin + 16)):
                    value = image[y, x, piece // 2]
                    part = value.real if piece % 2 == 0 else value.imag
                    out[piece, y, x] = part * taper[y] * taper[x]
