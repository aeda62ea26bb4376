"""From counts to transmission and absorption."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

FloatArray = npt.NDArray[np.float32]

# Least transmission that counts: what is darker is noise, and its logarithm would be a streak.
DARKEST = 1e-4
# A pixel whose flat is not above its dark by this fraction of the median difference sees nothing.
_BLIND = 1e-3
# Types the kernels are compiled for; all others become float32 first.
_DIRECT = (np.uint8, np.uint16, np.float32)
_RUN = 4096  # values whose mantissas stay in the first cache


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
    _transmission(*_fitting(frame, reference), out)
    _minus_log(out, out)
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


@njit(cache=True, nogil=True, fastmath=True)
def _minus_log(values: FloatArray, out: FloatArray) -> None:
    """Compute -log in a form that the compiler vectorises: exponent, and a polynomial of the mantissa."""
    flat, result = values.reshape(-1), out.reshape(-1)
    bits, ln2 = flat.view(np.int32), np.float32(0.6931471805599453)
    c0, c1, c2, c3 = (
        np.float32(0.070376836),
        np.float32(-0.11514610),
        np.float32(0.11676998),
        np.float32(-0.12420141),
    )
    c4, c5, c6 = np.float32(0.14249323), np.float32(-0.16668057), np.float32(0.20000714)
    c7, c8 = np.float32(-0.24999994), np.float32(0.33333331)
    shifted = np.empty(_RUN, np.int32)
    mantissa = shifted.view(np.float32)
    for start in range(0, flat.size, _RUN):
        count = min(_RUN, flat.size - start)
        part, log = bits[start : start + count], result[start : start + count]
        for i in range(count):
            # Adding the distance from sqrt(1/2) to 1 in bits splits at sqrt(1/2) rather than at 1.
            shifted[i] = ((part[i] + np.int32(0x004AFB0D)) & np.int32(0x007FFFFF)) + np.int32(0x3F3504F3)
        for i in range(count):
            exponent = ((part[i] + np.int32(0x004AFB0D)) >> np.int32(23)) - np.int32(127)
            m = mantissa[i] - np.float32(1.0)
            p = c0 * m + c1
            p = p * m + c2
            p = p * m + c3
            p = p * m + c4
            p = p * m + c5
            p = p * m + c6
            p = p * m + c7
            p = p * m + c8
            square = m * m
            of_mantissa = m + (p * m * square - np.float32(0.5) * square)
            log[i] = -(of_mantissa + np.float32(exponent) * ln2)
