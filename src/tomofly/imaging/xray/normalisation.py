"""From counts to transmission and absorption."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

FloatArray = npt.NDArray[np.float32]

# Least transmission that counts: what is darker is noise, and its logarithm would be a streak.
DARKEST = 1e-4
# A pixel whose flat is not above its dark by this fraction of the median difference sees nothing.
_BLIND = 1e-3
# Types the kernels are compiled for; all others become float32 first.
_DIRECT = (np.uint8, np.uint16, np.float32)


@dataclass(frozen=True, eq=False)
class Reference:
    """Dark and flat fields made ready: ``dark`` (y, x) in counts, ``scale`` (y, x) = 1/(flat - dark).

    Blind pixels, where the flat is not above the dark, have the scale 0; ``blind`` is how many there are.
    Pixels at ``saturation`` counts or above are taken for fully transparent.
    """

    dark: FloatArray
    scale: FloatArray
    blind: int
    saturation: float

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return (self.dark.shape[0], self.dark.shape[1])


def make_reference(
    dark: npt.NDArray[Any], flat: npt.NDArray[Any], saturation: float | None = None
) -> Reference:
    """Make dark and flat fields (y, x) ready.

    Raises ValueError where they differ in shape, are not finite, or the flat is nowhere above the dark.
    """
    dark, flat = np.asarray(dark, np.float32), np.asarray(flat, np.float32)
    if dark.shape != flat.shape or dark.ndim != 2:
        raise ValueError(f"the dark field {dark.shape} and the flat field {flat.shape} differ in shape")
    light = flat - dark
    if not np.isfinite(light).all():
        raise ValueError("the dark or the flat field has values that are not finite")
    lit = light[light > 0]
    if not lit.size or lit.size < light.size / 2:
        raise ValueError("the flat field is not brighter than the dark field: was the shutter closed?")
    sees = light > _BLIND * np.median(lit)
    scale = np.where(sees, 1 / np.where(sees, light, 1), 0).astype(np.float32)
    top = np.inf if saturation is None else float(saturation)
    return Reference(np.ascontiguousarray(dark), scale, int((~sees).sum()), top)


def transmission(frame: npt.NDArray[Any], reference: Reference) -> FloatArray:
    """Give (frame - dark)/(flat - dark), float32 (y, x).

    At least ``DARKEST``; 1 where the reference is blind, the pixel is saturated or not a number. Raises
    ValueError where the frame does not fit the reference.
    """
    out = np.empty(reference.shape, np.float32)
    _transmission(*_fitting(frame, reference), out)
    return out


def absorption(frame: npt.NDArray[Any], reference: Reference) -> FloatArray:
    """Give minus the logarithm of the transmission in one pass, float32 (y, x)."""
    out = np.empty(reference.shape, np.float32)
    _absorption(*_fitting(frame, reference), out)
    return out


def minus_log(values: FloatArray) -> FloatArray:
    """Give -log of positive values (y, x), float32, to 3e-7."""
    out = np.empty(values.shape, np.float32)
    _minus_log(np.ascontiguousarray(np.maximum(values, np.float32(DARKEST))), out)
    return out


def _fitting(
    frame: npt.NDArray[Any], reference: Reference
) -> tuple[npt.NDArray[Any], FloatArray, FloatArray, np.float32]:
    if frame.shape != reference.shape:
        raise ValueError(f"a frame {frame.shape} does not fit the dark and flat fields {reference.shape}")
    direct = frame if frame.dtype in _DIRECT else frame.astype(np.float32)
    return np.ascontiguousarray(direct), reference.dark, reference.scale, np.float32(reference.saturation)


@njit(cache=True, nogil=True)
def _transmission(
    frame: npt.NDArray[Any], dark: FloatArray, scale: FloatArray, saturation: np.float32, out: FloatArray
) -> None:
    least, one = np.float32(DARKEST), np.float32(1.0)
    for y in range(frame.shape[0]):
        for x in range(frame.shape[1]):
            count = np.float32(frame[y, x])
            value = (count - dark[y, x]) * scale[y, x]
            # Written so that a value that is not a number fails the comparison.
            value = value if value > least else (least if value <= least else one)
            out[y, x] = value if scale[y, x] > 0 and count < saturation else one


def _bits(_typing: Any, _value: Any) -> Any:
    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.IntType(32))

    return types.int32(types.float32), generate


def _from_bits(_typing: Any, _bits: Any) -> Any:
    def generate(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.bitcast(arguments[0], ir.FloatType())

    return types.float32(types.int32), generate


# Registers read as integers and back, which the compiler vectorises; through arrays it does not.
bits_of: Any = intrinsic(_bits)
float_of: Any = intrinsic(_from_bits)

# log(1 + m)'s polynomial for m from sqrt(1/2) - 1 to sqrt(2) - 1 (Cephes' logf), after m - m²/2, by m³.
_C0, _C1, _C2 = np.float32(0.070376836), np.float32(-0.11514610), np.float32(0.11676998)
_C3, _C4, _C5 = np.float32(-0.12420141), np.float32(0.14249323), np.float32(-0.16668057)
_C6, _C7, _C8 = np.float32(0.20000714), np.float32(-0.24999994), np.float32(0.33333331)
_LN2, _ONE, _HALF = np.float32(np.log(2)), np.float32(1.0), np.float32(0.5)


@njit(cache=True, nogil=True)
def _absorption(
    frame: npt.NDArray[Any], dark: FloatArray, scale: FloatArray, saturation: np.float32, out: FloatArray
) -> None:
    # A row at a time stays in cache, and is apart from the result, as vectors need it.
    row = np.empty((1, frame.shape[1]), np.float32)
    for y in range(frame.shape[0]):
        here = slice(y, y + 1)
        _transmission(frame[here], dark[here], scale[here], saturation, row)
        _minus_log(row, out[here])


@njit(cache=True, nogil=True, fastmath=True)
def _minus_log(values: FloatArray, out: FloatArray) -> None:
    """Compute -log by exponent and mantissa, split at sqrt(1/2) rather than at 1."""
    for y in range(values.shape[0]):
        row, result = values[y], out[y]
        for x in range(row.shape[0]):
            # Adding the distance from sqrt(1/2) to 1 in bits moves the split.
            bits = np.int32(bits_of(row[x]) + np.int32(0x004AFB0D))
            exponent = np.float32(np.int32(bits >> np.int32(23)) - np.int32(127))
            m = float_of(np.int32((bits & np.int32(0x007FFFFF)) + np.int32(0x3F3504F3))) - _ONE
            p = (((_C0 * m + _C1) * m + _C2) * m + _C3) * m + _C4
            p = (((p * m + _C5) * m + _C6) * m + _C7) * m + _C8
            square = m * m
            result[x] = -(m + (p * m * square - _HALF * square) + exponent * _LN2)
