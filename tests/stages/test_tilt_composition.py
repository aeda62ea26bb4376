"""Which exposures make a series: in the order of exposure, and with the reason on those left out."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.stages.tilt_files import dose_symmetric
from tomofly.model import BadInput
from tomofly.stages.tilts.composition import (
    Composed,
    Measured,
    View,
    compose_views,
    require_enough,
    views_of,
)
from tomofly.stages.tilts.rules import ComposeParams

PARAMS = ComposeParams()


def series(count: int = 11, dose: float = 3.0) -> list[View]:
    """Make a dose-symmetric series whose brightness falls as a slab's does."""
    return [
        View(
            key=f"TS_01_{n:03d}", section=None, tilt_angle_deg=angle, order=n, dose_e_per_a2=dose,
            accumulated_dose_e_per_a2=dose * n, axis_angle_deg=84.0, listed=True,
            measured=Measured(mean=100 * math.exp(1 - 1 / math.cos(math.radians(angle))), spread=3.0),
        )
        for n, angle in enumerate(dose_symmetric(count))
    ]  # fmt: skip


def changed(views: list[View], n: int, **values: object) -> list[View]:
    """Give the views with other measurements of the one exposed as number ``n``."""
    return [
        replace(v, measured=replace(v.measured, **values)) if v.order == n else v  # type: ignore[arg-type]
        for v in views
    ]


def why(composed: Composed) -> dict[str, str]:
    return {each.view.name: each.excluded for each in composed.excluded}


def test_a_good_series_is_used_whole_in_the_order_of_its_angles() -> None:
    composed = compose_views(series(41), PARAMS)
    angles = [view.tilt_angle_deg for view in composed.used]
    assert angles == sorted(dose_symmetric(41))
    assert [each.view.order for each in composed.views] == list(range(41))
    assert max(view.accumulated_dose_e_per_a2 or 0 for view in composed.used) == 120.0
    assert composed.axis_angle_deg == 84.0
    assert composed.flags == ()


def test_a_dark_tilt_is_left_out_with_its_reason_and_the_doses_stand() -> None:
    composed = compose_views(changed(series(), 4, mean=5.0), PARAMS)
    assert why(composed) == {"TS_01_004": "dark"}
    assert "5% of what its angle lets expect, compose.dark_below=0.3" in composed.excluded[0].reason
    assert composed.views[5].view.accumulated_dose_e_per_a2 == 15.0
    assert [flag.message for flag in composed.flags] == ["1 tilt is left out (dark)"]


def test_blank_tilts_are_dark_also_when_all_are() -> None:
    views = [replace(v, measured=Measured(mean=0.0, spread=0.0)) for v in series()]
    composed = compose_views(views, PARAMS)
    assert set(why(composed).values()) == {"dark"}
    with pytest.raises(BadInput, match=r"0 of 11 tilts can be used \(left out: 11 dark\)"):
        require_enough(composed, PARAMS)


def test_a_series_that_is_all_dark_is_known_by_the_others_of_the_session() -> None:
    views = [replace(v, measured=Measured(mean=1.0, spread=0.1)) for v in series()]
    assert not compose_views(views, PARAMS).excluded
    assert len(compose_views(views, PARAMS, usual_mean=100.0).excluded) == 11


def test_blocked_and_shifted_tilts_are_left_out() -> None:
    views = changed(changed(series(), 3, blocked_fraction=0.55), 7, shift_fraction=0.6)
    assert why(compose_views(views, PARAMS)) == {"TS_01_003": "blocked", "TS_01_007": "shifted"}
    lenient = ComposeParams(blocked_above=1, shifted_above=1)
    assert not compose_views(views, lenient).excluded


def test_what_a_person_leaves_out_stays_out_and_what_is_kept_is_spared() -> None:
    views = changed(changed(series(), 4, mean=5.0), 3, blocked_fraction=0.9)
    composed = compose_views(
        views, PARAMS, left_out={"TS_01_000", "TS_01_003"}, kept={"TS_01_004", "TS_01_003"}
    )
    assert why(composed) == {"TS_01_000": "by_hand", "TS_01_003": "by_hand"}


@given(st.sets(st.integers(0, 10)), st.sets(st.integers(0, 10)), st.floats(0, 0.9), st.booleans())
def test_what_a_person_decides_survives_any_threshold(
    left_out: set[int], kept: set[int], dark_below: float, best: bool
) -> None:
    params = ComposeParams(dark_below=dark_below, retaken="best" if best else "last")
    names = {f"TS_01_{n:03d}" for n in left_out}
    spared = {f"TS_01_{n:03d}" for n in kept}
    composed = compose_views(changed(series(), 5, mean=1.0), params, left_out=names, kept=spared)
    assert {name for name, code in why(composed).items() if code == "by_hand"} == names
    assert spared - names <= {view.name for view in composed.used}


