"""The command line: JSON is JSON, errors are plain lines with the right status, help comes at once."""

import contextlib
import io
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tomofly.cli.main import main

# Dask leaves a socket to the garbage collector when it closes, and complains of another cluster's port.
pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
    "ignore:Port 8787:UserWarning",
)

Run = Callable[..., "Done"]


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def tomofly(home: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the command as the console script does, but in this process, which has loaded everything."""
    for name in ("TOMOFLY_DATABASE", "TOMOFLY_DEBUG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TOMOFLY_HOME", str(home))
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr("sys.stdin", io.StringIO())

    def run(*arguments: object) -> Done:
        monkeypatch.setattr("sys.argv", ["tomofly", *map(str, arguments)])
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                main()
                status: object = 0
            except SystemExit as end:
                status = end.code
        if isinstance(status, str):  # as the interpreter does with a text at exit
            err.write(f"{status}\n")
            status = 1
        return Done(int(str(status or 0)), out.getvalue(), err.getvalue())

    return run


def values(done: Done) -> object:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


SESSION_COMMANDS = (
    "create", "list", "show", "start", "stop", "restart", "clear", "copy", "delete", "items", "failures",
    "retry", "logs", "settings", "exclude", "include", "tilts", "process-now", "preview-groups",
)  # fmt: skip


def test_help_needs_none_of_the_heavy_packages() -> None:
    probe = (
        "import sys, tomofly.cli.main;"
        "heavy = {'numpy', 'pandas', 'numba', 'scipy', 'sqlalchemy', 'distributed', 'pydantic'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", probe], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_the_commands_are_those_that_the_help_lists(tomofly: Run) -> None:
    shown = tomofly("session", "--help").stdout
    for name in SESSION_COMMANDS:
        assert f" {name} " in shown
    for command in (["demo", "spa"], ["run", "spa"], ["export"], ["simulate", "spa"], ["stages"]):
        assert tomofly(*command, "--help").returncode == 0


def test_stages_of_other_packages_are_listed_with_their_shape(tomofly: Run) -> None:
    listed = values(tomofly("stages", "--json"))
    assert isinstance(listed, list)
    shapes = {stage["name"]: (stage["shape"], stage["package"]) for stage in listed}
    assert shapes["ledger"] == ("group", "tomofly-example")
    assert shapes["balance"] == ("fold", "tomofly-example")
    assert shapes["motion"] == ("map", "tomofly")


def test_the_schema_describes_the_defaults(tomofly: Run) -> None:
    schema = values(tomofly("settings", "schema", "spa"))
    defaults = values(tomofly("settings", "defaults", "spa"))
    assert isinstance(schema, dict)
    assert isinstance(defaults, dict)
    assert schema["properties"].keys() == defaults.keys()
    for section, content in defaults.items():
        assert schema["properties"][section]["properties"].keys() == content.keys()
    pixel = schema["properties"]["microscope"]["properties"]["pixel_size_angstrom"]
    assert (pixel["unit"], pixel["exclusiveMinimum"]) == ("Å", 0)


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (["session", "show", "nobody"], 1, "There is no session 'nobody'."),
        (["session", "create", "x", "--set", "motion.patch=3"], 1, "Did you mean 'patches'?\n"),
        (["session", "delete", "nobody"], 1, "There is no session 'nobody'."),
        (["session", "clear", "nobody", "--track", "x"], 1, "There is no session 'nobody'."),
        (["settings", "defaults", "xyz"], 1, "There is no session kind 'xyz'."),
        (["session", "create", "../x"], 1, "'../x' cannot be the name of a session."),
        (
            ["session", "create", "x", "--set", "picks.diameter=3"],
            1,
            "There is no parameter 'picks.diameter'.",
        ),
        (["session", "frobnicate"], 2, "frobnicate"),
        (["run", "spa", "--out", "x"], 2, "--source"),
        (["run", "spa", "--source", "x", "--out", "/"], 1, "The folder / cannot be used for a session."),
        (["simulate", "spa", "--out", "x", "--detector", "big"], 2, "1024x1024"),
        (["simulate", "spa", "--out", "x", "--set", "dose"], 1, "'dose' is no setting of the microscope.\n"),
        (["simulate", "tomo", "--out", "x", "--set", "dose=3"], 1, "has no setting 'dose'.\nNames are:"),
        (
            ["simulate", "scan", "--out", "x.h5", "--set", "grains=-1"],
            1,
            "grains cannot be -1: Input should be greater",
        ),
    ],
)
def test_errors_are_plain_lines_and_the_status_tells_usage_from_trouble(
    tomofly: Run, arguments: list[str], status: int, told: str
) -> None:
    done = tomofly(*arguments)
    assert done.returncode == status
    assert told in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    if status == 1:
        assert len(done.stderr.strip().splitlines()) <= 2


def test_a_microscope_does_not_write_among_the_movies_of_another(tomofly: Run, tmp_path: Path) -> None:
    (tmp_path / "movie_00000.mrc").write_bytes(b"somebody's")
    done = tomofly("simulate", "spa", "--out", tmp_path, "--items", 1)
    assert done.returncode == 1
    assert "holds 1 movies already.\nName a new folder, or go on numbering with --start 1." in done.stderr


def test_a_pattern_that_matches_nothing_is_an_error_that_names_it(tomofly: Run, tmp_path: Path) -> None:
    pattern = tmp_path / "none" / "*.mrc"
    done = tomofly("run", "spa", "--source", pattern, "--out", tmp_path / "out", "--once", "--json")
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-2].endswith(f"No file matches the pattern {pattern}.")
    assert done.stdout == ""


def test_a_session_lives_through_its_commands(tomofly: Run, tmp_path: Path) -> None:
    """Create, run in the background, look, change, leave out, export, copy, delete: each by its command."""
    (tmp_path / "in").mkdir()
    for number in range(4):
        (tmp_path / "in" / f"A_{number}.note").write_text(str(number) if number else "nothing")
    quick = [f"source.{name}" for name in ("settle_s=0", "poll_s=0.1")]
    quick += ["resources.workers=1", "resources.minimum_free_gb=0"]
    settings = [part for assignment in quick for part in ("--set", assignment)]
    created = values(
        tomofly("session", "create", "my notes", "--kind", "notes", "--source", tmp_path / "in" / "*.note",
                *settings, "--json")
    )  # fmt: skip
    assert isinstance(created, dict)
    assert (created["status"], created["revision"]) == ("created", 1)
    started = tomofly("session", "start", "my notes", "--once")
    assert started.returncode == 0, started.stderr
    wait_until_finished(tomofly)
    items = values(
        tomofly("session", "items", "my notes", "--filter", "value>=2", "--sort", "-value", "--json")
    )
    assert isinstance(items, dict)
    assert [row["key"] for row in items["items"]] == ["A_3", "A_2"]
    failures = values(tomofly("session", "failures", "my notes", "--json"))
    assert isinstance(failures, list)
    assert [(f["item"], Path(f["log"]).is_file()) for f in failures] == [("A_0", True)]
    assert "holds no number" in tomofly("session", "logs", "my notes", "--item", "A_0").stdout
    excluded = values(tomofly("session", "exclude", "my notes", "A_3", "--reason", "too large", "--json"))
    assert excluded == {"excluded": 1}
    exported = values(
        tomofly(
            "export",
            "my notes",
            "--format",
            "csv",
            "--filter",
            "state=done",
            "--out",
            tmp_path / "x",
            "--json",
        )
    )
    assert isinstance(exported, dict)
    assert exported["items"] == 2
    changed = values(tomofly("session", "settings", "my notes", "--set", "number.factor=2"))
    assert isinstance(changed, dict)
    assert (changed["revision"], changed["number"]["factor"]) == (2, 2.0)
    assert tomofly("session", "copy", "my notes", "second").returncode == 0
    assert "second" in tomofly("session", "list").stdout
    refused = tomofly("session", "delete", "my notes")
    assert refused.returncode == 2
    assert "--yes" in refused.stderr
    assert tomofly("session", "delete", "my notes", "--yes").returncode == 0
    assert not Path(created["folder"]).exists()


def wait_until_finished(tomofly: Run) -> None:
    end = time.monotonic() + 60
    pause = threading.Event()
    while time.monotonic() < end:
        pause.wait(0.1)
        shown = values(tomofly("session", "show", "my notes", "--json"))
        assert isinstance(shown, dict)
        if shown["status"] == "finished":
            assert (shown["items"], shown["done"], shown["failed"]) == (4, 3, 1)
            return
    raise AssertionError(shown)
