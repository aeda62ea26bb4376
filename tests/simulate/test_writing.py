"""Files as a camera writes them."""

from pathlib import Path

import mrcfile
import numpy as np
import pytest
import tifffile

from tomofly.simulate.writing import PARTIAL_SUFFIX, write_movie

FRAMES = np.random.default_rng(5).integers(0, 90, (7, 13, 19))


@pytest.mark.parametrize(
    ("dtype", "mode", "stored"),
    [("int8", 0, "int8"), ("uint8", 6, "uint16"), ("uint16", 6, "uint16"), ("float32", 2, "float32")],
)
def test_mrc_files_hold_the_frames_in_the_standards_modes(
    tmp_path: Path, dtype: str, mode: int, stored: str
) -> None:
    path = tmp_path / "movie.mrc"
    write_movie(path, FRAMES.astype(dtype), pixel_size_angstrom=0.83)
    with mrcfile.open(path) as mrc:
        assert mrc.header.mode == mode
        assert mrc.is_image_stack()
        assert mrc.data.dtype == stored
        assert np.array_equal(mrc.data, FRAMES)
        assert mrc.voxel_size.x == pytest.approx(0.83)
        assert mrc.voxel_size.y == pytest.approx(0.83)
    assert mrcfile.validate(path)


@pytest.mark.parametrize("compression", ["none", "lzw"])
@pytest.mark.parametrize("dtype", ["int8", "uint8", "uint16", "float32"])
def test_tiff_files_hold_one_page_per_frame(tmp_path: Path, dtype: str, compression: str) -> None:
    path = tmp_path / "movie.tiff"
    write_movie(path, FRAMES.astype(dtype), pixel_size_angstrom=0.83, compression=compression)
    with tifffile.TiffFile(path) as tiff:
        assert len(tiff.pages) == 7
        assert tiff.pages[0].compression.name == compression.upper()
        assert tiff.pages[0].dtype == dtype
        assert np.array_equal(tiff.asarray(), FRAMES[:, ::-1])


@pytest.mark.parametrize("suffix", [".mrc", ".tiff"])
def test_a_growing_file_grows_under_its_name_and_ends_whole(tmp_path: Path, suffix: str) -> None:
    path, whole = tmp_path / f"movie{suffix}", tmp_path / f"whole{suffix}"
    sizes, pauses = [], []

    def watch(seconds: float) -> None:
        pauses.append(seconds)
        sizes.append(path.stat().st_size)

    frames = FRAMES.astype("uint16")
    write_movie(path, frames, pixel_size_angstrom=1, writing="grow", growth_s=4, wait=watch)
    write_movie(whole, frames, pixel_size_angstrom=1)
    assert len(sizes) >= 8
    assert sizes == sorted(set(sizes))
    assert sum(pauses) == pytest.approx(4, rel=0.2)
    assert path.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize("suffix", [".mrc", ".tiff"])
def test_a_renamed_file_is_never_seen_in_part_under_its_name(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"movie{suffix}"
    seen = []

    def watch(seconds: float) -> None:
        seen.append((path.exists(), path.with_name(path.name + PARTIAL_SUFFIX).exists()))

    write_movie(path, FRAMES.astype("int8"), pixel_size_angstrom=1, writing="rename", growth_s=1, wait=watch)
    assert set(seen) == {(False, True)}
    assert [found.name for found in tmp_path.iterdir()] == [path.name]
