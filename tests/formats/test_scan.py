"""Scan files: Data Exchange and NXtomo, whole, wrong and broken."""

import contextlib
import fcntl
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.formats.scan_files import SHAPE_YX, counts, write_data_exchange, write_nxtomo
from tomofly.formats.completeness import probe
from tomofly.formats.errors import BadFile
from tomofly.formats.scan import Scan, open_rows, read_scan

EVEN = np.arange(7) * 180 / 7
LOCATIONS = {"data": "/exchange/data", "white": "/exchange/data_white", "dark": "/exchange/data_dark"}


def _codes(scan: Scan) -> set[str]:
    return {note.code for note in scan.notes}


def _all_rows(scan: Scan) -> npt.NDArray[Any]:
    with open_rows(scan) as rows:
        return rows.projections(0, scan.shape_yx[0])


# Data Exchange


@pytest.mark.parametrize(
    "storage", [{}, {"chunks": (1, *SHAPE_YX)}, {"chunks": (2, 2, 11), "compression": "gzip"}]
)
def test_rows_are_read_as_they_were_written_however_they_are_stored(
    tmp_path: Path, storage: dict[str, Any]
) -> None:
    data = write_data_exchange(tmp_path / "a.h5", theta=EVEN, **storage)
    scan = read_scan(tmp_path / "a.h5")
    assert scan.shape_yx == SHAPE_YX and scan.notes == () and np.allclose(scan.angles_deg, EVEN)
    assert scan.packed == ("compression" in storage)
    with open_rows(scan) as rows:
        assert (rows.projections(1, 4) == data[:, 1:4]).all()
        assert (rows.projections(2, 3, slice(1, 6, 2)) == data[1:6:2, 2:3]).all()
        assert scan.flats is not None
        assert (rows.frames(scan.flats, 0, 2) == counts(3, 1)[:, :2] + 8000).all()


@pytest.mark.parametrize(("axes", "order"), [("y:theta:x", (1, 0, 2)), ("x:y:theta", (2, 1, 0))])
def test_declared_axes_are_followed(tmp_path: Path, axes: str, order: tuple[int, int, int]) -> None:
    data = counts(7)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["exchange/data"] = data.transpose(order)
        file["exchange/data"].attrs["axes"] = axes
        file["exchange/theta"] = EVEN
    scan = read_scan(tmp_path / "a.h5")
    assert scan.shape_yx == SHAPE_YX
    assert (_all_rows(scan) == data).all()


@pytest.mark.parametrize("axes", ["theta:y", "theta:y:z", "y:y:x"])
def test_axes_that_are_no_stack_are_refused(tmp_path: Path, axes: str) -> None:
    write_data_exchange(tmp_path / "a.h5", theta=EVEN)
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file["exchange/data"].attrs["axes"] = axes
    with pytest.raises(BadFile, match="axes"):
        read_scan(tmp_path / "a.h5")


@pytest.mark.parametrize("start, step", [("rotation_start", "rotation_step"), ("start", "step")])
def test_missing_angles_are_made_of_start_and_step_under_either_name(
    tmp_path: Path, start: str, step: str
) -> None:
    folder = "process/acquisition/rotation"
    write_data_exchange(tmp_path / "a.h5", values={f"{folder}/{start}": 10.0, f"{folder}/{step}": 0.5})
    scan = read_scan(tmp_path / "a.h5")
    assert np.allclose(scan.angles_deg, 10 + 0.5 * np.arange(7))
    assert _codes(scan) == {"theta_missing"}


def test_without_any_angle_half_a_turn_is_taken_and_said(tmp_path: Path) -> None:
    write_data_exchange(tmp_path / "a.h5")
    scan = read_scan(tmp_path / "a.h5")
    assert np.allclose(scan.angles_deg, EVEN) and _codes(scan) == {"theta_missing"}


def test_projections_beyond_a_short_list_of_angles_are_left_out(tmp_path: Path) -> None:
    data = write_data_exchange(tmp_path / "a.h5", theta=EVEN[:5])
    scan = read_scan(tmp_path / "a.h5")
    assert _codes(scan) == {"theta_shorter", "angles_not_finite"}
    assert scan.frames_in_file == 7 and len(scan.angles_deg) == 5
    assert (_all_rows(scan) == data[:5]).all()


def test_of_a_long_list_each_frame_has_the_angle_of_its_id(tmp_path: Path) -> None:
    ids = np.array([100, 101, 103, 104, 106, 107, 108])
    write_data_exchange(
        tmp_path / "a.h5", theta=np.arange(9) * 20.0, values={"defaults/NDArrayUniqueId": ids}
    )
    scan = read_scan(tmp_path / "a.h5")
    assert np.allclose(scan.angles_deg, (ids - 100) * 20.0) and _codes(scan) == {"theta_longer"}


def test_a_long_list_without_ids_gives_its_first(tmp_path: Path) -> None:
    write_data_exchange(tmp_path / "a.h5", theta=np.arange(9) * 20.0)
    scan = read_scan(tmp_path / "a.h5")
    assert np.allclose(scan.angles_deg, np.arange(7) * 20.0) and _codes(scan) == {"theta_longer"}


