"""The contrast transfer function itself."""

from pathlib import Path

import mrcfile
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.imaging.thon_micrograph import de_broglie_angstrom
from tomofly.imaging.ctf import CtfOptics, ctf_1d, ctf_2d, electron_wavelength_angstrom

KRIOS = CtfOptics(voltage_kv=300, spherical_aberration_mm=2.7, amplitude_contrast=0.1)


@pytest.mark.parametrize("voltage_kv", [80, 100, 120, 200, 300, 1000])
def test_wavelength_follows_from_the_constants_of_nature(voltage_kv: float) -> None:
    # The customary constants are rounded: 1e-5 of a wavelength moves a defocus of 3 µm by 0.3 Å.
    measured = electron_wavelength_angstrom(voltage_kv)
    assert measured == pytest.approx(de_broglie_angstrom(voltage_kv), rel=1e-5)


def test_underfocus_makes_low_frequencies_dark() -> None:
    values = ctf_1d(np.array([0.0, 0.02, 0.04]), 10000.0, KRIOS)
    assert values[0] == pytest.approx(-0.1)
    assert np.all(np.diff(values) < 0)


@given(defocus=st.floats(2000, 60000), voltage=st.sampled_from([100.0, 200.0, 300.0]))
def test_zeros_without_aberrations_lie_where_geometry_puts_them(defocus: float, voltage: float) -> None:
    optics = CtfOptics(voltage, 0.0, 0.0)
    zeros = np.sqrt(np.arange(1, 9) / (optics.wavelength_angstrom * defocus))
    np.testing.assert_allclose(ctf_1d(zeros, defocus, optics), 0.0, atol=1e-9)


@given(
    u=st.floats(5000, 40000),
    difference=st.floats(0, 3000),
    angle=st.floats(0, 180),
    phase=st.floats(0, 180),
)
def test_quarter_turn_of_the_image_turns_the_angle_by_90_degrees(
    u: float, difference: float, angle: float, phase: float
) -> None:
    straight = ctf_2d((17, 17), 1.7, u, u - difference, angle, KRIOS, phase, half=False)
    turned = ctf_2d((17, 17), 1.7, u, u - difference, angle + 90, KRIOS, phase, half=False)
    # Row -> column and column -> -row is the turn from +x towards +y.
    np.testing.assert_allclose(np.roll(straight.T[:, ::-1], 1, axis=1), turned, atol=2e-4)


def test_larger_defocus_lies_along_the_angle() -> None:
    whole = ctf_2d((64, 64), 2.0, 22000, 18000, 0.0, KRIOS, half=False)
    frequency = np.fft.fftfreq(64, 2.0)[:20]
    np.testing.assert_allclose(whole[0, :20], ctf_1d(frequency, 22000, KRIOS), atol=1e-5)
    np.testing.assert_allclose(whole[:20, 0], ctf_1d(frequency, 18000, KRIOS), atol=1e-5)


def test_half_plane_is_the_left_part_of_the_whole() -> None:
    arguments = ((13, 18), 1.1, 9000.0, 8000.0, 33.0, KRIOS)
    half, whole = ctf_2d(*arguments), ctf_2d(*arguments, half=False)
    assert half.shape == (13, 10)
    assert half.dtype == np.float32
    np.testing.assert_array_equal(half[:, :9], whole[:, :9])


@pytest.mark.real_data
def test_ctf_is_that_of_warp(real_data: Path) -> None:
    warp = mrcfile.read(real_data / "warp_geometry" / "ctf_reference.mrc")
    cases = [
        (1.1, 16500, 13500, 25, CtfOptics(300, 2.7, 0.1), 0.4 * 180, 0.9),
        (1.5, 25000, 25000, 0, CtfOptics(200, 2.7, 0.07), 0.0, 1.0),
    ]
    for image, (pixel, u, v, angle, optics, phase, scale) in zip(warp, cases, strict=True):
        ky, kx = np.fft.fftfreq(256, pixel)[:, None], np.fft.rfftfreq(256, pixel)
        envelope = scale * np.exp(-40 / 4 * (kx**2 + ky**2))
        # Warp writes +sin(chi), and counts the one row at Nyquist as the positive frequency.
        ours = -ctf_2d((256, 256), pixel, u, v, angle, optics, phase) * envelope
        rows = np.arange(256) != 128
        np.testing.assert_allclose(ours[rows], image[rows], atol=1e-4)


@pytest.mark.parametrize("wrong", [(0, 2.7, 0.1), (300, -1, 0.1), (300, 2.7, 1.0), (float("nan"), 2.7, 0.1)])
def test_impossible_optics_are_refused(wrong: tuple[float, float, float]) -> None:
    with pytest.raises(ValueError, match="got"):
        CtfOptics(*wrong)
