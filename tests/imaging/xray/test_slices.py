"""Slices out of filtered projections: against the phantom, scikit-image and ASTRA, and the laws they obey."""

from itertools import pairwise

import astra
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.transform import iradon

from tests.imaging.xray.ellipses import draw, project
from tomofly.imaging.xray.blocks import LANES, count_blocks, from_blocks, to_blocks
from tomofly.imaging.xray.filters import FILTER_NAMES, filter_rows
from tomofly.imaging.xray.level_slices import TiltedPlane, add_tilted, level_slice, read_sinogram
from tomofly.imaging.xray.row_filter import ramp_filter
from tomofly.imaging.xray.slices import Line, Views, add_lines, plane_line
from tomofly.imaging.xray.window_taps import window_taps

COLUMNS, ROWS, CENTRE = 101, 70, 47.3
ANGLES = np.linspace(-33.0, 147.0, 150, endpoint=False)
WEIGHT = np.full(len(ANGLES), np.pi / len(ANGLES))
VIEWS = Views(np.arange(len(ANGLES)), ANGLES, WEIGHT, CENTRE, COLUMNS)
INSIDE = np.hypot(*np.meshgrid(np.arange(COLUMNS) - 50, np.arange(COLUMNS) - 50)) < 44

FloatArray = npt.NDArray[np.float32]


def blocked(projections: npt.NDArray[np.floating]) -> FloatArray:
    """Ramp-filter projections (angle, z, s) into blocks."""
    count, rows, columns = projections.shape
    out = np.empty((count, count_blocks(rows), columns, LANES), np.float32)
    for projection, target in zip(projections.astype(np.float32), out, strict=True):
        ramp_filter(projection, target)
    return out


def planes(
    ring: FloatArray, lines: list[Line], views: Views, name: str = "ramp", rows: int = ROWS
) -> FloatArray:
    sums = np.zeros((len(lines), ring.shape[1], views.size, LANES), np.float32)
    add_lines(ring, lines, views, window_taps(name), sums, threads=2)
    return np.stack([from_blocks(plane, rows) for plane in sums])


def tilted(ring: FloatArray, row: float, tilt: float, views: Views = VIEWS, name: str = "ramp") -> FloatArray:
    sums = np.zeros((views.size, views.size), np.float32)
    add_tilted(ring, views, window_taps(name), TiltedPlane(row, tilt, ROWS), sums, threads=2)
    return sums.T


def difference(one: npt.NDArray[np.floating], other: npt.NDArray[np.floating]) -> float:
    """RMS of the difference over the RMS of the second, within the detector's circle."""
    return float(np.sqrt(((one - other)[INSIDE] ** 2).mean() / (other[INSIDE] ** 2).mean()))


@pytest.fixture(scope="module")
def absorption() -> npt.NDArray[np.float64]:
    return project(ANGLES, ROWS, COLUMNS, CENTRE)


@pytest.fixture(scope="module")
def ring(absorption: npt.NDArray[np.float64]) -> FloatArray:
    return blocked(absorption)


def test_slices_have_the_values_of_the_phantom_per_pixel(ring: FloatArray) -> None:
    image = level_slice(read_sinogram(ring, VIEWS.slots, 66), VIEWS, "hann")
    truth = draw(66, COLUMNS)
    assert difference(image, truth) < 0.1
    body = np.hypot(*np.meshgrid(np.arange(COLUMNS) - 28, np.arange(COLUMNS) - 36)) < 4
    assert image[body].mean() == pytest.approx(truth[body].mean(), rel=0.01)


@pytest.mark.parametrize("name", FILTER_NAMES)
def test_the_three_slices_agree_where_they_cross(ring: FloatArray, name: str) -> None:
    level = level_slice(read_sinogram(ring, VIEWS.slots, 66), VIEWS, name)
    lines = [plane_line("x", 43, 0, COLUMNS), plane_line("y", 61, 0, COLUMNS)]
    of_x, of_y = planes(ring, lines, VIEWS, name)
    inner = slice(8, 93)
    scale = float(np.sqrt((level[INSIDE] ** 2).mean()))
    assert np.abs(of_x[66] - level[:, 43])[inner].max() < 0.1 * scale
    assert np.abs(of_y[66] - level[61])[inner].max() < 0.1 * scale
    # Where both interpolate linearly, they are the same but for rounding.
    direct = tilted(ring, 66, 0, name=name)
    assert np.allclose(of_x[66], direct[:, 43], atol=3e-4 * scale)
    assert np.allclose(of_y[66], direct[61], atol=3e-4 * scale)
    assert of_x[66, 61] == pytest.approx(of_y[66, 43], abs=2e-5 * scale)


def test_the_fast_level_slice_is_the_direct_one(ring: FloatArray) -> None:
    fast = level_slice(read_sinogram(ring, VIEWS.slots, 3), VIEWS, "hann")
    assert difference(fast, tilted(ring, 3, 0, name="hann")) < 5e-3


