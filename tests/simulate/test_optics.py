"""The image's contrast transfer, checked with a formula of this file alone."""

import numpy as np
import pytest
from numpy.typing import NDArray

from tomofly.simulate import SpaMicroscope, exposure, optics
from tomofly.simulate.truth import OpticsTruth

# Nothing but ice, which does not change: the spectrum of the image is that of the lens.
ICE_ONLY = SpaMicroscope(
    detector_yx_px=(530, 610),
    pixel_size_angstrom=1.7,
    frames=1,
    particles_per_micrograph=(0, 0),
    carbon_edge_fraction=0,
    contamination_fraction=0,
    ice_gradient=0,
    damage=False,
    defocus_range_angstrom=(9000, 12000),
    astigmatism_range_angstrom=(1500, 1500),
    seed=11,
)


def sine_of_chi(truth: OpticsTruth, shape: tuple[int, int], pixel: float) -> NDArray[np.float64]:
    """|sin chi| on the full spectrum (y, x), written out independently with an arctangent."""
    ky, kx = np.meshgrid(np.fft.fftfreq(shape[0], pixel), np.fft.fftfreq(shape[1], pixel), indexing="ij")
    k2, angle = ky**2 + kx**2, np.arctan2(ky, kx)
    volt = truth.voltage_kv * 1000
    lam = 12.2643247 / np.sqrt(volt + 0.978466e-6 * volt**2)
    u, v = truth.defocus_u_angstrom, truth.defocus_v_angstrom
    df = 0.5 * (u + v + (u - v) * np.cos(2 * (angle - np.radians(truth.astigmatism_angle_deg))))
    chi = np.pi * lam * k2 * df - 0.5 * np.pi * truth.spherical_aberration_mm * 1e7 * lam**3 * k2**2
    chi += np.radians(truth.phase_shift_deg) + np.arcsin(truth.amplitude_contrast)
    return np.abs(np.sin(chi))


def spectrum_of_movie(microscope: SpaMicroscope, index: int) -> NDArray[np.float64]:
    """Power (y, x) of the noise-free first frame under a Hann window."""
    image = next(exposure.intensity(microscope, index)).astype(float)
    window = np.outer(*(np.hanning(side) for side in image.shape))
    return np.abs(np.fft.fft2((image - image.mean()) * window)) ** 2


@pytest.mark.parametrize("phase_shift_deg", [0.0, 70.0])
def test_the_image_is_dark_in_fourier_space_where_the_lens_transfers_nothing(phase_shift_deg: float) -> None:
    microscope = ICE_ONLY.model_copy(update={"phase_shift_deg": phase_shift_deg})
    for index in (0, 1):
        power = spectrum_of_movie(microscope, index)
        truth = optics.draw_optics(microscope, index)
        sine = sine_of_chi(truth, power.shape, microscope.pixel_size_angstrom)
        k = np.hypot(
            np.fft.fftfreq(power.shape[0], 1.7)[:, None], np.fft.fftfreq(power.shape[1], 1.7)[None, :]
        )
        band = (k > 0.06) & (k < 0.16)
        dark, bright = power[band & (sine < 0.1)].mean(), power[band & (sine > 0.95)].mean()
        assert dark < 0.05 * bright


def test_the_astigmatism_angle_turns_from_x_towards_y() -> None:
    power = spectrum_of_movie(ICE_ONLY, 2)
    truth = optics.draw_optics(ICE_ONLY, 2)
    k = np.hypot(np.fft.fftfreq(power.shape[0], 1.7)[:, None], np.fft.fftfreq(power.shape[1], 1.7)[None, :])
    band = (k > 0.06) & (k < 0.16)

    def agreement(angle_deg: float) -> float:
        turned = truth.model_copy(update={"astigmatism_angle_deg": angle_deg})
        sine = sine_of_chi(turned, power.shape, 1.7)
        return float(np.corrcoef(np.sqrt(power[band]), sine[band])[0, 1])

    right = agreement(truth.astigmatism_angle_deg)
    assert right > agreement(-truth.astigmatism_angle_deg) + 0.1
    assert right > agreement(truth.astigmatism_angle_deg + 15) + 0.02
    assert right > agreement(truth.astigmatism_angle_deg - 15) + 0.02


@pytest.mark.parametrize(("voltage_kv", "expected"), [(100, 0.03701), (200, 0.02508), (300, 0.01969)])
def test_wavelength_is_the_textbook_one(voltage_kv: float, expected: float) -> None:
    assert optics.wavelength_angstrom(voltage_kv) == pytest.approx(expected, rel=5e-4)


def test_critical_dose_falls_with_resolution_and_voltage() -> None:
    k = np.array([1 / 20, 1 / 10, 1 / 4])
    at_300 = optics.critical_dose_e_per_a2(k, 300.0)
    assert np.all(np.diff(at_300) < 0)
    assert at_300 == pytest.approx([38.7, 14.1, 5.3], rel=0.02)
    assert optics.critical_dose_e_per_a2(k, 200.0) == pytest.approx(0.8 * at_300)


def test_defocus_u_is_the_larger_one() -> None:
    drawn = [optics.draw_optics(SpaMicroscope(), index) for index in range(50)]
    assert all(o.defocus_u_angstrom >= o.defocus_v_angstrom for o in drawn)
    means = [(o.defocus_u_angstrom + o.defocus_v_angstrom) / 2 for o in drawn]
    assert min(means) >= 8000
    assert max(means) <= 25000
    assert len(set(means)) == 50


def test_the_envelope_takes_amplitude_as_its_b_factor_says() -> None:
    lens = optics.draw_optics(SpaMicroscope(envelope_b_factor_angstrom2=100), 0)
    bare = lens.model_copy(update={"envelope_b_factor_angstrom2": 0.0})
    ratio = optics.transfer(lens, (64, 70), 1.5)[5, 7] / optics.transfer(bare, (64, 70), 1.5)[5, 7]
    k2 = (5 / 64 / 1.5) ** 2 + (7 / 70 / 1.5) ** 2
    assert ratio == pytest.approx(np.exp(-25 * k2), rel=1e-4)
