"""A specimen that was inclined lies flat in its tomogram, and its particles are found there."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.stages.test_tomogram_picks import f1_of
from tests.stages.tilt_series_bench import SeriesBench, simulated
from tomofly.formats.star import read_star
from tomofly.imaging.tilt_geometry import TiltGeometry
from tomofly.simulate.tilt_series import SimulatedSeries
from tomofly.stages.tilts import alignment, axis, tomogram, tomogram_picks
from tomofly.stages.tilts.files import read_alignment


def _seen_in(geometry: TiltGeometry, series: SimulatedSeries) -> np.ndarray:
    """Give where the true particles (x, y, z) lie by a geometry that explains where they are seen."""
    true = TiltGeometry(
        series.tilt_angle_deg, series.axis_angle_deg, series.shift_yx_px, x_tilt_deg=series.x_tilt_deg
    )
    size = series.pixel_size_angstrom
    seen = true.project(series.particle_xyz_angstrom[:, ::-1] / size) + geometry.shift_yx_px[:, None]
    design = geometry.rotations()[:, 1::-1].reshape(-1, 3)
    places = np.linalg.lstsq(design, seen.transpose(0, 2, 1).reshape(len(design), -1))[0]
    return np.asarray(places.T * size)


@pytest.mark.timeout(300)
def test_an_inclined_specimen_lies_flat_and_its_particles_are_found(tmp_path: Path) -> None:
    series = simulated(
        detector_yx_px=(232, 264),
        tilt_step_deg=4.0,
        pre_tilt_deg=6.0,
        x_tilt_deg=-3.0,
        tracking_error_angstrom=0.0,
        seed=7,
    )
    bench = SeriesBench(tmp_path, series)
    bench.run(axis.STAGE)
    aligned = bench.run(alignment.STAGE, method="nominal")
    geometry = read_alignment(aligned.products["alignment"]).geometry()
    # The true angles are those of the slab: where the tomogram's are the same, the slab is level in it.
    assert abs(np.median(geometry.tilt_angle_deg - series.tilt_angle_deg)) < 1.0
    assert abs(geometry.x_tilt_deg - series.x_tilt_deg) < 1.0
    made = bench.run(tomogram.STAGE)
    assert made.flags == () and made.metrics["contrast"] > 1.05
    picks = bench.run(tomogram_picks.STAGE)
    table = read_star(picks.products["coordinates"])["particles"]
    assert isinstance(table, pd.DataFrame)
    picked = table[[f"rlnCenteredCoordinate{axis}Angst" for axis in "XYZ"]].to_numpy(float)
    assert f1_of(picked, _seen_in(geometry, series), np.array([1160.0, 1320.0])) >= 0.85
