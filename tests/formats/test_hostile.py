"""A corpus of hostile files: each is refused with its name, what is wrong and what to do, at once."""

import logging
import os
import pickle
import struct
import time
import tracemalloc
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.formats.eer_writer import random_frames, write_eer
from tomofly.formats.epu import read_epu_xml
from tomofly.formats.errors import BadFile
from tomofly.formats.gain import read_gain
from tomofly.formats.movie import read_frames, read_header
from tomofly.formats.mrc import read_image, write_image
from tomofly.formats.star import read_star

READERS: list[Callable[[Path], object]] = [
    read_header,
    read_frames,
    read_image,
    read_gain,
    read_star,
    read_epu_xml,
]


def mrc_bytes(folder: Path) -> bytes:
    write_image(folder / "good.mrc", np.arange(3 * 13 * 17, dtype=np.float32).reshape(3, 13, 17), 1.0)
    return (folder / "good.mrc").read_bytes()


def tiff_bytes(folder: Path) -> bytes:
    frames = np.random.default_rng(0).poisson(3, (3, 13, 17)).astype(np.uint16)
    tifffile.imwrite(
        folder / "good.tif",
        frames,
        compression="lzw",
        predictor=True,
        rowsperstrip=5,
        photometric="minisblack",
    )
    return (folder / "good.tif").read_bytes()


def eer_bytes(folder: Path) -> bytes:
    write_eer(folder / "good.eer", random_frames(3, (13, 17), 30)[0], (13, 17))
    return (folder / "good.eer").read_bytes()


MAKERS = {"a.mrc": mrc_bytes, "a.tif": tiff_bytes, "a.eer": eer_bytes}


@cache
def good(folder: Path, name: str) -> bytes:
    return MAKERS[name](folder)


def with_mrc(**fields: tuple[int, str, object]) -> Callable[[bytes], bytes]:
    def change(raw: bytes) -> bytes:
        out = bytearray(raw)
        for offset, code, value in fields.values():
            struct.pack_into(code, out, offset, value)
        return bytes(out)

    return change


def with_tag(tag: int, value: int) -> Callable[[bytes], bytes]:
    """Every page's inline value of a tag of the classic, little-endian file."""

    def change(raw: bytes) -> bytes:
        out = bytearray(raw)
        (place,) = struct.unpack_from("<I", raw, 4)
        while place:
            (count,) = struct.unpack_from("<H", raw, place)
            for at in range(place + 2, place + 2 + 12 * count, 12):
                if struct.unpack_from("<H", raw, at)[0] == tag:
                    struct.pack_into("<HI", out, at + 2, 4, 1)
                    struct.pack_into("<I", out, at + 8, value)
            (place,) = struct.unpack_from("<I", raw, place + 2 + 12 * count)
        return bytes(out)

    return change


def endless_chain(raw: bytes) -> bytes:
    out = bytearray(raw)
    (first,) = struct.unpack_from("<I", raw, 4)
    (count,) = struct.unpack_from("<H", raw, first)
    struct.pack_into("<I", out, first + 2 + 12 * count, first)
    return bytes(out)


def wide_events(raw: bytes) -> bytes:
    """The width of every page 16777233 instead of 17."""
    width = struct.pack("<HHQ", 256, 4, 1)
    return raw.replace(width + struct.pack("<I", 17), width + struct.pack("<I", 17 + (1 << 24)))


