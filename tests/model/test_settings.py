"""Settings: what is refused, in which words; parameters and the names that they give to results."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tomofly.model import (
    BadInput,
    ResourceParams,
    Settings,
    StageParams,
    SwitchableParams,
    TomoflyError,
    fingerprint,
    parameter,
    result_parameters,
)
from tomofly.model.sections import GainParams, MicroscopeParams, SourceParams, watched_folder

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


class MotionParams(SwitchableParams):
    patches: tuple[int, int] = parameter((5, 5), "Patches along y and x")
    bin_factor: float = parameter(1.0, "Binning", ge=1, le=8)
    preview: int = parameter(512, "Size of previews", unit="px", affects_result=False)
    frames: int | None = parameter(None, "Last frame")


SCHEMA = {"motion": MotionParams, "microscope": MicroscopeParams, "resources": ResourceParams}


def _settings(**document: Any) -> Settings:
    return Settings.validate("spa", SCHEMA, document)


def test_an_empty_document_gives_the_defaults_and_goes_through_json() -> None:
    settings = _settings()
    document = json.loads(json.dumps(settings.document()))
    assert document["motion"]["patches"] == [5, 5]
    assert Settings.validate("spa", SCHEMA, document) == settings


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"moton": {}}, "no section 'moton' in the settings. Did you mean 'motion'?"),
        ({"xyz": {}}, "Legal are: microscope, motion, resources"),
        ({"motion": {"patchs": 3}}, "no parameter 'motion.patchs'. Did you mean 'patches'?"),
        ({"motion": 5}, "Section 'motion' must hold names and values, not 5"),
        ({"motion": {"bin_factor": 9}}, "motion.bin_factor cannot be 9: Input should be less than"),
        ({"motion": {"bin_factor": "big"}}, "motion.bin_factor cannot be 'big'"),
        ({"motion": {"bin_factor": float("nan")}}, "motion.bin_factor cannot be nan"),
        ({"motion": {"patches": [5, "x"]}}, "motion.patches.1 cannot be 'x'"),
        ({"microscope": {"voltage_kv": 0}}, "microscope.voltage_kv cannot be 0"),
        ({"resources": {"workers": -1}}, "resources.workers cannot be -1"),
        ({"resources": {"priority": "random"}}, "resources.priority cannot be 'random'"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_what_is_legal(document: dict[str, Any], message: str) -> None:
    with pytest.raises(TomoflyError) as caught:
        _settings(**document)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("assignment", "name", "value"),
    [
        ("motion.patches=7,3", "patches", (7, 3)),
        ("motion.patches=(7, 3)", "patches", (7, 3)),
        ("motion.patches=[7,3]", "patches", (7, 3)),
        (" motion.bin_factor = 2 ", "bin_factor", 2.0),
        ("motion.frames=none", "frames", None),
        ("motion.frames=12", "frames", 12),
        ("motion.enabled=false", "enabled", False),
    ],
)
def test_an_assignment_is_read_as_it_is_typed(assignment: str, name: str, value: object) -> None:
    assert getattr(_settings().changed([assignment])["motion"], name) == value


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("motion.bin_factor", "'motion.bin_factor' is no setting. Write it as section.name=value."),
        ("bin_factor=2", "Write it as section.name=value"),
        ("moton.bin_factor=2", "There is no section 'moton'. Did you mean 'motion'?"),
        ("motion.bin_facto=2", "no parameter 'motion.bin_facto'. Did you mean 'bin_factor'?"),
        ("motion.bin_factor=0.5", "motion.bin_factor cannot be '0.5'"),
        ("motion.patches=5", "motion.patches cannot be '5'"),
    ],
)
def test_an_assignment_that_cannot_be_is_refused(assignment: str, message: str) -> None:
    with pytest.raises(TomoflyError) as caught:
        _settings().changed([assignment])
    assert message in str(caught.value)


def test_a_change_leaves_the_settings_it_was_made_from() -> None:
    settings = _settings()
    settings.changed(["motion.bin_factor=2"])
    assert settings["motion"] == MotionParams()


def test_only_parameters_that_affect_results_name_them() -> None:
    assert result_parameters(MotionParams()) == {"patches": [5, 5], "bin_factor": 1.0, "frames": None}
    assert result_parameters(MicroscopeParams(), ("voltage_kv",)) == {"voltage_kv": 300.0}
    assert result_parameters(ResourceParams()) == {} == result_parameters(SourceParams())
    assert "path" not in result_parameters(GainParams()) and "checksum" in result_parameters(GainParams())


@pytest.mark.parametrize("model", [*SCHEMA.values(), SourceParams, GainParams])
def test_every_parameter_says_what_it_is(model: type[StageParams]) -> None:
    for field in model.model_json_schema()["properties"].values():
        assert field["description"] and "unit" in field and "affects_result" in field


def test_parameters_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        MotionParams().bin_factor = 2.0


@given(JSON)
def test_a_fingerprint_is_the_same_after_a_trip_through_json(value: Any) -> None:
    assert fingerprint("stage", value) == fingerprint("stage", json.loads(json.dumps(value)))


@given(st.dictionaries(st.text(), st.integers(), min_size=2))
def test_a_fingerprint_does_not_know_the_order_of_names(values: dict[str, int]) -> None:
    assert fingerprint(values) == fingerprint(dict(reversed(values.items())))


@given(st.lists(st.text(), min_size=2, unique=True))
def test_a_fingerprint_knows_the_order_and_the_borders_of_its_parts(parts: list[str]) -> None:
    assert fingerprint(*parts) != fingerprint(*reversed(parts))
    assert fingerprint(*parts) != fingerprint("".join(parts))


def test_a_fingerprint_stays_what_it_was_in_earlier_sessions() -> None:
    assert fingerprint("motion", "1", {"b": 2, "a": [1.0, None]}) == "f304895486bc030099e0719263bf0c8f"


def test_a_fingerprint_takes_no_value_that_is_none_of_json() -> None:
    with pytest.raises(ValueError, match="JSON"):
        fingerprint(float("nan"))


def test_an_error_says_what_happened_and_what_to_do() -> None:
    assert str(TomoflyError("The disk is full.", "Make room")) == "The disk is full. Make room."
    assert str(BadInput("The movie is empty")) == "The movie is empty."


@pytest.mark.parametrize(
    ("pattern", "folder"),
    [
        ("/data/grid 1/*.tiff", "/data/grid 1"),
        ("/data/**/Data/*.eer", "/data"),
        ("/data/[ab]/x.mrc", "/data"),
        ("/data/one.mrc", "/data"),
        ("*.mrc", "."),
    ],
)
def test_the_watched_folder_is_what_stands_before_the_first_wildcard(pattern: str, folder: str) -> None:
    assert watched_folder(pattern) == Path(folder)


def test_a_question_in_an_error_ends_as_one() -> None:
    assert str(TomoflyError("There is no x.", "Did you mean 'y'?")) == "There is no x. Did you mean 'y'?"
    assert str(TomoflyError("There is no x", "Look again")) == "There is no x. Look again."
