"""Particle boxes cut from a micrograph, as RELION and its like expect them."""

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import fft

Edge = Literal["drop", "mean"]


def extract_boxes(
    image: NDArray[np.float32],
    position_yx_px: ArrayLike,
    box_px: int,
    *,
    edge: Edge = "drop",
    invert: bool = False,
    binned_box_px: int | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """Cut square boxes around positions (n, 2), in pixels with (0, 0) at the centre of the first.

    A position is rounded to whole pixels and comes to lie on box pixel ``box_px // 2``, the origin of a
    discrete Fourier transform. ``edge`` says what happens to a box that reaches over the image: "drop"
    leaves it out, "mean" fills the missing part with the mean of the rest. ``invert`` makes dark particles
    bright. ``binned_box_px`` crops each box in Fourier space to that size. Returns the stack (m, box, box)
    and the index (m,) of the positions kept.
    Raises ValueError for a box that is odd, too small or larger than the image.
    """
    _check_box(image, box_px, binned_box_px)
    if edge not in ("drop", "mean"):
        raise ValueError(f"edge must be 'drop' or 'mean', not {edge!r}")
    position = np.asarray(position_yx_px, dtype=np.float64).reshape(-1, 2)
    start = whole_pixel(position) - box_px // 2
    limit = np.array(image.shape) - box_px
    inside: NDArray[np.bool_] = np.asarray(((start >= 0) & (start <= limit)).all(axis=1))
    reaching = ((start > -box_px) & (start < np.array(image.shape))).all(axis=1)
    kept = np.flatnonzero(inside if edge == "drop" else reaching)
    stack = np.empty((len(kept), box_px, box_px), np.float32)
    for number, index in enumerate(kept):
        y, x = start[index]
        stack[number] = (
            image[y : y + box_px, x : x + box_px] if inside[index] else _over_the_edge(image, y, x, box_px)
        )
    if invert:
        np.negative(stack, out=stack)
    return (stack if binned_box_px is None else bin_boxes(stack, binned_box_px)), kept


def whole_pixel(position_yx_px: NDArray[np.float64]) -> NDArray[np.intp]:
    """The nearest pixel; a half goes up, always, so that neighbours never swap."""
    return np.asarray(np.floor(position_yx_px + 0.5), dtype=np.intp)


def bin_boxes(stack: NDArray[np.float32], box_px: int) -> NDArray[np.float32]:
    """Boxes (n, size, size) cropped in Fourier space to (n, box, box), grey values kept."""
    size = stack.shape[-1]
    if box_px % 2 or not 2 <= box_px <= size:
        raise ValueError(f"the binned box must be even and between 2 and {size} pixels, not {box_px}")
    if box_px == size or not len(stack):
        return stack[:, :box_px, :box_px].copy()
    spectrum = fft.rfft2(stack, axes=(-2, -1))
    half = box_px // 2
    rows = np.r_[0:half, size - half : size]
    cropped = np.ascontiguousarray(spectrum[:, rows, : half + 1]) * np.float32((box_px / size) ** 2)
    return np.asarray(fft.irfft2(cropped, (box_px, box_px), axes=(-2, -1)), dtype=np.float32)


def normalise_relion(
    stack: NDArray[np.float32], background_diameter_px: float, *, ramp: bool = True
) -> NDArray[np.float32]:
    """Bring the background of each box (n, box, box), outside a centred circle, to mean 0 and deviation 1.

    ``ramp`` first takes a plane away that is fitted to the background. A box whose background is constant
    becomes zero there and is not scaled. Raises ValueError where the circle leaves no background.
    Convention of RELION (Scheres 2012).
    """
    box = stack.shape[-1]
    offset = np.arange(box) - box // 2
    yy, xx = np.meshgrid(offset, offset, indexing="ij")
    outside = (yy**2 + xx**2 > (background_diameter_px / 2) ** 2).ravel()
    if not background_diameter_px > 0 or outside.sum() < 4:
        raise ValueError(
            f"a circle of {background_diameter_px} pixels leaves no background in a box of {box}"
        )
    flat = stack.reshape(len(stack), -1).astype(np.float64)
    largest = np.abs(flat).max(axis=1, keepdims=True)
    if ramp:
        plane = np.stack([np.ones(box * box), yy.ravel(), xx.ravel()], axis=1)
        coefficients = np.linalg.lstsq(plane[outside], flat[:, outside].T, rcond=None)[0]
        flat -= (plane @ coefficients).T
    background = flat[:, outside]
    mean = background.mean(axis=1, keepdims=True)
    deviation = background.std(axis=1, keepdims=True)
    # only rounding is left of a constant background
    constant = deviation <= 1e-6 * np.maximum(largest, 1e-30)
    normalised = (flat - mean) / np.where(constant, 1.0, deviation)
    normalised = np.where(constant & outside, 0.0, normalised).reshape(stack.shape)
    return np.asarray(normalised, dtype=np.float32)


def _check_box(image: NDArray[np.float32], box_px: int, binned_box_px: int | None) -> None:
    if image.ndim != 2:
        raise ValueError(f"a micrograph has two axes (y, x), this array has {image.ndim}")
    if box_px < 4 or box_px % 2:
        raise ValueError(f"the box must be even and at least 4 pixels, not {box_px}")
    if box_px > min(image.shape):
        raise ValueError(
            f"a box of {box_px} pixels does not fit an image of {image.shape[0]} × {image.shape[1]}"
        )
    if binned_box_px is not None and (binned_box_px % 2 or not 2 <= binned_box_px <= box_px):
        raise ValueError(
            f"the binned box must be even and between 2 and {box_px} pixels, not {binned_box_px}"
        )


def _over_the_edge(image: NDArray[np.float32], y: int, x: int, box_px: int) -> NDArray[np.float32]:
    """A box that reaches over the image, the missing part filled with the mean of what is there."""
    part = image[max(y, 0) : y + box_px, max(x, 0) : x + box_px]
    box = np.full((box_px, box_px), part.mean(dtype=np.float64), np.float32)
    top, left = max(-y, 0), max(-x, 0)
    box[top : top + part.shape[0], left : left + part.shape[1]] = part
    return box
