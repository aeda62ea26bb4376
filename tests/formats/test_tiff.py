"""TIFF movies: every kind of page that cameras write, and what is wrong with the others."""

from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from tomofly.formats.errors import BadFile
from tomofly.formats.lzw import is_sound
from tomofly.formats.movie import read_frames, read_header


def counts(dtype: str, shape: tuple[int, ...] = (5, 13, 17), seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).poisson(3, shape).astype(dtype)


@given(
    dtype=st.sampled_from(["u1", "i1", "u2", "i2", "f4"]),
    compression=st.sampled_from([None, "lzw", "zlib", "zstd"]),
    predictor=st.booleans(),
    rows_per_strip=st.integers(1, 20),
    byteorder=st.sampled_from(["<", ">"]),
    big=st.booleans(),
    shape=st.tuples(st.integers(1, 4), st.integers(2, 19), st.integers(2, 19)),
    threads=st.integers(1, 3),
)
@settings(max_examples=60, deadline=None)
def test_frames_come_back_whatever_the_layout(
    tmp_path_factory: pytest.TempPathFactory,
    dtype: str,
    compression: str | None,
    predictor: bool,
    rows_per_strip: int,
    byteorder: str,
    big: bool,
    shape: tuple[int, int, int],
    threads: int,
) -> None:
    path = tmp_path_factory.mktemp("tiff") / "a.tiff"
    frames = counts(dtype, shape)
    with tifffile.TiffWriter(path, byteorder=byteorder, bigtiff=big) as writer:
        for frame in frames:
            writer.write(
                frame,
                compression=compression,
                predictor=predictor and compression is not None,
                rowsperstrip=rows_per_strip,
                photometric="minisblack",
                contiguous=False,
                metadata=None,
            )
    header = read_header(path)
    assert (header.frames, header.shape_yx, header.dtype) == (shape[0], shape[1:], np.dtype(dtype))
    got = read_frames(path, threads=threads)
    assert got.dtype == np.dtype(dtype)
    assert np.array_equal(got, frames[:, ::-1]), "TIFF has its top row first"


def test_tiles_hang_over_the_edge(tmp_path: Path) -> None:
    frames = counts("u2", (3, 21, 37))
    tifffile.imwrite(tmp_path / "a.tif", frames, tile=(16, 16), compression="lzw", photometric="minisblack")
    assert np.array_equal(read_frames(tmp_path / "a.tif", frame_range=(1, 3)), frames[1:, ::-1])


def test_pixel_size_from_pixels_per_centimetre(tmp_path: Path) -> None:
    tifffile.imwrite(
        tmp_path / "a.tif", counts("u1")[0], resolution=(1e8 / 0.75, 1e8 / 0.75), resolutionunit=3
    )
    assert read_header(tmp_path / "a.tif").pixel_size_angstrom == pytest.approx(0.75, rel=1e-6)
    tifffile.imwrite(tmp_path / "b.tif", counts("u1")[0], resolution=(72, 72), resolutionunit=2)
    assert read_header(tmp_path / "b.tif").pixel_size_angstrom is None


def test_pages_of_different_sizes_are_named(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(counts("u1", (13, 17)), metadata=None)
        writer.write(counts("u1", (13, 19)), metadata=None)
    with pytest.raises(BadFile, match="page 2 is 19 x 13, page 1 is 17 x 13"):
        read_header(tmp_path / "a.tif")


def test_pages_of_different_types_are_named(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(counts("u1", (13, 17)), metadata=None)
        writer.write(counts("u2", (13, 17)), metadata=None)
    with pytest.raises(BadFile, match="page 2 stores its pixels otherwise"):
        read_frames(tmp_path / "a.tif")


def test_colour_pictures_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", counts("u1", (13, 17, 3)), photometric="rgb")
    with pytest.raises(BadFile, match="3 samples"):
        read_header(tmp_path / "a.tif")


def test_a_corrupt_page_is_named_and_the_others_can_be_read(tmp_path: Path) -> None:
    frames = counts("u2", (4, 13, 17))
    tifffile.imwrite(tmp_path / "a.tif", frames, compression="lzw", photometric="minisblack", rowsperstrip=13)
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        at, count = tif.pages[2].dataoffsets[0], tif.pages[2].databytecounts[0]
    raw = bytearray((tmp_path / "a.tif").read_bytes())
    raw[at : at + count] = b"\x13\x37" * (count // 2) + b"\0" * (count % 2)
    (tmp_path / "a.tif").write_bytes(raw)
    with pytest.raises(BadFile, match=r"a\.tif: page 3 does not decode"):
        read_frames(tmp_path / "a.tif", threads=2)
    assert np.array_equal(read_frames(tmp_path / "a.tif", frame_range=(0, 2)), frames[:2, ::-1])


@given(raw=st.binary(max_size=400), clear=st.booleans(), size=st.integers(0, 3000))
@settings(max_examples=200, deadline=None)
def test_only_sound_lzw_reaches_the_decoder(raw: bytes, clear: bool, size: int) -> None:
    counted = np.random.default_rng(len(raw)).poisson(2, size).astype(np.uint8).tobytes()
    assert is_sound(imagecodecs.lzw_encode(counted))
    damaged = (b"\x80" if clear else b"") + raw
    if is_sound(damaged):
        imagecodecs.lzw_decode(damaged)


@pytest.mark.real_data
def test_real_tiffs_read_as_tifffile_reads_them(real_data: Path) -> None:
    paths = sorted(real_data.glob("xct_dls_24737/tiffs/*.tiff"))[:5]
    assert paths
    for path in paths:
        assert np.array_equal(read_frames(path)[0], tifffile.imread(path)[::-1])
