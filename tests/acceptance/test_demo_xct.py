"""The demonstration of live X-ray tomography, from the frames to the volume of what a trigger captured."""

import json
from pathlib import Path

import pytest

from tests.acceptance.commands import tomofly


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_demonstration_of_x_ray_tomography_ends_by_itself_with_the_volume_of_the_event(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "demo"
    shown = tomofly(
        tmp_path / "home", "demo", "xct", "--headless", "--json", "--seconds", "3", "--size", "128",
        "--out", folder, timeout=580,
    )  # fmt: skip
    assert shown.status == 0, shown.err
    found = json.loads(shown.out)
    live, session = found["live"], found["session"]
    assert live["frames"] > 700 and live["missing"] == 0
    assert live["centre_px"] == pytest.approx(live["true_centre_px"], abs=0.5)
    assert live["capture"]["before_event"] > 0 and live["capture"]["after_event"] > 0
    assert [each["captures"] for each in live["triggers"]] == [1]
    assert session["kinds"]["scan"] == {"items": 1, "done": 1, "failed": 0}
    metrics = session["metrics"]
    assert metrics["volume.slices"]["median"] == 128
    assert metrics["scan_centre.centre_px"]["median"] == pytest.approx(live["true_centre_px"], abs=0.5)
