"""Every kind of bad movie in one folder with good ones: each says what is wrong, the good ones are done."""

import os
import warnings
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import tifffile

from tests.acceptance.commands import MICROSCOPE, Done, run_spa
from tomofly.simulate import expose, write_session

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


def _write_bad_movies(folder: Path) -> None:
    good = expose(MICROSCOPE, 0).frames
    whole = (folder / "movie_00000.mrc").read_bytes()
    (folder / "truncated.mrc").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.mrc").write_bytes(b"")
    (folder / "header_only.mrc").write_bytes(whole[:1024])
    (folder / "noise.mrc").write_bytes(np.random.default_rng(0).bytes(300_000))
    _write_mrc(folder / "wrong_mode.mrc", good.astype(np.complex64)[:2])
    broken = good.astype(np.float32)
    broken[2, 100:110, 100:120] = np.nan
    _write_mrc(folder / "nan.mrc", broken)
    Path(os.fsdecode(bytes(folder) + b"/caf\xe9.mrc")).write_bytes(whole)
    _write_mrc(folder / "all_zero.mrc", np.zeros_like(good, dtype=np.int16))
    _write_mrc(folder / "saturated.mrc", np.minimum(good.astype(np.int32) * 100, 127).astype(np.int8))
    _write_mrc(folder / "wrong_size.mrc", good[:, :300, :333].astype(np.int16))
    tifffile.imwrite(folder / "corrupt_page.tiff", good, compression="lzw", photometric="minisblack")
    with tifffile.TiffFile(folder / "corrupt_page.tiff") as tiff:
        start, count = tiff.pages[3].dataoffsets[0], tiff.pages[3].databytecounts[0]
    with (folder / "corrupt_page.tiff").open("r+b") as file:
        file.seek(start + count // 2)
        file.write(b"\xff" * 200)


def _write_mrc(path: Path, data: np.ndarray) -> None:
    with warnings.catch_warnings(), mrcfile.new(path) as mrc:
        warnings.simplefilter("ignore")  # the writer warns of what is wrong with the data, as it should
        mrc.set_data(data)
        mrc.voxel_size = MICROSCOPE.pixel_size_angstrom


EXPECTED = {
    "truncated.mrc": ("movie", "bytes"),
    "empty.mrc": ("empty",),
    "header_only.mrc": ("bytes",),
    "noise.mrc": ("noise.mrc",),
    r"caf\xe9.mrc": ("UTF-8",),
    "wrong_mode.mrc": ("mode", "complex"),
    "nan.mrc": ("NaN", "number"),
    "all_zero.mrc": ("zero",),
    "saturated.mrc": ("saturated", "127"),
    "wrong_size.mrc": ("gain", "333"),
    "corrupt_page.tiff": ("page 4", "LZW"),
}


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> tuple[Done, Path]:
    folder = tmp_path_factory.mktemp("bad input")
    source = folder / "a folder with späces"
    write_session(MICROSCOPE, source, 2, file_format="mrc")
    _write_bad_movies(source)
    gain = source / "gain" / "gain_reference.mrc"
    done = run_spa(
        folder / "home",
        str(source / "*.*"),
        folder / "out",
        f"gain.path={gain}",
        "source.ignore=*gain*,*.json",
    )
    return done, folder


def test_the_session_ends_and_says_by_its_status_that_items_failed(outcome: tuple[Done, Path]) -> None:
    done, _ = outcome
    assert done.status == 1, done.err
    assert done.json["items"] == 2 + len(EXPECTED)
    assert done.json["failed"] == len(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_each_bad_movie_fails_with_a_reason_of_its_own(outcome: tuple[Done, Path], name: str) -> None:
    failures = {failure["item"]: failure for failure in outcome[0].json["failures"]}
    key = next(item for item in failures if item.startswith(name))
    reason = failures[key]["reason"]
    assert any(word.lower() in reason.lower() for word in EXPECTED[name]), reason
    assert "Traceback" not in reason and "Error:" not in reason, reason


def test_the_good_movies_next_to_them_are_done(outcome: tuple[Done, Path]) -> None:
    assert outcome[0].json["done"] == 2


def test_the_bad_files_are_left_as_they_were(outcome: tuple[Done, Path]) -> None:
    source = outcome[1] / "a folder with späces"
    assert (source / "empty.mrc").read_bytes() == b""
    assert len(list(source.glob("*.mrc"))) == 2 + len(EXPECTED) - 1


def test_a_pattern_that_matches_nothing_is_an_error_that_says_so(tmp_path: Path) -> None:
    done = run_spa(tmp_path / "home", str(tmp_path / "nowhere" / "*.mrc"), tmp_path / "out")
    assert done.status != 0
    assert "nowhere" in done.err and "Traceback" not in done.err


def test_a_destination_that_cannot_be_made_is_an_error_that_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file, not a folder")
    done = run_spa(tmp_path / "home", str(tmp_path / "*.mrc"), tmp_path / "file" / "out")
    assert done.status != 0
    assert "cannot" in done.err and "Traceback" not in done.err


def test_a_setting_out_of_range_is_refused_before_anything_runs(tmp_path: Path) -> None:
    done = run_spa(tmp_path / "home", str(tmp_path / "*.mrc"), tmp_path / "out", "microscope.voltage_kv=3")
    assert done.status in {1, 2}
    assert "microscope.voltage_kv" in done.err and "40" in done.err
