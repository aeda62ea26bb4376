"""The live reconstructor: frames and parameters in, slices out."""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pytest

from tests.imaging.xray.ellipses import draw, project
from tomofly.imaging.xray.filters import filter_rows
from tomofly.imaging.xray.level_slices import level_slice
from tomofly.imaging.xray.slices import Views
from tomofly.live.frames import Frame, FrameKind
from tomofly.live.live_slices import LiveSlices
from tomofly.live.parameters import LiveParameters
from tomofly.live.reconstruction import LiveReconstructor
from tomofly.live.slicer import Room
from tomofly.model.errors import BadInput

ROWS, COLUMNS, CENTRE = 70, 101, 47.3
ANGLES = np.arange(90) * 2.0
ROOM = Room(memory_bytes=200 * 2**20, most_slots=400, backend="cpu", threads=2)


@dataclass(frozen=True, eq=False)
class Pair:
    dark: npt.NDArray[np.float32]
    flat: npt.NDArray[np.float32]
    flat_scale: float = 1.0


FIELDS = Pair(np.full((ROWS, COLUMNS), 100, np.float32), np.full((ROWS, COLUMNS), 40100, np.float32))


def counts(angles: npt.ArrayLike) -> npt.NDArray[np.uint16]:
    absorption = project(angles, ROWS, COLUMNS, CENTRE)
    return np.round(100 + 40000 * np.exp(-absorption)).astype(np.uint16)


def frame(number: int, image: npt.NDArray[np.generic], angle: float, **more: object) -> Frame:
    now = time.time()
    values = {"kind": FrameKind.PROJECTION, **more}
    return Frame(number, number, image, angle_deg=angle, acquired_at=now, received_at=now, **values)


@pytest.fixture(scope="module")
def half_turn() -> list[Frame]:
    return [
        frame(number, image, angle)
        for number, (image, angle) in enumerate(zip(counts(ANGLES), ANGLES, strict=True))
    ]


@pytest.fixture
def live() -> Iterator[LiveReconstructor]:
    parameters = LiveParameters(centre=CENTRE, filter="hann", ortho_x=43, ortho_y=61, ortho_z=66)
    with LiveReconstructor(lambda _: FIELDS, parameters, room=ROOM) as reconstructor:
        yield reconstructor


def feed(live: LiveReconstructor, frames: list[Frame]) -> LiveSlices:
    for one in frames:
        assert live.put(one)
    assert live.drain(30)
    assert live.latest is not None
    return live.latest


def inside() -> npt.NDArray[np.bool_]:
    offset = np.arange(COLUMNS) - COLUMNS // 2
    return np.hypot(offset[:, None], offset[None, :]) < 44


def test_slices_are_those_of_a_batch_of_the_same_projections(
    live: LiveReconstructor, half_turn: list[Frame]
) -> None:
    output = feed(live, half_turn)
    absorption = project(ANGLES, ROWS, COLUMNS, CENTRE)[:, 66].astype(np.float32)
    views = Views(np.arange(90), ANGLES, np.full(90, np.pi / 90), CENTRE, COLUMNS)
    batch = level_slice(filter_rows(absorption), views, "hann")
    error = np.sqrt(((output.z - batch)[inside()] ** 2).mean() / (batch[inside()] ** 2).mean())
    assert error < 5e-3
    assert np.sqrt(((output.z - draw(66, COLUMNS))[inside()] ** 2).mean()) < 0.2 * batch[inside()].std()
    assert output.y.shape == output.x.shape == (ROWS, COLUMNS)
    assert np.abs(output.x[66] - output.z[:, 43])[10:90].max() < 0.05 * batch.max()
    assert np.abs(output.y[66] - output.z[61])[10:90].max() < 0.05 * batch.max()
    assert (output.number, output.angle_deg, output.oldest, output.projections) == (89, 178.0, 0, 90)
    assert output.coverage_deg == pytest.approx(180)
    assert output.unit == "1/px"
    assert 0 <= output.latency_s < 60


