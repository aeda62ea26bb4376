"""Volumes in slabs: the same whatever the memory, from counts to absorption."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.imaging.xray.discs import SCENE, project, slice_of
from tomofly.imaging.xray.gridding import SLICES
from tomofly.imaging.xray.ring_measure import ring_strength
from tomofly.imaging.xray.volume import (
    Fields,
    Method,
    ScanSize,
    absorbed,
    plan_slabs,
    reconstruct,
    sample_rows,
    slab_bytes,
    transmitted,
)

FloatArray = npt.NDArray[np.float32]
DEGREES = np.arange(0, 180, 1.25)
ANGLES = np.deg2rad(DEGREES)


@settings(max_examples=100, deadline=None)
@given(
    first=st.integers(0, 50), count=st.integers(1, 300), width=st.integers(16, 256), halo=st.integers(0, 9),
    chunk=st.sampled_from([1, 7, 16, 64]), memory_mb=st.integers(30, 2000), direct=st.booleans(),
)  # fmt: skip
def test_slabs_are_all_rows_once_within_the_memory(
    first: int, count: int, width: int, halo: int, chunk: int, memory_mb: int, direct: bool
) -> None:
    method: Method = "direct" if direct else "gridding"
    size, height = ScanSize(91, width, 2, chunk), first + count + 5
    try:
        slabs = plan_slabs((first, first + count), height, size, memory_mb * 10**6, halo=halo, method=method)
    except ValueError:
        assert slab_bytes(size, 1, halo, 1, method) > memory_mb * 10**6
        return
    rows = [row for slab in slabs for row in range(slab.first, slab.last)]
    assert rows == list(range(first, first + count))
    for slab in slabs:
        assert slab_bytes(size, slab.last - slab.first, halo, 1, method) <= memory_mb * 10**6
        assert slab.read_first == max(0, slab.first - halo)
        assert slab.read_last == min(height, slab.last + halo)


def test_slabs_end_where_stored_chunks_end() -> None:
    size = ScanSize(900, 512, 2, 24)
    slabs = plan_slabs((0, 500), 500, size, 900 * 10**6)
    assert len(slabs) > 1 and all(slab.last % 48 == 0 for slab in slabs[:-1])


@pytest.mark.parametrize("chunk", [1, 7, 24])
def test_slices_that_share_a_grid_do_so_whatever_the_memory(chunk: int) -> None:
    size = ScanSize(900, 512, 2, chunk)
    for memory_mb in (200, 400, 900):
        slabs = plan_slabs((5, 500), 500, size, memory_mb * 10**6)
        assert len(slabs) > 1 and all((slab.last - 5) % SLICES == 0 for slab in slabs[:-1])


def test_too_little_memory_is_said_with_what_is_needed() -> None:
    with pytest.raises(ValueError, match="GB"):
        plan_slabs((0, 10), 10, ScanSize(900, 2048, 2), 10**6)


def _counts(flat_at: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.uint16], FloatArray]:
    """Counts (angle, y, x) of two different rows in light that changes, and their absorption."""
    rows = [project(SCENE, ANGLES, 121, 60.4), project(SCENE[1:], ANGLES, 121, 60.4)]
    absorption = np.stack(rows, axis=1)
    light = 30000 * flat_at[:, None, None]
    return np.round(100 + light * np.exp(-absorption)).astype(np.uint16), absorption


def test_flats_taken_before_and_after_are_interpolated() -> None:
    count = len(ANGLES)
    counts, absorption = _counts(np.linspace(1.0, 1.3, count))
    flat = np.full((2, 2, 121), 30100, np.float32)
    flat[1] = 39100
    fields = Fields(np.full((2, 121), 100, np.float32), flat, np.array([-0.5, count - 0.5]))
    found = absorbed(transmitted(counts, fields, threads=2), threads=2)
    assert np.abs(found - absorption).max() < 0.01
    steady = Fields(fields.dark, flat[:1], np.array([np.nan]))
    assert np.abs(absorbed(transmitted(counts, steady)) - absorption).max() > 0.2


@pytest.mark.parametrize("method", ["gridding", "direct"])
def test_counts_become_slices(method: Method) -> None:
    counts, _ = _counts(np.ones(len(ANGLES)))
    flat = np.full((1, 2, 121), 30100, np.float32)
    fields = Fields(np.full((2, 121), 100, np.float32), flat, np.array([np.nan]))
    absorption = absorbed(transmitted(counts, fields))
    slices = reconstruct(absorption, DEGREES, 60.4, method=method, threads=2)
    y, x = np.mgrid[:121, :121] - 60
    inside = x * x + y * y < 48**2
    for image, discs in zip(slices, (SCENE, SCENE[1:]), strict=True):
        assert np.sqrt(np.mean((image - slice_of(discs, 121))[inside] ** 2)) < 0.0012


def test_rings_are_told_from_structure() -> None:
    rng = np.random.default_rng(0)
    image = slice_of(SCENE, 201) + rng.normal(0, 0.002, (201, 201)).astype(np.float32)
    clean = ring_strength(image)
    y, x = np.mgrid[:201, :201] - 100
    radius = np.rint(np.hypot(y, x))
    for ring in (20, 33, 61, 80):
        image[radius == ring] += 0.004
    assert clean < 3 < ring_strength(image)


def test_rows_are_spread_and_show_something() -> None:
    assert sample_rows(100, 4) == [16, 39, 62, 84]
    contrast = np.zeros(100)
    contrast[[10, 40, 60, 94]] = 1
    assert sample_rows(100, 4, contrast.tolist()) == [10, 40, 60, 94]
    assert sample_rows(2, 5) == [0, 1]
