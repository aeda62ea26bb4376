"""Sessions are made, copied and deleted without surprises, and nothing is deleted that is not theirs."""

import json
import os
import socket
import time
from pathlib import Path

import pytest

from tomofly.flow.gain_copy import own_gain
from tomofly.model import GainParams, Settings, TomoflyError
from tomofly.services import control, sessions, settings
from tomofly.services.home import Home, checked_folder, checked_name, open_home
from tomofly.services.status import status_of
from tomofly.stages.registry import installed_stages
from tomofly.store import sessions as rows


def write_row(home: Home, name: str, **values: object) -> None:
    with home.database.begin() as connection:
        rows.update_session(connection, rows.find_session(connection, name).id, **values)


def test_a_session_has_its_folder_its_settings_and_a_file_that_says_so(home: Home) -> None:
    info = sessions.create_session(home, "grid 1", kind="notes", assignments=["number.factor=3"])
    assert info.status == "created"
    assert info.folder == home.folder / "sessions" / "grid 1"
    described = json.loads((info.folder / "session.json").read_text())
    assert described["settings"]["1"]["number"]["factor"] == 3.0
    assert [track.name for track in info.tracks] == ["reading", "balance", "adding"]


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "-option", "x" * 101, "dot.", "new\nline"])
def test_a_name_that_could_leave_its_folder_is_refused(name: str) -> None:
    with pytest.raises(TomoflyError, match="cannot be the name"):
        checked_name(name)


@pytest.mark.parametrize("folder", ["/", "/etc", "/home", "~", "/usr/.."])
def test_folders_of_the_system_and_whole_homes_are_refused(folder: str) -> None:
    with pytest.raises(TomoflyError, match="cannot be used for"):
        checked_folder(folder, "a session")


def test_a_name_or_folder_that_is_taken_is_refused_by_name(home: Home, tmp_path: Path) -> None:
    sessions.create_session(home, "one", kind="notes", folder=tmp_path / "here")
    with pytest.raises(TomoflyError, match="already a session 'one' with the folder"):
        sessions.create_session(home, "two", kind="notes", folder=tmp_path / "here")
    with pytest.raises(TomoflyError, match="already a session 'one' with the name"):
        sessions.create_session(home, "one", kind="notes", folder=tmp_path / "there")
    assert sessions.free_name(home, "one") == "one-2"


def test_a_folder_of_another_home_is_not_taken_over(home: Home, tmp_path: Path) -> None:
    sessions.create_session(home, "one", kind="notes", folder=tmp_path / "here")
    other = open_home(tmp_path / "other home")
    with pytest.raises(TomoflyError, match="holds the session 'one', which this home does not know"):
        sessions.create_session(other, "two", kind="notes", folder=tmp_path / "here")
    assert sessions.list_sessions(other) == []
    other.close()


def test_a_source_that_would_take_in_the_session_itself_is_refused(home: Home, tmp_path: Path) -> None:
    with pytest.raises(TomoflyError, match="lies inside the watched folder"):
        sessions.create_session(
            home, "eats itself", kind="notes", folder=tmp_path / "out",
            assignments=[f"source.pattern={tmp_path}/**/*.note"],
        )  # fmt: skip
    assert sessions.list_sessions(home) == []


def test_a_copy_has_the_newest_settings_and_nothing_else(home: Home) -> None:
    sessions.create_session(home, "old", kind="notes")
    settings.change_settings(home, "old", ["number.factor=5"])
    copy = sessions.copy_session(home, "old", "new")
    assert copy.row.revision == 1
    assert settings.current_settings(home, "new").document()["number"]["factor"] == 5.0


def test_a_copy_takes_the_gain_reference_from_the_session_when_the_original_is_gone(
    home: Home, tmp_path: Path
) -> None:
    gain = tmp_path / "gain.mrc"
    gain.write_bytes(b"gain")
    old = sessions.create_session(home, "old", kind="notes", assignments=[f"gain.path={gain}"])
    saved = settings.current_settings(home, "old")
    named = saved["gain"]
    assert isinstance(named, GainParams)
    gain.unlink()
    with pytest.raises(TomoflyError, match=r"gain reference .* cannot be read"):
        sessions.copy_session(home, "old", "too early")
    own_gain(old.folder, named).parent.mkdir()
    own_gain(old.folder, named).write_bytes(b"gain")
    new = sessions.copy_session(home, "old", "new")
    assert settings.current_settings(home, "new") == saved
    sessions.delete_session(home, "old")
    assert own_gain(new.folder, named).read_bytes() == b"gain"