@pytest.mark.parametrize("units", ["radians", "degrees"])
def test_radians_are_known_by_their_unit_or_their_range(tmp_path: Path, units: str) -> None:
    angles = np.arange(40) * np.pi / 40
    write_data_exchange(tmp_path / "a.h5", 40, theta=angles, units=units)
    scan = read_scan(tmp_path / "a.h5")
    assert np.allclose(scan.angles_deg, np.rad2deg(angles)) and _codes(scan) == {"theta_in_radians"}


def test_angles_that_are_no_numbers_leave_out_their_projections(tmp_path: Path) -> None:
    angles = EVEN.copy()
    angles[[2, 5]] = np.nan
    data = write_data_exchange(tmp_path / "a.h5", theta=angles)
    scan = read_scan(tmp_path / "a.h5")
    assert (_all_rows(scan) == data[[0, 1, 3, 4, 6]]).all() and "angles_not_finite" in _codes(scan)


def test_when_flats_were_taken_is_known_from_where_frames_went(tmp_path: Path) -> None:
    went = ["dark", "white", "white", *["data"] * 4, "white", *["data"] * 3, "dark"]
    values = {
        "defaults/NDArrayUniqueId": np.arange(len(went)),
        "defaults/HDF5FrameLocation": [LOCATIONS[place] for place in went],
    }
    write_data_exchange(tmp_path / "a.h5", theta=EVEN, values=values)
    scan = read_scan(tmp_path / "a.h5")
    assert scan.flats is not None and scan.darks is not None and scan.frame_ids is not None
    assert scan.flats.taken_at.tolist() == [-0.5, -0.5, 3.5]
    assert scan.darks.taken_at.tolist() == [-0.5, 6.5]
    assert scan.frame_ids.tolist() == [3, 4, 5, 6, 8, 9, 10]


def test_what_the_file_tells_of_the_instrument(tmp_path: Path) -> None:
    values = {
        "measurement/instrument/detection_system/objective/resolution": 1.17,
        "measurement/instrument/detector/exposure_time": 0.1,
        "measurement/instrument/monochromator/energy": 27.0,
        "measurement/instrument/sample_motor_stack/detector_distance": 60.0,
        "process/acquisition/flat_fields/different_flat_exposure": b"Different",
        "process/acquisition/flat_fields/flat_exposure_time": 0.05,
        "measurement/sample/name": b"snail",
    }
    write_data_exchange(tmp_path / "a.h5", theta=EVEN, values=values)
    scan = read_scan(tmp_path / "a.h5")
    assert (scan.pixel_size_um, scan.energy_kev, scan.distance_mm) == (1.17, 27.0, 60.0)
    assert (scan.exposure_s, scan.sample) == (0.1, "snail")
    assert scan.flat_scale == pytest.approx(2.0) and _codes(scan) == {"flats_scaled"}


@pytest.mark.parametrize(
    ("size", "unit", "distance", "far", "energy", "of_energy"),
    [
        (1.17, "microns", 60.0, "mm", 27.0, "keV"),
        (1170.0, "nm", 0.06, "m", 27000.0, "eV"),
        (0.00117, "mm", 6.0, "cm", 27.0, ""),
    ],
)
def test_numbers_are_taken_by_the_unit_that_they_have(
    tmp_path: Path, size: float, unit: str, distance: float, far: str, energy: float, of_energy: str
) -> None:
    folder = "measurement/instrument"
    told = {
        f"{folder}/detection_system/objective/resolution": (size, unit),
        f"{folder}/sample_motor_stack/detector_distance": (distance, far),
        f"{folder}/monochromator/energy": (energy, of_energy),
    }
    path = tmp_path / "a.h5"
    write_data_exchange(path, theta=EVEN, values={name: value for name, (value, _) in told.items()})
    with h5py.File(path, "a") as file:
        for name, (_, units) in told.items():
            file[name].attrs["units"] = units
    scan = read_scan(path)
    assert (scan.pixel_size_um, scan.distance_mm, scan.energy_kev) == pytest.approx((1.17, 60.0, 27.0))


def test_a_pixel_of_the_detector_is_reduced_by_the_objective(tmp_path: Path) -> None:
    values = {
        "measurement/instrument/detector/pixel_size_x": 3.45,
        "measurement/instrument/detection_system/objective/magnification": 5.0,
    }
    write_data_exchange(tmp_path / "a.h5", theta=EVEN, values=values)
    assert read_scan(tmp_path / "a.h5").pixel_size_um == pytest.approx(0.69)


def test_a_file_without_flats_says_so(tmp_path: Path) -> None:
    write_data_exchange(tmp_path / "a.h5", theta=EVEN, flats=0, darks=0)
    scan = read_scan(tmp_path / "a.h5")
    assert scan.flats is None and scan.darks is None


def test_flats_of_another_size_are_refused(tmp_path: Path) -> None:
    write_data_exchange(tmp_path / "a.h5", theta=EVEN, flats=0)
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file["exchange/data_white"] = np.ones((2, 4, 4))
    with pytest.raises(BadFile, match="data_white"):
        read_scan(tmp_path / "a.h5")


