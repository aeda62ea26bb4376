"""Orders in which a stage goes through its angles."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tomofly.simulate.tilt_scheme import acquisition_angles


def test_dose_symmetric_goes_outward_from_the_start() -> None:
    angles = acquisition_angles("dose-symmetric", (-9, 12), 3)
    assert angles.tolist() == [0, 3, -3, 6, -6, 9, -9, 12]


def test_groups_stay_on_one_side_before_the_other_has_its_turn() -> None:
    angles = acquisition_angles("dose-symmetric", (-6, 6), 2, start_deg=0, group=2)
    assert angles.tolist() == [0, 2, 4, -2, -4, 6, -6]


def test_bidirectional_goes_up_and_then_down_from_the_start() -> None:
    angles = acquisition_angles("bidirectional", (-6, 9), 3, start_deg=3)
    assert angles.tolist() == [3, 6, 9, 0, -3, -6]


@given(
    scheme=st.sampled_from(["dose-symmetric", "bidirectional", "continuous"]),
    steps=st.integers(1, 30),
    step_deg=st.sampled_from([1.0, 1.5, 2.0, 3.0, 0.1]),
    group=st.integers(1, 5),
)
def test_every_scheme_takes_each_angle_once(scheme: str, steps: int, step_deg: float, group: int) -> None:
    limit = steps * step_deg
    angles = acquisition_angles(scheme, (-limit, limit), step_deg, group=group)  # type: ignore[arg-type]
    assert np.sort(angles) == pytest.approx(np.linspace(-limit, limit, 2 * steps + 1), abs=1e-9)
