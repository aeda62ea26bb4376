"""Dark and flat fields: made from the stream, valid from a frame on, refused where they cannot be right."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tomofly.live.calibration import CalibrationStore
from tomofly.live.frames import Frame, FrameKind

SHAPE = (13, 17)


def frame(number: int, kind: FrameKind, level: float, **more: Any) -> Frame:
    """A frame with noise of its own; `shape`, `dtype`, `lens`, `exposure_s`, `moving` as wanted."""
    shape, dtype = more.pop("shape", SHAPE), more.pop("dtype", np.uint16)
    image = np.random.default_rng(number).normal(level, more.pop("noise", 3.0), shape).clip(0).astype(dtype)
    return Frame(number, number, image, kind, number / 2, 1e9 + number, 1e9 + number, **more)


def feed(store: CalibrationStore, kind: FrameKind, numbers: range, level: float, **more: Any) -> None:
    for number in numbers:
        store.put(frame(number, kind, level, **more))


def with_both(store: CalibrationStore | None = None, **more: Any) -> CalibrationStore:
    store = store or CalibrationStore()
    feed(store, FrameKind.DARK, range(10), 100, **more)
    feed(store, FrameKind.FLAT, range(10, 20), 3000, **more)
    feed(store, FrameKind.PROJECTION, range(20, 21), 1000, **more)
    return store


def test_there_is_nothing_before_darks_and_flats() -> None:
    store = CalibrationStore()
    assert store.at(5) is None
    feed(store, FrameKind.DARK, range(10), 100)
    feed(store, FrameKind.PROJECTION, range(10, 12), 1000)
    assert store.at(11) is None


def test_a_run_of_frames_becomes_its_mean_with_its_noise() -> None:
    store = CalibrationStore()
    shape = (101, 97)
    feed(store, FrameKind.DARK, range(30), 100, shape=shape, noise=5.0)
    version = store.close_run()
    assert version is not None
    stack = np.stack([frame(n, FrameKind.DARK, 100, shape=shape, noise=5.0).image for n in range(30)])
    assert np.allclose(version.mean, stack.mean(axis=0), atol=1e-3)
    assert version.mean.dtype == np.float32
    assert version.count == 30
    assert version.noise == pytest.approx(5, rel=0.1)
    assert version.raw is not None
    assert np.array_equal(version.raw, stack)


def test_a_pattern_in_the_field_is_no_noise() -> None:
    store = CalibrationStore()
    steep = np.add.outer(np.arange(101) * 20, np.arange(97) * 20).astype(np.uint16)
    for n in range(5):
        store.put(Frame(n, n, steep, FrameKind.FLAT, 0.0, 0.0, 0.0))
    version = store.close_run()
    assert version is not None
    assert version.noise == 0


def test_a_retake_is_valid_from_its_first_frame_on() -> None:
    store = with_both()
    feed(store, FrameKind.FLAT, range(100, 110), 3500)
    feed(store, FrameKind.PROJECTION, range(110, 111), 1000)
    before, after = store.at(99), store.at(110)
    assert before is not None
    assert after is not None
    assert before.flat.mean() == pytest.approx(3000, abs=3)
    assert after.flat.mean() == pytest.approx(3500, abs=3)
    assert before.dark_version is after.dark_version
    assert store.at(110) is store.at(111)


@given(st.lists(st.integers(0, 300), min_size=1, max_size=12, unique=True), st.integers(-10, 320))
def test_the_newest_version_that_is_valid_is_taken(starts: list[int], number: int) -> None:
    store = CalibrationStore()
    store.add_mean(FrameKind.DARK, np.zeros((3, 5)), -100)
    for start in starts[:8]:
        store.add_mean(FrameKind.FLAT, np.full((3, 5), start + 1), start)
    found = store.at(number)
    valid = [start for start in starts[:8] if start <= number]
    assert (found is None) == (not valid)
    if found:
        assert found.flat[0, 0] == max(valid) + 1


def test_moving_frames_never_enter() -> None:
    store = CalibrationStore()
    feed(store, FrameKind.FLAT, range(5), 3000)
    store.put(frame(5, FrameKind.FLAT, 9000, moving=True))
    store.put(frame(6, FrameKind.OTHER, 9000, moving=True))
    feed(store, FrameKind.FLAT, range(7, 9), 3000)
    store.close_run()
    assert [version.count for version in store.versions()] == [5, 2]
    assert all(version.mean.max() < 3020 for version in store.versions())


def test_each_lens_has_its_own() -> None:
    store = CalibrationStore()
    for lens, level in ((0, 2000), (1, 4000)):
        start = 100 * lens
        feed(store, FrameKind.DARK, range(start, start + 5), 100, lens=lens)
        feed(store, FrameKind.FLAT, range(start + 5, start + 10), level, lens=lens)
        feed(store, FrameKind.PROJECTION, range(start + 10, start + 11), 500, lens=lens)
    found = store.for_frame(frame(500, FrameKind.PROJECTION, 500, lens=0))
    assert found is not None
    assert found.flat.mean() == pytest.approx(2000, abs=3)
    assert store.for_frame(frame(500, FrameKind.PROJECTION, 500, lens=2)) is None


def test_a_flat_of_the_same_exposure_is_preferred_and_another_is_scaled() -> None:
    store = CalibrationStore()
    feed(store, FrameKind.DARK, range(5), 100, exposure_s=0.1)
    feed(store, FrameKind.FLAT, range(5, 10), 1000, exposure_s=0.1)
    feed(store, FrameKind.FLAT, range(10, 15), 3000, exposure_s=0.3)
    store.close_run()
    same = store.at(20, exposure_s=0.1)
    longer = store.at(20, exposure_s=0.6)
    assert same is not None
    assert longer is not None
    assert (same.flat.mean(), same.flat_scale) == (pytest.approx(1000, abs=3), 1.0)
    assert (longer.flat.mean(), longer.flat_scale) == (pytest.approx(3000, abs=3), pytest.approx(2.0))


def test_frames_of_another_size_need_fields_of_their_own() -> None:
    store = with_both()
    assert store.for_frame(frame(30, FrameKind.PROJECTION, 500)) is not None
    assert store.for_frame(frame(30, FrameKind.PROJECTION, 500, shape=(17, 13))) is None


def test_frames_of_another_type_need_fields_of_their_own() -> None:
    """A camera that is set from 16 to 8 bits counts otherwise; a broadcast mean fits whatever comes."""
    store = with_both()
    of_8_bits = frame(30, FrameKind.PROJECTION, 100, dtype=np.uint8)
    assert store.for_frame(of_8_bits) is None
    for kind, level in ((FrameKind.DARK, 1.0), (FrameKind.FLAT, 200.0)):
        store.add_mean(kind, np.full(SHAPE, level), 25)
    fields = store.for_frame(of_8_bits)
    assert fields is not None
    assert fields.flat.max() == 200


def full(level: float, dtype: Any = np.uint16) -> Callable[[int, FrameKind], Frame]:
    return lambda n, kind: Frame(n, n, np.full(SHAPE, level, dtype), kind, 0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (full(65_535), "saturated in 100%"),
        (full(4095), "saturated"),
        (full(65_520), "saturated"),
        (full(255, np.uint8), "saturated"),
        (full(0), "zero everywhere"),
        (full(math.nan, np.float32), "no numbers"),
        (full(90), "as bright as"),
    ],
)
def test_a_flat_that_cannot_be_right_is_refused(make: Callable[[int, FrameKind], Frame], reason: str) -> None:
    store = CalibrationStore()
    store.add_mean(FrameKind.DARK, np.full(SHAPE, 100.0), 0)
    for n in range(3, 6):
        store.put(make(n, FrameKind.FLAT))
    assert store.close_run() is None
    assert len(store.refused) == 1
    assert "flat field from frame 3" in store.refused[FrameKind.FLAT]
    assert reason in store.refused[FrameKind.FLAT]


def test_a_refusal_is_told_and_stands_until_a_good_one_comes() -> None:
    store = with_both()
    told: list[str] = []
    store.on_refusal(told.append)
    feed(store, FrameKind.FLAT, range(50, 60), 65_535)
    assert store.close_run() is None
    assert ["flat field from frame 50 is saturated" in reason for reason in told] == [True]
    feed(store, FrameKind.FLAT, range(60, 70), 3200)
    assert store.close_run() is not None
    assert store.refused == {}


def test_a_dark_taken_with_the_shutter_open_is_refused_and_the_old_one_stays() -> None:
    store = with_both()
    feed(store, FrameKind.DARK, range(50, 60), 3200)
    assert store.close_run() is None
    assert "dark field as bright as the flat field (means 3199" in store.refused[FrameKind.DARK]
    found = store.at(70)
    assert found is not None
    assert found.dark.mean() < 110


def test_a_dark_without_offset_and_without_noise_is_a_dark() -> None:
    store = CalibrationStore()
    for level in (0, 100, 130):
        store.put(full(level)(1, FrameKind.DARK))
        assert store.close_run() is not None


def test_another_programs_broadcast_is_taken() -> None:
    store = CalibrationStore()
    store.add_mean(FrameKind.DARK, np.full(SHAPE, 10, np.float32), 40)
    store.add_mean(FrameKind.FLAT, np.full(SHAPE, 900, np.float32), 50)
    found = store.at(60, SHAPE)
    assert found is not None
    assert found.flat[3, 4] == 900
    assert math.isnan(found.flat_version.noise)


def test_versions_are_valid_again_after_a_restart(tmp_path: Path) -> None:
    store = with_both(CalibrationStore(tmp_path), lens=2, exposure_s=0.05)
    store.close()
    before = store.at(21)
    assert before is not None
    again = CalibrationStore(tmp_path)
    found = again.at(0, SHAPE, lens=2, exposure_s=0.05)
    assert found is not None
    assert np.array_equal(found.flat, before.flat)
    assert np.array_equal(found.dark, before.dark)
    assert found.flat_version.noise == before.flat_version.noise
    assert found.flat_version.raw is not None
    assert again.at(0, lens=1) is None
    again.close()


@pytest.mark.parametrize("content", [b"", b"nonsense", b"PK\x03\x04 and no more"])
def test_a_damaged_file_of_a_version_is_left_out(tmp_path: Path, content: bytes) -> None:
    with_both(CalibrationStore(tmp_path)).close()
    (tmp_path / "flat-lens-1.npz").write_bytes(content)
    store = CalibrationStore(tmp_path)
    assert len(store.versions()) == 2
    store.close()


def test_a_version_with_a_pickle_in_it_is_left_out(tmp_path: Path) -> None:
    np.savez(tmp_path / "dark.npz", facts=np.array({"kind": 0}, dtype=object), mean=np.zeros((2, 2)))
    store = CalibrationStore(tmp_path)
    assert store.versions() == ()
    store.close()


def test_new_versions_are_told(tmp_path: Path) -> None:
    store, told = CalibrationStore(), []
    store.on_change(told.append)
    with_both(store)
    assert [version.kind for version in told] == [FrameKind.DARK, FrameKind.FLAT]


def test_only_so_many_versions_are_kept_and_raw_frames_of_the_last_two() -> None:
    store = CalibrationStore(raw_frames=3)
    for start in range(0, 120, 10):
        feed(store, FrameKind.DARK, range(start, start + 5), 100)
        store.close_run()
    kept = store.versions()
    assert [version.valid_from for version in kept] == list(range(40, 120, 10))
    assert [version.raw is not None for version in kept] == [False] * 6 + [True] * 2
    assert kept[-1].raw is not None
    assert len(kept[-1].raw) == 3
