"""Evidence that a file is whole: no beginning of a file passes for all of it."""

import os
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.formats.eer_writer import random_frames, write_eer
from tomofly.formats.completeness import probe
from tomofly.formats.mrc import write_image


def write_mrc(path: Path) -> None:
    write_image(path, np.arange(3 * 7 * 5, dtype=np.int16).reshape(3, 7, 5), 1.0)


def write_tiff(path: Path, *, big: bool = False) -> None:
    frames = np.random.default_rng(0).poisson(3, (4, 13, 17)).astype(np.uint8)
    with tifffile.TiffWriter(path, bigtiff=big) as writer:
        for frame in frames:
            writer.write(frame, compression="lzw", rowsperstrip=4, contiguous=False, metadata=None)


def write_event_movie(path: Path) -> None:
    write_eer(path, random_frames(3, (7, 5), 6)[0], (7, 5))


WRITERS = {"a.mrc": write_mrc, "a.mrcs": write_mrc, "a.tif": write_tiff, "a.eer": write_event_movie}


@pytest.mark.parametrize("name", WRITERS)
def test_no_beginning_of_a_file_is_whole(tmp_path: Path, name: str) -> None:
    WRITERS[name](tmp_path / name)
    raw = (tmp_path / name).read_bytes()
    evidence = probe(tmp_path / name)
    assert evidence.whole is True
    assert evidence.frames == {"a.tif": 4}.get(name, 3)
    for length in reversed(range(len(raw))):
        os.truncate(tmp_path / name, length)
        assert probe(tmp_path / name).whole is False, length


def test_no_beginning_of_a_bigtiff_is_whole(tmp_path: Path) -> None:
    write_tiff(tmp_path / "a.tif", big=True)
    assert probe(tmp_path / "a.tif").whole is True
    for length in reversed(range((tmp_path / "a.tif").stat().st_size)):
        os.truncate(tmp_path / "a.tif", length)
        assert probe(tmp_path / "a.tif").whole is False, length


@given(
    raw=st.binary(max_size=3000),
    name=st.sampled_from(sorted(WRITERS)),
    magic=st.sampled_from([b"", b"II*\0", b"MM\0+"]),
)
@settings(max_examples=200, deadline=None)
def test_no_bytes_make_it_raise(
    tmp_path_factory: pytest.TempPathFactory, raw: bytes, name: str, magic: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / f"random_{name}"
    path.write_bytes(magic + raw)
    assert probe(path).reason


def test_a_longer_file_says_so(tmp_path: Path) -> None:
    write_mrc(tmp_path / "a.mrc")
    with (tmp_path / "a.mrc").open("ab") as target:
        target.write(bytes(70))
    evidence = probe(tmp_path / "a.mrc")
    assert evidence.whole is False
    assert evidence.reason == "70 bytes longer than its header says"


def test_padding_less_than_an_image_is_no_growth(tmp_path: Path) -> None:
    write_mrc(tmp_path / "a.mrc")
    with (tmp_path / "a.mrc").open("ab") as target:
        target.write(bytes(3))
    assert probe(tmp_path / "a.mrc").whole is True


def test_a_file_that_does_not_tell_its_length(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text("<a>")
    assert probe(tmp_path / "a.xml").whole is None


def test_a_file_that_is_gone(tmp_path: Path) -> None:
    assert probe(tmp_path / "gone.mrc").whole is False


def test_many_pages_cost_little(tmp_path: Path) -> None:
    write_eer(tmp_path / "a.eer", random_frames(1, (7, 5), 6)[0] * 2000, (7, 5))
    start = time.process_time()
    assert probe(tmp_path / "a.eer").frames == 2000
    assert time.process_time() - start < 2
