"""The part of a power spectrum that a CTF is fitted to, whitened by its smooth background."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.interpolate import BSpline

from tomofly.imaging.spectrum import PowerSpectrum

FloatVector = npt.NDArray[np.float64]
# The samples of a spectrum are many, and phases below 1000 rad are safe in single precision.
SampleVector = npt.NDArray[np.float32]

# The central cross of a transform carries the seams of tiles and detector blocks.
CROSS_HALF_WIDTH_BINS = 1
# Crystalline ice puts rings at 3.9, 3.67 and 3.45 Å that are no Thon rings.
ICE_BAND_ANGSTROM = (3.95, 3.40)
BACKGROUND_SPLINES = 6


@dataclass(frozen=True)
class ThonRing:
    """The samples of a half-plane spectrum between two resolutions; those of samples are (sample,).

    `frequency` in Å⁻¹; `azimuth_rad` from +x towards +y; `power` relative to the smooth background, 1 on
    average; `radial_bin` index of the frequency bin; `background` what the power was divided by, by radial
    bin; `samples_dof` independent complex values behind each sample when many are averaged (neighbours share
    some); `single_dof` those behind one sample on its own; `tile_length_angstrom` the side of the tiles.
    """

    frequency: SampleVector
    azimuth_rad: SampleVector
    power: SampleVector
    radial_bin: npt.NDArray[np.int64]
    background: FloatVector
    step: float
    samples_dof: float
    single_dof: float
    tile_length_angstrom: float

    @property
    def bin_frequency(self) -> FloatVector:
        """Frequency of each radial bin from 0 up to the last of the ring, Å⁻¹."""
        return self.step * np.arange(int(self.radial_bin.max()) + 1, dtype=np.float64)


def thon_ring(spectrum: PowerSpectrum, low: float, high: float, *, mask_ice: bool) -> ThonRing:
    """Cut the ring `low` to `high` (Å⁻¹) out of `spectrum` and divide it by its smooth radial background.

    Raises ValueError where the ring holds too few radial bins to fit anything.
    """
    y = (spectrum.step * np.fft.fftfreq(spectrum.box_px, 1.0 / spectrum.box_px)[:, None]).astype(np.float32)
    x = (spectrum.step * np.arange(spectrum.power.shape[1])[None, :]).astype(np.float32)
    frequency = np.hypot(y, x)
    margin = (CROSS_HALF_WIDTH_BINS + 0.5) * spectrum.step
    inside = (frequency >= low) & (frequency <= min(high, 0.98 * spectrum.nyquist))
    inside &= (np.abs(y) > margin) & (x > margin)
    if mask_ice:
        inside &= (frequency < 1 / ICE_BAND_ANGSTROM[0]) | (frequency > 1 / ICE_BAND_ANGSTROM[1])
    kept = frequency[inside]
    radial_bin = np.rint(kept / spectrum.step).astype(np.int64)
    if kept.size == 0 or np.unique(radial_bin).size < 3 * BACKGROUND_SPLINES:
        raise ValueError(
            f"too few frequencies between {1 / low:.1f} and {1 / high:.1f} Å: "
            "use larger tiles (box_px), a larger image or a wider resolution range"
        )
    background = smooth_background(spectrum.power[inside], radial_bin)
    position = kept / spectrum.step
    power = spectrum.power[inside] / np.interp(position, np.arange(background.size), background)
    return ThonRing(
        frequency=kept,
        azimuth_rad=np.arctan2(*(axis[inside] for axis in np.broadcast_arrays(y, x))),
        power=power.astype(np.float32),
        radial_bin=radial_bin,
        background=background,
        step=spectrum.step,
        samples_dof=spectrum.degrees_of_freedom / (spectrum.box_px * spectrum.box_px / 2),
        single_dof=spectrum.independent_tiles,
        tile_length_angstrom=spectrum.tile_length_angstrom,
    )


def spline_basis(position: FloatVector, low: float, high: float, count: int) -> FloatVector:
    """Cubic B-splines evenly spread over [low, high]; (position, count)."""
    interior = np.linspace(low, high, count - 2)
    knots = np.concatenate(([low] * 3, interior, [high] * 3))
    inside = np.clip(position, low, high)
    return np.asarray(BSpline.design_matrix(inside, knots, 3).toarray(), dtype=np.float64)


def smooth_background(power: FloatVector, radial_bin: npt.NDArray[np.int64]) -> FloatVector:
    """Smooth positive radial mean of `power` by radial bin from 0, a cubic spline in log frequency.

    Fitted by iterated least squares to the relative residual, which for power spectra is the maximum of the
    likelihood (Whittle 1953); it cannot reach zero, so it needs no guard against low counts.
    """
    count = np.bincount(radial_bin)
    used = np.flatnonzero(count)
    mean = np.bincount(radial_bin, power)[used] / count[used]
    weight = np.sqrt(count[used])[:, None]
    position = np.log(used)
    basis = spline_basis(position, position[0], position[-1], BACKGROUND_SPLINES)
    floor = 1e-12 * float(mean.max())
    log_background = (
        basis @ np.linalg.lstsq(weight * basis, weight[:, 0] * np.log(mean + floor), rcond=None)[0]
    )
    for _ in range(4):
        residual = np.clip(mean / np.exp(log_background) - 1.0, -1.0, 2.0)
        log_background += basis @ np.linalg.lstsq(weight * basis, weight[:, 0] * residual, rcond=None)[0]
    return np.asarray(np.exp(np.interp(np.arange(count.size), used, log_background)))