def test_running_slices_end_where_a_fresh_sum_does(live: LiveReconstructor, half_turn: list[Frame]) -> None:
    feed(live, half_turn)
    # Half a turn later the other side of the detector sees the object.
    turned = counts(ANGLES + 180)
    later = [frame(90 + n, turned[n], ANGLES[n] + 180) for n in range(90)]
    running = feed(live, later[:50])
    assert running.stage == "running"
    live.set(ortho_x=44)
    live.set(ortho_x=43)
    fresh = live.wait(
        lambda one: one.stage == "full" and one.parameters.ortho_x == 43 and one.sequence > running.sequence
    )
    assert fresh is not None
    for name, tolerance in (("x", 1e-5), ("y", 1e-5), ("z", 0.03)):
        # The horizontal slice is summed through Fourier space at first, and directly later.
        one, other = getattr(running, name), getattr(fresh, name)
        assert np.abs(one - other)[10:-10, 10:-10].max() < tolerance * np.abs(other).max()


def test_a_change_is_answered_coarsely_and_then_fully(
    live: LiveReconstructor, half_turn: list[Frame]
) -> None:
    feed(live, half_turn)
    stages: list[tuple[str, int | None]] = []
    live.on_output(lambda one: stages.append((one.stage, one.parameters.ortho_y)))
    live.set(ortho_y=30, filter="parzen", rot_y=10)
    full = live.wait(lambda one: one.stage == "full" and one.parameters.ortho_y == 30)
    assert full is not None
    assert live.drain()
    assert stages == [("coarse", 30), ("full", 30)]


def test_the_coarse_answer_resembles_the_full_one(live: LiveReconstructor, half_turn: list[Frame]) -> None:
    feed(live, half_turn)
    outputs: list[LiveSlices] = []
    live.on_output(outputs.append)
    live.set(ortho_x=45, centre=47.4)
    assert live.wait(lambda one: one.stage == "full" and one.parameters.ortho_x == 45)
    assert live.drain()
    coarse, full = outputs
    for name in ("x", "y", "z"):
        one, other = getattr(coarse, name), getattr(full, name)
        assert one.shape == other.shape
        assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.9


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"centre": float("nan")}, "centre = nan is refused"),
        ({"centre": 101.0}, "outside of the detector of 70 rows and 101 columns"),
        ({"ortho_z": 70}, "outside of the detector"),
        ({"filter": "hanning"}, "filter = 'hanning' is refused"),
        ({"dezinger": 1}, "Radius 1"),
        ({"alpha": 100.0}, "needs a pixel size"),
        ({"window_turns": float("inf")}, "window_turns = inf is refused"),
        ({"gain": 2}, "gain"),
    ],
)
def test_what_cannot_be_is_refused_with_a_reason(
    live: LiveReconstructor, half_turn: list[Frame], values: dict[str, object], told: str
) -> None:
    feed(live, half_turn[:3])
    before = live.parameters
    with pytest.raises(BadInput) as refusal:
        live.set(**values)
    assert told in str(refusal.value)
    assert live.parameters == before


def test_values_are_per_micrometre_where_the_pixel_size_is_known(
    live: LiveReconstructor, half_turn: list[Frame]
) -> None:
    before = feed(live, half_turn[:20])
    live.set(pixel_size_um=2.0)
    after = live.wait(lambda one: one.stage == "full" and one.unit == "1/um")
    assert after is not None
    assert np.allclose(after.x, before.x / 2, atol=1e-5)
    assert after.settled == 0.0


def test_frames_that_are_no_projections_are_counted_by_reason(half_turn: list[Frame]) -> None:
    image = half_turn[0].image
    with LiveReconstructor(lambda one: FIELDS if one.number > 4 else None, room=ROOM) as live:
        assert not live.put(frame(0, image, 0.0, kind=FrameKind.FLAT))
        assert not live.put(frame(1, image, 0.0, moving=True))
        assert not live.put(frame(2, image, float("nan")))
        assert not live.put(frame(3, image[0], 0.0))
        assert live.put(frame(4, image, 0.0))
        assert live.drain()
        assert live.latest is None
        assert live.put(frame(5, image, 0.0))
        assert live.drain()
        expected = {
            "received": 6,
            "not_projection": 1,
            "moving": 1,
            "no_angle": 1,
            "unreadable": 1,
            "no_fields": 1,
        }
        assert live.losses == expected
        assert live.latest is not None
        assert live.latest.number == 5


