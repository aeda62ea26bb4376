"""Arrays that are made and dropped again and again cost no page faults."""

import json
import subprocess
import sys

import numpy as np
import pytest

from tomofly.imaging.xray.backend import RingShape, open_backend
from tomofly.live.memory import taken_beforehand
from tomofly.live.parts import Parts
from tomofly.live.settings import checked_settings
from tomofly.model import TomoflyError

SCRIPT = """
import json, resource
import numpy as np
from tomofly.live.memory import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        arrays = [np.ones(2**20, np.float32) for _ in range(8)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

first = faults()
kept = keep_freed_memory()
faults()
print(json.dumps([kept, first, faults()]))
"""


def test_memory_of_dropped_arrays_is_used_again() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], check=True, capture_output=True, text=True)
    kept, before, after = json.loads(done.stdout)
    if not kept:
        pytest.skip("this C library has no mallopt")
    assert after < 0.05 * before


THREADS = """
import json, resource, sys, threading
import numpy as np
from tomofly.live.memory import keep_freed_memory, keep_ready
keep_freed_memory()  # as the program does: before EPICS begins threads
from tomofly.live import process

def work():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    kept.extend(np.ones(2**20, np.float32) for _ in range(64))
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

kept, faults = [], []
if sys.argv[1] == "ready":
    keep_ready(2**28)
thread = threading.Thread(target=work)
thread.start()
thread.join()
print(json.dumps(faults))
"""


def test_memory_that_is_kept_ready_serves_all_threads() -> None:
    counts = []
    for how in ("ready", "not"):
        done = subprocess.run(
            [sys.executable, "-c", THREADS, how], check=True, capture_output=True, text=True
        )
        counts.append(json.loads(done.stdout)[0])
    assert counts[0] < 0.1 * counts[1]


def test_a_ring_lies_in_memory_that_was_taken_beforehand() -> None:
    shape = RingShape(70, 50, 40)
    memory = taken_beforehand(shape.size_bytes, 2)
    ring = open_backend("cpu", shape, memory=memory)
    image = np.random.default_rng(1).normal(size=(70, 50)).astype(np.float32)
    ring.store(39, image)
    alone = open_backend("cpu", shape)
    alone.store(0, image)
    np.testing.assert_array_equal(ring.projection(39), alone.projection(0))
    assert memory.any()
    memory[:] = 0
    assert not ring.projection(39).any()
    smaller = open_backend("cpu", shape, memory=memory[:-1])
    smaller.store(39, image)
    assert not memory.any()


def test_more_memory_than_there_is_is_refused_before_anything_starts() -> None:
    wanted = {"service": {"reserve": True}, "reconstruction": {"memory_gb": 2000.0, "backend": "cpu"}}
    with pytest.raises(TomoflyError, match=r"wants 200\d\.0 GB for the rings, and \d+\.\d GB are free"):
        Parts(checked_settings(wanted)).take_memory()


def test_memory_is_taken_at_start_where_that_is_wanted() -> None:
    wanted = {"reconstruction": {"memory_gb": 0.05, "backend": "cpu"}, "capture": {"ring_gb": 0.04}}
    parts = Parts(checked_settings(wanted))
    parts.take_memory()
    assert parts.room().memory is None
    parts = Parts(checked_settings(wanted | {"service": {"reserve": True}}))
    parts.take_memory()
    memory = parts.room().memory
    assert memory is not None
    assert memory.nbytes == 50_000_000
