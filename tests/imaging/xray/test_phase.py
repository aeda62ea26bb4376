"""Phase retrieval undoes what free space does to a weak, homogeneous object."""

import numpy as np
import pytest

from tomofly.imaging.xray.phase import retrieve_phase


def test_it_undoes_the_transport_of_intensity() -> None:
    # I(z) = (1 - z·δ/µ·∇²) exp(-µT), with µ = 4πβ/λ: the equation that the method solves.
    energy, distance_mm, pixel_um, alpha = 20.0, 50.0, 1.3, 200.0
    rows, columns = 60, 88
    y, x = np.mgrid[:rows, :columns]
    at_object = np.exp(-0.3 * np.exp(-((x - 40) ** 2 + (y - 31) ** 2) / 100))
    wavelength_um = 1.23984198e-3 / energy
    strength = 1e3 * distance_mm * alpha * wavelength_um / (4 * np.pi) / pixel_um**2
    fy, fx = np.fft.fftfreq(rows)[:, None], np.fft.fftfreq(columns)[None, :]
    laplacian = np.fft.ifft2(-4 * np.pi**2 * (fx**2 + fy**2) * np.fft.fft2(at_object)).real
    at_detector = (at_object - strength * laplacian).astype(np.float32)
    back = retrieve_phase(
        at_detector, energy_kev=energy, distance_mm=distance_mm, pixel_size_um=pixel_um, alpha=alpha
    )
    assert np.abs(at_detector - at_object).max() > 0.02
    assert np.abs(back - at_object).max() < 2e-3


def test_even_light_stays_and_edges_are_continued() -> None:
    even = np.full((13, 29), 0.7, np.float32)
    given = {"energy_kev": 25.0, "distance_mm": 300.0, "pixel_size_um": 0.7, "alpha": 1000.0}
    assert np.allclose(retrieve_phase(even, **given), 0.7, atol=1e-5)


@pytest.mark.parametrize("name", ["energy_kev", "distance_mm", "pixel_size_um", "alpha"])
def test_what_is_not_positive_is_refused(name: str) -> None:
    given = {"energy_kev": 25.0, "distance_mm": 300.0, "pixel_size_um": 0.7, "alpha": 1000.0, name: 0.0}
    with pytest.raises(ValueError, match="positive"):
        retrieve_phase(np.ones((4, 5), np.float32), **given)
