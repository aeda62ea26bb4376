"""The simulated beamline as its clients see it, over Channel Access and PVAccess."""

import os
import queue
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import imagecodecs
import numpy as np
import pytest
from p4p.client.thread import Context

from tests.simulate.beamline_process import (
    RunningBeamline,
    attributes,
    beamline,
    began,
    picture,
    wait_until,
)
from tomofly.simulate.beamline import BeamlineTruth
from tomofly.simulate.beamline.codecs import compressed

RATE = 40.0
CAMERA, DEVICES, SIMULATION = "2bmSP2:cam1:", "2bmb:", "2bmb:Sim:"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("beamline")


@pytest.fixture(scope="module")
def line(folder: Path) -> Iterator[RunningBeamline]:
    options = ["--size", "24x40", "--rate", str(RATE), "--truth", str(folder / "truth.json"), "--seed", "3"]
    with beamline(folder, *options) as running:
        yield running
    assert running.process.returncode == 0, "SIGTERM ends it as it should"


def test_frames_carry_what_is_needed_to_use_them(line: RunningBeamline) -> None:
    frame = line.frames_of(1)[0]
    assert [d.size for d in frame.dimension] == [40, 24]
    assert picture(frame).dtype == np.uint16
    assert (frame.compressedSize, frame.uncompressedSize) == (1920, 1920)
    assert (frame.codec.name, frame.codec.parameters) == ("", 6)
    assert frame.timeStamp.secondsPastEpoch == frame.dataTimeStamp.secondsPastEpoch
    told = attributes(frame)
    assert told.pop("RotationAngle") > 0
    assert told == {
        "FrameType": 2, "ExposureTime": 0.01, "LensSelect": 0, "SampleMoving": 0, "ShutterOpen": 1,
        "Binning": 1, "ColorMode": 0,
    }  # fmt: skip


def test_frames_are_paced_by_absolute_time(line: RunningBeamline) -> None:
    frames = line.frames_of(40)[10:]
    times = np.array([began(frame) for frame in frames])
    ids = np.array([frame.uniqueId for frame in frames])
    angles = np.array([attributes(frame)["RotationAngle"] for frame in frames])
    assert (np.diff(ids) == 1).all()
    np.testing.assert_allclose((times - times[0]) * RATE % 1.0 % 0.999, 0, atol=1e-3)
    # Half a turn in 360 frames.
    np.testing.assert_allclose(np.diff(angles), 0.5 * RATE * np.diff(times), atol=1e-4)


def test_the_camera_sees_shutter_and_stage(line: RunningBeamline) -> None:
    with line.frames() as following:
        bright = picture(following()).mean()
        line.put(DEVICES + "A_shutter:close", 1, wait=True)
        assert line.get(DEVICES + "A_shutter:status") == 0
        dark = next_of(following, FrameType=0, ShutterOpen=0)
        assert picture(dark).mean() < 0.02 * bright
        line.put(DEVICES + "A_shutter:open", 1, wait=True)
        line.put(DEVICES + "m2", 0.2, wait=True)
        moving = next_of(following, SampleMoving=1)
        assert attributes(moving)["FrameType"] in (1, 2)
        flat = next_of(following, FrameType=1, SampleMoving=0)
        assert picture(flat).mean() > 1.2 * bright
        line.put(DEVICES + "m2", 0.0, wait=True)
        next_of(following, FrameType=2, SampleMoving=0)


def next_of(following: Any, **wanted: int) -> Any:
    """The next frame with such attributes."""
    for _ in range(400):
        frame = following()
        if wanted.items() <= attributes(frame).items():
            return frame
    raise AssertionError(f"no frame with {wanted}")


def test_a_motor_record_moves_as_motor_records_do(line: RunningBeamline) -> None:
    motor = DEVICES + "m3"
    line.put(motor + ".VELO", 3.0)
    line.put(motor + ".VAL", 1.5, wait=True)
    assert line.get(motor + ".RBV") == pytest.approx(1.5)
    assert line.get(motor + ".DMOV") == 1
    line.put(motor + ".VAL", 500.0)
    wait_until(lambda: line.get(motor + ".DMOV") == 0)
    wait_until(lambda: line.get(motor + ".RBV") > 2.0)
    line.put(motor + ".STOP", 1, wait=True)
    wait_until(lambda: line.get(motor + ".DMOV") == 1)
    assert 2.0 < line.get(motor + ".RBV") < 100
    assert line.get(motor + ".VAL") == pytest.approx(line.get(motor + ".RBV"))
    assert line.get(motor + ".STOP") == 0
    line.put(motor + ".JOGR", 1)
    wait_until(lambda: line.get(motor + ".RBV") < 1.0)
    line.put(motor + ".JOGR", 0)
    wait_until(lambda: line.get(motor + ".DMOV") == 1)
    line.put(motor + ".SET", 1)
    line.put(motor + ".VAL", 7.0)
    wait_until(lambda: line.get(motor + ".RBV") == pytest.approx(7.0))
    line.put(motor + ".VAL", 7.0 - line.get(motor + ".OFF"))
    line.put(motor + ".SET", 0)
    line.put(motor + ".VAL", 0.0, wait=True)


