"""Every setting of a single-particle session can be typed on a command line."""

from typing import Any, Literal, get_args, get_origin

import pytest

from tomofly.flow.workflows import workflow_of
from tomofly.model import TomoflyError

SETTINGS = workflow_of("spa").settings()
FIELDS = [(section, name) for section, values in SETTINGS.document().items() for name in values]


def _typed(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


@pytest.mark.parametrize(("section", "name"), FIELDS)
def test_a_default_typed_in_changes_nothing(section: str, name: str) -> None:
    value = SETTINGS.document()[section][name]
    assert SETTINGS.changed([f"{section}.{name}={_typed(value)}"]) == SETTINGS


def test_every_choice_can_be_typed() -> None:
    typed = 0
    for section, name in FIELDS:
        annotation = type(SETTINGS[section]).model_fields[name].annotation
        for choice in get_args(annotation) if get_origin(annotation) is Literal else ():
            changed = SETTINGS.changed([f"{section}.{name}={choice}"])
            assert getattr(changed[section], name) == choice
            typed += 1
    assert typed > 10


def test_a_path_may_hold_a_comma_and_brackets() -> None:
    changed = SETTINGS.changed(["source.pattern=/data/a, b (2)/*.mrc", "gain.path=(1).mrc"])
    assert changed["source"].pattern == "/data/a, b (2)/*.mrc"
    assert changed["gain"].path == "(1).mrc"


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("gain.rotation_deg=45", "90"),
        ("motion.patches=a,b", "patches"),
        ("picks.diameter_angstrom=1,2,3", "diam"),
    ],
)
def test_what_is_no_choice_is_refused_with_what_is(assignment: str, words: str) -> None:
    with pytest.raises(TomoflyError, match=words):
        SETTINGS.changed([assignment])
