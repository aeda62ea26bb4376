"""A camera's PVAccess channel in this process, for tests of what receives from it."""

import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from p4p import Value
from p4p.nt import NTNDArray
from p4p.server import Server
from p4p.server.thread import SharedPV

from tomofly.formats.ntndarray import make_ndarray

CHANNEL = "cam:Pva1:Image"


class PvaCamera:
    """Serves `cam:Pva1:Image` on the loopback; `configuration` is what a client needs to find it."""

    def __init__(
        self, configuration: Mapping[str, str] | None = None, *, isolated: bool = True, **others: SharedPV
    ) -> None:
        self.pv = SharedPV(initial=Value(NTNDArray.buildType()))
        providers = [{CHANNEL: self.pv, **others}]
        if configuration is None:
            self._server = Server(providers=providers, isolate=isolated)
        else:  # at the place where another one was
            self._server = Server(providers=providers, conf=dict(configuration), useenv=False)
        self.configuration = dict(self._server.conf())

    def send(
        self,
        unique_id: int,
        image: NDArray[Any] | None = None,
        taken_at: float | None = None,
        **attributes: object,
    ) -> None:
        """Send one image, taken `unique_id` seconds after an epoch of its own where no time is given."""
        pixels = np.full((3, 5), unique_id % 251, np.uint16) if image is None else image
        at = 1e9 + unique_id if taken_at is None else taken_at
        self.pv.post(make_ndarray(pixels, unique_id=unique_id, time=at, attributes=attributes))

    def close(self) -> None:
        """The IOC goes away."""
        self._server.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def until(condition: Callable[[], object], seconds: float = 20) -> None:
    """Wait until the condition holds; fail where it does not in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError("the condition did not come true in time")
        time.sleep(0.005)


def serve_for_ever(first_id: int) -> None:
    """Be a camera in a process of its own, where the environment says; ids go on from `first_id`."""
    with PvaCamera(isolated=False) as camera:
        print("ready", flush=True)
        pace = threading.Event()
        while not pace.wait(0.01):
            camera.send(first_id, taken_at=time.time())
            first_id += 1


if __name__ == "__main__":
    serve_for_ever(int(sys.argv[1]))
