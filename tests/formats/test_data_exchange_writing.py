"""Data Exchange files as written: every place that tomopy, dxchange and tomocupy read, path by path."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tests.conftest import REPOSITORY
from tomofly.formats.data_exchange.layout import ENTRIES
from tomofly.formats.data_exchange.writing import (
    Compression,
    Fields,
    ScanFrame,
    ScanWriter,
    chunk_shape,
    copy_unfinished,
    publish,
)

SHAPE = (13, 19)
FACTS = {
    "exposure_s": 0.05, "energy_kev": 25.0, "detector_distance_mm": 120.0, "pixel_size_um": 0.69,
    "detector_pixel_um": 3.45, "magnification": 5.0, "scintillator": "LuAG", "scintillator_um": 25.0,
    "attenuator": "glass", "attenuator_thickness_um": 500.0, "flat_exposure_s": 0.05,
    "different_flat_exposure": "Same", "flat_value": 1.0, "dark_value": 0.0,
    "start_date": "2024-05-01T10:00:00", "sample": "stone", "scan_type": "stream", "lens": 1,
}  # fmt: skip

# What readers look for, as listed from their own code: path, shape (or None for one value), type, units.
READ: list[tuple[str, tuple[int, ...] | None, str, str]] = [
    # dxchange, tomopy, tomocupy: the images and angles
    ("/exchange/data", (7, 13, 19), "u", "counts"),
    ("/exchange/data_white", (4, 13, 19), "u", "counts"),
    ("/exchange/data_dark", (3, 13, 19), "u", "counts"),
    ("/exchange/theta", (7,), "f", "degrees"),
    ("/exchange/theta_dark", (3,), "f", "degrees"),
    ("/exchange/theta_white", (4,), "f", "degrees"),
    # tomoscan's add_theta and dump_theta
    ("/defaults/NDArrayUniqueId", (7,), "i", ""),
    ("/defaults/HDF5FrameLocation", (7,), "S", ""),
    ("/defaults/NDArrayTimeStamp", (7,), "f", ""),
    ("/defaults/NDArrayEpicsTSSec", (7,), "u", ""),
    ("/defaults/NDArrayEpicsTSnSec", (7,), "u", ""),
    # dxchange's fallback, and the same under the names of today's layouts
    ("/process/acquisition/flat_fields/flat_field_value", None, "f", ""),
    ("/process/acquisition/dark_fields/dark_field_value", None, "f", ""),
    ("/process/acquisition/rotation/rotation_start", None, "f", "degrees"),
    ("/process/acquisition/rotation/rotation_step", None, "f", "degrees"),
    ("/process/acquisition/rotation/num_angles", None, "i", ""),
    ("/process/acquisition/flat_fields/value", None, "f", ""),
    ("/process/acquisition/dark_fields/value", None, "f", ""),
    ("/process/acquisition/rotation/start", None, "f", "degrees"),
    ("/process/acquisition/rotation/step", None, "f", "degrees"),
    ("/process/acquisition/flat_fields/number", None, "i", ""),
    ("/process/acquisition/dark_fields/number", None, "i", ""),
    # tomopy-cli's and tomocupy's metadata
    ("/measurement/instrument/detection_system/objective/resolution", None, "f", "microns"),
    ("/measurement/instrument/detection_system/objective/magnification", None, "f", ""),
    ("/measurement/instrument/detector/pixel_size_x", None, "f", "microns"),
    ("/measurement/instrument/detection_system/scintillator/type", None, "S", ""),
    ("/measurement/instrument/detection_system/scintillator/name", None, "S", ""),
    ("/measurement/instrument/detection_system/scintillator/description", None, "S", ""),
    ("/measurement/instrument/detection_system/scintillator/active_thickness", None, "f", "microns"),
    ("/measurement/instrument/detection_system/scintillator/scintillating_thickness", None, "f", "microns"),
    ("/measurement/instrument/attenuator_1/description", None, "S", ""),
    ("/measurement/instrument/attenuator_1/thickness", None, "f", "microns"),
    ("/measurement/instrument/detector/exposure_time", None, "f", "s"),
    ("/process/acquisition/flat_fields/different_flat_exposure", None, "S", ""),
    ("/process/acquisition/flat_fields/flat_exposure_time", None, "f", "s"),
    # dxchange's standard metadata
    ("/measurement/instrument/detector_motor_stack/setup/z", None, "f", "mm"),
    ("/measurement/instrument/monochromator/energy", None, "f", "keV"),
    ("/process/acquisition/start_date", None, "S", ""),
    ("/process/acquisition/end_date", None, "S", ""),
]


def frame(n: int, dtype: Any = np.uint16, angle: float | None = None) -> ScanFrame:
    image = np.random.default_rng(n).integers(0, 250, SHAPE).astype(dtype)
    taken = 1.7e9 + n / 8
    return ScanFrame(image, 2**33 + n, 100 + n, n / 4 if angle is None else angle, taken, taken + 0.01)


def fields(count: int, level: int) -> Fields:
    images = np.full((count, *SHAPE), level, np.uint16)
    return Fields(images, np.arange(count) / 2)


def write(path: Path, frames: int = 7, *, dtype: Any = np.uint16, compression: Compression = "none") -> None:
    writer = ScanWriter(
        path, SHAPE, dtype, facts=FACTS, dark=fields(3, 9), flat=fields(4, 900), compression=compression
    )
    for n in range(frames):
        writer.append(frame(n, dtype))
        if n % 3 == 2:
            writer.flush()
    writer.finish({"end_date": "2024-05-01T10:01:00"})


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("written") / "scan.h5"
    write(path)
    return path


@pytest.mark.parametrize(("path", "shape", "kind", "units"), READ, ids=[row[0] for row in READ])
def test_every_place_that_readers_look_at_is_there(
    written: Path, path: str, shape: tuple[int, ...] | None, kind: str, units: str
) -> None:
    with h5py.File(written) as file:
        dataset = file[path]
        assert dataset.shape == (shape or (1,))
        assert dataset.dtype.kind == kind
        # Readers decode the bytes of fixed-length text; text of another kind breaks them.
        said = dataset.attrs.get("units", b"")
        assert isinstance(said, bytes)
        assert said.decode() == units


@pytest.mark.parametrize(
    ("path", "description"),
    [("data", "ImageData"), ("data_dark", "DarkData"), ("data_white", "WhiteData")],
)
def test_the_images_say_what_they_are(written: Path, path: str, description: str) -> None:
    with h5py.File(written) as file:
        attributes = file[f"/exchange/{path}"].attrs
        assert attributes["description"] == description.encode()
        assert attributes["axes"] == b"theta:y:x"


def test_the_root_says_what_the_file_implements(written: Path) -> None:
    with h5py.File(written) as file:
        assert file.attrs["implements"] == b"exchange:measurement:process"
        assert set(file.attrs["implements"].decode().split(":")) <= set(file)


def test_what_was_written_is_read_back(written: Path) -> None:
    with h5py.File(written) as file:
        for n in range(7):
            assert np.array_equal(file["/exchange/data"][n], frame(n).image)
        assert np.array_equal(file["/exchange/theta"], np.arange(7) / 4)
        assert np.array_equal(file["/defaults/NDArrayUniqueId"], np.arange(100, 107))
        assert set(file["/defaults/HDF5FrameLocation"][()]) == {b"/exchange/data"}
        seconds, rest = file["/defaults/NDArrayEpicsTSSec"][()], file["/defaults/NDArrayEpicsTSnSec"][()]
        assert np.allclose(seconds + rest * 1e-9 + 631_152_000, file["/defaults/NDArrayTimeStamp"])
        assert np.array_equal(file["/process/tomofly/frame_number"], 2**33 + np.arange(7))
        assert file["/process/acquisition/rotation/step"][0] == 0.25
        assert file["/measurement/instrument/detection_system/scintillator/name"][0] == b"LuAG"
        assert file["/exchange/data_white"][2, 3, 4] == 900


def test_no_two_facts_share_a_place() -> None:
    paths = [path for entry in ENTRIES for path in entry.paths]
    assert len(paths) == len(set(paths))
    assert len(ENTRIES) == len({entry.fact for entry in ENTRIES})


def test_a_fact_nobody_knows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="phase_of_the_moon"):
        ScanWriter(tmp_path / "scan.h5", SHAPE, np.dtype("u2"), facts={"phase_of_the_moon": 0.5})


@pytest.mark.parametrize("compression", ["none", "bslz4", "blosc"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_every_type_and_compression_is_read_back(
    tmp_path: Path, compression: Compression, dtype: Any
) -> None:
    write(tmp_path / "scan.h5", dtype=dtype, compression=compression)
    with h5py.File(tmp_path / "scan.h5") as file:
        assert file["/exchange/data"].dtype == dtype
        assert np.array_equal(file["/exchange/data"][5], frame(5, dtype).image)


def test_chunks_are_frames_or_bands_of_them() -> None:
    assert chunk_shape((2048, 2448), np.dtype("u2"), "none") == (1, 2048, 2448)
    bands = chunk_shape((2048, 2448), np.dtype("u2"), "bslz4")
    assert bands == (1, 205, 2448)
    assert np.prod(bands) * 2 <= 2**20
    assert chunk_shape(SHAPE, np.dtype("u1"), "blosc") == (1, *SHAPE)


def test_more_frames_than_were_reserved_at_once_fit(tmp_path: Path) -> None:
    writer = ScanWriter(tmp_path / "scan.h5", SHAPE, np.dtype("u2"))
    for n in range(600):
        writer.append(frame(n))
    writer.finish()
    with h5py.File(tmp_path / "scan.h5") as file:
        assert file["/exchange/data"].shape == (600, *SHAPE)
        assert np.array_equal(file["/exchange/data"][599], frame(599).image)


def test_a_frame_of_another_form_is_refused(tmp_path: Path) -> None:
    writer = ScanWriter(tmp_path / "scan.h5", SHAPE, np.dtype("u2"))
    with pytest.raises(ValueError, match="uint8"):
        writer.append(frame(1, np.uint8))
    writer.abandon()
    assert not (tmp_path / "scan.h5").exists()


def test_fields_that_come_late_are_written_at_the_end(tmp_path: Path) -> None:
    writer = ScanWriter(tmp_path / "scan.h5", SHAPE, np.dtype("u2"), dark=fields(3, 9))
    writer.append(frame(1))
    assert writer.has_darks
    assert not writer.has_flats
    writer.finish(dark=fields(5, 99), flat=fields(2, 900))
    with h5py.File(tmp_path / "scan.h5") as file:
        assert file["/exchange/data_dark"].shape[0] == 3
        assert file["/exchange/data_white"].shape[0] == 2


def test_without_any_angle_there_is_no_theta_and_with_some_the_rest_is_no_number(tmp_path: Path) -> None:
    for name, angles in (("none.h5", [np.nan] * 3), ("some.h5", [0.0, np.nan, 1.0])):
        writer = ScanWriter(tmp_path / name, SHAPE, np.dtype("u2"))
        for n, angle in enumerate(angles):
            writer.append(frame(n, angle=angle))
        writer.finish()
    with h5py.File(tmp_path / "none.h5") as file:
        assert "/exchange/theta" not in file
    with h5py.File(tmp_path / "some.h5") as file:
        assert np.array_equal(file["/exchange/theta"], [0, np.nan, 1], equal_nan=True)


KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from tests.formats.test_data_exchange_writing import FACTS, SHAPE, fields, frame
from tomofly.formats.data_exchange.writing import ScanWriter
path, compression = Path(sys.argv[1]), sys.argv[2]
writer = ScanWriter(path, SHAPE, np.dtype("u2"), facts=FACTS, dark=fields(3, 9), compression=compression)
for n in range(40):
    writer.append(frame(n))
    if n == 24:
        writer.flush()
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("compression", ["none", "bslz4"])
def test_what_was_flushed_outlives_a_kill(tmp_path: Path, compression: str) -> None:
    part, whole = tmp_path / "scan.h5.part", tmp_path / "scan.h5"
    command = [sys.executable, "-c", KILLED, str(part), compression]
    done = subprocess.run(command, cwd=REPOSITORY, check=False, timeout=60, env=dict(os.environ))
    assert done.returncode == -9
    assert copy_unfinished(part, whole, {"recovered": 1}) == 25
    with h5py.File(whole) as file:
        assert file["/exchange/data"].shape == (25, *SHAPE)
        for n in range(25):
            assert np.array_equal(file["/exchange/data"][n], frame(n).image)
        assert len(file["/exchange/theta"]) == 25
        assert file["/process/tomofly/recovered"][0] == 1
        assert file["/exchange/data_dark"].shape[0] == 3
        assert file.attrs["implements"] == b"exchange:measurement:process"
        assert file["/exchange/data"].attrs["units"] == b"counts"


def test_a_file_takes_no_name_that_is_taken(tmp_path: Path) -> None:
    part, final = tmp_path / "scan.h5.part", tmp_path / "scan.h5"
    part.write_bytes(b"new")
    final.write_bytes(b"old")
    with pytest.raises(FileExistsError):
        publish(part, final)
    assert final.read_bytes() == b"old"
    publish(part, final, overwrite=True)
    assert final.read_bytes() == b"new"
    assert not part.exists()


def test_a_file_gets_its_name_where_links_cannot_be_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("no links here")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    part, final = tmp_path / "scan.h5.part", tmp_path / "scan.h5"
    part.write_bytes(b"new")
    publish(part, final)
    assert final.read_bytes() == b"new"
    part.write_bytes(b"newer")
    with pytest.raises(FileExistsError):
        publish(part, final)
