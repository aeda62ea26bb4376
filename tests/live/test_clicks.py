"""A click into the picture of three slices sets the two positions of the panel that was clicked."""

import os
from pathlib import Path

import numpy as np
import pytest

from tests.live.test_control_live import slices
from tomofly.live.control.clicks import Clicks, clicked, last_click
from tomofly.live.live_slices import LiveSlices
from tomofly.live.publishing import join_panels
from tomofly.live.records.stream_table import STREAM_TABLE
from tomofly.live.records.values import PVValues
from tomofly.model import BadInput

ROWS, COLUMNS = 20, 32


class Control:
    def __init__(self) -> None:
        self.latest: LiveSlices | None = slices(ROWS, COLUMNS)
        self.gone: list[dict[str, int]] = []

    def go_to(self, positions: dict[str, int]) -> None:
        self.gone.append(positions)


class Bench:
    def __init__(self, file: Path | None = None) -> None:
        self.values, self.control, self.told = PVValues("r:", STREAM_TABLE), Control(), list[str]()
        self.values.on_refusal(self.told.append)
        self.clicks = Clicks(self.values, self.control, file)
        self.clicks.connect()


def test_each_pixel_of_the_picture_is_that_of_its_slice() -> None:
    """Told by a volume whose voxels say where they are, cut at (x, y, z) = (11, 7, 5)."""
    z, y, x = np.meshgrid(np.arange(ROWS), np.arange(COLUMNS), np.arange(COLUMNS), indexing="ij")
    volume = (z * 10_000 + y * 100 + x).astype(np.float32)
    picture = join_panels(volume[5], volume[:, 7], volume[:, :, 11])
    cut = {"OrthoX": 11, "OrthoY": 7, "OrthoZ": 5}
    for column, row in ((3, 30), (32 + 9, 19), (64 + 31, 0), (95, 19)):
        at = cut | clicked(slices(ROWS, COLUMNS), column, row)
        assert picture[row, column] == at["OrthoZ"] * 10_000 + at["OrthoY"] * 100 + at["OrthoX"]


@pytest.mark.parametrize(("x", "y"), [(96, 0), (40, 20), (3, 32), (-1, 4)])
def test_where_no_slice_is_there_is_nothing_to_click(x: int, y: int) -> None:
    with pytest.raises(BadInput, match="No slice"):
        clicked(slices(ROWS, COLUMNS), x, y)


def test_writing_the_row_takes_the_pair_over_each_time() -> None:
    bench = Bench()
    bench.values.take("ClickX", 40)
    assert bench.control.gone == []
    assert bench.values.take("ClickY", 6)
    assert bench.values.take("ClickY", 6)
    assert bench.control.gone == [{"OrthoX": 8, "OrthoZ": 6}] * 2
    assert not bench.values.take("ClickY", 25)
    assert "No slice is at pixel 40, 25" in bench.told[-1]
    assert bench.values["ClickY"] == 6
    bench.control.latest = None
    assert not bench.values.take("ClickY", 6)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "clicks.csv"
    path.write_text("1,1\n")
    return path


def write(path: Path, text: str, stamp: int) -> None:
    path.write_text(text)
    os.utime(path, ns=(stamp, stamp))


def test_a_file_is_taken_once_it_is_whole(file: Path) -> None:
    bench = Bench(file)
    for _ in range(3):
        bench.clicks.look(file)
    assert bench.control.gone == []  # clicked before the start
    write(file, "40,", 10)
    bench.clicks.look(file)
    write(file, "12,3\n40,6\n", 20)
    bench.clicks.look(file)
    assert bench.control.gone == []  # it was being written
    for _ in range(3):
        bench.clicks.look(file)
    assert bench.control.gone == [{"OrthoX": 8, "OrthoZ": 6}]
    assert (bench.values["ClickX"], bench.values["ClickY"]) == (40, 6)
    write(file, "40,6\n", 30)  # the same place again, after another position was set
    for _ in range(2):
        bench.clicks.look(file)
    assert len(bench.control.gone) == 2


@pytest.mark.parametrize("text", ["", "x,y", "1", "\xff\x00", "nan,3", "1e999,1", "7;8"])
def test_a_file_of_something_else_is_told(file: Path, text: str) -> None:
    bench = Bench(file)
    write(file, text, 10)
    for _ in range(3):
        bench.clicks.look(file)
    assert bench.control.gone == []
    assert "does not end with a line x,y" in bench.values.text("StreamNotice")


def test_a_file_may_come_and_go(tmp_path: Path) -> None:
    path = tmp_path / "later.csv"
    bench = Bench(path)
    bench.clicks.look(path)
    path.write_text("70.0,2.0")
    for _ in range(2):
        bench.clicks.look(path)
    assert bench.control.gone == [{"OrthoY": 6, "OrthoZ": 2}]
    path.unlink()
    bench.clicks.look(path)


def test_only_the_end_of_a_long_file_is_read(file: Path) -> None:
    file.write_text("1,2\n" * 100_000 + "5,6\n")
    assert last_click(file) == (5, 6)
