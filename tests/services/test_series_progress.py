"""What is told of tilt series while their tilts come: from the database, as a running session leaves it."""

import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from tests.store.gathering import add_item, add_member, add_task
from tomofly.cli.running import write_summary
from tomofly.flow.workflows import workflow_of
from tomofly.services import sessions
from tomofly.services.home import Home
from tomofly.services.progress import session_progress
from tomofly.services.summary import summarise_session
from tomofly.services.table import table_columns, table_page
from tomofly.stages.registry import installed_stages
from tomofly.stages.tilts.files import AlignmentFile, SeriesFile, View
from tomofly.store import sessions as rows
from tomofly.store import tables as t

MEASURED = {
    "compose": {"tilts": 3.0, "excluded_tilts": 1.0},
    "series_alignment": {"axis_angle_deg": 84.9, "thickness_nm": 148.0},
}


@pytest.fixture
def session(home: Home, monkeypatch: pytest.MonkeyPatch) -> str:
    """TS_1 has its tomogram, one of its four tilts is dark; TS_2 is coming, and one of its tilts failed."""
    monkeypatch.setattr("tomofly.flow.workflows.installed_stages", installed_stages)
    info = sessions.create_session(home, "grid", kind="tomo")
    with home.database.begin() as connection:
        at = rows.find_session(connection, "grid").id
        first = add_item(connection, at, "tilt series", "TS_1")
        waiting = "2 of 5 tilts (1 failed); 3 named in the mdoc have not come"
        second = add_item(connection, at, "tilt series", "TS_2", waiting_for=waiting)
        for number, angle in enumerate((0.0, 3.0, -3.0, 6.0)):
            _add_tilt(connection, at, first, "TS_1", number, angle)
        _add_tilt(connection, at, second, "TS_2", 0, 0.0, not_found=3)
        _add_tilt(connection, at, second, "TS_2", 1, 3.0, "failed", not_found=3)
        stages = [stage.name for stage in workflow_of("tomo").stages_for("tilt series")]
        products = {"compose": {"series": "s.json"}, "series_alignment": {"alignment": "a.json"}}
        for stage in stages:
            ended = {"compose": 240.0, "tomogram": 260.0}.get(stage, 300.0)
            made = products.get(stage)
            add_task(connection, at, first, stage, "done", MEASURED.get(stage), made, done_at=ended)
    _record().write(info.folder / "s.json")
    _alignment().write(info.folder / "a.json")
    return "grid"


def _add_tilt(
    connection: Any, session: int, series: int, key: str, order: int, angle: float,
    state: str = "done", not_found: int = 0,
) -> None:  # fmt: skip
    """Add a tilt as the catalogue of tilts describes it."""
    facts = {
        "series": key, "tilt_angle_deg": angle, "order": order, "views": None, "not_found": not_found,
        "not_found_names": [f"{key}_{n}.mrc" for n in range(not_found)], "flags": [], "listed": True,
        "dose_e_per_a2": 3.0, "accumulated_dose_e_per_a2": 3.0 * order, "axis_angle_deg": 85.0,
    }  # fmt: skip
    tilt = add_item(
        connection, session, "movie", f"{key}_{order}", attributes=facts, acquired_at=200.0 + order
    )
    add_member(connection, series, tilt, "compose", state)
    for stage in workflow_of("tomo").stages_for("movie"):
        reason = "All pixels are zero." if state == "failed" else ""
        add_task(connection, session, tilt, stage.name, state, reason=reason, done_at=210.0)


def _record() -> SeriesFile:
    views = [
        View(key=f"TS_1_{order}", section=None, tilt_angle_deg=angle, order=order)
        for order, angle in ((2, -3.0), (0, 0.0), (1, 3.0))
    ]
    dark = View(key="TS_1_3", section=None, tilt_angle_deg=6.0, order=3, excluded="dark", reason="it is dark")
    return SeriesFile(
        name="TS_1", views=(*views, dark), axis_angle_deg=85.0, axis_source="mdoc", pixel_size_angstrom=10.0,
        full_pixel_size_angstrom=2.5, shape_yx=(13, 17), full_shape_yx=(52, 68),
    )  # fmt: skip