def test_records_are_served_over_both_protocols(line: RunningBeamline) -> None:
    with Context("pva", conf=line.environment, useenv=False) as context:
        assert float(context.get(DEVICES + "m1.VELO")) == line.get(DEVICES + "m1.VELO")
        assert float(context.get(CAMERA + "AcquireTime_RBV")) == pytest.approx(0.01)
        assert context.get("2bmSP2:Pva1:PvName_RBV") == "2bmSP2:Pva1:Image"


def test_size_binning_and_type_change_in_mid_stream(line: RunningBeamline) -> None:
    with line.frames() as following:
        before = picture(following()).astype(float)
        line.put(CAMERA + "SizeX", 32)
        line.put(CAMERA + "MinY", 4)
        wait_until(lambda: picture(following()).shape == (20, 32))
        line.put(CAMERA + "BinX", 2)
        wait_until(lambda: picture(following()).shape == (10, 16))
        binned = following()
        assert attributes(binned)["Binning"] == 2
        assert picture(binned).mean() > 3 * before.mean()
        line.put(CAMERA + "DataType", 8)
        wait_until(lambda: picture(following()).dtype == np.float32)
        assert line.get(CAMERA + "ArraySizeX_RBV") == 16
        for name, value in (("DataType", 3), ("BinX", 1), ("MinY", 0), ("SizeX", 40), ("SizeY", 24)):
            line.put(CAMERA + name, value)
        wait_until(lambda: picture(following()).shape == (24, 40))


def test_series_of_frames_and_software_triggers(line: RunningBeamline) -> None:
    line.put(CAMERA + "Acquire", 0)
    wait_until(lambda: line.get(CAMERA + "AcquireBusy") == 0)
    line.put(CAMERA + "ImageMode", 1)
    line.put(CAMERA + "NumImages", 7)
    before = line.get(CAMERA + "ArrayCounter_RBV")
    line.put(CAMERA + "Acquire", 1)
    wait_until(lambda: line.get(CAMERA + "NumImagesCounter_RBV") == 7)
    wait_until(lambda: line.get(CAMERA + "Acquire") == 0)
    assert line.get(CAMERA + "ArrayCounter_RBV") == before + 7
    line.put(CAMERA + "TriggerMode", 2)
    line.put(CAMERA + "NumImages", 2)
    line.put(CAMERA + "Acquire", 1)
    line.put(CAMERA + "TriggerSoftware", 1)
    wait_until(lambda: line.get(CAMERA + "NumImagesCounter_RBV") == 1)
    line.put(CAMERA + "TriggerSoftware", 1)
    wait_until(lambda: line.get(CAMERA + "Acquire") == 0)
    assert line.get(CAMERA + "ArrayCounter_RBV") == before + 9
    for name, value in (("TriggerMode", 0), ("ImageMode", 2), ("Acquire", 1)):
        line.put(CAMERA + name, value)


def test_the_stage_triggers_the_camera(line: RunningBeamline) -> None:
    line.put(DEVICES + "PSO:Step", 0.75)
    line.put(CAMERA + "TriggerMode", 1)
    wait_until(lambda: line.get(CAMERA + "TriggerMode_RBV") == 1)
    line.frames_of(3)
    steps = np.array([attributes(frame)["RotationAngle"] / 0.75 for frame in line.frames_of(12)])
    np.testing.assert_allclose(steps, steps.round(), atol=1e-4)
    np.testing.assert_allclose(np.diff(steps), 1, atol=1e-3)
    line.put(CAMERA + "TriggerMode", 0)


