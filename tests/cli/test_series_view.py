"""Strips of tilts: each tilt where its angle is, troubles first, nothing wider than the terminal."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from tests.cli.test_views import PROGRESS
from tomofly.cli.running import against_truth
from tomofly.cli.series_view import SeriesRows, common_scale, strip
from tomofly.cli.view import drawn, line_of
from tomofly.services.progress import KindCount, Progress
from tomofly.services.series import SeriesProgress
from tomofly.services.tilts import Tilt
from tomofly.store.browse import BrowsedItem

METRICS = {
    ("compose", "tilts"): 39.0, ("series_alignment", "axis_angle_deg"): 84.9,
    ("series_alignment", "thickness_nm"): 147.6, ("series_ctf", "resolution_low_tilt_angstrom"): 21.37,
}  # fmt: skip


def tilt(angle: float | None, **more: object) -> Tilt:
    plain = Tilt(f"t{angle}", "", None, None, angle, "used", shift_y_angstrom=1.0, shift_x_angstrom=2.0)
    return replace(plain, **more)  # type: ignore[arg-type]


def series(key: str, *tilts: Tilt, **more: object) -> SeriesProgress:
    item = BrowsedItem(1, key, "tilt series", "", {}, None, 0.0, True, "", "", metrics=METRICS)
    plain = SeriesProgress(item, "done", "", tilts, "ready", 41.2)
    return replace(plain, **more)  # type: ignore[arg-type]


def whole(key: str = "grid [1]/TS_02") -> SeriesProgress:
    """Forty-one tilts, one of them dark, one failed."""
    marks = {7: {"state": "left out", "excluded": "dark", "reason": "it is dark"}, 30: {"state": "failed"}}
    return series(key, *(tilt(-60.0 + 3 * n, **marks.get(n, {})) for n in range(41)))


def begun() -> SeriesProgress:
    came = [tilt(angle, state="ready") for angle in (0.01, 3.0, -2.99)]
    awaited = [tilt(None, state="not come") for _ in range(2)]
    return series(
        "TS_03", *came, tilt(6.0, state="queued"), *awaited, state="waiting", tomogram="provisional",
        waiting_for="4 of 6 tilts; 2 named in the mdoc have not come",
    )  # fmt: skip


def picture(what: object, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, highlight=False)
    console.print(what)
    text = console.file
    assert isinstance(text, io.StringIO)
    return text.getvalue().splitlines()


def test_each_tilt_stands_where_its_angle_is() -> None:
    scale = common_scale([begun(), whole()], 61)
    assert scale is not None
    assert (scale.lowest_deg, scale.step_deg, scale.places) == (-60.0, 3.0, 41)
    assert strip(whole(), scale).plain == "■" * 7 + "×" + "■" * 22 + "!" + "■" * 10
    assert strip(begun(), scale).plain == "·" * 19 + "▪▪▪▫" + "·" * 18


def test_where_tilts_share_a_place_the_trouble_is_shown() -> None:
    scale = common_scale([whole()], 11)
    assert scale is not None and scale.places == 11
    drawn_places = strip(whole(), scale).plain
    assert drawn_places[scale.place(-39.0)] == "×" and drawn_places[scale.place(30.0)] == "!"
    assert drawn_places.count("■") == 9


def test_a_retaken_tilt_does_not_hide_the_one_that_is_used() -> None:
    again = series("TS_1", tilt(0.0, state="left out", excluded="retaken"), tilt(0.0), tilt(3.0))
    scale = common_scale([again], 61)
    assert scale is not None
    assert strip(again, scale).plain == "■■"


@pytest.mark.parametrize("width", [50, 80, 120])
def test_series_are_as_wide_as_the_terminal_lets_them(width: int) -> None:
    lines = picture(SeriesRows([begun(), whole("a long folder of a long session/TS_02")]), width)
    assert max(map(len, lines)) <= width
    assert all(any(word in line for line in lines) for word in ("axis 84.9°", "thickness 148 nm", "×", "!"))
    assert "2 named in the mdoc" in " ".join(lines)
    (row,) = [line for line in lines if line.startswith("TS_03")]
    assert row.endswith(" 4/6") and "waiting" in row


def test_at_eighty_columns_forty_one_tilts_have_a_place_each() -> None:
    lines = picture(SeriesRows([whole()]), 80)
    assert lines[0].split() == ["Tilt", "series", "state", "-60°", "0", "60°", "tilts"]
    row = lines[1]
    assert row.startswith("grid [1]/TS_02") and row.count("■") == 39
    assert lines[0].index("0 ") and row.index("×") - row.index("■") == 7
    assert "tomogram 41 s after the last tilt" in lines[2] + lines[3]
    assert "× -39°: it is dark" in " ".join(lines)
    assert lines[-1] == "■ aligned  × left out  ! failed"


def test_the_live_view_of_a_tilt_session_counts_series_and_tilts() -> None:
    progress = of_tilts()
    text = "\n".join(picture(drawn(progress, ""), 80))
    assert "2 tilt series, 1 done, 0 failed; 45 tilts, 43 done, 1 failed" in text.replace("\n", " ")
    assert "TS_03" in text and "Latest" not in text
    assert "earlier ones" not in text
    many = "\n".join(picture(drawn(replace(progress, items=14), ""), 80))
    assert "and 12 earlier ones" in many
    told = line_of(progress)
    assert "grid [1]/TS_02 done (39 aligned 1 left out 1 failed, tomogram)" in told
    assert "TS_03 waiting (2 awaited 1 arrived 3 ready, provisional tomogram)" in told
    assert [one["tomogram"] for one in progress.as_json()["series"]] == ["provisional", "ready"]


def of_tilts() -> Progress:
    kinds = {"tilt series": KindCount(2, 1, 0), "movie": KindCount(45, 43, 1)}
    return replace(PROGRESS, kind="tomo", items=2, done=1, failed=0, kinds=kinds, series=(begun(), whole()))


def test_what_was_measured_is_told_with_the_truth_beside_it() -> None:
    told = against_truth(
        {
            "axis_angle_deg": 84.87, "true_axis_angle_deg": 85.0, "true_thickness_nm": 150.0,
            "shift_rms_angstrom": 2.34, "hand": "right", "picks": 41, "picks_f1": 0.934,
        }
    )  # fmt: skip
    assert told == [
        "axis 84.9° (85.0°)", "thickness not known (150 nm)", "shifts right within 2.3 Å", "hand right",
        "41 particles picked, F1 0.93",
    ]  # fmt: skip