HOSTILE: list[tuple[str, str, Callable[[bytes], bytes]]] = [
    ("a mode nobody knows", "a.mrc", with_mrc(mode=(12, "<i", 77))),
    ("a transform", "a.mrc", with_mrc(mode=(12, "<i", 3))),
    ("no columns", "a.mrc", with_mrc(nx=(0, "<i", 0))),
    ("negative rows", "a.mrc", with_mrc(ny=(4, "<i", -13))),
    ("two thousand million images", "a.mrc", with_mrc(nz=(8, "<i", 2_000_000_000))),
    ("a million columns and rows", "a.mrc", with_mrc(nx=(0, "<i", 1_000_000), ny=(4, "<i", 1_000_000))),
    ("a negative extended header", "a.mrc", with_mrc(nsymbt=(92, "<i", -7))),
    ("an extended header beyond the file", "a.mrc", with_mrc(nsymbt=(92, "<i", 2_000_000_000))),
    ("a header of NaN", "a.mrc", lambda raw: struct.pack("<f", float("nan")) * 256 + raw[1024:]),
    ("packed bytes of mode 0", "a.mrc", with_mrc(m=(12, "<i", 0), s=(152, "4s", b"IMOD"), f=(156, "<i", 16))),
    ("no page", "a.tif", lambda raw: raw[:4] + bytes(4) + raw[8:]),
    ("a page beyond the file", "a.tif", lambda raw: raw[:4] + b"\xff" * 4 + raw[8:]),
    ("an endless chain", "a.tif", endless_chain),
    ("a page of enormous width", "a.tif", with_tag(256, 900_000_000)),
    ("a page of enormous length", "a.tif", with_tag(257, 4_000_000_000)),
    ("no rows", "a.tif", with_tag(257, 0)),
    ("a strip beyond the file", "a.tif", with_tag(273, 4_000_000_000)),
    ("a compression nobody knows", "a.tif", with_tag(259, 4711)),
    ("pixels of 13 bits", "a.tif", with_tag(258, 13)),
    ("a movie that is text", "a.tif", lambda raw: b"Not a TIFF file at all\n" * 50),
    ("an EER page of enormous width", "a.eer", wide_events),
    ("random bytes", "a.mrc", lambda raw: np.random.default_rng(0).bytes(len(raw))),
    ("random bytes", "a.tif", lambda raw: np.random.default_rng(1).bytes(len(raw))),
    ("zeros", "a.mrc", lambda raw: bytes(len(raw))),
    ("zeros", "a.tif", lambda raw: bytes(len(raw))),
    ("zeros", "a.eer", lambda raw: bytes(len(raw))),
]  # fmt: skip


def complaint(read: Callable[[Path], object], path: Path) -> str:
    """What the reader says of the file; it must say it at once, and ask for no memory."""
    tracemalloc.start()
    start = time.process_time()
    try:
        with pytest.raises(BadFile) as caught:
            read(path)
        assert tracemalloc.get_traced_memory()[1] < 50e6
    finally:
        tracemalloc.stop()
    assert time.process_time() - start < 5
    return str(caught.value)


@pytest.mark.parametrize(
    ("what", "name", "spoil"), HOSTILE, ids=[f"{name}: {what}" for what, name, _ in HOSTILE]
)
def test_each_is_refused_by_name(
    tmp_path: Path, what: str, name: str, spoil: Callable[[bytes], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / name).write_bytes(spoil(MAKERS[name](tmp_path)))
    with caplog.at_level(logging.DEBUG):
        said = complaint(read_frames, tmp_path / name)
    assert said.startswith(f"{name}: ")
    assert said.count(". ") >= 1
    assert said.endswith(".")
    assert not caplog.records


@pytest.mark.parametrize("name", MAKERS)
def test_no_beginning_of_a_movie_is_read(tmp_path: Path, name: str) -> None:
    raw = MAKERS[name](tmp_path)
    path = tmp_path / f"part_{name}"
    path.write_bytes(raw)
    for length in reversed(range(0, len(raw), 7)):
        os.truncate(path, length)
        for read in (read_header, read_frames):
            with pytest.raises(BadFile, match=r"part_a\."):
                read(path)


@given(name=st.sampled_from(sorted(MAKERS)), data=st.data())
@settings(max_examples=300, deadline=None)
def test_damaged_bytes_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, name: str, data: st.DataObject
) -> None:
    folder = tmp_path_factory.getbasetemp()
    raw = bytearray(good(folder, name))
    for _ in range(data.draw(st.integers(1, 6))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(
            st.sampled_from([0, 1, 2, 13, 127, 128, 255])
        )
    path = folder / f"damaged_{name}"
    path.write_bytes(raw)
    try:
        read_frames(path)
    except BadFile as error:
        assert str(error).startswith(path.name)


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("kind", ["missing", "folder", "empty", "text", "bytes"])
def test_every_reader_refuses_what_is_no_such_file(
    tmp_path: Path, read: Callable[[Path], object], kind: str
) -> None:
    path = tmp_path / "it.dat"
    content = {
        "empty": b"",
        "text": b"once upon a time\n" * 200,
        "bytes": np.random.default_rng(5).bytes(5000),
    }
    if kind == "folder":
        path.mkdir()
    elif kind in content:
        path.write_bytes(content[kind])
    assert complaint(read, path).startswith("it.dat: ")


def test_the_error_survives_the_way_to_another_process() -> None:
    error = BadFile("/data/a.mrc", "is empty", "Wait")
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert str(copy) == str(error) == "a.mrc: is empty. Wait."
    assert copy.path == Path("/data/a.mrc")
