"""Files that change as a whole."""

from pathlib import Path

import pytest

from tomofly.formats.on_disk import sync, synced_text, written_whole


def test_a_file_is_the_old_one_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    path.write_text("old")
    with written_whole(path) as part:
        part.write_text("half of the n")
        assert path.read_text() == "old"
        part.write_text("new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_the_old_file_stays_where_the_new_one_fails(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    path.write_text("old")
    with pytest.raises(OSError, match="full"), written_whole(path) as part:
        part.write_text("half of the n")
        raise OSError("the disk is full")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_beside_is_not_taken_for_one_of_its_kind(tmp_path: Path) -> None:
    with written_whole(tmp_path / "note.json") as part:
        part.write_text("{}")
        assert not list(tmp_path.glob("*.json"))


def test_a_text_has_unix_line_ends_and_utf_8(tmp_path: Path) -> None:
    with synced_text(tmp_path / "angles.txt") as target:
        target.write("°\nµ\n")
    assert (tmp_path / "angles.txt").read_bytes() == b"\xc2\xb0\n\xc2\xb5\n"
    sync(tmp_path)


def test_what_is_missing_cannot_be_synced(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        sync(tmp_path / "nothing")
