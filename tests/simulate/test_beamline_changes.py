"""What changes by itself at the simulated beamline: the bubble grows, and the beam drifts."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tomofly.simulate.beamline import BeamlineConfig, true_slice
from tomofly.simulate.beamline.detector import Detector, Exposure
from tomofly.simulate.beamline.phantom import Phantom, make_phantom
from tomofly.simulate.beamline.projection import View, absorption
from tomofly.simulate.beamline.truth import AngleRule, beamline_truth

GROWING = BeamlineConfig(detector_yx_px=(90, 160), pixel_size_um=2.0, grains=5, bubble_growth=0.001)
STEADY = BeamlineConfig(
    detector_yx_px=(24, 37), noise=False, zingers_per_s=0, ring_columns=0, ring_pixels=0, dark_level=0,
    dark_current=0, dtype="float32",
)  # fmt: skip
TIMES_S = (0.0, 12.0, 31.0)


def without_bubble(phantom: Phantom) -> Phantom:
    return phantom.model_copy(update={"bubble": None})


def bubble_area_um2(config: BeamlineConfig, time_s: float) -> float:
    """Area of the bubble in the slice next to its middle, from what is missing there."""
    phantom = make_phantom(config)
    assert phantom.bubble is not None
    row = config.detector_yx_px[0] // 2 + round(phantom.bubble.xyz_um[2] / config.pixel_size_um)
    rule = AngleRule(pattern="none", start_deg=0, span_deg=180)
    whole, holed = (
        true_slice(beamline_truth(config, sample, 0.0, rule), time_s, "z", row, samples=5)
        for sample in (without_bubble(phantom), phantom)
    )
    missing = float((whole.astype(float) - holed).sum())
    return missing / phantom.attenuation_per_um * config.pixel_size_um**2


def test_the_bubble_grows_by_a_share_of_the_field_in_each_second() -> None:
    radii = [np.sqrt(bubble_area_um2(GROWING, time) / np.pi) for time in TIMES_S]
    speed = np.diff(radii) / np.diff(TIMES_S)
    assert speed == pytest.approx(GROWING.bubble_growth * GROWING.width_um, rel=0.05)


@pytest.mark.parametrize("angle_deg", [0.0, 41.0, 127.0])
def test_what_passes_the_bubble_tells_its_volume(angle_deg: float) -> None:
    """From any side the absorption that is missing is attenuation times volume, which grows as r³."""
    phantom = make_phantom(GROWING)
    view = View((90, 160), float(np.deg2rad(angle_deg)), 2.0, 80.0, 45.0)
    whole = absorption(without_bubble(phantom), view, 0.0).sum(dtype=float)
    roots = []
    for time in TIMES_S:
        missing = whole - absorption(phantom, view, time).sum(dtype=float)
        volume = missing * view.pixel_um**2 / phantom.attenuation_per_um
        roots.append(np.cbrt(volume * 3 / (4 * np.pi)))
    speed = np.diff(roots) / np.diff(TIMES_S)
    assert speed == pytest.approx(GROWING.bubble_growth * GROWING.width_um, rel=0.05)


def test_the_bubble_stops_before_it_touches_a_grain() -> None:
    phantom = make_phantom(GROWING)
    assert phantom.bubble is not None
    end = phantom.bubble.radius_um(1e6)
    assert phantom.bubble.radius_um(1e7) == end
    for grain in phantom.grains:
        away = np.subtract(grain.xyz_um, phantom.bubble.xyz_um)
        assert np.linalg.norm(away) > end + max(grain.semi_axes_um)


def test_a_bubble_that_does_not_grow_stays_as_it_is() -> None:
    still = GROWING.model_copy(update={"bubble_growth": 0.0})
    assert bubble_area_um2(still, 500.0) == bubble_area_um2(still, 0.0)
    none = make_phantom(GROWING.model_copy(update={"bubble": False}))
    assert none.bubble is None
    assert none.ellipsoids(500.0) == none.grains


def flat(config: BeamlineConfig, time_s: float) -> np.ndarray:
    """One noiseless flat field (y, x) without an offset."""
    height, width = config.detector_yx_px
    exposure = Exposure(config.exposure_s, 1, shutter=1.0, time_s=time_s, number=0)
    return Detector(config, 0, (0, 0, height, width)).expose(None, exposure).astype(float)


@given(
    drift=st.floats(0.001, 0.3), period=st.floats(5.0, 900.0),
    start=st.floats(0.001, 0.6),  # off the instant at which the current is filled up, which rounding may miss
    share=st.floats(0.05, 0.39),
)  # fmt: skip
@settings(max_examples=25, deadline=None)
def test_flats_lose_the_drift_in_each_period_and_have_it_back(
    drift: float, period: float, start: float, share: float
) -> None:
    """The middle row, which the beam's way up and down does not change, tells the current alone."""
    config = STEADY.model_copy(update={"drift": drift, "drift_period_s": period})
    middle = config.detector_yx_px[0] // 2
    still = flat(config.model_copy(update={"drift": 0.0}), 0.0)[middle]
    begin, later, again = (
        (flat(config, time)[middle] / still).mean()
        for time in (start * period, (start + share) * period, (start + 3) * period)
    )
    assert begin - later == pytest.approx(drift * share, abs=2e-6)
    assert again == pytest.approx(begin, abs=2e-6 + drift * 1e-5)


def test_the_beam_goes_up_and_down_once_a_period() -> None:
    config = STEADY.model_copy(update={"drift": 0.04, "drift_period_s": 80.0})
    still = flat(config.model_copy(update={"drift": 0.0}), 0.0)
    height = config.detector_yx_px[0]

    def tilt(time_s: float) -> float:
        rows = (flat(config, time_s) / still).mean(axis=1)
        return float(np.polyfit(np.arange(height) / height, rows, 1)[0])

    assert tilt(20.0) == pytest.approx(0.04, abs=1e-5)
    assert tilt(60.0) == pytest.approx(-0.04, abs=1e-5)
    assert tilt(0.0) == pytest.approx(0.0, abs=1e-5)
    assert tilt(40.0) == pytest.approx(0.0, abs=1e-5)


def test_without_drift_a_flat_stays_the_same() -> None:
    config = STEADY.model_copy(update={"drift": 0.0})
    np.testing.assert_array_equal(flat(config, 0.0), flat(config, 777.0))
