"""The ring of raw frames: the newest, in order, never more than its memory."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tomofly.live.frames import Frame, FrameKind
from tomofly.live.raw_ring import RawRing


def frame(number: int, shape: tuple[int, int] = (3, 5), dtype: str = "u2") -> Frame:
    image = np.full(shape, number % 200, dtype)
    return Frame(number, number, image, FrameKind.PROJECTION, 0.0, 1.0, 1.0)


@given(frames=st.integers(0, 60), room=st.integers(0, 20), wanted=st.integers(-2, 70))
def test_the_ring_holds_the_newest_that_fit(frames: int, room: int, wanted: int) -> None:
    ring = RawRing(room * 30 + 29)
    for n in range(frames):
        ring.put(frame(n))
        assert ring.bytes <= ring.limit_bytes
    held = min(frames, room)
    assert len(ring) == held
    got = [kept.number for kept in ring.latest(wanted)]
    assert got == list(range(frames - min(held, max(wanted, 0)), frames))


def test_a_frame_of_another_size_or_type_begins_a_new_ring() -> None:
    ring = RawRing(10_000)
    ring.put(frame(1))
    ring.put(frame(2, shape=(5, 3)))
    assert [kept.number for kept in ring.latest(9)] == [2]
    ring.put(frame(3, shape=(5, 3), dtype="u1"))
    assert [kept.number for kept in ring.latest(9)] == [3]
    assert ring.bytes == 15


def test_frames_are_not_copied() -> None:
    ring = RawRing(10_000)
    one = frame(1)
    ring.put(one)
    assert ring.latest(1)[0].image is one.image


def test_its_capacity_is_known_beforehand() -> None:
    assert RawRing(1000).capacity(30) == 33
