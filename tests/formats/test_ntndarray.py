"""NTNDArray: images as EPICS sends them, against p4p's own class and the codecs' other implementations."""

import io
import zlib
from contextlib import suppress
from typing import Any

import h5py
import hdf5plugin
import imagecodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from p4p import Type, Value
from p4p.nt import NTNDArray, NTScalar

from tomofly.formats.ntndarray import make_ndarray, parse_ndarray, peek_unique_id
from tomofly.formats.ntndarray_codecs import CODECS
from tomofly.model.errors import BadInput

TYPES = ["i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"]
PVDATA = {"i1": 1, "i2": 2, "i4": 3, "i8": 4, "u1": 5, "u2": 6, "u4": 7, "u8": 8, "f4": 9, "f8": 10}


def picture(code: str = "u2", shape: tuple[int, int] = (19, 23)) -> NDArray[Any]:
    counts = np.random.default_rng(7).poisson(40, shape)
    return counts.astype(code)


def bitshuffled(image: NDArray[Any]) -> bytes:
    """What HDF5's own filter makes of an image, less the 12 bytes that only HDF5 puts before it."""
    with h5py.File(io.BytesIO(), "w") as file:
        packed = file.create_dataset(
            "d", data=image, chunks=image.shape, **hdf5plugin.Bitshuffle(cname="lz4")
        )
        stored: bytes = packed.id.read_direct_chunk((0,) * image.ndim)[1]
    return stored[12:]


def compressed(image: NDArray[Any], codec: str, payload: bytes) -> Value:
    """As areaDetector's codec plugin sends it: bytes, with the type before compression as a parameter."""
    value = make_ndarray(image, unique_id=3, time=1.0e9)
    value.value = ("ubyteValue", np.frombuffer(payload, np.uint8))
    value.codec = {"name": codec, "parameters": ("i", PVDATA[image.dtype.str[1:]])}
    value.compressedSize = len(payload)
    return value


@pytest.mark.parametrize("code", TYPES)
def test_an_array_of_any_type_comes_out_as_it_went_in(code: str) -> None:
    image = picture(code)
    frame = parse_ndarray(make_ndarray(image, unique_id=12, time=1.5e9))
    assert frame.image.dtype == image.dtype
    assert np.array_equal(frame.image, image)
    assert (frame.unique_id, frame.time, frame.data_time, frame.color_mode) == (12, 1.5e9, 1.5e9, 0)


@given(
    image=hnp.arrays(st.sampled_from(TYPES), hnp.array_shapes(min_dims=2, max_dims=3, max_side=9)),
    unique_id=st.integers(-(2**31), 2**31 - 1),
    attributes=st.dictionaries(
        st.text("abcXYZ", min_size=1),
        st.one_of(st.integers(-(2**60), 2**60), st.floats(allow_nan=False), st.booleans(), st.text("xyz é")),
    ),
)
@settings(max_examples=60, deadline=None)
def test_whatever_is_built_is_read_back(
    image: NDArray[Any], unique_id: int, attributes: dict[str, object]
) -> None:
    frame = parse_ndarray(make_ndarray(image, unique_id=unique_id, time=1.0e9, attributes=attributes))
    assert frame.image.tobytes() == image.tobytes()
    assert frame.image.shape == image.shape
    assert frame.unique_id == unique_id
    assert dict(frame.attributes) == {"ColorMode": 0, **attributes}


def test_p4p_reads_what_is_built() -> None:
    image = picture("f4")
    theirs = NTNDArray().unwrap(make_ndarray(image, unique_id=5, time=123.25, attributes={"Center": 511.5}))
    assert theirs.shape == (19, 23)
    assert np.array_equal(theirs, image)
    assert theirs.attrib == {"ColorMode": 0, "Center": 511.5}
    assert theirs.timestamp == 123.25


def test_what_p4p_builds_is_read() -> None:
    image = picture("i2")
    frame = parse_ndarray(NTNDArray().wrap(image))
    assert np.array_equal(frame.image, image)
    assert np.isnan(frame.taken_at)