def test_what_goes_wrong_on_request(line: RunningBeamline) -> None:
    line.put(SIMULATION + "DropPeriod", 6)
    line.put(SIMULATION + "DropMode", 2)
    ids = np.array([frame.uniqueId for frame in line.frames_of(40)])
    line.put(SIMULATION + "DropMode", 0)
    missing = sorted(set(range(ids[0], ids[-1])) - set(ids))
    assert missing
    assert all(number % 6 == 0 for number in missing)
    line.put(SIMULATION + "Codec", 4)
    with line.frames() as following:
        wait_until(lambda: following().codec.name not in ("", "lz4"))
    line.put(SIMULATION + "Codec", 0)
    line.put(SIMULATION + "Blank", 2)
    with line.frames() as following:
        wait_until(lambda: picture(following()).min() == 65535)
    line.put(SIMULATION + "Blank", 0)
    line.put(SIMULATION + "Freeze", 1)
    with line.frames() as following:
        with pytest.raises(queue.Empty):
            for _ in range(200):
                following(0.4)
        line.put(SIMULATION + "Freeze", 0)
        assert following().uniqueId
    line.put(SIMULATION + "RestartIds", 1)
    with line.frames() as following:
        wait_until(lambda: following().uniqueId < ids[0])


def test_a_lens_changes_the_pixel(line: RunningBeamline) -> None:
    line.put(DEVICES + "MCTOptics:LensSelect", 1)
    with line.frames() as following:
        next_of(following, LensSelect=1)
    wait_until(lambda: line.get(DEVICES + "MCTOptics:ImagePixelSize") == 0.5)
    line.put(DEVICES + "MCTOptics:LensSelect", 0)


def test_the_event_on_request_is_written_into_the_truth(line: RunningBeamline, folder: Path) -> None:
    def truth() -> BeamlineTruth:
        return BeamlineTruth.from_json((folder / "truth.json").read_text())

    assert truth().event_begins_s is None
    line.put(SIMULATION + "StartEvent", 1)
    wait_until(lambda: truth().event_begins_s is not None)
    begins = truth().started_at + (truth().event_begins_s or 0)
    assert line.get(SIMULATION + "EventBegins_RBV") == pytest.approx(begins, abs=0.01)
    wait_until(lambda: truth().dropped_ids)


def test_nonsense_is_refused(line: RunningBeamline) -> None:
    line.put(CAMERA + "AcquireTime", float("nan"))
    line.put(CAMERA + "BinX", 99)
    wait_until(lambda: line.get(CAMERA + "BinX_RBV") == 8)
    line.put(CAMERA + "BinX", 1)
    assert line.get(CAMERA + "AcquireTime_RBV") == pytest.approx(0.01)
    assert picture(line.frames_of(1)[0]).size > 0


def test_a_second_beamline_says_that_the_port_is_taken(line: RunningBeamline) -> None:
    command = [sys.executable, "-m", "tomofly.cli", "simulate", "beamline"]
    done = subprocess.run(
        command, env=os.environ | line.environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1
    assert "is taken" in done.stderr
    assert "--ca-port" in done.stderr


def test_it_ends_by_signal_with_its_count(tmp_path: Path) -> None:
    # A PV of its own stands for that of a program that collects.
    outside = ["--frame-type-pv", CAMERA + "TriggerSource"]
    with beamline(tmp_path, "--size", "16x20", "--pattern", "golden", "--codec", "lz4", *outside) as running:
        frame = running.frames_of(1)[0]
        assert frame.codec.name == "lz4"
        assert frame.uncompressedSize == 16 * 20 * 2
        raw = imagecodecs.lz4_decode(np.asarray(frame.value).tobytes(), out=frame.uncompressedSize)
        assert np.frombuffer(raw, np.uint16).mean() > 1000
        running.put(CAMERA + "TriggerSource", 1)
        with running.frames() as following:
            next_of(following, FrameType=1)
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(timeout=20) == 0
        assert "stopped after" in running.log.read_text()


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_compressed_frames_are_what_others_decompress(dtype: str, tmp_path: Path) -> None:
    image = np.random.default_rng(1).poisson(40, (67, 131)).astype(dtype)
    assert imagecodecs.lz4_decode(compressed(image, "lz4").tobytes(), out=image.nbytes) == image.tobytes()
    assert imagecodecs.blosc_decode(compressed(image, "blosc").tobytes()) == image.tobytes()
    # HDF5's filter puts the size and the size of a block before what areaDetector sends.
    block = max(8192 // image.itemsize // 8 * 8, 128) * image.itemsize
    header = image.nbytes.to_bytes(8, "big") + block.to_bytes(4, "big")
    with h5py.File(tmp_path / "a.h5", "w") as file:
        data = file.create_dataset("a", image.shape, dtype, chunks=image.shape, **hdf5plugin.Bitshuffle())
        data.id.write_direct_chunk((0, 0), header + compressed(image, "bslz4").tobytes())
        np.testing.assert_array_equal(data[:], image)
