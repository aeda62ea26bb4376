"""Vitreous ice: granular, with the structure of water, and never at rest under the beam."""

import numba as nb
import numpy as np
from numpy.typing import NDArray

from tomofly.simulate.microscope import SpaMicroscope
from tomofly.simulate.optics import RadialAxis, wavelength_angstrom
from tomofly.simulate.particle import interaction_rad_per_volt_angstrom

Array = NDArray[np.float64]
Spectrum = NDArray[np.complex64]

# Low-density amorphous ice: 0.94 g/cm³, mean inner potential 4.5 V.
MOLECULES_PER_ANGSTROM3 = 0.0314
VOLT_ANGSTROM3_PER_MOLECULE = 143.0
WATER_RING_ANGSTROM = 3.7


def structure_factor(k_per_angstrom: Array, ring: float) -> Array:
    """How far water departs from a gas: still at long range, order at 3.7 Å, a gas at high frequency."""
    gas = 1 / (1 + np.exp(-(k_per_angstrom - 0.25) / 0.03))
    order = ring * np.exp(-0.5 * ((k_per_angstrom - 1 / WATER_RING_ANGSTROM) / 0.015) ** 2)
    still: Array = 0.06 + 0.94 * gas + order
    return still


def ice_power(k_per_angstrom: Array, microscope: SpaMicroscope) -> Array:
    """Power (rad² Å²) of the phase of the ice."""
    wavelength = wavelength_angstrom(microscope.voltage_kv)
    per_volt = interaction_rad_per_volt_angstrom(microscope.voltage_kv, wavelength)
    molecules_per_a2 = MOLECULES_PER_ANGSTROM3 * microscope.ice_thickness_angstrom
    form = np.exp(-4.0 * k_per_angstrom**2)  # Of one molecule, in power.
    gas = molecules_per_a2 * (VOLT_ANGSTROM3_PER_MOLECULE * per_volt) ** 2
    power: Array = (
        microscope.ice_noise**2 * gas * structure_factor(k_per_angstrom, microscope.water_ring) * form
    )
    return power


class Ice:
    """The ice's phase spectrum, which forgets itself as molecules step about (McMullan et al. 2015)."""

    def __init__(
        self,
        microscope: SpaMicroscope,
        shape_yx: tuple[int, int],
        axis: RadialAxis,
        random: np.random.Generator,
    ) -> None:
        k = axis.k_per_angstrom
        self._decay_per_dose = 2 * np.pi**2 * k**2 * microscope.ice_diffusion_angstrom2_per_dose
        pixels = shape_yx[0] * shape_yx[1]
        self._amplitude = np.sqrt(pixels * ice_power(k, microscope)) / axis.pixel_size_angstrom
        self._bins = axis.frequencies_in_bins
        self._random = random
        self._dose = -np.inf
        self._spectrum: Spectrum = np.zeros((shape_yx[0], shape_yx[1] // 2 + 1), dtype=np.complex64)

    def after(self, dose_e_per_a2: float) -> Spectrum:
        """Half spectrum (y, x) after a dose, radians; each call goes on from the one before."""
        if not self._amplitude.any():
            return self._spectrum
        kept = np.exp(-self._decay_per_dose * (dose_e_per_a2 - self._dose)) if self._dose >= 0 else 0.0
        new = self._amplitude * np.sqrt(0.5 * (1 - np.square(kept)))
        height, width = self._spectrum.shape
        noise = self._random.standard_normal((height, 2 * width), dtype=np.float32).view(np.complex64)
        # The half spectrum holds both members of each pair of the first column: give it full power.
        noise[:, 0] *= np.float32(np.sqrt(2))
        kept_curve = np.broadcast_to(kept, new.shape).astype(np.float32)
        _blend(self._spectrum, noise, kept_curve, new.astype(np.float32), self._bins)
        self._dose = dose_e_per_a2
        return self._spectrum


@nb.njit(cache=True, nogil=True)
def _blend(
    state: Spectrum,
    noise: Spectrum,
    kept: NDArray[np.float32],
    new: NDArray[np.float32],
    bins: tuple[Array, Array],
) -> None:
    """state = kept(k) state + new(k) noise, in place."""
    bin_y, bin_x = bins
    for y in range(state.shape[0]):
        for x in range(state.shape[1]):
            radius = int(np.sqrt(bin_y[y] * bin_y[y] + bin_x[x] * bin_x[x]) + 0.5)
            state[y, x] = kept[radius] * state[y, x] + new[radius] * noise[y, x]