def test_what_viewers_ask_for_is_set() -> None:
    image = picture("f4")
    value = make_ndarray(image, unique_id=2**31 + 4, time=10.5, data_time=9.25)
    assert value.getID() == "epics:nt/NTNDArray:1.0"
    assert [dimension.size for dimension in value.dimension] == [23, 19]
    assert value.codec.name == ""
    assert value.codec.parameters == 9
    assert value.compressedSize == value.uncompressedSize == image.nbytes
    assert value.uniqueId == -(2**31) + 4
    assert (value.timeStamp.secondsPastEpoch, value.timeStamp.nanoseconds) == (10, 500_000_000)
    assert value.dataTimeStamp.secondsPastEpoch == 9
    assert "any value int32_t = 0" in str(value.attribute[0])


def test_a_received_image_is_not_copied() -> None:
    value = make_ndarray(picture(), unique_id=1, time=1.0)
    image = parse_ndarray(value).image
    assert not image.flags.writeable
    assert np.shares_memory(image, value.value)


PACKERS = {
    "blosc": lambda image: imagecodecs.blosc_encode(image.tobytes(), typesize=image.itemsize),
    "blosc (zstd)": lambda image: imagecodecs.blosc_encode(
        image.tobytes(), typesize=image.itemsize, compressor="zstd", shuffle="bitshuffle"
    ),
    "blosc (lz4)": lambda image: imagecodecs.blosc_encode(
        image.tobytes(), typesize=image.itemsize, compressor="lz4", shuffle="noshuffle"
    ),
    "lz4": lambda image: imagecodecs.lz4_encode(image.tobytes()),
    "bslz4": bitshuffled,
    "zlib": lambda image: zlib.compress(image.tobytes()),
}


@pytest.mark.parametrize("packer", PACKERS)
@pytest.mark.parametrize("code", ["u1", "u2", "f4", "f8"])
@pytest.mark.parametrize("shape", [(19, 23), (97, 131), (1, 3)])
def test_every_codec_is_undone(packer: str, code: str, shape: tuple[int, int]) -> None:
    image = picture(code, shape)
    frame = parse_ndarray(compressed(image, packer.split(maxsplit=1)[0], PACKERS[packer](image)))
    assert frame.image.dtype == image.dtype
    assert np.array_equal(frame.image, image)
    assert frame.codec == packer.split(maxsplit=1)[0]


def test_jpeg_is_nearly_undone() -> None:
    image = np.tile(np.arange(0, 240, 8, dtype=np.uint8), (17, 1))
    frame = parse_ndarray(compressed(image, "jpeg", imagecodecs.jpeg_encode(image, level=95)))
    assert frame.image.shape == image.shape
    assert np.abs(frame.image.astype(int) - image).max() <= 6


def test_an_unknown_codec_is_named() -> None:
    with pytest.raises(
        BadInput, match=r"'wavelets', which is not known.*one of blosc, bslz4, jpeg, lz4, zlib"
    ):
        parse_ndarray(compressed(picture(), "wavelets", b"123"))


@pytest.mark.parametrize("codec", ["blosc", "bslz4", "jpeg", "lz4", "zlib"])
@pytest.mark.parametrize("payload", [b"\0", b"\xff" * 40, b"\x02\x01\x01\x02" + b"\xff" * 60])
def test_hostile_payloads_are_refused(codec: str, payload: bytes) -> None:
    with pytest.raises(BadInput, match=codec):
        parse_ndarray(compressed(picture(), codec, payload))


@given(
    codec=st.sampled_from(CODECS),
    payload=st.binary(min_size=1, max_size=300),
    code=st.sampled_from(["u1", "u2", "f8"]),
)
@settings(max_examples=100, deadline=None)
def test_no_payload_does_more_than_be_refused(codec: str, payload: bytes, code: str) -> None:
    value = compressed(picture(code), codec, payload)
    try:
        assert parse_ndarray(value).image.shape == (19, 23)
    except BadInput as error:
        assert codec in str(error)


