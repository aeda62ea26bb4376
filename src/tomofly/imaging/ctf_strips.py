"""Correction of tilted images for a contrast transfer that changes across the tilt axis.

A tilted image is in focus nowhere but along lines parallel to the axis. It is cut into strips along these,
each is corrected for the defocus at its middle line, and the strips are blended (Xiong et al., 2009).
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy import fft

from tomofly.imaging.ctf import CtfOptics, ctf_2d
from tomofly.imaging.fourier import inverse_real_transform, real_transform
from tomofly.imaging.side_by_side import for_each
from tomofly.imaging.tilt_geometry import TiltGeometry

FloatArray = npt.NDArray[np.float64]
Image = npt.NDArray[np.float32]
CtfMethod = Literal["flip", "wiener"]

# Strips are so close that where two meet, the phase of either is wrong by this at the Nyquist frequency, or
# at this detail where that is coarser: near a zero of the CTF details would else cancel in the blend.
_FINEST_ANGSTROM = 10.0
_PHASE_RAD = np.pi / 12
_NARROWEST_PX = 8.0
# Against division by nearly nothing: noise over signal power in the Wiener filter.
NOISE_OVER_SIGNAL = 0.2
# An image is mirrored beyond its edges by this part of its size, because the transfer spreads detail.
_PADDING = 0.125


@dataclass(frozen=True)
class _Tilt:
    """What the transfer of one image needs: its optics, and how depth changes over it."""

    defocus_u_angstrom: float
    defocus_v_angstrom: float
    astigmatism_angle_deg: float
    gradient_yx: FloatArray
    offset: float


def correct_tilted_ctf(
    images: npt.NDArray[Any],
    geometry: TiltGeometry,
    *,
    pixel_size_angstrom: float,
    defocus_u_angstrom: npt.ArrayLike,
    defocus_v_angstrom: npt.ArrayLike,
    astigmatism_angle_deg: npt.ArrayLike,
    voltage_kv: float,
    spherical_aberration_mm: float,
    amplitude_contrast: float,
    phase_shift_deg: float = 0.0,
    hand: int = 1,
    method: CtfMethod = "flip",
    threads: int = 1,
) -> Image:
    """Correct images (tilt, y, x) for the CTF, strip by strip; the contrast stays dark on bright.

    Defocus and astigmatism (tilt,) are those of the specimen's origin; elsewhere on its level middle plane
    the defocus is larger by ``hand`` times the depth: 1, -1, or 0 for the same everywhere. 'flip' turns the
    phases that the CTF has turned; 'wiener' also restores amplitudes, by CTF/(CTF² + 0.2), scaled to 1 at the
    CTF's extrema. Frequencies below the first zero keep their sign by either. Strips are as many as details
    of 10 Å, or of two pixels, need: images are best binned before. Returns float32. Raises ValueError for an
    unknown method or hand.
    """
    if method not in ("flip", "wiener"):
        raise ValueError(f"the method is flip or wiener, not {method!r}")
    if hand not in (1, 0, -1):
        raise ValueError(f"the hand is 1, 0 or -1, not {hand}")
    optics = CtfOptics(voltage_kv, spherical_aberration_mm, amplitude_contrast)
    planes = _planes(geometry, pixel_size_angstrom, hand)
    lens = np.broadcast_arrays(
        np.zeros(len(images)), defocus_u_angstrom, defocus_v_angstrom, astigmatism_angle_deg
    )[1:]
    corrected = np.empty(images.shape, np.float32)

    def correct(index: int) -> None:
        u, v, angle = (float(values[index]) for values in lens)
        tilt = _Tilt(u, v, angle, planes[index, :2], float(planes[index, 2]))
        image = np.asarray(images[index], dtype=np.float32)
        corrected[index] = _correct(image, tilt, optics, pixel_size_angstrom, phase_shift_deg, method)

    for_each(correct, len(images), threads)
    return corrected


def _planes(geometry: TiltGeometry, pixel_size_angstrom: float, hand: int) -> FloatArray:
    """Give (tilt, 3): defocus changes by [0]·y + [1]·x + [2], in Å, at the centred pixel (y, x).

    The middle plane z = 0 is seen at (u, v) with the depth w where n·(u, v, w) = 0 for its normal n.
    """
    normal = geometry.rotations()[:, :, 2]
    steep = np.sign(normal[:, 2]) * np.maximum(np.abs(normal[:, 2]), 0.05)
    gradient = -normal[:, 1::-1] / steep[:, None]
    offset = (gradient * geometry.shift_yx_px).sum(axis=1, keepdims=True)
    return np.concatenate([gradient, offset], axis=1) * (hand * pixel_size_angstrom)


def _correct(
    image: Image,
    tilt: _Tilt,
    optics: CtfOptics,
    pixel_size_angstrom: float,
    phase_shift_deg: float,
    method: CtfMethod,
) -> Image:
    """Blend the image corrected for each of a few defoci, linearly between the two that are nearest."""
    padding = [_pad(size) for size in image.shape]
    padded = np.pad(image, padding, mode="reflect")
    spectrum = real_transform(padded)
    change = _defocus_change(image.shape, tilt)
    levels = _levels(change, optics, pixel_size_angstrom, tilt)
    inner = tuple(
        slice(before, before + size) for (before, _), size in zip(padding, image.shape, strict=True)
    )
    blended = np.zeros(image.shape, np.float32)
    for number, level in enumerate(levels):
        weight = _weight(change, levels, number)
        if not weight.any():
            continue
        ctf = ctf_2d(
            (padded.shape[0], padded.shape[1]), pixel_size_angstrom, tilt.defocus_u_angstrom + level,
            tilt.defocus_v_angstrom + level, tilt.astigmatism_angle_deg, optics, phase_shift_deg,
        )  # fmt: skip
        strip = inverse_real_transform(
            spectrum * _correction(ctf, method), (padded.shape[0], padded.shape[1])
        )
        blended += weight * strip[inner]
    return blended


def _pad(size: int) -> tuple[int, int]:
    before = int(_PADDING * size)
    return before, fft.next_fast_len(size + 2 * before, real=True) - size - before


def _defocus_change(shape: tuple[int, ...], tilt: _Tilt) -> FloatArray:
    y = np.arange(shape[0])[:, None] - shape[0] // 2
    x = np.arange(shape[1])[None, :] - shape[1] // 2
    return np.asarray(tilt.gradient_yx[0] * y + tilt.gradient_yx[1] * x + tilt.offset)


def _levels(change: FloatArray, optics: CtfOptics, pixel_size_angstrom: float, tilt: _Tilt) -> FloatArray:
    """Give the defoci to correct for, evenly spaced: near enough to each other, but no strip too narrow."""
    finest = max(2.0 * pixel_size_angstrom, _FINEST_ANGSTROM)
    spacing = 2.0 * _PHASE_RAD / (optics.defocus_coefficient / finest**2)
    steepness = float(np.hypot(*tilt.gradient_yx))
    spacing = max(spacing, steepness * _NARROWEST_PX)
    low, high = float(change.min()), float(change.max())
    count = int(np.ceil((high - low) / spacing)) + 1
    return np.linspace(low, high, count) if count > 1 else np.array([0.5 * (low + high)])


def _weight(change: FloatArray, levels: FloatArray, number: int) -> Image:
    if len(levels) == 1:
        return np.ones(change.shape, np.float32)
    apart = np.abs(change - levels[number]) / (levels[1] - levels[0])
    return np.asarray(np.clip(1.0 - apart, 0.0, None), dtype=np.float32)


def _correction(ctf: Image, method: CtfMethod) -> Image:
    """Give the filter; the CTF is negative at low frequencies, which stay as they are."""
    if method == "flip":
        return np.asarray(np.where(ctf > 0, np.float32(-1), np.float32(1)))
    scale = np.float32(1 + NOISE_OVER_SIGNAL)
    return np.asarray(-ctf * scale / (ctf * ctf + np.float32(NOISE_OVER_SIGNAL)))
