"""Frames for captures, each of which can be told from all others."""

import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tomofly.live.capture.request import CaptureRequest
from tomofly.live.capture.service import CaptureService, CaptureSettings
from tomofly.live.frames import Frame, FrameKind

SHAPE = (13, 19)
FRAME_BYTES = 13 * 19 * 2


def frame(number: int, kind: FrameKind = FrameKind.PROJECTION, **more: Any) -> Frame:
    shape, dtype = more.pop("shape", SHAPE), more.pop("dtype", np.uint16)
    image = (np.arange(np.prod(shape)).reshape(shape) + number).astype(dtype)
    angle = more.pop("angle_deg", number / 4)
    return Frame(number, number % 65_536, image, kind, angle, 1.7e9 + number / 100, 1.7e9, **more)


def send(service: CaptureService, numbers: Iterable[int], **more: Any) -> None:
    for number in numbers:
        service.put(frame(number, **more))


def numbers_in(path: Path) -> list[int]:
    """The numbers of the frames in a file, after each image was found to be the one of its number."""
    with h5py.File(path) as file:
        numbers = [int(number) for number in file["/process/tomofly/frame_number"][()]]
        assert len(file["/exchange/data"]) == len(numbers)
        for image, number in zip(file["/exchange/data"], numbers, strict=True):
            assert np.array_equal(image, frame(number, shape=image.shape, dtype=image.dtype).image)
        return numbers


def fact(path: Path, name: str) -> Any:
    """One value under /process/tomofly."""
    with h5py.File(path) as file:
        value = file[f"/process/tomofly/{name}"][0]
    return value.decode() if isinstance(value, bytes) else value


def endless_captures(folder: Path, compression: Any) -> None:
    """For a process that is killed: a capture that never ends; says how far it has come."""
    settings = CaptureSettings(folder, ring_bytes=20 * FRAME_BYTES, reserve_bytes=0, compression=compression)
    service = CaptureService(settings).start()
    send(service, range(20))
    ticket = service.request(CaptureRequest(1_000_000, 10))
    pause = threading.Event()
    for number in range(20, 1_000_000):
        service.put(frame(number))
        if number % 10 == 0:
            pause.wait(0.02)
            print(ticket.written, flush=True)
