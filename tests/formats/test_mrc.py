"""MRC files: what is written is read, by us and by others, whatever the type, order and layout."""

import struct
from pathlib import Path

import mrcfile
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tomofly.formats.errors import BadFile
from tomofly.formats.movie import read_frames, read_header
from tomofly.formats.mrc import read_image, read_layout, write_image

DTYPES = ["i1", "i2", "u2", "f4"]


def ramp(dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    return (np.arange(np.prod(shape)) % 113 - (0 if dtype[0] == "u" else 56)).reshape(shape).astype(dtype)


@given(
    dtype=st.sampled_from(DTYPES),
    shape=st.lists(st.integers(1, 9), min_size=2, max_size=3).map(tuple),
    pixel=st.floats(0.1, 50),
)
@settings(max_examples=40, deadline=None)
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, dtype: str, shape: tuple[int, ...], pixel: float
) -> None:
    path = tmp_path_factory.mktemp("mrc") / "a.mrc"
    array = ramp(dtype, shape)
    write_image(path, array, pixel)
    got, got_pixel = read_image(path)
    assert got.dtype == array.dtype
    assert np.array_equal(got, array[0] if array.ndim == 3 and len(array) == 1 else array)
    assert got_pixel == pytest.approx(pixel, rel=1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
def test_mrcfile_validates_and_reads_ours(tmp_path: Path, dtype: str) -> None:
    array = ramp(dtype, (13, 17))
    write_image(tmp_path / "a.mrc", array, 1.06, labels=["tomofly motion 1"])
    assert mrcfile.validate(tmp_path / "a.mrc")
    with mrcfile.open(tmp_path / "a.mrc") as mrc:
        assert np.array_equal(mrc.data, array)
        assert mrc.voxel_size.x == pytest.approx(1.06)
        assert float(mrc.header.dmean) == pytest.approx(array.mean(dtype=float), abs=1e-5)
        assert float(mrc.header.rms) == pytest.approx(array.std(dtype=float), rel=1e-5)


def test_a_stack_is_images_and_not_a_volume(tmp_path: Path) -> None:
    write_image(tmp_path / "a.mrcs", ramp("f4", (5, 13, 13)), 2.0)
    with mrcfile.open(tmp_path / "a.mrcs") as mrc:
        assert mrc.is_image_stack()
        assert mrc.voxel_size.z == pytest.approx(2.0)
        assert np.array_equal(mrc.data, ramp("f4", (5, 13, 13)))


def test_half_floats_come_back_as_float32(tmp_path: Path) -> None:
    array = np.linspace(-3, 3, 13 * 17).reshape(13, 17).astype("f4")
    write_image(tmp_path / "a.mrc", array, 1.0, float16=True)
    assert (tmp_path / "a.mrc").stat().st_size == 1024 + 2 * array.size
    got, _ = read_image(tmp_path / "a.mrc")
    assert got.dtype == np.float32
    assert np.allclose(got, array, atol=2e-3)


def test_what_a_half_float_cannot_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="65504"):
        write_image(tmp_path / "a.mrc", np.full((13, 17), 1e5, "f4"), 1.0, float16=True)


def test_unsigned_bytes_are_stored_as_uint16(tmp_path: Path) -> None:
    write_image(tmp_path / "a.mrc", np.full((13, 17), 200, np.uint8), 1.0)
    got, _ = read_image(tmp_path / "a.mrc")
    assert got.dtype == np.uint16
    assert (got == 200).all()


