"""What viewers see: three panels, each slice and a volume, with all that is known of them."""

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from p4p.client.raw import Context as RawContext
from p4p.client.thread import Context

from tests.live.pva_camera import until
from tomofly.formats.ntndarray import NDFrame, parse_ndarray
from tomofly.live.live_slices import LiveSlices
from tomofly.live.losses import LossCounter
from tomofly.live.parameters import LiveParameters
from tomofly.live.publishing import SlicePublisher, describe, join_panels, layout_of

CHANNEL = "2bmb:TomoStream:StreamRecon"


def slices(sequence: int = 1, n: int = 11, nz: int = 7, **more: Any) -> LiveSlices:
    noise = np.random.default_rng(sequence)
    told: dict[str, Any] = {
        "sequence": sequence, "stage": "full", "unit": "1/um", "parameters_version": 3, "centre": 5.25,
        "z": noise.normal(size=(n, n)).astype(np.float32),
        "y": noise.normal(size=(nz, n)).astype(np.float32),
        "x": noise.normal(size=(nz, n)).astype(np.float32),
        "parameters": LiveParameters(filter="hann", pixel_size_um=0.69, window_turns=0.25),
        "ortho_xyz": (4, 5, 3), "number": 70_000, "unique_id": 4464, "angle_deg": 12.5, "oldest": 69_101,
        "projections": 900, "coverage_deg": 180.0, "settled": 1.0, "acquired_at": 1.7e9,
        "made_at": 1.7e9 + 0.25,
        "latency_s": 0.125, "taken_s": 0.05, "found_centre": None,
        "losses": {"received": 900, "queue_full": 3, "no_angle": 2, "not_projection": 40},
    }  # fmt: skip
    return LiveSlices(**{**told, **more})


@pytest.fixture
def publisher() -> Iterator[SlicePublisher]:
    with SlicePublisher(CHANNEL, {}) as publisher:
        yield publisher


def seen(publisher: SlicePublisher, name: str = "") -> NDFrame:
    with Context("pva", conf=publisher.configuration, useenv=False, nt=False) as context:
        return parse_ndarray(context.get(f"{CHANNEL}{name}"))


@pytest.mark.parametrize(("n", "nz"), [(11, 7), (7, 11)])
def test_three_panels_stand_beside_each_other_and_nothing_is_drawn_in(n: int, nz: int) -> None:
    made = slices(n=n, nz=nz)
    picture = join_panels(made.z, made.y, made.x)
    assert picture.shape == (max(n, nz), 3 * n)
    assert picture.dtype == np.float32
    assert np.array_equal(picture[:n, :n], made.z)
    assert np.array_equal(picture[:nz, n : 2 * n], made.y)
    assert np.array_equal(picture[:nz, 2 * n :], made.x)
    rest = picture.copy()
    rest[:n, :n] = 0
    rest[:nz, n:] = 0
    assert not rest.any()
    assert layout_of(made) == f"z:0,{n}x{n} y:{n},{n}x{nz} x:{2 * n},{n}x{nz}"


def test_each_channel_shows_its_picture(publisher: SlicePublisher) -> None:
    made = slices()
    publisher.publish(made)
    publisher.publish_volume(np.arange(24, dtype=np.float32).reshape(2, 3, 4), made)
    until(lambda: publisher.published)
    assert np.array_equal(seen(publisher).image, join_panels(made.z, made.y, made.x))
    for name in ("Z", "Y", "X"):
        assert np.array_equal(seen(publisher, name).image, getattr(made, name.lower()))
    until(lambda: publisher.pvs[f"{CHANNEL}Volume"].current().dimension)
    volume = seen(publisher, "Volume").image
    assert np.array_equal(volume, np.arange(24).reshape(2, 3, 4))


def test_every_picture_says_what_it_is_made_of(publisher: SlicePublisher) -> None:
    publisher.publish(slices(sequence=8))
    until(lambda: publisher.published)
    frame = seen(publisher)
    assert (frame.unique_id, frame.time, frame.data_time, frame.color_mode) == (8, 1.7e9 + 0.25, 1.7e9, 0)
    expected = {
        "FirstId": 69_101, "LastId": 70_000, "Angle": 12.5, "Center": 5.25, "idx": 4, "idy": 5, "idz": 3,
        "Filter": "hann", "Latency_ms": 125.0, "Losses": 5, "Lost_queue_full": 3, "WindowTurns": 0.25,
        "PixelSize_um": 0.69, "Unit": "1/um", "Stage": "full", "ColorMode": 0,
        "PanelLayout": "z:0,11x11 y:11,11x7 x:22,11x7",
    }  # fmt: skip
    assert {name: frame.attributes[name] for name in expected} == expected


def test_losses_of_the_intake_are_told_too() -> None:
    losses = LossCounter()
    for unique_id in (1, 2, 9):
        losses.receive(unique_id)
    losses.lose("capture queue full", 4)
    told = describe(slices(), losses.account())
    assert (told["Losses"], told["Lost_missing"], told["Lost_capture_queue_full"]) == (15, 6, 4)
    assert "Lost_received" not in told


def test_what_is_not_known_is_empty() -> None:
    told = describe(slices(parameters=LiveParameters(), losses={}))
    assert told["PixelSize_um"] is None
    assert told["Losses"] == 0


def test_a_viewer_that_never_looks_stalls_nobody(publisher: SlicePublisher) -> None:
    with RawContext("pva", conf=publisher.configuration, useenv=False, nt=False) as context:
        come = threading.Event()
        asleep = context.monitor(CHANNEL, come.set, request="field()record[queueSize=1]")
        assert come.wait(20)
        for sequence in range(1, 60):
            publisher.publish(slices(sequence, n=301, nz=201))
            until(lambda wanted=sequence: publisher.published + publisher.skipped == wanted)
        assert seen(publisher).unique_id == 59
        asleep.close()


def test_only_the_newest_of_what_waits_is_shown() -> None:
    publisher = SlicePublisher(CHANNEL, {})
    for sequence in range(1, 6):
        publisher.publish(slices(sequence))
    with publisher:
        until(lambda: publisher.published == 1)
        assert seen(publisher).unique_id == 5
        assert publisher.skipped == 4


def test_nobody_may_write_to_the_pictures(publisher: SlicePublisher) -> None:
    with Context("pva", conf=publisher.configuration, useenv=False, nt=False) as context:
        for name in ("", "Z", "Volume"):
            with pytest.raises(Exception, match=r"[Pp]ut"):
                context.put(f"{CHANNEL}{name}", {"uniqueId": 7})


def test_a_slice_that_cannot_be_sent_costs_no_other(publisher: SlicePublisher) -> None:
    publisher.publish(slices(z=np.zeros((0, 0), np.float32)))
    publisher.publish(slices(sequence=4))
    until(lambda: publisher.published)
    # The three panels may have shown the first already: unwatched, they show one now and then.
    until(lambda: seen(publisher, "Z").unique_id == 4)
