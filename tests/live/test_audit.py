"""Every put that is taken is written down, within bounds, and who writes against whom is told."""

import json
from pathlib import Path

import pytest

from tomofly.live.records import audit
from tomofly.live.records.audit import Audit
from tomofly.live.records.stream_table import STREAM_TABLE
from tomofly.live.records.values import PVValues
from tomofly.live.status import _of_writers


class Clock:
    at = 1000.0

    def __call__(self) -> float:
        return self.at


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_what_is_taken_is_written_and_what_is_refused_is_not(tmp_path: Path) -> None:
    values, kept = PVValues("r:", STREAM_TABLE), Audit(tmp_path / "state" / "audit.jsonl", Clock())
    values.on_taken(kept.note)
    assert values.take("Center", 12.5, "ann@desk CA")
    assert not values.take("Center", float("nan"), "ann@desk CA")
    assert values.take("FilterType", "Hann", "bob@desk PVA")
    values.set("OrthoX", 7)
    kept.close()
    first, second = lines(kept.path)
    assert (first["pv"], first["old"], first["new"], first["by"]) == ("r:Center", 0.0, 12.5, "ann@desk CA")
    assert (second["old"], second["new"]) == ("Parzen", "Hann")
    assert str(first["time"]).startswith("1970-01-01T00:16:40")


def test_its_files_have_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "LARGEST_BYTES", 1000)
    values, kept = PVValues("r:", STREAM_TABLE), Audit(tmp_path / "audit.jsonl")
    values.on_taken(kept.note)
    for number in range(300):
        values.take("Center", number, "ann@desk CA")
    kept.close()
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == ["audit.1.jsonl", "audit.2.jsonl", "audit.3.jsonl", "audit.jsonl"]
    assert all(path.stat().st_size <= 1000 for path in tmp_path.iterdir())
    assert lines(tmp_path / "audit.jsonl")[-1]["new"] == 299.0


def test_two_writers_within_a_second_are_told_with_the_last_of_them(tmp_path: Path) -> None:
    clock = Clock()
    values, kept = PVValues("r:", STREAM_TABLE), Audit(tmp_path / "audit.jsonl", clock)
    values.on_taken(kept.note)
    values.take("Center", 10, "ann@desk CA")
    clock.at += 0.3
    values.take("Center", 11, "ann@desk CA")  # one who moves a slider
    assert kept.fights() == []
    clock.at += 0.3
    values.take("Center", 20, "bob@lab PVA")
    (fight,) = kept.fights()
    assert (fight.pv, fight.last, fight.before) == ("r:Center", "bob@lab PVA", "ann@desk CA")
    assert "bob@lab PVA was last" in _of_writers({"fights": [vars(fight)]})[0].what
    clock.at += 61
    assert kept.fights() == []
    values.take("OrthoX", 1, "CA")
    values.take("OrthoX", 0, "CA")  # back to what it was, by nobody knows whom
    assert [fight.pv for fight in kept.fights()] == ["r:OrthoX"]
    kept.close()
