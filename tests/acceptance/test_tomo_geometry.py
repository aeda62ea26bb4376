"""What the alignment finds reaches the tomogram: a specimen that was inclined lies flat in the volume."""

from collections.abc import Iterator
from datetime import UTC, datetime

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.stats import theilslopes

from tests.acceptance.tilt_bench import TiltBench
from tomofly.flow.workflows import workflow_of
from tomofly.formats.mrc import read_image
from tomofly.simulate.tilt_microscope import TiltSeriesConfig
from tomofly.simulate.tilt_truth import series_truth_beside
from tomofly.simulate.tilt_writing import write_tilt_session

PRE_TILT_DEG = 10.0
JUMP_PX = 40
REACH_PX = 9
CONFIG = TiltSeriesConfig(
    seed=4, detector_yx_px=(240, 256), pixel_size_angstrom=12, frames=2, tilt_range_deg=(-54, 54),
    tilt_step_deg=6, thickness_angstrom=900, pre_tilt_deg=PRE_TILT_DEG, branch_jump_angstrom=12.0 * JUMP_PX,
    tracking_error_angstrom=20, gold_beads=16, gold_diameter_angstrom=140,
)  # fmt: skip

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TiltBench]:
    """A whole session of one lamella that was inclined by 10°, with a jump of 40 pixels just below 0°."""
    settings = {
        "microscope": {"pixel_size_angstrom": 12.0},
        "tilt_image": {"pixel_size_angstrom": 12.0, "ctf_resolution_range_angstrom": (70, 26)},
    }
    stages = [stage.name for stage in workflow_of("tomo").stages]
    made = TiltBench(tmp_path_factory.mktemp("lamella"), settings, stages)
    started = datetime(2025, 3, 4, 5, 6, 7, tzinfo=UTC)
    write_tilt_session(CONFIG, made.microscope, 1, started=started)
    made.finish()
    yield made
    made.home.close()


def test_a_tilt_offset_is_passed_on_so_that_the_specimen_lies_level_in_the_volume(bench: TiltBench) -> None:
    assert bench.series("TS_1").state == "done"
    volume, _ = read_image(bench.folder / "tomogram" / "TS_1.mrc")
    beads = series_truth_beside(bench.microscope, "TS_1").gold_xyz_angstrom
    slope_deg = _slope_deg(np.asarray(volume, dtype=np.float64), np.array(beads) / 12.0)
    assert abs(slope_deg) < 2.0, "without the offset it would be 10°"


def test_a_jump_just_below_zero_is_followed_to_the_end_of_its_branch(bench: TiltBench) -> None:
    tilts = [tilt for tilt in bench.series("TS_1").tilts if tilt.state == "used"]
    assert len(tilts) == len(CONFIG.nominal_tilts_deg)
    ordered = sorted(tilts, key=lambda tilt: tilt.tilt_angle_deg or 0.0)
    places = np.array([(t.shift_y_angstrom, t.shift_x_angstrom) for t in ordered], dtype=np.float64)
    steps = np.hypot(*np.diff(places, axis=0).T) / 12.0
    middle = len(ordered) // 2
    assert int(np.argmax(steps)) == middle - 1
    assert steps[middle - 1] == pytest.approx(JUMP_PX, abs=6)


def _slope_deg(volume: np.ndarray, beads_xyz_px: np.ndarray) -> float:
    """The slope along x between where beads are in a volume (z, y, x), and where they are in truth."""
    middle = np.array(volume.shape) // 2
    strength = np.abs(gaussian_filter(volume - np.median(volume), 2.0))
    found = []
    for x, y, z in beads_xyz_px:
        row, column = round(y) + middle[1], round(x) + middle[2]
        near = strength[:, max(row - REACH_PX, 0) : row + REACH_PX, max(column - REACH_PX, 0) :][
            :, :, : 2 * REACH_PX
        ]
        if near.size:
            height = np.unravel_index(int(np.argmax(near)), near.shape)[0] - middle[0]
            found.append((x, height - z))
    return float(np.rad2deg(np.arctan(theilslopes(*np.array(found).T[::-1])[0])))