def test_put_never_waits_and_what_is_dropped_is_counted(half_turn: list[Frame]) -> None:
    gate = threading.Event()

    def slow(_: Frame) -> Pair:
        assert gate.wait(30)
        return FIELDS

    size = half_turn[0].image.nbytes
    with LiveReconstructor(
        slow, LiveParameters(angular_step_deg=2.0), room=ROOM, queue_bytes=10 * size
    ) as live:
        for one in half_turn:
            assert live.put(one)
        dropped = live.losses["queue_full"]
        gate.set()
        assert live.drain(30)
        assert live.latest is not None
        assert dropped == live.losses["queue_full"] >= 90 - 10 - 16
        assert live.latest.projections == 90 - dropped
        assert live.latest.number == 89


def test_where_frames_come_too_fast_every_other_one_is_left_out_and_counted(half_turn: list[Frame]) -> None:
    gate = threading.Event()

    def slow(_: Frame) -> Pair:
        assert gate.wait(30)
        return FIELDS

    with LiveReconstructor(slow, LiveParameters(angular_step_deg=2.0), room=ROOM) as live:
        for number, one in enumerate(half_turn):
            assert live.put(replace(one, received_at=1e9 + 0.02 * number))
        assert "queue_full" not in live.losses
        left_out = live.losses["thinned_out"]
        gate.set()
        assert live.drain(30)
        assert live.latest is not None
        assert 20 <= left_out <= 60
        assert live.latest.projections == 90 - left_out
        assert live.latest.number == 89
        assert live.latest.coverage_deg > 170, "none of the angles is missed for long"


def test_another_size_begins_anew_and_says_so(live: LiveReconstructor, half_turn: list[Frame]) -> None:
    feed(live, half_turn[:20])
    small = [
        frame(100 + n, one.image[:60, :90].astype(np.uint8), one.angle_deg)
        for n, one in enumerate(half_turn[:5])
    ]
    for one in small:
        live.put(one)
    assert live.drain()
    assert live.losses["no_fields"] == 5
    assert live.put(frame(200, half_turn[0].image, 0.0))
    assert live.drain()
    assert any("70 × 101 uint16 to 60 × 90 uint8" in one for one in live.messages)
    assert any("ortho_z" in one for one in live.messages)
    assert live.latest is not None
    assert (live.latest.projections, live.latest.oldest) == (1, 200)


def test_a_failing_listener_harms_nobody(live: LiveReconstructor, half_turn: list[Frame]) -> None:
    seen: list[int] = []

    def broken(_: LiveSlices) -> None:
        raise RuntimeError("a viewer went away")

    live.on_output(broken)
    live.on_output(lambda one: seen.append(one.number))
    feed(live, half_turn[:10])
    assert seen[-1] == 9


def test_the_centre_is_found_from_opposite_projections(half_turn: list[Frame]) -> None:
    with LiveReconstructor(lambda _: FIELDS, LiveParameters(auto_centre=True), room=ROOM) as live:
        feed(live, half_turn)
        turned = counts(ANGLES + 180)
        output = feed(live, [frame(90 + n, turned[n], ANGLES[n] + 180) for n in range(90)])
        assert output.found_centre is not None
        assert output.found_centre.centre == pytest.approx(CENTRE, abs=0.1)
        assert output.found_centre.certain
        assert output.centre == pytest.approx(CENTRE, abs=0.25)


