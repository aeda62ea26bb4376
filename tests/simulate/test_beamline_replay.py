"""A recorded scan replayed by the stage's angle."""

from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from tomofly.model import BadInput
from tomofly.simulate.beamline import BeamlineConfig, ScanPlan, write_scan
from tomofly.simulate.beamline.replay import RecordedScan, ReplaySource, read_recorded
from tomofly.simulate.beamline.scene import DARK, FLAT, PROJECTION, CameraSetup, Look

SETUP = CameraSetup((0, 0, 6, 9), 0.01, 1, "uint16")


def recorded(angles: np.ndarray) -> RecordedScan:
    """Projections of nothing but their number + 100, on flats of 5000 and darks of 7."""
    stack = np.ones((angles.size, 6, 9), np.uint16)
    stack *= np.arange(100, 100 + angles.size, dtype=np.uint16)[:, None, None]
    return RecordedScan(stack, np.full((3, 6, 9), 5000, np.uint16), np.full((2, 6, 9), 7, np.uint16), angles)


def look(angle: float, kind: int = PROJECTION, shift_um: float = 0.0) -> Look:
    return Look(angle, (shift_um, 0.0), shift_um != 0, 0.0 if kind == DARK else 1.0, 0, kind)


@given(
    angle=st.floats(-2000, 2000), first=st.sampled_from([0.0, -88.2]), whole=st.sampled_from([180.0, 360.0])
)
def test_the_nearest_recorded_angle_is_shown_and_told(angle: float, first: float, whole: float) -> None:
    source = ReplaySource(recorded(first + np.arange(0, whole, 2.0)), 1.0)
    image, told = source.picture(SETUP, look(angle), 0.0, 1)
    away = (told - angle + whole / 2) % whole - whole / 2
    assert abs(away) <= 1.0 + 1e-6
    assert (image == 100 + round((told - first) / 2)).all()


def test_flats_and_darks_are_the_recorded_ones() -> None:
    source = ReplaySource(recorded(np.arange(0, 180, 2.0)), 1.0)
    assert (source.picture(SETUP, look(3.0, DARK), 0.0, 5)[0] == 7).all()
    assert (source.picture(SETUP, look(3.0, FLAT), 0.0, 5)[0] == 5000).all()
    image, _ = source.picture(SETUP, look(10.0, PROJECTION, shift_um=4.0), 0.0, 5)
    assert (image[:, :4] == 5000).all()
    assert (image[:, 4:] == 105).all()
    assert not source.covers((9.0, 0.0))
    assert source.covers((-8.0, 0.0))


def test_binning_and_region_hold_for_recordings() -> None:
    source = ReplaySource(recorded(np.arange(0, 180, 2.0)), 1.0)
    image, _ = source.picture(CameraSetup((1, 2, 5, 7), 0.01, 2, "uint8"), look(0.0), 0.0, 1)
    assert image.shape == (2, 3)
    assert image.dtype == np.uint8
    assert (image == 255).all()


def test_a_written_scan_is_read_back(tmp_path: Path) -> None:
    config = BeamlineConfig(detector_yx_px=(9, 20))
    write_scan(config, tmp_path / "a.h5", ScanPlan(projections=6, flats=2, darks=3))
    scan = read_recorded(tmp_path / "a.h5")
    assert (scan.projections.shape, scan.flats.shape, scan.darks.shape) == (
        (6, 9, 20),
        (2, 9, 20),
        (3, 9, 20),
    )
    assert (scan.turn_deg, scan.step_deg) == (180.0, 30.0)
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["exchange/data"] = np.zeros((2, 3, 4))
    with pytest.raises(BadInput, match="data_white"):
        read_recorded(tmp_path / "b.h5")
    (tmp_path / "c.h5").write_text("no HDF5")
    with pytest.raises(BadInput, match="is no HDF5 file"):
        read_recorded(tmp_path / "c.h5")


def test_a_folder_of_tiff_files_needs_an_angle_for_each(tmp_path: Path) -> None:
    for name in ("dark_1.tif", "flat_1.tif", "p_0.tif", "p_1.tif", "p_10.tif", "p_2.tif"):
        tifffile.imwrite(
            tmp_path / name, np.full((4, 5), int(name[-5]) if "10" not in name else 10, np.uint16)
        )
    with pytest.raises(BadInput, match="no folder of a scan"):
        read_recorded(tmp_path)
    np.savetxt(tmp_path / "angles.txt", [0.0, 0.0, 45.0, 90.0, 135.0, 135.0])
    scan = read_recorded(tmp_path)
    assert scan.angles_deg.tolist() == [0.0, 45.0, 90.0, 135.0]
    assert scan.projections[:, 0, 0].tolist() == [0, 1, 2, 10]
    np.savetxt(tmp_path / "angles.txt", [0.0, 45.0, 90.0])
    with pytest.raises(BadInput, match="3 angles"):
        read_recorded(tmp_path)


@pytest.mark.parametrize(("content", "why"), [(None, "No such file"), (b"text", "is no HDF5 file")])
def test_a_file_that_is_no_scan_is_named_with_the_reason(
    tmp_path: Path, content: bytes | None, why: str
) -> None:
    path = tmp_path / "scan.h5"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadInput, match=rf"scan\.h5 .*{why}.*Give a Data Exchange file"):
        read_recorded(path)


def test_a_recording_of_a_few_rows_can_be_replayed() -> None:
    assert BeamlineConfig.model_validate({"detector_yx_px": (2, 640)}).detector_yx_px == (2, 640)


@pytest.mark.real_data
def test_recordings_of_real_beamlines_are_read(real_data: Path) -> None:
    diamond = read_recorded(real_data / "xct_dls_24737")
    assert diamond.projections.shape == (91, 135, 160)
    assert (diamond.turn_deg, round(diamond.step_deg, 3)) == (180.0, 2.0)
    assert diamond.angles_deg[0] == -88.2
    assert diamond.nearest(91.8) in (0, 90)
    tooth = read_recorded(real_data / "xct_aps_tooth" / "tooth.h5")
    assert tooth.projections.shape == (181, 2, 640)
    assert tooth.turn_deg == 180.0
    image, angle = ReplaySource(tooth, 1.0).picture(
        CameraSetup((0, 0, 2, 640), 0.01, 1, "float32"), look(500.0), 0.0, 1
    )
    np.testing.assert_array_equal(image, tooth.projections[tooth.nearest(140.0)])
    assert angle == pytest.approx(140.0, abs=0.5)
