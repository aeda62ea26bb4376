"""The CTF of tilted images whose CTF is known."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.imaging.tilted_thon import tilted_thon_image
from tomofly.imaging.tilt_ctf import TiltCtf, estimate_tilt_ctf, fit_tilt_ctf
from tomofly.imaging.tilt_geometry import TiltGeometry, nominal_geometry
from tomofly.imaging.tilt_spectra import TileSpectra, tile_spectra

PIXEL = 2.6
SHAPE = (740, 900)
AXIS = 84.0
TILTS = np.array([-54.0, -40.0, -20.0, 0.0, 21.0, 38.0, 55.0])
DEFOCUS = np.array([30100.0, 29500, 30400, 30900, 29900, 30600, 30300])
ASTIGMATISM = (500.0, 125.0)
OPTICS: dict[str, Any] = {"voltage_kv": 300.0, "spherical_aberration_mm": 2.7, "amplitude_contrast": 0.07}


def image(tilt: float, defocus: float, hand: int, seed: int, **settings: Any) -> np.ndarray:
    half = ASTIGMATISM[0] / 2
    settings = {"contrast_a2": 0.1} | settings
    return tilted_thon_image(
        SHAPE, PIXEL, tilt, AXIS, defocus + half, defocus - half, ASTIGMATISM[1],
        hand=hand, seed=seed, **settings,
    )  # fmt: skip


def spectra_of(pixels: np.ndarray) -> TileSpectra:
    return tile_spectra(pixels, pixel_size_angstrom=PIXEL)


def fit(spectra: list[TileSpectra], geometry: TiltGeometry, **settings: Any) -> TiltCtf:
    return fit_tilt_ctf(spectra, geometry, **(OPTICS | {"defocus_range_angstrom": (10000, 60000)} | settings))


def noise_spectra(seed: int) -> TileSpectra:
    return spectra_of(np.random.default_rng(seed).poisson(20, SHAPE).astype(np.float32))


@pytest.fixture(scope="module")
def inverted() -> list[TileSpectra]:
    return [spectra_of(image(t, d, -1, 10 + i)) for i, (t, d) in enumerate(zip(TILTS, DEFOCUS, strict=True))]


@pytest.fixture(scope="module")
def geometry() -> TiltGeometry:
    return nominal_geometry(TILTS, AXIS)


@pytest.fixture(scope="module")
def result(inverted: list[TileSpectra], geometry: TiltGeometry) -> TiltCtf:
    return fit(inverted, geometry)


def test_defocus_of_every_tilt_is_found(result: TiltCtf) -> None:
    error = result.defocus_angstrom - DEFOCUS
    assert np.median(np.abs(error)) < 150
    assert np.all(np.abs(error) < 4.5 * result.defocus_error_angstrom)
    assert np.all(result.defocus_error_angstrom < 250)
    assert not any(result.tilt_flags)


def test_one_astigmatism_serves_all_tilts(result: TiltCtf) -> None:
    assert np.allclose(result.defocus_u_angstrom - result.defocus_v_angstrom, result.astigmatism_angstrom)
    assert abs(result.astigmatism_angstrom - ASTIGMATISM[0]) < 4 * result.astigmatism_error_angstrom
    away = abs((result.astigmatism_angle_deg - ASTIGMATISM[1] + 90) % 180 - 90)
    assert away < 4 * result.angle_error_deg < 60


def test_the_hand_is_told_with_its_evidence(result: TiltCtf) -> None:
    evidence = result.hand_evidence
    assert (result.hand, evidence.verdict) == (-1, "inverted")
    assert evidence.certainty > 0.99
    assert evidence.by_tilt[3] == 0
    assert evidence.log_likelihood_difference == pytest.approx(evidence.by_tilt.sum())
    assert result.flags == ()


def test_the_depth_is_as_steep_as_the_geometry_says(result: TiltCtf) -> None:
    assert abs(result.depth_scale + 1) < 4 * result.depth_scale_error < 0.6
    # What lies to the right of the axis sinks at positive tilt; with the inverted hand its defocus rises.
    assert np.allclose(result.defocus_gradient_angstrom_per_um, 1e4 * np.tan(np.deg2rad(TILTS)))


def test_rings_are_followed_less_far_at_high_tilt(result: TiltCtf) -> None:
    resolution = result.fit_resolution_angstrom
    assert np.isfinite(resolution).all()
    assert 5.0 < resolution[3] < 14
    assert resolution[3] < max(resolution[0], resolution[-1])
    profile = result.profiles[3]
    clear = profile.frequency < 0.08
    assert np.corrcoef(profile.measured[clear], profile.fitted[clear])[0, 1] > 0.5


def test_the_right_hand_is_told_from_images(geometry: TiltGeometry) -> None:
    chosen = np.array([0, 6])
    images = np.stack([image(TILTS[i], DEFOCUS[i], 1, 30 + i, contrast_a2=0.2) for i in chosen])
    result = estimate_tilt_ctf(
        images, geometry.subset(chosen), pixel_size_angstrom=PIXEL,
        defocus_range_angstrom=(15000, 50000), threads=2, **OPTICS,
    )  # fmt: skip
    assert (result.hand, result.hand_evidence.verdict) == (1, "right")
    assert np.all(np.abs(result.defocus_angstrom - DEFOCUS[chosen]) < 300)


def test_a_given_hand_is_kept_and_contradicted(inverted: list[TileSpectra], geometry: TiltGeometry) -> None:
    result = fit(inverted, geometry, hand=1)
    assert result.hand == 1
    assert result.hand_evidence.verdict == "inverted"
    assert "hand_contradicts_given" in result.flags


def test_defocus_is_that_at_the_specimens_origin() -> None:
    """The axis does not pass through the middle of the image, and the geometry's shift says so."""
    origin_yx = (40.0, -120.0)
    pixels = image(50.0, 30000.0, 1, 3, origin_yx_px=origin_yx, contrast_a2=0.3)
    told = replace(nominal_geometry([50.0], AXIS), shift_yx_px=-np.array([origin_yx]))
    right = fit([spectra_of(pixels)], told, hand=1)
    assert abs(right.defocus_angstrom[0] - 30000) < 4 * right.defocus_error_angstrom[0]
    unaware = fit([spectra_of(pixels)], nominal_geometry([50.0], AXIS), hand=1)
    across = PIXEL * (origin_yx[1] * np.cos(np.deg2rad(AXIS)) + origin_yx[0] * np.sin(np.deg2rad(AXIS)))
    expected = 30000 + np.tan(np.deg2rad(50.0)) * across
    assert abs(unaware.defocus_angstrom[0] - expected) < 4 * unaware.defocus_error_angstrom[0]


