"""The gain reference comes into the session with the movies, verified, and once."""

import hashlib
from pathlib import Path

import pytest

from tomofly.flow.gain_copy import hand_over, only_copy, own_gain, with_own_gain
from tomofly.flow.graph import Workflow
from tomofly.flow.workflows import workflow_of
from tomofly.model import GainParams, Settings


@pytest.fixture
def workflow() -> Workflow:
    return workflow_of("spa")


@pytest.fixture
def gain(tmp_path: Path) -> Path:
    path = tmp_path / "camera" / "gain.mrc"
    path.parent.mkdir()
    path.write_bytes(b"gain" * 1000)
    return path


def settings(workflow: Workflow, gain: Path, mode: str) -> Settings:
    digest = hashlib.blake2b(b"gain" * 1000, digest_size=16).hexdigest()
    return workflow.settings({"gain": {"path": str(gain), "checksum": digest}, "transfer": {"mode": mode}})


def in_force(session: Path, saved: Settings) -> GainParams:
    found = with_own_gain(session, {"preprocess": saved})["preprocess"]["gain"]
    assert isinstance(found, GainParams)
    return found


@pytest.mark.parametrize("mode", ["copy", "move"])
def test_stages_read_the_sessions_own_gain_reference(
    tmp_path: Path, workflow: Workflow, gain: Path, mode: str
) -> None:
    saved = settings(workflow, gain, mode)
    here = Path(in_force(tmp_path / "session", saved).path)
    assert here.is_relative_to(tmp_path / "session" / "gain")
    assert here.read_bytes() == gain.read_bytes()
    gain.unlink()
    assert Path(in_force(tmp_path / "session", saved).path) == here
    assert [path.name for path in here.parent.iterdir()] == [here.name]


def test_a_gain_reference_is_linked_as_the_movies_are(tmp_path: Path, workflow: Workflow, gain: Path) -> None:
    saved = settings(workflow, gain, "link")
    assert in_force(tmp_path / "session", saved).path == str(gain)
    assert not (tmp_path / "session").exists()


def test_a_copy_that_is_there_is_read_also_by_a_session_that_links(
    tmp_path: Path, workflow: Workflow, gain: Path
) -> None:
    here = in_force(tmp_path / "session", settings(workflow, gain, "copy")).path
    gain.unlink()
    assert in_force(tmp_path / "session", settings(workflow, gain, "link")).path == here


def test_a_session_hands_its_copy_over_only_when_the_original_is_gone(
    tmp_path: Path, workflow: Workflow, gain: Path
) -> None:
    saved = settings(workflow, gain, "copy")
    here = Path(in_force(tmp_path / "session", saved).path)
    assert only_copy(tmp_path / "session", saved) is None
    gain.unlink()
    assert only_copy(tmp_path / "session", saved) == here
    assert only_copy(tmp_path / "other", saved) is None
    hand_over(here, tmp_path / "other", saved)
    assert Path(in_force(tmp_path / "other", saved).path).is_relative_to(tmp_path / "other")


def test_a_reference_that_is_not_the_one_of_the_settings_is_not_taken(
    tmp_path: Path, workflow: Workflow, gain: Path
) -> None:
    saved = settings(workflow, gain, "copy")
    gain.write_bytes(b"other")
    assert in_force(tmp_path / "session", saved).path == str(gain)
    reference = saved["gain"]
    assert isinstance(reference, GainParams)
    assert not own_gain(tmp_path / "session", reference).exists()


def test_where_the_reference_lies_changes_no_result(tmp_path: Path, workflow: Workflow, gain: Path) -> None:
    from tomofly.flow.planner import expected_fingerprint

    saved = settings(workflow, gain, "copy")
    here = with_own_gain(tmp_path / "session", {"preprocess": saved})["preprocess"]
    for stage in workflow.stages:
        assert expected_fingerprint(stage, saved, "x") == expected_fingerprint(stage, here, "x")