def retaken(quality: tuple[float | None, float | None] = (None, None)) -> list[View]:
    """A series whose tilt of order 2 was taken again as the last."""
    views = series()
    again = replace(views[2], key="again", order=11, accumulated_dose_e_per_a2=33.0)
    return [
        *changed(views, 2, quality=quality[0]),
        replace(again, measured=replace(again.measured, quality=quality[1])),
    ]


def test_of_exposures_at_one_angle_the_last_is_taken() -> None:
    composed = compose_views(retaken(), PARAMS)
    assert why(composed) == {"TS_01_002": "taken_again"}
    assert composed.excluded[0].reason == "again of the same angle is taken later"
    used = next(view for view in composed.used if view.name == "again")
    assert used.accumulated_dose_e_per_a2 == 33.0


def test_or_the_best() -> None:
    best = ComposeParams(retaken="best")
    assert why(compose_views(retaken((9.0, 5.0)), best)) == {"again": "taken_again"}
    assert why(compose_views(retaken((5.0, 9.0)), best)) == {"TS_01_002": "taken_again"}
    assert why(compose_views(retaken(), best)) == {"TS_01_002": "taken_again"}


def test_a_good_exposure_stands_when_that_taken_later_is_dark() -> None:
    views = [replace(v, measured=replace(v.measured, mean=0.0)) if v.key == "again" else v for v in retaken()]
    assert why(compose_views(views, PARAMS)) == {"again": "dark"}


def test_at_one_angle_the_tilt_that_the_mdoc_lists_is_taken() -> None:
    views = [replace(v, listed=v.key != "again") for v in retaken()]
    assert why(compose_views(views, PARAMS)) == {"again": "not_in_mdoc"}
    alone = [replace(v, listed=v.order < 5) for v in series()]
    assert not compose_views(alone, PARAMS).excluded  # an mdoc that ended early costs no tilts


def test_steps_finer_than_the_tolerance_are_a_matter_of_the_setting() -> None:
    views = [replace(v, tilt_angle_deg=0.2 * n) for n, v in enumerate(series())]
    assert len(compose_views(views, PARAMS).used) < 11
    assert len(compose_views(views, ComposeParams(angle_tolerance_deg=0.1)).used) == 11


def test_tilts_of_another_size_than_most_are_left_out() -> None:
    views = [replace(v, measured=replace(v.measured, shape_yx=(40, 50))) for v in series()]
    composed = compose_views(changed(views, 6, shape_yx=(50, 40)), PARAMS, kept={"TS_01_006"})
    assert why(composed) == {"TS_01_006": "other_size"}
    assert composed.excluded[0].reason == "It has 40 x 50 pixels, most have 50 x 40"


def test_a_tilt_without_an_angle_is_left_out() -> None:
    views = series()
    views[1] = replace(views[1], tilt_angle_deg=None)
    assert why(compose_views(views, PARAMS)) == {"TS_01_001": "no_angle"}


def test_a_series_of_two_tilts_is_refused_with_advice() -> None:
    composed = compose_views(series(2), PARAMS)
    with pytest.raises(BadInput, match=r"2 of 2 tilts can be used, compose.minimum_tilts asks for 3"):
        require_enough(composed, PARAMS)
    require_enough(composed, ComposeParams(minimum_tilts=2))


def test_one_tilt_with_another_axis_is_outvoted_and_told() -> None:
    views = series()
    views[3] = replace(views[3], axis_angle_deg=-6.0)
    composed = compose_views(views, PARAMS)
    assert composed.axis_angle_deg == 84.0
    assert [flag.code for flag in composed.flags] == ["axis_differs"]


def test_the_sections_of_a_stack_are_views_with_names_of_their_own() -> None:
    rows = [
        {"section": n, "tilt_angle_deg": a, "order": n, "dose_e_per_a2": 2.0,
         "accumulated_dose_e_per_a2": 2.0 * n}
        for n, a in enumerate((0.0, 3.0, -3.0))
    ]  # fmt: skip
    attributes = {"views": rows, "axis_angle_deg": 5.0, "listed": False}
    views = views_of("TS_01", attributes, [Measured(mean=9.0), Measured(mean=8.0), Measured(mean=9.0)])
    assert [view.name for view in views] == ["TS_01[0]", "TS_01[1]", "TS_01[2]"]
    composed = compose_views(views, PARAMS, left_out={"TS_01[1]"})
    assert [view.section for view in composed.used] == [2, 0]
    assert len(compose_views(views, PARAMS, left_out={"TS_01"}).excluded) == 3


def test_nothing_makes_nothing() -> None:
    composed = compose_views([], PARAMS)
    assert composed.used == ()
    assert composed.axis_angle_deg is None