def test_a_tilt_without_rings_leans_on_its_neighbours(
    inverted: list[TileSpectra], geometry: TiltGeometry
) -> None:
    result = fit([*inverted[:5], noise_spectra(1), inverted[6]], geometry)
    assert result.tilt_flags[5] == ("defocus_from_neighbours",)
    assert abs(result.defocus_angstrom[5] - DEFOCUS.mean()) < 1500
    assert result.defocus_error_angstrom[5] > result.defocus_error_angstrom[4]


def test_a_refocused_tilt_is_believed(inverted: list[TileSpectra], geometry: TiltGeometry) -> None:
    other = spectra_of(image(TILTS[4], 40000.0, -1, 50))
    result = fit([*inverted[:4], other, *inverted[5:]], geometry)
    assert abs(result.defocus_angstrom[4] - 40000) < 300


def test_a_single_tilt_serves_on_arrival(inverted: list[TileSpectra], geometry: TiltGeometry) -> None:
    result = fit(inverted[3:4], geometry.subset([3]))
    assert abs(result.defocus_angstrom[0] - DEFOCUS[3]) < 4 * result.defocus_error_angstrom[0]
    assert result.flags == ("hand_undecided",)


def test_noise_has_neither_defocus_nor_hand(geometry: TiltGeometry) -> None:
    result = fit([noise_spectra(i) for i in range(len(TILTS))], geometry)
    assert set(result.flags) == {"no_thon_rings", "hand_undecided"}
    assert result.hand_evidence.verdict == "undecided"
    assert sum("no_thon_rings" in flags for flags in result.tilt_flags) >= 5


def test_the_order_of_the_tilts_does_not_matter(
    inverted: list[TileSpectra], geometry: TiltGeometry, result: TiltCtf
) -> None:
    order = np.array([3, 0, 6, 2, 4, 1, 5])
    again = fit([inverted[i] for i in order], geometry.subset(order))
    assert np.allclose(again.defocus_angstrom, result.defocus_angstrom[order], atol=1.0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hand": 0}, "hand"),
        ({"defocus_range_angstrom": (30000, 20000)}, "defocus range"),
        ({"resolution_range_angstrom": (40.0, 38.0)}, "too little"),
    ],
)
def test_senseless_settings_are_refused(
    inverted: list[TileSpectra], geometry: TiltGeometry, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        fit(inverted, geometry, **settings)


def test_spectra_and_geometry_must_be_of_the_same_tilts(
    inverted: list[TileSpectra], geometry: TiltGeometry
) -> None:
    with pytest.raises(ValueError, match="6 spectra do not fit a geometry of 7 tilts"):
        fit(inverted[:6], geometry)