def _alignment() -> AlignmentFile:
    return AlignmentFile(
        method="patches", tilt_angle_deg=(-3.0, 0.0, 3.0), axis_angle_deg=(84.9,) * 3,
        shift_y_px=(0.1, 0.2, 0.3), shift_x_px=(1.0, 2.0, 3.0), shift_error_px=(0.1,) * 3,
        residual_angstrom=(1.0,) * 3, aligned=(True,) * 3, x_tilt_deg=0.0, tilt_offset_deg=0.0,
        pixel_size_angstrom=10.0,
    )  # fmt: skip


def test_series_are_told_with_their_tilts_the_newest_first(home: Home, session: str) -> None:
    progress = session_progress(home, session)
    second, first = progress.series
    assert (first.item.key, first.state, first.tomogram) == ("TS_1", "done", "ready")
    assert first.counts() == {"aligned": 3, "left out": 1}
    assert first.latency_s == pytest.approx(57.0), "from the last tilt to the tomogram, not to the picks"
    assert (second.state, second.tomogram) == ("waiting", "")
    assert second.counts() == {"awaited": 3, "ready": 1, "failed": 1}
    assert second.come == 2
    assert second.waiting_for.startswith("2 of 5 tilts (1 failed)")
    assert (progress.items, progress.done, progress.failed, progress.kinds["movie"].failed) == (2, 1, 0, 1)


def test_the_tilts_of_a_series_that_is_done_are_not_looked_at_again(home: Home, session: str) -> None:
    before = session_progress(home, session)
    now = session_progress(home, session, before=before)
    assert now.series == before.series
    assert now.series[1] is before.series[1] and now.series[0] is not before.series[0]


def test_progress_is_given_as_json_too(home: Home, session: str) -> None:
    told = json.loads(json.dumps(session_progress(home, session).as_json()))
    first = told["series"][1]
    assert first["series"] == "TS_1" and first["last_tilt_to_tomogram_s"] == 57.0
    marks = {tilt["tilt_angle_deg"]: (tilt["mark"], tilt["reason"]) for tilt in first["tilts"]}
    assert marks[6.0] == ("left out", "it is dark") and marks[-3.0] == ("aligned", "")
    assert told["kinds"]["tilt series"] == {"items": 2, "done": 1, "failed": 0}


def test_the_table_has_every_metric_of_a_series_and_the_time_to_its_tomogram(
    home: Home, session: str
) -> None:
    row, waiting = table_page(home, session, sort="key").rows
    assert (row["excluded_tilts"], row["axis_angle_deg"], row["members"]) == (1.0, 84.9, 4)
    assert (row["last_tilt_to_tomogram_s"], row["latency_s"]) == (57.0, 97.0)
    assert waiting["last_tilt_to_tomogram_s"] is None and waiting["failed_members"] == 1
    workflow = workflow_of("tomo")
    declared = {metric.name for stage in workflow.stages_for("tilt series") for metric in stage.metrics}
    columns = {column.name.rpartition(".")[2] for column in table_columns(workflow)}
    assert declared <= columns


def test_simulated_series_are_compared_with_the_truth_when_they_are_complete(
    home: Home, session: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = {"pre_tilt_deg": 1.0, "thickness_angstrom": 1500.0, "tilts": [], "pixel_size_angstrom": 2.5}
    for key in ("TS_1", "TS_2"):
        (tmp_path / f"{key}.truth.json").write_text(json.dumps({**truth, "x_tilt_deg": 0.0}))
    with home.database.begin() as connection:
        movies = t.items.c.kind == "movie"
        connection.execute(t.items.update().where(movies).values(source=str(tmp_path / "tilt.mrc")))
        provisional = t.items.c.key == "TS_2"
        series = connection.scalar(select(t.items.c.id).where(provisional))
        at = rows.find_session(connection, session).id
        add_task(connection, at, series or 0, "compose", mode="provisional", done_at=250.0)
    summary = summarise_session(home, session)
    (compared,) = summary["series"]
    assert (compared["series"], compared["thickness_nm_error"]) == ("TS_1", -2.0)
    assert summary["accuracy"] == {"series": 1.0, "thickness_error_median_nm": 2.0}
    write_summary(summary)
    told = capsys.readouterr().out
    assert "1 of 2 tilt series done, 0 failed" in told and "TS_1: inclined by not known (1.0°)" in told


def test_a_track_with_series_is_counted_in_series_whatever_else_it_does(home: Home, session: str) -> None:
    tracks = {track.name: track for track in session_progress(home, session).tracks}
    assert (tracks["series"].done, tracks["series"].waiting) == (1, 1)
    assert tracks["preprocess"].done == 5