@pytest.mark.parametrize(
    ("name", "theirs"), [("ramp", "ramp"), ("hann", "hann"), ("shepp_logan", "shepp-logan")]
)
def test_slices_are_those_of_scikit_image(
    absorption: npt.NDArray[np.float64], name: str, theirs: str
) -> None:
    # iradon has the axis at column n // 2; its y runs up and it turns the other way, which cancel.
    projections = project(ANGLES, 2, COLUMNS, COLUMNS // 2)
    views = Views(VIEWS.slots, ANGLES, WEIGHT, COLUMNS // 2, COLUMNS)
    ring = blocked(projections)
    other = iradon(projections[:, 1].T, theta=ANGLES, filter_name=theirs, circle=True)
    assert difference(tilted(ring, 1, 0, views, name), other) < 0.005
    assert difference(level_slice(read_sinogram(ring, VIEWS.slots, 1), views, name), other) < 0.02


def test_slices_are_those_of_astra_with_the_axis_off_the_middle() -> None:
    sinogram = project(ANGLES, 3, COLUMNS, 46.0)
    views = Views(VIEWS.slots, ANGLES, WEIGHT, 46.0, COLUMNS)
    assert difference(tilted(blocked(sinogram), 2, 0, views), by_astra(sinogram[:, 2])) < 0.02


def by_astra(sinogram: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """ASTRA's FBP on the processor, which wants the axis in the middle of the columns."""
    # 8 columns of zeros before column 0 bring column 46 to the middle of 109.
    padded = np.pad(sinogram, [(0, 0), (8, 0)])
    geometry = astra.create_proj_geom("parallel", 1.0, padded.shape[1], np.deg2rad(ANGLES))
    volume = astra.create_vol_geom(COLUMNS, COLUMNS)
    projector = astra.create_projector("linear", geometry, volume)
    data, image = astra.data2d.create("-sino", geometry, padded), astra.data2d.create("-vol", volume)
    wanted = astra.astra_dict("FBP")
    wanted.update(ProjectorId=projector, ProjectionDataId=data, ReconstructionDataId=image)
    run = astra.algorithm.create(wanted)
    astra.algorithm.run(run)
    return np.asarray(astra.data2d.get(image))


def test_a_plane_spun_by_a_right_angle_is_the_other_plane(ring: FloatArray) -> None:
    turned, straight = planes(
        ring, [plane_line("x", 43, 90, COLUMNS), plane_line("y", 43, 0, COLUMNS)], VIEWS
    )
    # x = 43 turned by 90° from x towards y is y = 43, run through backwards about the axis.
    assert np.allclose(turned, straight[:, ::-1], atol=1e-5)


def test_a_tilted_slice_holds_the_points_of_level_ones(ring: FloatArray) -> None:
    image = tilted(ring, 35, 30)
    middle = COLUMNS // 2
    for x in (middle - 20, middle, middle + 30):
        height = 35 + 0.5 * (x - middle)
        level = tilted(ring, round(height), 0)
        across = middle + (x - middle) * np.cos(np.deg2rad(30))
        low = int(across)
        expected = level[:, low] * (low + 1 - across) + level[:, low + 1] * (across - low)
        inner = slice(15, 85)
        assert np.abs(image[inner, x] - expected[inner]).mean() < 0.05 * np.abs(expected[inner]).mean()


@settings(max_examples=10, deadline=None)
@given(st.floats(-20, 20), st.integers(0, 5))
def test_a_shifted_axis_on_shifted_projections_changes_nothing(shift: float, seed: int) -> None:
    angles = np.random.default_rng(seed).uniform(0, 180, 20)
    weight = np.full(20, np.pi / 20)
    line = [plane_line("x", 50.5, 13, 60)]
    results = []
    for centre in (70.0, 70.0 + shift):
        ring = blocked(project(angles, 2, 161, centre))
        results.append(planes(ring, line, Views(np.arange(20), angles, weight, centre, 60), "hann", 2))
    scale = np.sqrt((results[0] ** 2).mean())
    assert np.sqrt(((results[1] - results[0]) ** 2).mean()) < 0.1 * scale


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 40), st.integers(5, 150), st.integers(0, 99), st.sampled_from(FILTER_NAMES))
def test_back_projection_is_linear_and_order_does_not_matter(
    count: int, columns: int, seed: int, name: str
) -> None:
    random = np.random.default_rng(seed)
    ring = random.normal(size=(count, 1, columns, LANES)).astype(np.float32)
    angles, weights = random.uniform(-400, 400, count), random.uniform(0.1, 1, count)
    lines = [plane_line("x", 3, 20, columns), plane_line("y", columns / 3, 0, columns)]
    order = random.permutation(count)

    def of(chosen: npt.NDArray[np.int64], gain: float = 1.0) -> FloatArray:
        views = Views(chosen, angles[chosen], gain * weights[chosen], columns / 2, columns)
        return planes(ring, lines, views, name, LANES)

    whole = of(np.arange(count))
    scale = np.abs(whole).max() + 1e-6
    assert np.allclose(of(order), whole, atol=1e-4 * scale)
    assert np.allclose(of(order[: count // 2]) + of(order[count // 2 :]), whole, atol=1e-4 * scale)
    assert np.allclose(of(order, -2.0), -2 * whole, atol=1e-4 * scale)


@pytest.mark.parametrize("name", FILTER_NAMES)
def test_taps_make_the_windowed_filter_of_the_ramp(name: str, absorption: npt.NDArray[np.float64]) -> None:
    rows = absorption[:10].astype(np.float32)
    taps = window_taps(name)
    exact = filter_rows(rows, name)
    ramp = np.pad(filter_rows(rows, "ramp"), [(0, 0), (0, 0), (200, 200)])
    frequency = np.fft.rfftfreq(ramp.shape[-1])
    got = np.fft.irfft(np.fft.rfft(ramp) * taps.response(frequency), ramp.shape[-1])[..., 200:-200]
    inner = slice(12, -12)
    error = np.sqrt(((got - exact)[..., inner] ** 2).mean() / (exact[..., inner] ** 2).mean())
    assert taps.error < 3e-3
    assert error < 0.02


def test_simple_windows_are_exact_with_three_taps() -> None:
    for name in ("hann", "hamming"):
        assert (window_taps(name).reach, window_taps(name).error) == (1, pytest.approx(0, abs=1e-12))
    assert window_taps("ramp").reach == 0 and not len(window_taps("ramp").decays)
    reaches = [window_taps(name).reach for name in ("ramp", "hann", "parzen")]
    assert all(low < high for low, high in pairwise(reaches))


@settings(max_examples=60, deadline=None)
@given(
    st.integers(2, 70),
    st.integers(4, 90),
    st.integers(1, 60),
    st.floats(-200, 300),
    st.lists(st.floats(-720, 720), min_size=1, max_size=6),
    st.floats(-80, 80),
    st.integers(0, 99),
)
def test_whatever_the_geometry_sums_are_those_of_plain_interpolation(
    rows: int, columns: int, size: int, centre: float, angles: list[float], tilt: float, seed: int
) -> None:
    projections = np.random.default_rng(seed).normal(size=(len(angles), rows, columns)).astype(np.float32)
    # Not at round values, which would put points on the very edge of the detector.
    seen, weight = np.array(angles) + 0.137, np.linspace(0.5, 1, len(angles))
    views = Views(np.arange(len(angles)), seen, weight, centre + 0.0137, size)
    ring = to_blocks(projections)
    line = plane_line("x", size / 3, 11, size)
    sums = np.zeros((1, ring.shape[1], size, LANES), np.float32)
    add_lines(ring, [line], views, window_taps("ramp"), sums)
    t = np.arange(size)
    expected = plain(projections, views, line.x + t * line.step_x, line.y + t * line.step_y)
    assert np.allclose(from_blocks(sums[0], rows), expected.T, atol=1e-3)
    image = np.zeros((size, size), np.float32)
    add_tilted(ring, views, window_taps("ramp"), TiltedPlane(rows // 2, tilt, rows), image)
    along = t - size // 2
    height = rows // 2 + along * np.sin(np.deg2rad(tilt))
    for index in np.flatnonzero((height >= 0) & (height <= rows - 1)):
        x = np.full(size, size // 2 + along[index] * np.cos(np.deg2rad(tilt)))
        low = min(int(height[index]), rows - 2)
        share = height[index] - low
        mixed = (1 - share) * projections[:, low : low + 1] + share * projections[:, low + 1 : low + 2]
        assert np.allclose(image[index], plain(mixed, views, x, t)[:, 0], atol=2e-2)


def plain(
    projections: npt.NDArray[np.float32], views: Views, x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Sum projections (view, z, s) over points: (point, z)."""
    middle, columns = views.size // 2, np.arange(projections.shape[2])
    total = np.zeros((len(x), projections.shape[1]))
    for projection, angle, weight in zip(projections, views.angle_deg, views.weight, strict=True):
        theta = np.deg2rad(angle)
        s = (x - middle) * np.cos(theta) - (y - middle) * np.sin(theta) + views.centre
        for row, values in enumerate(projection):
            total[:, row] += weight * np.interp(s, columns, values, left=0, right=0)
    return total


def test_blocks_of_another_shape_are_refused() -> None:
    views = Views(np.arange(2), np.arange(2.0), np.ones(2), 10.0, 20)
    ring, line = np.zeros((2, 1, 20, LANES), np.float32), plane_line("x", 10, 0.0, 20)
    for shape in ((2, 1, 20, LANES // 2), (2, 2, 20, LANES)):
        with pytest.raises(ValueError, match="do not fit projections"):
            add_lines(
                np.zeros(shape, np.float32), [line], views, window_taps("ramp"), np.zeros((1, 1, 20, LANES))
            )
    with pytest.raises(ValueError, match="do not fit projections"):
        add_lines(ring, [line], views, window_taps("ramp"), np.zeros((1, 1, 21, LANES)))
    with pytest.raises(ValueError, match="are filtered into blocks"):
        ramp_filter(np.zeros((LANES + 1, 20), np.float32), ring[0])
