"""The pages agree with the program, and with each other."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from tests.conftest import REPOSITORY
from tomofly.flow.graph import SHARED_SECTIONS
from tomofly.model import Shape, StageParams, TaskState
from tomofly.services.status import Status
from tomofly.stages.registry import installed_stages

DOCS = REPOSITORY / "docs"
GLOSSARY = (DOCS / "glossary.md").read_text(encoding="utf-8")
FAILURES = (DOCS / "howto" / "failures.md").read_text(encoding="utf-8")
PAGES = sorted(
    page
    for page in [*REPOSITORY.glob("*.md"), *DOCS.rglob("*.md")]
    if not {"generated", "_build"} & set(page.relative_to(REPOSITORY).parts)
)
SECTIONS: dict[str, type[StageParams]] = dict(SHARED_SECTIONS) | {
    installed.stage.name: installed.stage.params for installed in installed_stages()
}


@pytest.mark.parametrize("section", sorted(SECTIONS))
def test_every_parameter_says_what_it_is_for(section: str) -> None:
    for name, field in SECTIONS[section].model_fields.items():
        assert field.description, f"{section}.{name} has no help"
        assert isinstance(field.json_schema_extra, dict)
        assert "unit" in field.json_schema_extra, f"{section}.{name} says no unit"


def test_the_glossary_has_every_state_and_shape() -> None:
    states = _generated()["session-states"]
    for word in [*TaskState, *Shape]:
        assert re.search(rf"\b{word}\b", GLOSSARY), f"the glossary does not know '{word}'"
    for word in get_args(Status):
        assert f"| {word} |" in states


def test_every_flag_is_explained() -> None:
    sources = "\n".join(path.read_text() for path in (REPOSITORY / "src/tomofly/stages").glob("*.py"))
    sources += (REPOSITORY / "src/tomofly/flow/runner.py").read_text()
    codes = set(re.findall(r'Flag\(\s*"(\w+)"', sources))
    for words in re.findall(r"FLAG_WORDS = \{(.*?)\n\}", sources, re.DOTALL):
        codes |= set(re.findall(r'^\s+"(\w+)":', words, re.MULTILINE))
    assert len(codes) > 20
    assert not {code for code in codes if f"`{code}`" not in FAILURES}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_links_inside_the_project_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text)
    links += re.findall(r"\{literalinclude\} (\S+)", text)
    links += [f"{name}.md" for name in re.findall(r"\{doc\}`([^`]+)`", text)]
    for link in links:
        if not link.startswith(("http://", "https://")):
            assert (page.parent / link).exists(), f"{link} is not there"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(REPOSITORY)))
def test_settings_named_in_the_pages_exist(page: Path) -> None:
    names = "|".join(sorted(SECTIONS))
    text = re.sub(r"```python.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for section, name in re.findall(rf"(?<![\w./])({names})\.(\w+)(?!\w|/|\()", text):
        known = SECTIONS[section].model_fields
        assert name in known or name in ("md", "py", "name", "html"), f"there is no {section}.{name}"


def test_the_tests_that_prove_the_laws_exist() -> None:
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    everything = "\n".join(path.read_text(encoding="utf-8") for path in (REPOSITORY / "tests").rglob("*.py"))
    for name in re.findall(r"\btest_\w+(?!\w|\.py)", text):
        assert f"def {name}(" in everything or any((REPOSITORY / "tests").rglob(f"{name}.py")), name
    for path in re.findall(r"`(tests/[\w/]+(?:\.py)?)", text):
        assert (REPOSITORY / path).exists(), path


def _generated() -> dict[str, str]:
    """The pages that the program writes about itself."""
    spec = importlib.util.spec_from_file_location(
        "declared_reference", DOCS / "_ext" / "declared_reference.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.pages()  # type: ignore[no-any-return]


def test_the_reference_has_every_parameter_metric_and_command() -> None:
    pages = _generated()
    for installed in installed_stages():
        if installed.package == "tomofly":
            page = pages[f"stage-{installed.stage.name}"]
            names = [f"{installed.stage.name}.{name}" for name in installed.stage.params.model_fields]
            for name in [*names, *(metric.name for metric in installed.stage.metrics)]:
                assert f"`{name}`" in page
    for command in ("demo spa", "run", "session create", "session logs", "export", "stages"):
        assert f"# tomofly {command}\n" in pages["commands"]


@pytest.mark.slow
def test_the_documentation_builds_without_a_warning(tmp_path: Path) -> None:
    if importlib.util.find_spec("sphinx") is None:
        pytest.skip("Sphinx is not installed (the extra 'docs')")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", str(DOCS)]
    done = subprocess.run(
        [*command, "-d", str(tmp_path / "doctrees"), str(tmp_path / "html")],
        check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "html" / "index.html").is_file()
