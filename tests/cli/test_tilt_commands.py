"""The commands for tilts: what they show, what they take, and how they refuse."""

import contextlib
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.tilt_bench import TiltBench, mdoc_text, shots
from tomofly.cli.main import main
from tomofly.services.sessions import create_session

ANGLES = (0.0, 3.0, -3.0, -6.0, 6.0, 9.0, -9.0)
Run = Callable[..., tuple[object, str, str]]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TiltBench]:
    """A session with a whole series, of which one tilt is dark, and one that waits for a tilt."""
    made = TiltBench(tmp_path_factory.mktemp("tilts"))
    whole, waiting = shots("TS_1", ANGLES), shots("TS_10", ANGLES)
    whole[5].level = 0.05
    made.write(*whole, *waiting[:3])
    made.write_mdoc("TS_1", mdoc_text(whole))
    made.write_mdoc("TS_10", mdoc_text(waiting[:4]))
    made.look()
    made.pass_time(500)
    yield made
    made.home.close()


@pytest.fixture
def tomofly(bench: TiltBench, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the command in this process; gives status, output and errors."""
    for name in ("TOMOFLY_DATABASE", "TOMOFLY_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TOMOFLY_HOME", str(bench.home.folder))
    monkeypatch.setenv("COLUMNS", "220")

    def run(*arguments: object) -> tuple[object, str, str]:
        monkeypatch.setattr("sys.argv", ["tomofly", *map(str, arguments)])
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                main()
                status: object = 0
            except SystemExit as end:
                status = end.code
        return status, out.getvalue(), err.getvalue()

    return run


def _json(done: tuple[object, str, str]) -> Any:
    assert done[0] in (0, None), done
    return json.loads(done[1])


def test_each_tilt_is_shown_with_its_angle_its_doses_and_why_it_is_not_used(tomofly: Run) -> None:
    one = _json(tomofly("session", "tilts", "bench", "TS_1", "--json"))
    assert [tilt["order"] for tilt in one["tilts"]] == list(range(7))
    dark = one["tilts"][5]
    assert (
        dark["state"] == "left out" and dark["excluded"] == "dark" and "compose.dark_below" in dark["reason"]
    )
    assert dark["dose_e_per_a2"] == 3.0 and dark["accumulated_dose_e_per_a2"] == 15.0
    status, table, told = tomofly("session", "tilts", "bench", "TS_1")
    assert status in (0, None)
    assert table.splitlines()[0].split()[:3] == ["order", "angle", "state"]
    assert "(dark) Its brightness" in table and "TS_1_005_9.0.mrc" in table
    assert "6 tilts used, axis 84.1°, order by date" in told


def test_all_series_are_shown_with_what_they_wait_for(tomofly: Run) -> None:
    _, table, _ = tomofly("session", "tilts", "bench")
    first, second = table.splitlines()[1:]
    assert first.split()[:4] == ["TS_1", "done", "7", "6"]
    assert second.split()[:2] == ["TS_10", "waiting"]
    assert "1 named in the mdoc has not come; goes on with 5 tilts at least" in second


def test_a_series_that_is_not_there_is_refused_with_those_that_are(tomofly: Run, bench: TiltBench) -> None:
    status, _, _ = tomofly("session", "tilts", "bench", "TS_100")
    assert status == "tomofly: Session 'bench' has no series 'TS_100'.\nThere are: TS_1, TS_10."
    create_session(bench.home, "flat", folder=bench.root / "flat")
    status, _, _ = tomofly("session", "tilts", "flat", "TS_1")
    assert "of kind spa, which has no tilt series" in str(status)


def test_tilts_are_left_out_and_taken_in_by_order_angle_or_name(tomofly: Run, bench: TiltBench) -> None:
    exclude = ("session", "exclude", "bench", "TS_1", "--reason", "drift", "--tilts")
    _, said, told = tomofly(*exclude, "0-1,-9deg")
    assert said == "3 tilts are left out: TS_1_000_0.0, TS_1_001_3.0, TS_1_006_-9.0\n"
    assert "composed again when the session is started: `tomofly session start bench`" in told
    assert {tilt["order"] for tilt in _left_out(tomofly)} == {0, 1, 5, 6}
    back = tomofly("session", "include", "bench", "TS_1", "--tilts", "1", "--tilts", "TS_1_000_0.0", "--json")
    assert _json(back)["included"] == ["TS_1_001_3.0", "TS_1_000_0.0"]
    bench.work()
    assert {tilt["order"] for tilt in _left_out(tomofly)} == {5, 6}


def _left_out(tomofly: Run) -> list[dict[str, Any]]:
    tilts = _json(tomofly("session", "tilts", "bench", "TS_1", "--json"))["tilts"]
    return [tilt for tilt in tilts if tilt["state"] == "left out"]


@pytest.mark.parametrize(
    ("words", "refusal"),
    [
        (("TS_1", "--tilts", "99"), "Series 'TS_1' has no tilt of order 99; there are orders 0 to 6"),
        (("TS_1", "--tilts", "45deg"), "Series 'TS_1' has no tilt at 45°"),
        (("TS_1", "--tilts", "5-2"), "5-2 ends before it begins. *\nWrite 2-5"),
        (("TS_1", "--tilts", "five"), "Series 'TS_1' has no tilt 'five'"),
        (("TS_1", "--tilts", ","), "No tilt is named"),
    ],
)
def test_tilts_that_are_not_there_are_refused(tomofly: Run, words: tuple[str, ...], refusal: str) -> None:
    status, _, _ = tomofly("session", "exclude", "bench", *words, "--reason", "x")
    for part in refusal.split(" *"):
        assert part in str(status)


def test_tilts_of_two_series_at_once_are_refused(tomofly: Run) -> None:
    status, _, told = tomofly("session", "exclude", "bench", "TS_1", "TS_10", "--tilts", "1", "--reason", "x")
    assert status == 2 and "Give one series with --tilts" in told


def test_process_now_says_what_it_goes_on_with_and_when(tomofly: Run, bench: TiltBench) -> None:
    status, said, told = tomofly("session", "process-now", "bench", "TS_10")
    assert (
        status in (0, None) and said == "TS_10: 3 files are there\n" and "when the session is started" in told
    )
    bench.work()
    assert _json(tomofly("session", "tilts", "bench", "TS_10", "--json"))["state"] == "done"
    status, _, _ = tomofly("session", "process-now", "bench", "TS_1", "TS_2")
    assert "has no series 'TS_2'" in str(status)


def test_groups_are_previewed_without_a_session_and_without_a_home(
    tomofly: Run, bench: TiltBench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOMOFLY_HOME", str(tmp_path / "none"))
    source = f"{bench.microscope}/*.mrc"
    status, table, told = tomofly("session", "preview-groups", "--source", source)
    assert status in (0, None) and not (tmp_path / "none").exists()
    lines = [line.split() for line in table.splitlines()]
    assert lines[0] == ["series", "by", "tilts", "from", "to", "axis", "order", "by", "dose"]
    assert lines[1] == ["TS_1", "mdoc", "7", "-9", "9", "84.1", "date", "21"]
    assert "TS_10: 1 of 4 movies have not come: TS_10_003_-6.0.mrc" in told
    pattern = "compose.pattern={series}_{order:03d}_{angle}"
    shown = _json(
        tomofly(
            "session", "preview-groups", "--source", source, "--set", pattern, "--set",
            "compose.grouping=pattern", "--json",
        )
    )  # fmt: skip
    assert {one["series"]: len(one["tilts"]) for one in shown} == {"TS_1": 7, "TS_10": 3}
    _, table, _ = tomofly("session", "preview-groups", "--source", source, "--each")
    assert "  TS_1  6  -9.0°, 18 before  TS_1_006_-9.0" in table


@pytest.mark.parametrize(
    ("words", "refusal"),
    [
        ((), "Nothing says where the tilts are"),
        (("--source", "/nowhere/at/all/*.mrc"), "There is no folder /nowhere/at/all"),
        (("--source", "*.mrc", "--set", "compose.pattern={serie}_{angle}"), "Did you mean {series}?"),
        (("--source", "*.mrc", "--set", "compose.patern=x"), "compose"),
        (("nobody",), "There is no session 'nobody'"),
    ],
)
def test_previews_that_make_no_sense_are_refused(tomofly: Run, words: tuple[str, ...], refusal: str) -> None:
    status, _, _ = tomofly("session", "preview-groups", *words)
    assert refusal in str(status)


def test_a_source_that_gives_nothing_is_told_with_what_is_there_instead(
    tomofly: Run, bench: TiltBench
) -> None:
    def told(source: str) -> str:
        return str(tomofly("session", "preview-groups", "--source", source)[0])

    folder = bench.microscope
    assert f"{folder} is a folder" in told(str(folder))
    assert "mdoc files are found by themselves" in told(f"{folder}/*.mdoc")
    assert f"{folder} holds 10 of .mrc, 2 of .mdoc" in told(f"{folder}/*.tiff")