def test_settings_change_by_revisions_and_only_when_they_differ(home: Home) -> None:
    sessions.create_session(home, "s", kind="notes")
    assert settings.change_settings(home, "s", ["number.factor=2"]) == 2
    assert settings.change_settings(home, "s", ["number.factor=2.0"]) == 2
    revisions = settings.list_revisions(home, "s")
    assert [r.number for r in revisions] == [1, 2]
    assert revisions[0].in_force_on == ("adding", "balance", "reading")
    control.put_in_force(home, "s", ["reading"])
    assert settings.list_revisions(home, "s")[1].in_force_on == ("reading",)


@pytest.mark.parametrize(
    ("assignment", "told"),
    [
        ("number.facto=2", "Did you mean 'factor'"),
        ("nummer.factor=2", "Did you mean 'number'"),
        ("number.factor=many", "number.factor cannot be 'many'"),
        ("ledger.notes=0", "ledger.notes cannot be"),
        ("number.factor", "Write it as section.name=value"),
    ],
)
def test_a_wrong_setting_is_refused_with_what_is_legal(home: Home, assignment: str, told: str) -> None:
    sessions.create_session(home, "s", kind="notes")
    with pytest.raises(TomoflyError, match=told.replace(".", r"\.")):
        settings.change_settings(home, "s", [assignment])
    assert settings.current_settings(home, "s").document()["number"]["factor"] == 1.0


def test_the_gain_is_known_by_its_content(home: Home, tmp_path: Path) -> None:
    gain = tmp_path / "gain.mrc"
    gain.write_bytes(b"one")
    sessions.create_session(home, "s", kind="notes", assignments=[f"gain.path={gain}"])
    first = settings.current_settings(home, "s").document()["gain"]["checksum"]
    assert len(first) == 32
    gain.write_bytes(b"two")
    assert settings.change_settings(home, "s", []) == 2
    assert settings.current_settings(home, "s").document()["gain"]["checksum"] != first
    with pytest.raises(TomoflyError, match=r"gain reference .* cannot be read: No such file"):
        settings.change_settings(home, "s", [f"gain.path={tmp_path}/none.mrc"])


def test_deleting_leaves_what_the_session_did_not_make(home: Home) -> None:
    info = sessions.create_session(home, "s", kind="notes")
    (info.folder / "number").mkdir()
    (info.folder / "number" / "a.txt").write_text("1")
    (info.folder / "notes of mine.txt").write_text("keep")
    deleted = sessions.delete_session(home, "s")
    assert [p.name for p in info.folder.iterdir()] == ["notes of mine.txt"]
    assert len(deleted.kept) == 1
    assert "not made by the session" in deleted.kept[0]
    with pytest.raises(TomoflyError, match="There is no session 's'"):
        sessions.session_info(home, "s")


def test_a_running_session_is_not_deleted(home: Home) -> None:
    info = sessions.create_session(home, "s", kind="notes")
    name = f"{socket.gethostname()}:{os.getpid()}"
    write_row(home, "s", state="running", conductor=name, heartbeat_at=time.time())
    with pytest.raises(TomoflyError, match="Stop it first"):
        sessions.delete_session(home, "s")
    assert info.folder.is_dir()


def test_idle_closed_failed_finished_and_crashed_are_different_things(home: Home) -> None:
    sessions.create_session(home, "s", kind="notes")
    here = f"{socket.gethostname()}:{os.getpid()}"
    now = time.time()
    cases: list[tuple[dict[str, object], str]] = [
        ({"state": "running", "conductor": here, "heartbeat_at": now, "desired": "running"}, "running"),
        ({"vitals": {"idle": True}}, "idle"),
        ({"closed": True}, "closed"),
        ({"desired": "stopped"}, "stopping"),
        ({"heartbeat_at": now - 3600}, "crashed"),
        ({"heartbeat_at": now, "conductor": f"{socket.gethostname()}:999999999"}, "crashed"),
        ({"conductor": "elsewhere:12", "desired": "running", "closed": False, "vitals": {}}, "running"),
        ({"state": "failed"}, "failed"),
        ({"state": "finished"}, "finished"),
        ({"state": "stopped"}, "stopped"),
    ]
    for values, expected in cases:
        write_row(home, "s", **values)
        assert status_of(sessions.session_info(home, "s").row, now) == expected, values