@pytest.mark.real_data
def test_a_scan_of_the_aps(real_data: Path) -> None:
    scan = read_scan(real_data / "xct_aps_tooth" / "tooth.h5")
    assert (len(scan.angles_deg), scan.shape_yx, scan.sample) == (181, (2, 640), "Tooth")
    assert scan.flats is not None and len(scan.flats) == 10 and scan.notes == ()


# NXtomo

KEYS = [2, 1, 1, 0, 0, 0, 1, 0, 0, 2]
NX_ANGLES = [0, 0, 0, 0, 36, 72, 72, 108, 144, 144]


@pytest.mark.parametrize("entry", ["entry", "entry1/tomo_entry", "entry0000"])
def test_frames_of_an_nxtomo_entry_are_told_apart_by_their_key(tmp_path: Path, entry: str) -> None:
    data = write_nxtomo(tmp_path / "a.nxs", KEYS, NX_ANGLES, entry)
    scan = read_scan(tmp_path / "a.nxs")
    assert scan.layout == "NXtomo" and scan.sample == "a snail"
    assert scan.pixel_size_um == pytest.approx(0.65)
    assert scan.angles_deg.tolist() == [0, 36, 72, 108, 144]
    assert (_all_rows(scan) == data[[3, 4, 5, 7, 8]]).all()
    assert scan.flats is not None and scan.darks is not None
    assert scan.flats.taken_at.tolist() == [-0.5, -0.5, 2.5]
    with open_rows(scan) as rows:
        assert (rows.frames(scan.flats, 1, 3) == data[[1, 2, 6], 1:3]).all()


def test_an_entry_whose_keys_do_not_match_its_frames_is_refused(tmp_path: Path) -> None:
    write_nxtomo(tmp_path / "a.nxs", KEYS, NX_ANGLES)
    with h5py.File(tmp_path / "a.nxs", "a") as file:
        del file["entry/instrument/detector/image_key"]
        file["entry/instrument/detector/image_key"] = [0, 0]
    with pytest.raises(BadFile, match="image_key"):
        read_scan(tmp_path / "a.nxs")


# Broken


def test_no_beginning_of_a_file_is_whole_or_read(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    write_data_exchange(path, theta=EVEN)
    raw = path.read_bytes()
    assert probe(path).whole is True
    for size in (0, 4, 100, len(raw) // 2, len(raw) - 100):
        path.write_bytes(raw[:size])
        assert probe(path).whole is False
        with pytest.raises(BadFile):
            read_scan(path)


def test_chunks_that_were_never_written_are_missed(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        data = file.create_dataset("exchange/data", (6, *SHAPE_YX), np.uint16, chunks=(1, *SHAPE_YX))
        data[:4] = counts(4)
    evidence = probe(tmp_path / "a.h5")
    assert evidence.whole is False and "2 chunks" in evidence.reason


def test_a_file_that_another_program_writes_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    write_data_exchange(path, theta=EVEN)
    hold = "import h5py, sys; f = h5py.File(sys.argv[1], 'a'); print(flush=True); sys.stdin.read()"
    writer = subprocess.Popen(
        [sys.executable, "-c", hold, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert writer.stdout is not None
        writer.stdout.readline()
        assert probe(path).whole is False
        with pytest.raises(BadFile, match="written"):
            read_scan(path)
    finally:
        writer.communicate(timeout=20)
    assert probe(path).whole is True


def test_a_scan_whose_angles_are_no_numbers_is_refused_in_words(tmp_path: Path) -> None:
    write_data_exchange(tmp_path / "a.h5", theta=np.full(len(EVEN), np.nan))
    with pytest.raises(BadFile, match=r"a\.h5: has an angle for 0 of its projections"):
        read_scan(tmp_path / "a.h5")


def test_reading_takes_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    write_data_exchange(path, theta=EVEN)
    scan = read_scan(path)
    with open_rows(scan), path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_files_of_another_kind_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.h5").write_bytes(b"something else" * 100)
    with pytest.raises(BadFile, match="HDF5"):
        read_scan(tmp_path / "a.h5")
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["numbers"] = [1, 2]
    with pytest.raises(BadFile, match="neither"):
        read_scan(tmp_path / "b.h5")
    with pytest.raises(BadFile):
        read_scan(tmp_path / "none.h5")


@settings(max_examples=40, deadline=None)
@given(place=st.floats(0, 1), junk=st.binary(min_size=1, max_size=40))
def test_a_damaged_file_is_refused_or_read_but_breaks_nothing(
    tmp_path_factory: pytest.TempPathFactory, place: float, junk: bytes
) -> None:
    path = tmp_path_factory.mktemp("damaged") / "a.h5"
    write_data_exchange(path, theta=EVEN, chunks=(2, 2, 11), compression="gzip")
    raw = bytearray(path.read_bytes())
    at = int(place * (len(raw) - 1))
    raw[at : at + len(junk)] = junk
    path.write_bytes(raw)
    probe(path)
    with contextlib.suppress(BadFile):
        _all_rows(read_scan(path))
