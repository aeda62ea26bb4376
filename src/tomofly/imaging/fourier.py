"""Fourier-space bookkeeping: frequencies, rings and cropping of real transforms."""

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import fft

ComplexImage = npt.NDArray[np.complex64]


def rfft_radius(shape: tuple[int, int]) -> npt.NDArray[np.float32]:
    """Return |k| in cycles per pixel of a real transform (y, x // 2 + 1) of a picture of shape (y, x)."""
    ky = np.fft.fftfreq(shape[0])[:, None]
    kx = np.fft.rfftfreq(shape[1])[None, :]
    radius: npt.NDArray[np.float32] = np.hypot(ky, kx).astype(np.float32)
    return radius


def cropped_shape(shape: tuple[int, int], binning: float) -> tuple[int, int]:
    """Return the even shape (y, x) of a picture after Fourier cropping by a factor of at least 1."""
    if not binning >= 1:
        raise ValueError(f"output binning is {binning}; it is a factor of at least 1")
    if binning == 1:
        return shape
    rows, columns = (max(2, 2 * round(size / binning / 2)) for size in shape)
    return rows, columns


def evenly_cropped_shape(shape: tuple[int, int], binning: float) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the shape (y, x) of a picture's middle to keep, and its even shape after Fourier cropping.

    Whole numbers of pixels seldom bin both axes alike. With some rows left out they do, to a pixel over the
    whole height, so that pixels stay square. Both shapes are even: only then does cropping keep the middle,
    index n // 2, in its place. The middle to keep begins at index n // 2 less half of what is kept.
    """
    if binning == 1:
        return shape, shape
    columns = shape[1] - shape[1] % 2
    small_columns = cropped_shape(shape, binning)[1]
    factor = columns / small_columns
    small_rows = max(2, 2 * int(shape[0] / factor / 2))
    rows = min(2 * round(small_rows * factor / 2), shape[0] - shape[0] % 2)
    return (rows, columns), (small_rows, small_columns)


def evenly_cropped(
    images: npt.NDArray[np.float32], binning: float, threads: int = 1
) -> npt.NDArray[np.float32]:
    """Give images (n, y, x) with pixels so many times larger, square ones, and their middle in its place.

    ``binning``: of at least 1; what comes out is that of ``evenly_cropped_shape``.
    """
    shape = (images.shape[1], images.shape[2])
    kept, small = evenly_cropped_shape(shape, binning)
    if small == shape:
        return images
    top, left = (size // 2 - side // 2 for size, side in zip(shape, kept, strict=True))
    middle = images[:, top : top + kept[0], left : left + kept[1]]
    spectra = (fourier_crop(real_transform(image, threads), kept, small) for image in middle)
    return np.stack([inverse_real_transform(spectrum, small, threads) for spectrum in spectra])


def fourier_crop(spectrum: ComplexImage, shape: tuple[int, int], new_shape: tuple[int, int]) -> ComplexImage:
    """Crop a real transform of a picture of shape (y, x) to that of new_shape, keeping the picture's mean.

    The highest kept row of an even new_shape is its Nyquist row, which is dropped because only one of its two
    signs fits.
    """
    if new_shape == shape:
        return spectrum
    rows, columns = new_shape
    half = (rows + 1) // 2
    cropped = np.zeros((rows, columns // 2 + 1), dtype=spectrum.dtype)
    kept = min((columns + 1) // 2, spectrum.shape[1])
    cropped[:half, :kept] = spectrum[:half, :kept]
    cropped[rows - half + 1 :, :kept] = spectrum[shape[0] - half + 1 :, :kept]
    return cropped * np.float32(rows * columns / (shape[0] * shape[1]))


def real_transform(image: npt.NDArray[Any], threads: int = 1) -> ComplexImage:
    """Return the real transform (y, x // 2 + 1) of a float32 picture (y, x)."""
    result: ComplexImage = fft.rfft2(np.asarray(image, dtype=np.float32), workers=threads)
    return result


def inverse_real_transform(
    spectrum: ComplexImage, shape: tuple[int, int], threads: int = 1
) -> npt.NDArray[np.float32]:
    """Return the picture (y, x) of a real transform (y, x // 2 + 1)."""
    image: npt.NDArray[np.float32] = fft.irfft2(spectrum, s=shape, workers=threads)
    return image
