"""What is broadcast is what clients of tomoScanStream read."""

from collections.abc import Iterator

import numpy as np
import pytest
from p4p.client.thread import Context
from p4p.server import Server

from tests.live.conftest import Loopback
from tomofly.live.collection.angles import Sweep
from tomofly.live.collection.broadcast import Broadcast
from tomofly.live.frames import FrameKind

P = "bc:TomoScanStream:"


@pytest.fixture
def broadcast(epics: Loopback) -> Iterator[Broadcast]:
    sent = Broadcast(P)
    with Server(providers=[sent.provider]):
        yield sent


def test_fields_have_the_old_structure_and_say_more(broadcast: Broadcast, epics: Loopback) -> None:
    mean = np.arange(13 * 17, dtype=np.float32).reshape(13, 17)
    broadcast.field(FrameKind.FLAT, mean, 4711, frames=10, lens=2, exposure_s=0.03, binning=2)
    with Context("pva", nt=False) as client:
        flat = client.get(P + "StreamFlatFields", timeout=5)
        dark = client.get(P + "StreamDarkFields", timeout=5)
    assert list(flat.keys())[:3] == ["value", "sizex", "sizey"]
    assert (flat.sizex, flat.sizey) == (17, 13)
    assert flat.value.dtype == np.float32
    np.testing.assert_array_equal(flat.value.reshape(flat.sizey, flat.sizex), mean)
    assert (flat.firstFrame, flat.version, flat.lens, flat.binning) == (4711, 1, 2, 2)
    assert dark.sizex == 0


def test_theta_is_compact_and_rewritten(broadcast: Broadcast, epics: Loopback) -> None:
    sweep = Sweep(0, 0.12, 1500, back_and_forth=True, first=1)
    broadcast.theta(sweep.angles(1), 1)
    with Context("pva", nt=False) as client:
        theta = client.get(P + "StreamTheta", timeout=5)
        assert theta.sizex == len(theta.value) == 3000
        assert theta.firstProjid == 1
        broadcast.theta(sweep.angles(2501), 2501)
        again = client.get(P + "StreamTheta", timeout=5)
    assert again.firstProjid == 2501
    assert again.value[0] == theta.value[2500]