def test_stopping_a_crashed_session_says_that_it_is_stopped(home: Home) -> None:
    sessions.create_session(home, "s", kind="notes")
    write_row(home, "s", state="running", conductor="elsewhere:1", heartbeat_at=time.time() - 3600)
    assert control.stop_session(home, "s").status == "stopped"


def test_a_track_or_item_that_is_not_there_is_named_with_what_is(home: Home) -> None:
    sessions.create_session(home, "s", kind="notes")
    with pytest.raises(TomoflyError, match="Legal are: reading, balance, adding"):
        control.stop_session(home, "s", ["writing"])
    with pytest.raises(TomoflyError, match="There is no item 'x'"):
        control.exclude_items(home, "s", ["x"], "bad")
    with pytest.raises(TomoflyError, match="needs a reason"):
        control.exclude_items(home, "s", ["x"], " ")


def test_the_home_is_what_is_given_then_what_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOMOFLY_HOME", str(tmp_path / "from environment"))
    monkeypatch.delenv("TOMOFLY_DATABASE", raising=False)
    assert open_home(tmp_path / "given").folder == tmp_path / "given"
    assert open_home().folder == tmp_path / "from environment"
    assert open_home().database_url == f"sqlite:///{tmp_path / 'from environment' / 'tomofly.db'}"
    monkeypatch.setenv("TOMOFLY_DATABASE", "postgresql+psycopg://host/db")
    assert open_home().database_url == "postgresql+psycopg://host/db"


@pytest.fixture
def moved(home: Home, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A session that once moved raw data into its folder, though its settings say otherwise by now."""
    monkeypatch.setattr("tomofly.flow.workflows.installed_stages", installed_stages)
    info = sessions.create_session(home, "moved", assignments=["transfer.mode=move"])
    settings.change_settings(home, "moved", ["transfer.mode=link"])
    for stage in ("transfer", "motion"):
        (info.folder / stage).mkdir()
        (info.folder / stage / "movie.mrc").write_bytes(b"frames")
    return info.folder


def test_raw_data_that_were_moved_survive_clearing_and_deleting(home: Home, moved: Path) -> None:
    with pytest.raises(TomoflyError, match="would delete the only copy"):
        control.clear_session(home, "moved", ["transfer"])
    deleted = sessions.delete_session(home, "moved")
    assert (moved / "transfer" / "movie.mrc").read_bytes() == b"frames"
    assert not (moved / "motion").exists()
    assert deleted.kept == (f"{moved / 'transfer'}: raw data that were moved here",)


def test_raw_data_go_only_when_that_is_asked_for(home: Home, moved: Path) -> None:
    assert sessions.delete_session(home, "moved", raw=True).kept == ()
    assert not moved.exists()


def test_two_sessions_cannot_both_move_the_same_files(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tomofly.flow.workflows.installed_stages", installed_stages)
    source = f"source.pattern={tmp_path}/*.mrc"
    sessions.create_session(home, "one", assignments=[source])
    sessions.create_session(home, "two", assignments=[source])
    with pytest.raises(TomoflyError, match="files can be moved only once"):
        sessions.create_session(home, "three", assignments=[source, "transfer.mode=move"])
    with pytest.raises(TomoflyError, match="Session 'one' watches"):
        settings.change_settings(home, "two", ["transfer.mode=move"])
    with pytest.raises(TomoflyError, match="lies inside the watched folder"):
        settings.change_settings(home, "two", [f"source.pattern={tmp_path}/**/*.mrc"])


def test_settings_can_be_changed_when_the_gain_reference_is_gone(tmp_path: Path) -> None:
    gain = tmp_path / "gain.mrc"
    gain.write_bytes(b"gain")
    before = settings.prepared(Settings.validate("any", {"gain": GainParams}, {"gain": {"path": str(gain)}}))
    gain.unlink()
    after = settings.prepared(before.changed(["gain.flip=up-down"]), before)
    assert after.document()["gain"]["checksum"] == before.document()["gain"]["checksum"]
    with pytest.raises(TomoflyError, match="gain reference"):
        settings.prepared(before.changed([f"gain.path={tmp_path / 'other.mrc'}"]), before)
