"""Slices by Fourier gridding: right for any angles and centre, and as other programs make them."""

import numpy as np
import numpy.typing as npt
import pytest

from tests.imaging.xray.discs import SCENE, project, ramp, slice_of
from tomofly.imaging.xray.angular_weights import angular_weights
from tomofly.imaging.xray.back_projection import back_project_slices
from tomofly.imaging.xray.filters import padded_length
from tomofly.imaging.xray.gridding import SLICES, plan_gridding, reconstruct_slices

FloatArray = npt.NDArray[np.float32]
MU = 0.01
GOLDEN = np.pi * (3 - np.sqrt(5))
ANGLES = {
    "half a turn": np.arange(160) * np.pi / 160,
    "both ends": np.linspace(-1.5, -1.5 + np.pi, 161),
    "a whole turn": np.arange(320) * np.pi / 160,
    "golden": np.arange(233) * GOLDEN,
    "backwards": -np.arange(160) * np.pi / 160,
}


def _within(width: int, radius: float) -> npt.NDArray[np.bool_]:
    y, x = np.mgrid[:width, :width] - width // 2
    inside: npt.NDArray[np.bool_] = x * x + y * y < radius**2
    return inside


def _error(image: FloatArray, truth: FloatArray, radius: float = 44) -> float:
    """Root-mean-square difference within a circle, as a part of the largest disc's absorption."""
    inside = _within(image.shape[-1], radius)
    return float(np.sqrt(np.mean((image - truth)[..., inside] ** 2)) / MU)


def _gridded(sinogram: FloatArray, angles: npt.NDArray[np.float64], centre: float) -> FloatArray:
    width = sinogram.shape[-1]
    plan = plan_gridding(np.rad2deg(angles), width, centre, ramp(padded_length(width)))
    return reconstruct_slices(sinogram[:, None], plan)[0]


@pytest.mark.parametrize("case", ANGLES)
@pytest.mark.parametrize(("width", "centre"), [(101, 50.0), (112, 55.5), (127, 66.75)])
def test_any_angles_and_centre_give_the_slice_itself(case: str, width: int, centre: float) -> None:
    angles = ANGLES[case]
    image = _gridded(project(SCENE, angles, width, centre), angles, centre)
    assert _error(image, slice_of(SCENE, width)) < 0.06
    inner = np.isclose(slice_of(SCENE, width), 0.01)
    assert image[inner].mean() == pytest.approx(0.01, rel=0.01)


@pytest.mark.parametrize("width", [44, 45])
def test_it_is_the_direct_sum_over_frequencies_up_to_the_error_of_the_kernel(width: int) -> None:
    centre, angles = 20.3, ANGLES["golden"][:31]
    sinogram = np.random.default_rng(3).normal(size=(31, width)).astype(np.float32)
    response = ramp(padded_length(width))
    rows = np.fft.fft(sinogram, padded_length(width))
    frequency = np.fft.fftfreq(padded_length(width))
    full = np.concatenate([response, response[1 : (len(frequency) + 1) // 2][::-1]])
    full[frequency == -0.5] = 0
    y, x = np.mgrid[:width, :width] - width // 2
    exact = np.zeros((width, width))
    for theta, weight, row in zip(angles, angular_weights(np.rad2deg(angles)), rows, strict=True):
        s = x * np.cos(theta) - y * np.sin(theta) + centre
        wave = np.exp(2j * np.pi * frequency * s[..., None])
        exact += weight * (wave @ (full * row)).real / padded_length(width)
    image = _gridded(sinogram, angles, centre)
    assert np.sqrt(np.mean((image - exact) ** 2)) < 0.005 * exact.std()


def test_slices_keep_apart_however_many_there_are() -> None:
    rng = np.random.default_rng(5)
    angles, width = ANGLES["half a turn"][::4], 33
    projections = rng.normal(size=(len(angles), SLICES + 3, width)).astype(np.float32)
    plan = plan_gridding(np.rad2deg(angles), width, 16.2, ramp(padded_length(width)))
    together = reconstruct_slices(projections, plan, threads=2)
    for index in (0, 1, 7, SLICES - 1, SLICES, SLICES + 2):
        alone = reconstruct_slices(projections[:, index : index + 1], plan)[0]
        assert np.abs(together[index] - alone).max() < 4e-3 * np.abs(alone).max()


def test_direct_back_projection_agrees() -> None:
    angles, width, centre = ANGLES["golden"], 117, 60.4
    sinogram = project(SCENE, angles, width, centre)
    direct = back_project_slices(sinogram[:, None], np.rad2deg(angles), centre, ramp(padded_length(width)))[0]
    assert _error(direct, slice_of(SCENE, width)) < 0.07
    assert _error(_gridded(sinogram, angles, centre), direct) < 0.05


def test_direct_back_projection_does_many_slices_in_threads() -> None:
    rng = np.random.default_rng(6)
    angles, width = ANGLES["half a turn"][::8], 37
    projections = rng.normal(size=(len(angles), 35, width)).astype(np.float32)
    response = ramp(padded_length(width))
    together = back_project_slices(projections, np.rad2deg(angles), 17.6, response, threads=2)
    alone = back_project_slices(projections[:, 33:34], np.rad2deg(angles), 17.6, response)[0]
    assert np.allclose(together[33], alone, atol=1e-5)


def test_scikit_image_makes_the_same_slice() -> None:
    transform = pytest.importorskip("skimage.transform")
    angles, width = ANGLES["half a turn"], 112
    sinogram = project(SCENE, angles, width, 56.0)
    # Its projections turn the other way, and y points up.
    theirs = transform.iradon(sinogram.T, theta=np.rad2deg(angles), filter_name="ramp", circle=True)
    ours = _gridded(sinogram, angles, 56.0)
    assert _error(ours, theirs.astype(np.float32)) < 0.05


def test_astra_makes_the_same_slice() -> None:
    astra = pytest.importorskip("astra")
    angles, width = ANGLES["half a turn"], 113  # odd: its axis lies in the middle of a pixel
    sinogram = project(SCENE, angles, width, 56.0)
    theirs = astra_fbp(astra, sinogram, angles)
    assert _error(_gridded(sinogram, angles, 56.0), theirs) < 0.05


def astra_fbp(astra, sinogram: FloatArray, angles: npt.NDArray[np.float64]) -> FloatArray:  # type: ignore[no-untyped-def]
    """ASTRA's own slice (y, x), of a scan whose axis is in the middle of the detector."""
    width = sinogram.shape[1]
    volume = astra.create_vol_geom(width, width)
    turned = astra.create_proj_geom("parallel", 1.0, width, angles)
    projector = astra.create_projector("linear", turned, volume)
    data = astra.data2d.create("-sino", turned, sinogram)
    image = astra.data2d.create("-vol", volume)
    config = astra.astra_dict("FBP")
    config.update({"ProjectorId": projector, "ProjectionDataId": data, "ReconstructionDataId": image})
    algorithm = astra.algorithm.create(config)
    astra.algorithm.run(algorithm)
    result: FloatArray = astra.data2d.get(image)
    astra.clear()
    return result


@pytest.mark.parametrize("angles", [[0.0, np.nan], [0.0, np.inf]])
def test_angles_that_are_no_numbers_are_refused(angles: list[float]) -> None:
    with pytest.raises(ValueError, match="numbers"):
        plan_gridding(angles, 33, 16.0, ramp(padded_length(33)))
