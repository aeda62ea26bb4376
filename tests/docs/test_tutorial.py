"""What the README and the tutorial show works as it is written there."""

from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.docs.examples import commands, examples

README = REPOSITORY / "README.md"
TUTORIAL = REPOSITORY / "docs" / "tutorial.md"
TILT_SERIES = REPOSITORY / "docs" / "howto" / "tilt-series.md"


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_readme_works_as_written(tmp_path: Path) -> None:
    *first, last = examples(README)
    for example in first:
        example.run(tmp_path)
    assert "2 movies done" in last.run(tmp_path)
    assert (tmp_path / "for-relion" / "micrographs_ctf.star").is_file()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_tutorial_works_as_written(tmp_path: Path) -> None:
    said = "".join(example.run(tmp_path) for example in examples(TUTORIAL))
    assert said.count("2 of 2 items done, 0 failed") == 2
    assert "defocus against the truth" in said
    assert "rings to" in said


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_page_on_tilt_series_works_as_written(tmp_path: Path) -> None:
    said = "".join(example.run(tmp_path) for example in examples(TILT_SERIES))
    assert "1 of 1 tilt series done, 0 failed" in said
    assert "axis" in said and "TS_1" in said
    assert list((tmp_path / "for-relion").glob("*.star"))


def test_the_example_of_the_readme_is_short() -> None:
    script = next(example for example in examples(README) if example.language == "python")
    assert len([line for line in script.body.splitlines() if line.strip()]) <= 11


def test_commands_of_a_console_block_leave_its_output_out() -> None:
    body = "$ tomofly run spa \\\n      --once --out 'a b'\n2 of 2 done\n  …\n$ ls\n"
    assert commands(body) == [["tomofly", "run", "spa", "--once", "--out", "a b"], ["ls"]]
