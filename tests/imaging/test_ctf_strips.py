"""CTF correction of tilted images, with the transfer of each point written out from its own depth."""

from dataclasses import replace

import numpy as np
import pytest

from tests.imaging.tilted_blobs import appearance
from tomofly.imaging.ctf_strips import correct_tilted_ctf
from tomofly.imaging.tilt_geometry import TiltGeometry

PIXEL, SHAPE, DEFOCUS = 5.0, (260, 296), 12000.0
LENS = {"voltage_kv": 300.0, "spherical_aberration_mm": 2.7, "amplitude_contrast": 0.1}


def _negative_transfer(frequency_squared: np.ndarray, defocus: np.ndarray) -> np.ndarray:
    """CTF at 300 kV, Cs 2.7 mm, 10 % amplitude contrast, positive at low frequencies."""
    wavelength = 0.0196875
    chi = np.pi * wavelength * defocus * frequency_squared
    chi -= 0.5 * np.pi * 2.7e7 * wavelength**3 * frequency_squared**2
    return np.sin(chi + np.arcsin(0.1))


def _scene(geometry: TiltGeometry, hand: int) -> tuple[np.ndarray, np.ndarray]:
    """Images of dots on the plane z = 0, without the transfer and with it."""
    random = np.random.default_rng(7)
    fy, fx = np.fft.fftfreq(SHAPE[0], PIXEL)[:, None], np.fft.rfftfreq(SHAPE[1], PIXEL)[None, :]
    dot = np.exp(-(fy**2 + fx**2) * 60.0)
    sharp, blurred = np.zeros((2, len(geometry), *SHAPE))
    for index in range(len(geometry)):
        tilt, axis = np.deg2rad(geometry.tilt_angle_deg[index]), geometry.axis_angle_deg[index]
        for _ in range(60):
            x, y = random.uniform(-110, 110) / max(np.cos(tilt), 0.4), random.uniform(-90, 90)
            v, u = appearance((0.0, y, x), np.rad2deg(tilt), axis, 0.0) - geometry.shift_yx_px[index]
            if max(abs(u), abs(v)) > 115:
                continue
            depth = -x * np.sin(tilt) * PIXEL
            wave = dot * np.exp(-2j * np.pi * PIXEL * (fy * (v + SHAPE[0] // 2) + fx * (u + SHAPE[1] // 2)))
            transfer = _negative_transfer(fy**2 + fx**2, DEFOCUS + hand * depth)
            sharp[index] += np.fft.irfft2(wave * np.abs(transfer), s=SHAPE)
            blurred[index] += np.fft.irfft2(wave * transfer, s=SHAPE)
    return sharp, blurred


def _corrected(images: np.ndarray, geometry: TiltGeometry, **more: object) -> np.ndarray:
    many = {
        "defocus_u_angstrom": DEFOCUS, "defocus_v_angstrom": np.full(len(images), DEFOCUS),
        "astigmatism_angle_deg": 0.0, "pixel_size_angstrom": PIXEL, **LENS,
    }  # fmt: skip
    return correct_tilted_ctf(images, geometry, **(many | more))


def _alike(one: np.ndarray, other: np.ndarray) -> float:
    inner = (slice(None), slice(30, -30), slice(30, -30))
    return float(np.corrcoef(one[inner].ravel(), other[inner].ravel())[0, 1])


@pytest.mark.parametrize("hand", [1, -1])
@pytest.mark.parametrize("axis", [84.0, -10.0])
def test_phases_are_flipped_as_the_depth_of_each_point_asks(hand: int, axis: float) -> None:
    geometry = TiltGeometry(np.array([-60.0, 55.0]), np.full(2, axis), np.array([[6.0, -9.0], [3.0, 12.0]]))
    sharp, blurred = _scene(geometry, hand)
    right = _alike(_corrected(blurred, geometry, hand=hand), sharp)
    assert right > 0.995
    assert right > _alike(_corrected(blurred, geometry, hand=-hand), sharp) + 0.01
    level = TiltGeometry(np.zeros(2), np.full(2, axis), geometry.shift_yx_px)
    assert right > _alike(_corrected(blurred, level), sharp) + 0.001
    np.testing.assert_array_equal(
        _corrected(blurred, geometry, hand=0),
        _corrected(blurred, replace(level, shift_yx_px=np.zeros((2, 2)))),
    )


def test_a_level_image_is_corrected_as_a_whole() -> None:
    geometry = TiltGeometry(np.zeros(1), np.array([30.0]), np.zeros((1, 2)))
    sharp, blurred = _scene(geometry, 1)
    corrected = _corrected(blurred, geometry)
    assert corrected.dtype == np.float32
    np.testing.assert_allclose(
        corrected[0, 40:-40, 40:-40], sharp[0, 40:-40, 40:-40], atol=0.02 * sharp.max()
    )


def test_wiener_correction_sharpens_more_than_flipping() -> None:
    geometry = TiltGeometry(np.array([50.0]), np.array([84.0]), np.zeros((1, 2)))
    _, blurred = _scene(geometry, 1)
    flipped, restored = (_corrected(blurred, geometry, method=name) for name in ("flip", "wiener"))
    assert restored.max() / restored.std() > flipped.max() / flipped.std()


def test_threads_and_wrong_names() -> None:
    geometry = TiltGeometry(np.array([50.0, 20.0]), np.full(2, 84.0), np.zeros((2, 2)))
    images = np.random.default_rng(1).normal(size=(2, 60, 70)).astype(np.float32)
    np.testing.assert_array_equal(_corrected(images, geometry), _corrected(images, geometry, threads=2))
    with pytest.raises(ValueError, match="flip or wiener, not 'none'"):
        _corrected(images, geometry, method="none")
    with pytest.raises(ValueError, match="1, 0 or -1, not 2"):
        _corrected(images, geometry, hand=2)