def test_rings_zingers_and_phase_go_through(live: LiveReconstructor, half_turn: list[Frame]) -> None:
    random = np.random.default_rng(1)
    gain = 1 + 0.05 * random.normal(size=COLUMNS)
    spoilt = []
    for one in half_turn:
        image = one.image * gain
        image[random.integers(0, ROWS, 5), random.integers(0, COLUMNS, 5)] = 65000
        spoilt.append(frame(one.number, image.astype(np.uint16), one.angle_deg))
    truth = draw(66, COLUMNS)

    def error(output: LiveSlices) -> float:
        return float(np.sqrt(((output.z - truth)[inside()] ** 2).mean()))

    before = error(feed(live, spoilt))
    live.set(ring_removal=True, dezinger=2)
    feed(live, [frame(90 + one.number, one.image, one.angle_deg + 360) for one in spoilt])
    after = feed(live, [frame(180 + one.number, one.image, one.angle_deg + 720) for one in spoilt])
    assert after.settled == 1.0
    assert error(after) < 0.7 * before
    live.set(alpha=10.0, pixel_size_um=1.0, energy_kev=30.0, distance_mm=10.0)
    assert feed(live, [frame(300, spoilt[0].image, 0.0)]).settled == pytest.approx(1 / 90)


def test_a_tilted_slice_follows_too(live: LiveReconstructor, half_turn: list[Frame]) -> None:
    live.set(rot_z=20)
    running = feed(live, half_turn)
    live.set(filter="ramp")
    live.set(filter="hann")
    fresh = live.wait(lambda one: one.stage == "full" and one.sequence > running.sequence + 1)
    assert fresh is not None
    assert np.abs(running.z - fresh.z).max() < 1e-5 * np.abs(fresh.z).max()


def test_restart_forgets_all_projections(live: LiveReconstructor, half_turn: list[Frame]) -> None:
    feed(live, half_turn[:30])
    live.restart()
    assert live.drain()
    assert feed(live, half_turn[50:52]).projections == 2


def test_the_preview_is_the_volume_in_small(half_turn: list[Frame]) -> None:
    parameters = LiveParameters(centre=CENTRE, pixel_size_um=0.5)
    with LiveReconstructor(
        lambda _: FIELDS, parameters, room=ROOM, preview_every_s=0.0, preview_size=40
    ) as live:
        feed(live, half_turn)
        preview = live.preview
    assert preview is not None
    assert preview.volume.shape == (35, 50, 50)
    assert (preview.binning, preview.unit) == (2, "1/um")
    truth = draw(40, COLUMNS)[:100, :100].reshape(50, 2, 50, 2).mean(axis=(1, 3)) / 0.5
    inner = slice(8, 42), slice(8, 42)
    assert np.corrcoef(preview.volume[20][inner].ravel(), truth[inner].ravel())[0, 1] > 0.9
    assert preview.volume[20][inner].mean() == pytest.approx(truth[inner].mean(), rel=0.05)


def test_another_lens_begins_anew_with_the_parameters_as_they_are(half_turn: list[Frame]) -> None:
    image = half_turn[0].image
    with LiveReconstructor(lambda _: FIELDS, room=ROOM) as live:
        feed(live, [frame(0, image, 0.0, lens=1)])
        live.set(centre=44.0)
        assert feed(live, [frame(1, image, 2.0, lens=1)]).lens == 1
        other = feed(live, [frame(2, image, 4.0, lens=2)])
        assert (other.projections, other.centre, other.lens) == (1, 44.0, 2)
        assert any("lens 1 to 70 × 101 uint16, lens 2" in one for one in live.messages)


def test_frames_that_never_stop_coming_do_not_keep_a_change_from_being_answered(
    live: LiveReconstructor, half_turn: list[Frame]
) -> None:
    feed(live, half_turn)
    answered = threading.Event()
    live.on_output(
        lambda one: answered.set() if one.parameters.ortho_x == 20 and one.stage == "full" else None
    )
    live.set(ortho_x=20)
    number = 90
    deadline = time.monotonic() + 30
    while not answered.is_set() and time.monotonic() < deadline:
        live.put(frame(number, half_turn[number % 90].image, 2.0 * number))
        number += 1
    assert answered.is_set()


def test_a_failing_step_is_told_and_the_next_frames_are_taken(half_turn: list[Frame]) -> None:
    def fields(one: Frame) -> Pair:
        if one.number == 0:
            raise OSError("the store is gone")
        return FIELDS

    with LiveReconstructor(fields, room=ROOM) as live:
        live.put(frame(0, half_turn[0].image, 0.0))
        assert live.drain()
        assert live.losses["failed"] == 1
        assert any("the store is gone" in one for one in live.messages)
        assert feed(live, half_turn[1:4]).projections == 3
