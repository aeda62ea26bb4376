"""The order of exposure, the dose of a tilt and the dose before it have one definition."""

from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tomofly.stages.tilts.order import Exposure, place_exposures, tilt_dose

BEGIN = datetime(2023, 5, 16, 23, 59, 0)


def test_the_dose_of_the_forty_first_tilt_is_added_once() -> None:
    exposures = [Exposure(str(n), number=n, dose_e_per_a2=tilt_dose(3.0, 3.0, "mdoc")) for n in range(41)]
    placed, _ = place_exposures(exposures)
    assert placed[40].accumulated_dose_e_per_a2 == 120.0  # before it, and with it:
    assert (placed[40].accumulated_dose_e_per_a2 or 0) + 3.0 == 123.0


@pytest.mark.parametrize(("count", "total"), [(5, 15.25), (6, 18.3)])
def test_few_tilts_of_a_broken_dose_add_up(count: int, total: float) -> None:
    placed, _ = place_exposures([Exposure(str(n), number=n, dose_e_per_a2=3.05) for n in range(count + 1)])
    assert placed[count].accumulated_dose_e_per_a2 == pytest.approx(total)


def test_the_recorded_dose_and_that_of_the_settings_are_never_combined() -> None:
    assert tilt_dose(3.1, 2.0, "mdoc") == 3.1
    assert tilt_dose(0.0, 2.0, "mdoc") == 2.0
    assert tilt_dose(None, 2.0, "mdoc") == 2.0
    assert tilt_dose(3.1, 2.0, "settings") == 2.0
    assert tilt_dose(3.1, 0.0, "settings") == 3.1
    assert tilt_dose(None, 0.0, "mdoc") is None


def test_after_a_dose_that_is_not_known_none_is() -> None:
    doses = [3.0, None, 3.0]
    placed, _ = place_exposures([Exposure(str(n), number=n, dose_e_per_a2=d) for n, d in enumerate(doses)])
    assert [p.accumulated_dose_e_per_a2 for p in placed] == [0.0, 3.0, None]


def test_dates_decide_before_numbers_over_midnight() -> None:
    times = [BEGIN + timedelta(seconds=40 * n) for n in range(4)]
    exposures = [Exposure(str(n), times[n], number=9 - n) for n in range(4)]
    placed, source = place_exposures(exposures)
    assert ([p.order for p in placed], source) == ([0, 1, 2, 3], "date")


def test_numbers_that_are_all_alike_decide_nothing() -> None:
    exposures = [Exposure(str(n), number=0, section=3 - n) for n in range(4)]
    placed, source = place_exposures(exposures)
    assert ([p.order for p in placed], source) == ([3, 2, 1, 0], "section")


def test_the_newest_tilt_that_no_mdoc_lists_yet_comes_last() -> None:
    listed = [Exposure(str(n), BEGIN + timedelta(seconds=n), written_at=50.0) for n in range(3)]
    placed, _ = place_exposures([Exposure("new", written_at=1.0), *listed])
    assert placed[0].order == 3


EXPOSURES = st.lists(
    st.builds(
        Exposure,
        name=st.text("abc", min_size=1, max_size=3),
        date_time=st.none() | st.integers(0, 50).map(lambda s: BEGIN + timedelta(seconds=s)),
        number=st.none() | st.integers(0, 20),
        section=st.none() | st.integers(0, 20),
        written_at=st.none() | st.floats(0, 100),
        dose_e_per_a2=st.just(2.0),
    ),
    max_size=12,
    unique_by=lambda e: e.name,
)


@given(EXPOSURES, st.randoms())
def test_the_order_does_not_depend_on_the_order_of_coming(exposures: list[Exposure], random) -> None:  # type: ignore[no-untyped-def]
    shuffled = list(exposures)
    random.shuffle(shuffled)
    first = {e.name: p for e, p in zip(exposures, place_exposures(exposures)[0], strict=True)}
    second = {e.name: p for e, p in zip(shuffled, place_exposures(shuffled)[0], strict=True)}
    assert first == second
    assert sorted(p.order for p in first.values()) == list(range(len(exposures)))
