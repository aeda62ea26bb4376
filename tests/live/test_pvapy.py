"""pvaPy's own classes read what is served, and what they serve is read.

pvaPy brings EPICS libraries of its own, so it has an environment of its own: TOMOFLY_PVAPY_PYTHON names its
Python.
"""

import json
import os
import subprocess
from collections.abc import Iterator

import numpy as np
import pytest
from p4p.client.thread import Context
from p4p.server.thread import SharedPV

from tests.live.conftest import Loopback
from tests.live.pva_camera import PvaCamera
from tomofly.formats.ntndarray import make_ndarray, parse_ndarray

READ = """
import json, sys
import pvaccess
from pvapy.utility.adImageUtility import AdImageUtility
array = pvaccess.Channel(sys.argv[1]).get("field()")
number, image, nx, ny, nz, mode, field = AdImageUtility.reshapeNtNdArray(array)
told = {one["name"]: one["value"][0]["value"] for one in array["attribute"]}
print(json.dumps([number, image.tolist(), nx, ny, field, told]))
"""
SERVE = """
import sys
import numpy, pvaccess
from pvapy.utility.adImageUtility import AdImageUtility
image = numpy.arange(35, dtype=sys.argv[2]).reshape(5, 7)
server = pvaccess.PvaServer(sys.argv[1], AdImageUtility.generateNtNdArray2D(9, image))
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture(scope="module")
def pvapy() -> str:
    python = os.environ.get("TOMOFLY_PVAPY_PYTHON")
    if not python:
        pytest.skip("pvaPy's Python is not named by TOMOFLY_PVAPY_PYTHON")
    return python


@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
def test_pvapy_reads_what_is_served(pvapy: str, dtype: str) -> None:
    image = np.arange(35, dtype=dtype).reshape(5, 7)
    told = {"Center": 3.5, "Filter": "hann", "LastId": 70_000}
    array = make_ndarray(image, unique_id=9, time=1.7e9, attributes=told)
    with PvaCamera(served=SharedPV(initial=array)) as camera:
        environment = {**os.environ, **camera.configuration}
        done = subprocess.run(
            [pvapy, "-c", READ, "served"],
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    assert json.loads(done.stdout) == [
        9, image.tolist(), 7, 5, {"u1": "ubyteValue", "u2": "ushortValue", "f4": "floatValue"}[dtype],
        {"ColorMode": 0, **told},
    ]  # fmt: skip


@pytest.fixture(params=["uint8", "uint16", "float32"])
def served_by_pvapy(pvapy: str, epics: Loopback, request: pytest.FixtureRequest) -> Iterator[str]:
    """The type of number of the image that pvaPy serves as `pvapy:image`."""
    with subprocess.Popen(
        [pvapy, "-c", SERVE, "pvapy:image", request.param], env=epics.server(), text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    ) as server:  # fmt: skip
        assert server.stdout is not None
        assert server.stdout.readline() == "ready\n"
        yield request.param
        server.terminate()


def test_what_pvapy_serves_is_read(served_by_pvapy: str) -> None:
    with Context("pva", nt=False) as context:
        frame = parse_ndarray(context.get("pvapy:image", timeout=30))
    assert np.array_equal(frame.image, np.arange(35, dtype=served_by_pvapy).reshape(5, 7))
    assert frame.image.dtype == served_by_pvapy
    assert frame.unique_id == 9
    assert frame.color_mode == 0
    assert frame.taken_at > 1.7e9
