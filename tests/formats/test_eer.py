"""Electron-event movies: every event is counted, where it fell, in its fraction."""

import shutil
import subprocess
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile

from tests.formats.eer_writer import encode_events, random_frames, write_eer
from tomofly.formats.completeness import probe
from tomofly.formats.eer import EerRendering, plan_fractions
from tomofly.formats.errors import BadFile
from tomofly.formats.movie import read_frames, read_header

SHAPE = (13, 17)


def binned(truth: np.ndarray, factor: int) -> np.ndarray:
    """(frame, 4 y, 4 x) summed over squares of `factor` quarter pixels."""
    frames, rows, columns = truth.shape
    return truth.reshape(frames, rows // factor, factor, columns // factor, factor).sum((2, 4))


@pytest.mark.parametrize("compression", [65000, 65001, 65002])
@pytest.mark.parametrize("upsampling", [1, 2, 4])
def test_every_event_lands_in_its_place(tmp_path: Path, compression: int, upsampling: int) -> None:
    coded, truth = random_frames(6, SHAPE, 40, skip_bits=8 if compression == 65000 else 7)
    write_eer(tmp_path / "a.eer", coded, SHAPE, compression)
    got = read_frames(tmp_path / "a.eer", eer=EerRendering(3, upsampling), threads=2)
    expected = binned(truth, 4 // upsampling).reshape(3, 2, *got.shape[1:]).sum(1)
    assert got.dtype == np.uint16
    assert np.array_equal(got, expected)


@pytest.mark.parametrize("level", [0, 1, 2])
def test_an_independent_decoder_agrees(tmp_path: Path, level: int) -> None:
    sides = 12, 20  # that decoder wants multiples of four
    coded, _ = random_frames(1, sides, 60, seed=3)
    write_eer(tmp_path / "a.eer", coded, sides)
    shape = sides[0] << level, sides[1] << level
    theirs = imagecodecs.eer_decode(coded[0], shape, 7, 2, 2, superres=level)
    ours = read_frames(tmp_path / "a.eer", eer=EerRendering(1, 1 << level))
    assert np.array_equal(ours[0], theirs)


def test_our_writer_makes_what_tifffile_takes_for_eer(tmp_path: Path) -> None:
    coded, truth = random_frames(3, SHAPE, 25)
    write_eer(tmp_path / "a.eer", coded, SHAPE)
    with tifffile.TiffFile(tmp_path / "a.eer") as tif:
        assert tif.is_eer
        assert np.array_equal(tif.asarray().astype(int), binned(truth, 4))


def test_the_header_counts_raw_frames_and_reads_the_cameras_words(tmp_path: Path) -> None:
    coded, _ = random_frames(7, SHAPE, 5)
    write_eer(tmp_path / "a.eer", coded, SHAPE)
    header = read_header(tmp_path / "a.eer")
    assert (header.format, header.frames, header.shape_yx) == ("eer", 7, SHAPE)
    assert header.pixel_size_angstrom == pytest.approx(0.75)
    assert header.exposure_time_s == 3.5


@pytest.mark.relion
@pytest.mark.slow
@pytest.mark.skipif(shutil.which("relion_convert_to_tiff") is None, reason="RELION is not installed")
@pytest.mark.parametrize("upsampling", [1, 2])
def test_relion_counts_the_same_events(tmp_path: Path, upsampling: int) -> None:
    sides = 4096, 4096  # the only detector that RELION knows
    rng = np.random.default_rng(0)
    pixels = [np.sort(rng.choice(sides[0] * sides[1], 500, replace=False)) for _ in range(2)]
    coded = [encode_events(one, rng.integers(0, 4, (500, 2)), sides[0] * sides[1]) for one in pixels]
    write_eer(tmp_path / "a.eer", coded, sides)
    options = ["--eer_grouping", "2", "--eer_upsampling", str(upsampling)]
    command = ["relion_convert_to_tiff", "--i", "a.eer", "--o", "out/", *options]
    subprocess.run(command, cwd=tmp_path, capture_output=True, check=True)
    theirs = tifffile.imread(tmp_path / "out/a.tif").reshape(4096 * upsampling, -1)
    ours = read_frames(tmp_path / "a.eer", eer=EerRendering(1, upsampling))[0]
    assert np.array_equal(theirs[::-1], ours)  # RELION writes the last row of an image first in a TIFF


def test_frames_left_over_are_told() -> None:
    assert plan_fractions(1500, 40).raw_frames_each == 37
    assert plan_fractions(1500, 40).raw_frames_left_over == 20
    assert plan_fractions(3, 40).count == 3


def test_a_range_counts_fractions(tmp_path: Path) -> None:
    coded, _ = random_frames(8, SHAPE, 20)
    write_eer(tmp_path / "a.eer", coded, SHAPE)
    rendering = EerRendering(4)
    everything = read_frames(tmp_path / "a.eer", eer=rendering)
    assert np.array_equal(read_frames(tmp_path / "a.eer", eer=rendering, frame_range=(1, 3)), everything[1:3])
    with pytest.raises(BadFile, match="has 4 frames"):
        read_frames(tmp_path / "a.eer", eer=rendering, frame_range=(1, 5))


def test_events_outside_the_detector_name_the_frame(tmp_path: Path) -> None:
    coded, _ = random_frames(4, SHAPE, 20)
    coded[2] = b"\xfe" * 400
    write_eer(tmp_path / "a.eer", coded, SHAPE)
    with pytest.raises(BadFile, match="raw frame 3"):
        read_frames(tmp_path / "a.eer", eer=EerRendering(2))


def test_a_rendering_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="upsampling"):
        EerRendering(10, 3)


def test_frames_that_the_camera_promised_but_did_not_write(tmp_path: Path) -> None:
    coded, _ = random_frames(5, SHAPE, 20)
    write_eer(tmp_path / "a.eer", coded, SHAPE)
    assert probe(tmp_path / "a.eer").whole is True
    raw = (tmp_path / "a.eer").read_bytes()
    (tmp_path / "b.eer").write_bytes(raw.replace(b'numberOfFrames">5', b'numberOfFrames">9'))
    evidence = probe(tmp_path / "b.eer")
    assert evidence.whole is False
    assert evidence.reason == "5 of 9 frames are there"
