"""Phase retrieval from one distance (Paganin et al., 2002)."""

from functools import lru_cache

import numpy as np
import numpy.typing as npt
import scipy.fft

FloatArray = npt.NDArray[np.float32]

_PLANCK_EV_UM = 1.23984198  # wavelength in µm times energy in eV, h·c


def retrieve_phase(
    transmission: FloatArray,
    *,
    energy_kev: float,
    distance_mm: float,
    pixel_size_um: float,
    alpha: float,
) -> FloatArray:
    """Filter a transmission (y, x), float32, by 1/(1 + α·λ·z·π·f²), before its logarithm is taken.

    ``alpha`` is the ratio δ/β of the sample, f in cycles per length: with λ·z·δ/(4π·β)·(2πf)² of the paper
    that is α·λ·z·π·f². The image's edges are continued outwards, and its mean is kept. Raises ValueError for
    what is not positive, or not finite.
    """
    settings = (energy_kev, distance_mm, pixel_size_um, alpha)
    if not all(np.isfinite(value) and value > 0 for value in settings):
        raise ValueError(
            "phase retrieval needs a positive energy, distance, pixel size and alpha, "
            f"not {energy_kev} keV, {distance_mm} mm, {pixel_size_um} µm, {alpha}"
        )
    rows, columns = transmission.shape
    response = _response(rows, columns, *settings)
    tall, wide = response.shape[0], 2 * (response.shape[1] - 1)
    top, left = (tall - rows) // 2, (wide - columns) // 2
    padded = np.pad(transmission, [(top, tall - rows - top), (left, wide - columns - left)], mode="edge")
    spectrum = scipy.fft.rfft2(padded)
    spectrum *= response
    smooth = scipy.fft.irfft2(spectrum, (tall, wide))
    return np.ascontiguousarray(smooth[top : top + rows, left : left + columns])


def phase_reach(*, energy_kev: float, distance_mm: float, pixel_size_um: float, alpha: float) -> int:
    """Give how many pixels around one phase retrieval looks at: beyond, its filter has fallen to 0.2 %."""
    # It falls off as exp(-2π·r/sqrt(strength)): one such length is enough.
    return int(np.ceil(np.sqrt(_strength(energy_kev, distance_mm, pixel_size_um, alpha))))


def _strength(energy_kev: float, distance_mm: float, pixel_size_um: float, alpha: float) -> float:
    """Give π·α·λ·z in squared pixels."""
    wavelength_um = _PLANCK_EV_UM / (1e3 * energy_kev)
    return float(np.pi * alpha * wavelength_um * 1e3 * distance_mm / pixel_size_um**2)


def _padded(size: int, reach: int) -> int:
    """Give an even length quick to transform that leaves the filter's reach on both sides."""
    wanted = size + 2 * min(size, reach)
    return 2 * int(scipy.fft.next_fast_len(-(-wanted // 2), real=True))


@lru_cache(maxsize=4)
def _response(
    rows: int, columns: int, energy_kev: float, distance_mm: float, pixel_size_um: float, alpha: float
) -> FloatArray:
    strength = _strength(energy_kev, distance_mm, pixel_size_um, alpha)
    reach = phase_reach(
        energy_kev=energy_kev, distance_mm=distance_mm, pixel_size_um=pixel_size_um, alpha=alpha
    )
    tall, wide = _padded(rows, reach), _padded(columns, reach)
    fy, fx = scipy.fft.fftfreq(tall)[:, None], scipy.fft.rfftfreq(wide)[None, :]
    return np.asarray(1 / (1 + strength * (fy**2 + fx**2)), np.float32)