@given(packer=st.sampled_from(sorted(PACKERS)), at=st.integers(0, 400), to=st.integers(0, 255))
@settings(max_examples=100, deadline=None)
def test_a_damaged_byte_is_refused_or_changes_pixels_only(packer: str, at: int, to: int) -> None:
    payload = bytearray(PACKERS[packer](picture()))
    payload[at % len(payload)] = to
    value = compressed(picture(), packer.split(maxsplit=1)[0], bytes(payload))
    with suppress(BadInput):
        assert parse_ndarray(value).image.shape == (19, 23)


def test_a_jpeg_that_promises_another_size_is_refused() -> None:
    large = imagecodecs.jpeg_encode(np.zeros((4000, 4000), np.uint8))
    with pytest.raises(BadInput, match="jpeg"):
        parse_ndarray(compressed(picture("u1"), "jpeg", large))


@pytest.mark.parametrize("packer", PACKERS)
def test_a_payload_cut_short_or_of_another_size_is_refused(packer: str) -> None:
    image, codec = picture(), packer.split(maxsplit=1)[0]
    with pytest.raises(BadInput, match=codec):
        parse_ndarray(compressed(image, codec, PACKERS[packer](image)[:-9]))
    with pytest.raises(BadInput, match=codec):
        parse_ndarray(compressed(image, codec, PACKERS[packer](np.vstack([image, image]))))


@pytest.mark.parametrize(
    ("field", "wrong", "message"),
    [("compressedSize", 873, "873 were announced"), ("uncompressedSize", 12, "uncompressedSize 12")],
)
def test_sizes_that_contradict_the_pixels_are_refused(field: str, wrong: int, message: str) -> None:
    value = make_ndarray(picture(), unique_id=1, time=1.0)
    value[field] = wrong
    with pytest.raises(BadInput, match=message):
        parse_ndarray(value)
    value[field] = 0  # not set, as some senders leave it
    assert parse_ndarray(value).image.shape == (19, 23)


def test_dimensions_that_contradict_the_pixels_are_refused() -> None:
    value = make_ndarray(picture(), unique_id=1, time=1.0)
    value.uncompressedSize = 0
    value.dimension = [{"size": 23}, {"size": 20}]
    with pytest.raises(BadInput, match="437 pixels came for an image of 23 x 20"):
        parse_ndarray(value)
    for sizes in ([0, 4], [-3, 4], [2**31 - 1, 2**31 - 1]):
        value.dimension = [{"size": size} for size in sizes]
        with pytest.raises(BadInput, match="an image of"):
            parse_ndarray(value)


def test_an_empty_array_and_another_structure_are_refused() -> None:
    with pytest.raises(BadInput, match="without pixels"):
        parse_ndarray(Value(NTNDArray.buildType(), {"uniqueId": 8}))
    with pytest.raises(BadInput, match="NTScalar"):
        parse_ndarray(NTScalar("d").wrap(4.0))


def test_the_id_of_an_unreadable_image_is_still_known() -> None:
    assert peek_unique_id(compressed(picture(), "wavelets", b"123")) == (3, 1.0e9)


def test_an_attribute_sent_inside_a_structure_is_taken_out() -> None:
    value = make_ndarray(picture(), unique_id=1, time=1.0)
    boxed = Value(Type([("value", "i")]), {"value": 2})
    value.attribute = [{"name": "ColorMode", "value": boxed}, {"name": "Angle", "value": 1.5}]
    assert parse_ndarray(value).attributes == {"ColorMode": 2, "Angle": 1.5}
    assert parse_ndarray(value).color_mode == 2


def test_what_cannot_be_sent_is_refused() -> None:
    with pytest.raises(ValueError, match="complex64"):
        make_ndarray(np.zeros((3, 4), np.complex64), unique_id=1, time=1.0)
    with pytest.raises(ValueError, match="the attribute Where of type dict"):
        make_ndarray(picture(), unique_id=1, time=1.0, attributes={"Where": {}})
