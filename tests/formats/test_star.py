"""STAR files: what is written is read again, by us, by another reader, and by RELION."""

import math
import shutil
import subprocess
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import starfile
from hypothesis import given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from tomofly.formats.errors import BadFile
from tomofly.formats.star import read_star, write_star

NAMES = st.text(
    st.characters(codec="utf-8", exclude_categories=["C", "Z"]) | st.just(" "), max_size=12
).filter(lambda text: not ('"' in text and "'" in text))
LETTERS = NAMES.map(lambda text: f"n{text}")


def particles(rows: int) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "rlnImageName": [f"{row + 1:06d}@extract/m_{row // 97}.mrcs" for row in range(rows)],
            "rlnCoordinateX": rng.uniform(0, 4096, rows),
            "rlnDefocusU": rng.normal(15000, 2000, rows),
            "rlnOpticsGroup": np.ones(rows, int),
        }
    )


@given(
    names=st.lists(LETTERS, min_size=1, max_size=6),
    seed=st.integers(0, 99),
    title=LETTERS,
    number=st.integers(-(10**12), 10**12),
    real=st.floats(-1e30, 1e30),
)
@settings(max_examples=80, deadline=None)
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory,
    names: list[str],
    seed: int,
    title: str,
    number: int,
    real: float,
) -> None:
    path = tmp_path_factory.getbasetemp() / "a.star"
    rng = np.random.default_rng(seed)
    table = pd.DataFrame(
        {
            "rlnName": names,
            "rlnX": rng.normal(size=len(names)) * 1e3,
            "rlnIndex": rng.integers(-9, 9, len(names)),
        }
    )
    write_star(path, {"optics": {"rlnTitle": title, "rlnN": number, "rlnReal": real}, "micrographs": table})
    got = read_star(path)
    assert list(got) == ["optics", "micrographs"]
    assert got["optics"]["rlnTitle"] == title
    assert got["optics"]["rlnN"] == number
    assert math.isclose(got["optics"]["rlnReal"], real, rel_tol=1e-9)
    assert_frame_equal(got["micrographs"], table, check_dtype=False, rtol=1e-9)


def test_another_reader_reads_the_same(tmp_path: Path) -> None:
    optics = pd.DataFrame({"rlnOpticsGroupName": ["first group", "b"], "rlnOpticsGroup": [1, 2]})
    write_star(
        tmp_path / "a.star", {"optics": optics, "particles": particles(13), "general": {"rlnVoltage": 300.0}}
    )
    got = starfile.read(tmp_path / "a.star", always_dict=True)
    assert_frame_equal(got["optics"], optics, check_dtype=False)
    assert_frame_equal(got["particles"], particles(13), check_dtype=False, rtol=1e-9)
    assert got["general"]["rlnVoltage"] == 300


def test_the_same_values_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a.star", "b.star"):
        write_star(tmp_path / name, {"particles": particles(7)})
    assert (tmp_path / "a.star").read_bytes() == (tmp_path / "b.star").read_bytes()


def test_small_numbers_keep_their_digits(tmp_path: Path) -> None:
    write_star(tmp_path / "a.star", {"m": pd.DataFrame({"rlnC": [1.2345678e-9, -2.5e-12, np.nan]})})
    got = read_star(tmp_path / "a.star")["m"]["rlnC"].to_numpy()
    assert got[0] == 1.2345678e-9
    assert got[1] == -2.5e-12
    assert math.isnan(got[2])


def test_names_of_digits_stay_names(tmp_path: Path) -> None:
    write_star(
        tmp_path / "a.star", {"m": pd.DataFrame({"rlnName": ["12_34", "56_78"], "rlnOther": ["007", "12"]})}
    )
    got = read_star(tmp_path / "a.star")["m"]
    assert list(got["rlnName"]) == ["12_34", "56_78"]
    assert list(got["rlnOther"]) == ["007", "12"]


def test_an_empty_table_keeps_its_columns(tmp_path: Path) -> None:
    write_star(tmp_path / "a.star", {"particles": particles(0)})
    got = read_star(tmp_path / "a.star")["particles"]
    assert list(got.columns) == list(particles(1).columns)
    assert len(got) == 0


def test_what_star_cannot_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="line break"):
        write_star(tmp_path / "a.star", {"m": {"rlnName": "a\nb"}})


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "is empty"),
        (b"hello there\n", "before its first block"),
        (b"\xff\xfe\x00rubbish", "is not text"),
        (b"# nothing\n", "no block"),
        (b"data_a\n\nloop_\n_x #1\n_y #2\n1 2\n3\n", "line 7 has 1 values for 2 columns"),
        (b"data_a\n\nloop_\n_x #1\n_y #2\n1 2\n3 4 5\n", "line 7 has 3 values"),
        (b"data_a\n_x\n", "gives x no value"),
        (b"data_a\n1 2\n", "line 2 has 2 values for 0 columns"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, text: bytes, reason: str) -> None:
    (tmp_path / "a.star").write_bytes(text)
    with pytest.raises(BadFile, match=reason):
        read_star(tmp_path / "a.star")


@given(text=st.text(st.sampled_from("data_lop #\"'\n\t 1.5e\x00é"), max_size=80))
@settings(max_examples=200, deadline=None)
def test_any_text_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.star"
    path.write_text(text, encoding="utf-8")
    try:
        read_star(path)
    except BadFile as error:
        assert "any.star" in str(error)


def test_a_hundred_thousand_rows_take_seconds(tmp_path: Path) -> None:
    table = particles(100_000)
    start = time.process_time()
    write_star(tmp_path / "a.star", {"particles": table})
    got = read_star(tmp_path / "a.star")["particles"]
    assert time.process_time() - start < 10
    assert_frame_equal(got, table, rtol=1e-9)


@pytest.mark.real_data
def test_real_star_files_are_read(real_data: Path) -> None:
    picks = read_star(real_data / "spa_carbon/Ucsf_stack_1142_DW_autopick.star")[""]
    assert list(picks.columns)[:2] == ["rlnCoordinateX", "rlnCoordinateY"]
    assert picks["rlnCoordinateX"][0] == 839.125024
    tilts = read_star(real_data / "tomo_empiar10164/TS_01_relion.star")
    assert [len(table) for table in tilts.values()] == [41]


@pytest.mark.relion
@pytest.mark.skipif(shutil.which("relion_star_printtable") is None, reason="RELION is not installed")
def test_relion_reads_ours(tmp_path: Path) -> None:
    write_star(tmp_path / "a.star", {"optics": particles(3)[["rlnOpticsGroup"]], "particles": particles(3)})
    command = ["relion_star_printtable", "a.star", "data_particles", "_rlnImageName", "_rlnDefocusU"]
    out = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in out.splitlines()]
    assert [row[0] for row in rows] == list(particles(3)["rlnImageName"])
    assert [float(row[1]) for row in rows] == pytest.approx(list(particles(3)["rlnDefocusU"]), rel=1e-9)
