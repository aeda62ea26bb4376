"""Volumes leave as TIFF slices, HDF5 and OME-Zarr that the programs made for them read."""

import json
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt
import pytest
import tifffile

from tests.stages.scan_bench import PIXEL_UM, ROWS, WIDTH, write_scan
from tomofly.flow.conductor import RunOptions
from tomofly.flow.process import run_session
from tomofly.formats.ome_zarr import Pyramid, write_ome_zarr
from tomofly.formats.volume_file import open_volume
from tomofly.model import TomoflyError
from tomofly.services import control, sessions
from tomofly.services.exports.export import ExportOptions, checked_pixels, export_session
from tomofly.services.home import Home, open_home

SHAPE = (ROWS, WIDTH, WIDTH)


@pytest.fixture(autouse=True)
def example_stages() -> None:
    """The stages that are really installed, instead of the example's."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """A finished session of one scan."""
    folder = tmp_path_factory.mktemp("xct")
    (folder / "scans").mkdir()
    write_scan(folder / "scans" / "tooth 1.h5")
    place = open_home(folder / "home")
    lines = [
        f"source.pattern={folder}/scans/*.h5", "source.settle_s=0.1", "source.poll_s=0.1",
        "resources.minimum_free_gb=0", "resources.workers=1",
    ]  # fmt: skip
    info = sessions.create_session(place, "x", kind="xct", folder=folder / "session", assignments=lines)
    control.put_in_force(place, "x")
    run_session(place.database, info.row.id, RunOptions(once=True))
    return place


def _volume(home: Home) -> npt.NDArray[np.float32]:
    with open_volume(sessions.session_info(home, "x").folder / "volume" / "tooth 1.h5") as opened:
        return opened.slices(0, ROWS)


def test_tiff_slices_have_the_values_and_the_size_of_a_pixel(home: Home, tmp_path: Path) -> None:
    done = export_session(home, "x", tmp_path / "out", ExportOptions("tiff"))
    files = sorted((tmp_path / "out" / "tooth_1").glob("*.tif"))
    assert done.items == 1 and len(files) == ROWS
    assert np.array_equal(tifffile.imread(files), _volume(home))
    with tifffile.TiffFile(files[0]) as file:
        above, below = file.pages[0].tags["XResolution"].value  # type: ignore[union-attr]
    assert 1e4 * below / above == pytest.approx(PIXEL_UM, rel=1e-3)


@pytest.mark.parametrize("pixels", ["uint16", "float16"])
def test_voxels_of_other_types_say_what_they_mean(home: Home, tmp_path: Path, pixels: str) -> None:
    export_session(home, "x", tmp_path / "out", ExportOptions("hdf5", pixels=checked_pixels(pixels)))
    meaning = json.loads((tmp_path / "out" / "volumes.json").read_text())["tooth 1"]
    with h5py.File(tmp_path / "out" / meaning["path"]) as file:
        numbers = file["exchange/data"][()]
    assert numbers.dtype == pixels and meaning["unit"] == "1/um" and meaning["voxel_um"] == PIXEL_UM
    values = meaning["offset"] + meaning["scale"] * numbers.astype(np.float64)
    volume = _volume(home)
    low, high = np.percentile(volume, [1, 99])
    inside = (volume > low) & (volume < high)
    assert np.abs(values - volume)[inside].max() < 2e-3 * np.ptp(volume)


def test_hdf5_as_it_is_is_the_sessions_own_file(home: Home, tmp_path: Path) -> None:
    export_session(home, "x", tmp_path / "out", ExportOptions("hdf5"))
    assert (tmp_path / "out" / "tooth_1.h5").is_symlink()
    with open_volume(tmp_path / "out" / "tooth_1.h5") as opened:
        assert opened.header.shape_zyx == SHAPE


def test_ome_zarr_is_read_by_zarr(home: Home, tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    export_session(home, "x", tmp_path / "out", ExportOptions("zarr"))
    group = zarr.open_group(str(tmp_path / "out" / "tooth_1.ome.zarr"), mode="r")
    assert np.array_equal(group["0"][:], _volume(home))
    multiscales = group.attrs["multiscales"][0]
    assert multiscales["version"] == "0.4" and [axis["name"] for axis in multiscales["axes"]] == [
        "z",
        "y",
        "x",
    ]
    scale = multiscales["datasets"][0]["coordinateTransformations"][0]["scale"]
    assert scale == [PIXEL_UM] * 3


def test_each_level_of_a_pyramid_is_the_mean_of_the_one_before(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    volume = np.random.default_rng(0).integers(0, 60000, (131, 150, 301)).astype(np.uint16)
    pyramid = Pyramid(volume.shape, volume.dtype, 0.5, "v")
    write_ome_zarr(tmp_path / "v.ome.zarr", pyramid, lambda first, last: volume[first:last])
    group = zarr.open_group(str(tmp_path / "v.ome.zarr"), mode="r")
    assert pyramid.shapes == [(131, 150, 301), (65, 75, 150), (32, 37, 75)]
    assert np.array_equal(group["0"][:], volume)
    halved = volume[:130, :, :300].astype(np.float64).reshape(65, 2, 75, 2, 150, 2).mean(axis=(1, 3, 5))
    assert np.abs(group["1"][:] - halved).max() <= 0.51
    first, second = (
        level["coordinateTransformations"] for level in group.attrs["multiscales"][0]["datasets"][:2]
    )
    assert first[0]["scale"] == [0.5] * 3 and second[0]["scale"] == [1.0] * 3
    assert second[1]["translation"] == [0.25] * 3


@pytest.mark.parametrize("wanted", ["relion", "imod"])
def test_formats_of_other_kinds_are_refused(home: Home, tmp_path: Path, wanted: str) -> None:
    with pytest.raises(TomoflyError, match="tiff"):
        export_session(home, "x", tmp_path / "out", ExportOptions(wanted))  # type: ignore[arg-type]
    with pytest.raises(TomoflyError, match="float32"):
        checked_pixels("uint8")
