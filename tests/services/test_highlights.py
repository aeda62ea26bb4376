"""Of all metrics those are shown first that people look at, under the name that their column has."""

from tomofly.services.highlights import telling_columns, telling_metrics, with_brief_state

ROW = {"key": "a", "state": "waiting", "waiting_for": "2 of 5 tilts (1 failed); 3 have not come", "flags": ""}


def test_columns_that_people_look_at_come_first_and_empty_ones_not_at_all() -> None:
    row = {**ROW, "blur": 1.0, "thickness_nm": 150.0, "series_alignment.axis_angle_deg": 85.0, "tilts": None}
    metrics = ["blur", "thickness_nm", "series_alignment.axis_angle_deg", "tilts"]
    columns = telling_columns([row], metrics)
    assert columns == ["key", "state", "series_alignment.axis_angle_deg", "thickness_nm"]
    assert telling_columns([{**ROW, "blur": 1.0, "flags": "odd"}], ["blur"]) == [
        "key",
        "state",
        "blur",
        "flags",
    ]


def test_metrics_that_nobody_knows_are_all_told() -> None:
    assert telling_metrics(["number.value"]) == ["number.value"]
    assert telling_metrics(["x.y", "ctf.ice_ring", "motion.total_motion_angstrom"]) == [
        "motion.total_motion_angstrom", "ctf.ice_ring",
    ]  # fmt: skip


def test_a_line_says_briefly_what_it_waits_for() -> None:
    assert with_brief_state(ROW)["state"] == "waiting: 2 of 5 tilts (1 failed)"
    assert with_brief_state({**ROW, "state": "running"})["state"] == "running"