def test_an_array_of_the_wrong_rank_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="shape"):
        write_image(tmp_path / "a.mrc", np.zeros(5, "f4"), 1.0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("stamp_is_right", [True, False])
def test_big_endian_files_are_read(tmp_path: Path, dtype: str, stamp_is_right: bool) -> None:
    array = ramp(dtype, (3, 13, 17))
    write_image(tmp_path / "a.mrc", array, 1.5)
    raw = bytearray((tmp_path / "a.mrc").read_bytes())
    words = np.frombuffer(bytes(raw[:1024]), "<i4").astype(">i4")
    words[[52]] = np.frombuffer(b"MAP ", ">i4")
    raw[:1024] = words.tobytes()
    raw[212:214] = b"\x11\x11" if stamp_is_right else b"\x44\x44"
    raw[1024:] = array.astype(array.dtype.newbyteorder(">")).tobytes()
    (tmp_path / "b.mrc").write_bytes(raw)
    if dtype == "i1" and not stamp_is_right:
        return  # mode 0 is 0 in both orders: only the stamp can tell
    assert np.array_equal(read_frames(tmp_path / "b.mrc"), array)
    assert read_header(tmp_path / "b.mrc").pixel_size_angstrom == 1.5


@pytest.mark.parametrize(("flags", "dtype"), [(0, "u1"), (1, "i1")])
def test_imods_stamp_says_whether_bytes_are_signed(tmp_path: Path, flags: int, dtype: str) -> None:
    array = ramp("i1", (2, 13, 17))
    write_image(tmp_path / "a.mrc", array, 1.0)
    raw = bytearray((tmp_path / "a.mrc").read_bytes())
    struct.pack_into("<ii", raw, 152, 1146047817, flags)
    (tmp_path / "a.mrc").write_bytes(raw)
    got = read_frames(tmp_path / "a.mrc")
    assert np.array_equal(got, array.view(dtype))


@pytest.mark.parametrize("columns", [16, 17])
def test_four_bit_pixels_are_unpacked_low_half_first(tmp_path: Path, columns: int) -> None:
    pixels = np.random.default_rng(1).integers(0, 16, (3, 13, columns), np.uint8)
    padded = np.pad(pixels, ((0, 0), (0, 0), (0, columns % 2)))
    write_image(tmp_path / "a.mrc", pixels.view(np.int8), 1.0)
    raw = bytearray((tmp_path / "a.mrc").read_bytes()[:1024])
    struct.pack_into("<i", raw, 12, 101)
    (tmp_path / "a.mrc").write_bytes(bytes(raw) + (padded[..., 0::2] | padded[..., 1::2] << 4).tobytes())
    assert np.array_equal(read_frames(tmp_path / "a.mrc", frame_range=(1, 3)), pixels[1:])


def test_an_extended_header_is_passed_over(tmp_path: Path) -> None:
    array = ramp("i2", (2, 13, 17))
    write_image(tmp_path / "a.mrc", array, 1.0)
    raw = bytearray((tmp_path / "a.mrc").read_bytes())
    struct.pack_into("<i", raw, 92, 768)
    (tmp_path / "a.mrc").write_bytes(raw[:1024] + bytes(768) + raw[1024:])
    assert np.array_equal(read_frames(tmp_path / "a.mrc"), array)
    assert read_layout(tmp_path / "a.mrc").data_offset == 1024 + 768


@pytest.mark.parametrize("cell", [float("nan"), float("inf"), 0.0, -5.0, 1e30])
def test_a_pixel_size_that_makes_no_sense_is_none(tmp_path: Path, cell: float) -> None:
    write_image(tmp_path / "a.mrc", ramp("i1", (13, 17)), 1.0)
    raw = bytearray((tmp_path / "a.mrc").read_bytes())
    struct.pack_into("<f", raw, 40, cell)
    (tmp_path / "a.mrc").write_bytes(raw)
    assert read_header(tmp_path / "a.mrc").pixel_size_angstrom is None


def test_a_transform_is_refused_with_a_reason(tmp_path: Path) -> None:
    write_image(tmp_path / "a.mrc", ramp("f4", (13, 17)), 1.0)
    raw = bytearray((tmp_path / "a.mrc").read_bytes())
    struct.pack_into("<i", raw, 12, 4)
    (tmp_path / "a.mrc").write_bytes(raw)
    with pytest.raises(BadFile, match=r"a\.mrc: holds a transform .* Give the real-space images"):
        read_header(tmp_path / "a.mrc")


def test_bytes_beyond_the_header_are_told(tmp_path: Path) -> None:
    write_image(tmp_path / "a.mrc", ramp("f4", (13, 17)), 1.0)
    with (tmp_path / "a.mrc").open("ab") as target:
        target.write(bytes(19))
    assert read_header(tmp_path / "a.mrc").trailing_bytes == 19


@pytest.mark.real_data
def test_real_micrographs_read_as_mrcfile_reads_them(real_data: Path) -> None:
    paths = sorted(real_data.glob("spa_*/*.mrc")) + sorted(real_data.glob("xct_dls_24737/*.mrc"))
    assert paths
    for path in paths:
        got, pixel = read_image(path)
        with mrcfile.mmap(path, permissive=True) as mrc:
            assert np.array_equal(got, np.asarray(mrc.data, got.dtype), equal_nan=True)
        assert pixel == (1.5 if "apoferritin" in str(path) else None if "xct" in str(path) else 1.0)
