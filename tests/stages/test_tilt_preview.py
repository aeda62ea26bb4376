"""The grouping can be seen before a session starts."""

from pathlib import Path

from tests.stages.tilt_files import found, mdoc_text, note, series
from tomofly.stages.tilts.preview import preview_groups
from tomofly.stages.tilts.rules import ComposeParams


def test_the_preview_shows_series_with_their_tilts_and_what_is_wrong(tmp_path: Path) -> None:
    one, ten = series("TS_2", 5), series("TS_10", 3)
    files = [
        *map(found, [*one[:4], *ten]),
        note(tmp_path, "TS_2.mdoc", mdoc_text(one)),
        note(tmp_path, "bad.mdoc", ""),
        found("strange.tif"),
    ]
    groups = preview_groups(files, ComposeParams())
    assert [group.series for group in groups] == ["TS_2", "TS_10", ""]
    first, second, rest = groups
    assert (first.source, first.order_source, first.axis_angle_deg) == ("mdoc", "date", 84.1)
    assert [tilt.order for tilt in first.tilts] == [0, 1, 2, 3]
    assert f"1 of 5 movies have not come: {one[4].name}" in first.problems
    assert (second.source, second.order_source) == ("pattern", "number")
    assert any("dose" in problem for problem in second.problems)
    assert [tilt.name for tilt in rest.tilts] == ["strange.tif"]
    assert "its name is not of any common pattern" in rest.tilts[0].remark
    assert any("bad.mdoc" in problem for problem in rest.problems)


def test_the_preview_says_which_of_two_exposures_is_taken() -> None:
    files = [found("TS_1_000_0.0.tif"), found("TS_1_001_3.0.tif"), found("TS_1_002_3.0.tif")]
    (group,) = preview_groups(files, ComposeParams())
    assert [tilt.remark for tilt in group.tilts] == [
        "", "TS_1_002_3.0.tif of the same angle is taken later", "",
    ]  # fmt: skip


def test_a_preview_of_nothing_is_empty() -> None:
    assert preview_groups([], ComposeParams()) == []
