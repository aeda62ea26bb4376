"""A movie's motion as RELION reads it."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tomofly.formats.motion_star import MotionRecord, write_motion_star
from tomofly.formats.star import read_star

FRAMES, PATCHES = 7, 4


def record(**changes: object) -> MotionRecord:
    rng = np.random.default_rng(0)
    values: dict[str, object] = {
        "movie_name": "movies/a.tiff",
        "shape_yx": (130, 170),
        "global_shift_yx_px": rng.normal(size=(FRAMES, 2)),
        "pixel_size_angstrom": 0.75,
        "voltage_kv": 300.0,
        "dose_per_frame": 1.1,
        "binning": 2.0,
        "first_frame": 3,
        "local_coefficients_yx": rng.normal(size=(2, 18)),
        "patch_centre_yx_px": rng.uniform(0, 100, (PATCHES, 2)),
        "patch_shift_yx_px": rng.normal(size=(PATCHES, FRAMES, 2)),
        "hot_pixels_yx": np.array([[5, 11], [7, 3]]),
    }
    return MotionRecord(**(values | changes))  # type: ignore[arg-type]


def test_every_number_is_where_relion_looks_for_it(tmp_path: Path) -> None:
    motion = record()
    write_motion_star(tmp_path / "a.star", motion)
    blocks = read_star(tmp_path / "a.star")
    assert list(blocks) == ["general", "global_shift", "local_motion_model", "local_shift", "hot_pixels"]
    general, shifts = blocks["general"], blocks["global_shift"]
    assert (general["rlnImageSizeX"], general["rlnImageSizeY"], general["rlnImageSizeZ"]) == (170, 130, 9)
    assert general["rlnMicrographStartFrame"] == 3
    assert list(shifts["rlnMicrographFrameNumber"]) == list(range(3, 10))
    assert shifts["rlnMicrographShiftX"].to_numpy() == pytest.approx(motion.global_shift_yx_px[:, 1])
    model = blocks["local_motion_model"]["rlnMotionModelCoeff"].to_numpy()
    assert model[:18] == pytest.approx(motion.local_coefficients_yx[1])
    assert model[18:] == pytest.approx(motion.local_coefficients_yx[0])
    local = blocks["local_shift"]
    second = local[FRAMES : 2 * FRAMES]
    assert second["rlnCoordinateY"].to_numpy() == pytest.approx(motion.patch_centre_yx_px[1, 0])
    assert second["rlnMicrographShiftY"].to_numpy() == pytest.approx(motion.patch_shift_yx_px[1, :, 0])
    assert list(blocks["hot_pixels"]["rlnCoordinateX"]) == [11, 3]


def test_without_a_local_model_relion_is_told_so(tmp_path: Path) -> None:
    motion = record(
        local_coefficients_yx=None, patch_centre_yx_px=None, patch_shift_yx_px=None, hot_pixels_yx=None
    )
    write_motion_star(tmp_path / "a.star", motion)
    blocks = read_star(tmp_path / "a.star")
    assert list(blocks) == ["general", "global_shift"]
    assert blocks["general"]["rlnMotionModelVersion"] == 0


@pytest.mark.parametrize(
    "changes",
    [
        {"global_shift_yx_px": np.zeros((FRAMES, 3))},
        {"local_coefficients_yx": np.zeros((2, 17))},
        {"patch_shift_yx_px": np.zeros((PATCHES, FRAMES + 1, 2))},
    ],
)
def test_arrays_of_the_wrong_shape_are_refused(tmp_path: Path, changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="have shape"):
        write_motion_star(tmp_path / "a.star", record(**changes))


@pytest.mark.relion
@pytest.mark.skipif(shutil.which("relion_star_printtable") is None, reason="RELION is not installed")
def test_relion_reads_the_shifts(tmp_path: Path) -> None:
    motion = record()
    write_motion_star(tmp_path / "a.star", motion)
    labels = ["_rlnMicrographFrameNumber", "_rlnMicrographShiftX", "_rlnMicrographShiftY"]
    command = ["relion_star_printtable", "a.star", "data_global_shift", *labels]
    out = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    got = np.array([line.split() for line in out.splitlines()], float)
    assert got[:, 0] == pytest.approx(np.arange(3, 10))
    assert got[:, :0:-1] == pytest.approx(motion.global_shift_yx_px)
