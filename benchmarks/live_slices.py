"""The live reconstruction at full size: time of a change, time of a frame, and drift of the running sums.

A ring of 1024 × 1024 × 900 projections needs about 5 GB of memory. Times are wall seconds and processor
seconds: the latter hold on a busy machine, too, on which the former say more of its other work.

    python benchmarks/live_slices.py
    python benchmarks/live_slices.py --parts frame change drift --size 1024 --angles 900
"""

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import cycle

import numpy as np

from tomofly.imaging.xray.backend import Choice, RingShape, open_backend
from tomofly.imaging.xray.level_slices import TiltedPlane
from tomofly.imaging.xray.normalisation import absorption, make_reference
from tomofly.imaging.xray.running_slices import RunningSlices, SlicePlan, Window
from tomofly.imaging.xray.slices import plane_line
from tomofly.live.frames import Frame, FrameKind
from tomofly.live.live_slices import LiveSlices
from tomofly.live.parameters import LiveParameters
from tomofly.live.reconstruction import LiveReconstructor
from tomofly.live.slicer import LiveSlicer, Room


@dataclass(frozen=True, eq=False)
class Fields:
    """Dark and flat for the reconstructor."""

    dark: np.ndarray
    flat: np.ndarray
    flat_scale: float = 1.0


def images(size: int, count: int, seed: int = 0) -> list[np.ndarray]:
    """Counts (y, x), uint16, with an object's shape: times do not depend on what is seen."""
    random = np.random.default_rng(seed)
    s = np.linspace(-1, 1, size)
    light = np.exp(-np.sqrt(np.maximum(0, 0.8 - s * s)))
    return [
        random.poisson(30000 * np.broadcast_to(light, (size, size))).astype(np.uint16) + 100
        for _ in range(count)
    ]


def fields(size: int) -> Fields:
    """Even dark and flat fields."""
    return Fields(np.full((size, size), 100, np.float32), np.full((size, size), 30100, np.float32))


def timed(work: Callable[[], object], repeats: int) -> dict[str, float]:
    """Wall and processor milliseconds of one call, the least of several, compiled before."""
    work()
    walls, own = [], []
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        walls.append(time.perf_counter() - wall)
        own.append(time.process_time() - cpu)
    return {"wall_ms": round(1e3 * min(walls), 2), "cpu_ms": round(1e3 * min(own), 2)}


def filled(size: int, angles: int, room: Room, parameters: LiveParameters) -> LiveSlicer:
    """Give a slicer whose ring is full of one projection."""
    step = 180 / angles
    slicer = LiveSlicer(size, size, replace_step(parameters, step), room)
    image = np.random.default_rng(0).normal(size=(size, size)).astype(np.float32)
    now = time.time()
    for number in range(angles):
        frame = Frame(number, number, image, FrameKind.PROJECTION, number * step, now, now)
        slicer.accept([(frame, image)], 0)
    return slicer


def replace_step(parameters: LiveParameters, step_deg: float) -> LiveParameters:
    """Give parameters with the angular step."""
    return parameters.changed({"angular_step_deg": step_deg})


def measure_frame(size: int, room: Room) -> dict[str, object]:
    """Time what a frame costs, step by step, on one thread."""
    raw = images(size, 1)[0]
    reference = make_reference(fields(size).dark, fields(size).flat)
    backend = open_backend(room.backend, RingShape(size, size, 40), threads=1)
    image = absorption(raw, reference)
    result: dict[str, object] = {
        "normalise_and_log": timed(lambda: absorption(raw, reference), 8),
        "filter_and_bin": timed(lambda: backend.store(0, image), 8),
    }
    for slot in range(40):
        backend.store(slot, image)
    for name in ("ramp", "hann", "parzen"):
        lines = (plane_line("y", size // 3, 0, size), plane_line("x", size // 2, 0, size))
        running = RunningSlices(backend, SlicePlan(lines, None, name, size / 2, size))
        at = np.arange(20.0) * 9
        weight = np.full(20, 0.01)
        windows = [Window(np.arange(20) + first, at, weight) for first in (0, 20)]

        turns = cycle(windows[::-1])

        def swap(running: RunningSlices = running, turns: Iterator[Window] = turns) -> None:
            running.move(next(turns))

        running.fill(windows[0])
        result[f"in_and_out_of_20_{name}"] = timed(swap, 4)
    return result


def measure_change(size: int, angles: int, room: Room) -> dict[str, object]:
    """Time the coarse and the full answer to each kind of change."""
    result: dict[str, object] = {}
    parameters = LiveParameters(filter="hann")
    slicer = filled(size, angles, room, parameters)
    changes: dict[str, dict[str, object]] = {
        "slices": {"ortho_x": size // 3, "ortho_y": size // 4, "ortho_z": size // 5},
        "centre": {"centre": size / 2 + 1.5},
        "filter_hann": {"filter": "hann"},
        "filter_parzen": {"filter": "parzen"},
        "filter_ramp": {"filter": "ramp"},
    }
    for name, values in changes.items():
        slicer.set(replace_step(parameters, 180 / angles).changed(values))
        result[name] = {"coarse": timed(slicer.coarse, 3), "full": timed(slicer.full, 2)}
    return result


def measure_stream(size: int, angles: int, room: Room, seconds: float, rate: float) -> dict[str, object]:
    """Feed frames at a rate, and tell latency, outputs per second, losses and processor time per frame."""
    raw, step = images(size, 8), 180 / angles
    parameters = LiveParameters(filter="hann", angular_step_deg=step)
    latencies: list[float] = []
    outputs: list[LiveSlices] = []
    with LiveReconstructor(lambda _: fields_once(size), parameters, room=room) as live:
        # A full ring first: memory touched for the first time is slow, on virtual machines above all.
        for number in range(angles):
            live.put(frame_of(raw[number % 8], number, step))
            if number % 64 == 0:
                live.drain(60)
        live.drain(60)
        live.on_output(lambda one: (outputs.append(one), latencies.append(one.latency_s)))
        began, cpu = time.perf_counter(), time.process_time()
        count = int(seconds * rate)
        for number in range(count):
            time.sleep(max(0.0, began + number / rate - time.perf_counter()))
            live.put(frame_of(raw[number % 8], angles + number, step))
        taken, own = time.perf_counter() - began, time.process_time() - cpu
        live.drain(60)
        losses = dict(live.losses)
    return {
        "frames_per_second": rate, "outputs_per_second": round(len(outputs) / taken, 1), "losses": losses,
        "latency_p50_ms": round(1e3 * float(np.median(latencies)), 1),
        "latency_p95_ms": round(1e3 * float(np.quantile(latencies, 0.95)), 1),
        "cpu_ms_per_frame": round(1e3 * own / count, 2),
    }  # fmt: skip


_FIELDS: dict[int, Fields] = {}


def fields_once(size: int) -> Fields:
    """Give the same fields each time, as a store of them does."""
    return _FIELDS.setdefault(size, fields(size))


def frame_of(image: np.ndarray, number: int, step: float) -> Frame:
    """Make a projection of now."""
    now = time.time()
    return Frame(number, number, image, FrameKind.PROJECTION, number * step, now, now)


def measure_drift(frames: int, room: Room) -> dict[str, object]:
    """Exchange projections one by one, and compare the running sums with a fresh full one."""
    rows, columns, slots = 64, 96, 90
    random = np.random.default_rng(3)
    backend = open_backend(room.backend, RingShape(rows, columns, slots + 1), threads=1)
    lines = (plane_line("y", 30, 5, columns), plane_line("x", 50, 0, columns))
    plan = SlicePlan(lines, TiltedPlane(20, 0.0, rows), "parzen", 47.3, columns)
    stock = [random.gamma(2, 0.5, (rows, columns)).astype(np.float32) for _ in range(50)]
    running = RunningSlices(backend, plan)
    slots_of, free = np.arange(slots), slots
    for slot in range(slots):
        backend.store(slot, stock[slot % 50])
    angle, weight = np.arange(slots) * 2.0, np.full(slots, np.pi / slots)
    running.fill(Window(slots_of, angle, weight))
    for number in range(frames):
        backend.store(free, stock[number % 50])
        place = number % slots
        slots_of, angle = slots_of.copy(), angle.copy()
        slots_of[place], free = free, slots_of[place]
        angle[place] += 180 + 0.1 * random.normal()
        running.move(Window(slots_of, angle, weight))
    fresh = RunningSlices(backend, plan)
    fresh.fill(Window(slots_of, angle, weight))
    images_of = [[*one.planes(), one.tilted()] for one in (running, fresh)]
    pairs = zip(*images_of, strict=True)
    worst = max(float(np.abs(one - other).max() / np.abs(other).max()) for one, other in pairs)
    return {"frames": frames, "relative_difference": worst}


def main() -> None:
    """Measure what was asked for, and print JSON."""
    parts = ("frame", "change", "stream", "drift")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=parts, default=parts)
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--angles", type=int, default=900)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--backend", choices=("auto", "cpu", "gpu"), default="cpu")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rates", type=float, nargs="+", default=[50, 100])
    parser.add_argument("--drift-frames", type=int, default=100_000)
    asked = parser.parse_args()
    backend: Choice = asked.backend
    room = Room(backend=backend, threads=asked.threads, most_slots=asked.angles + 40)
    result: dict[str, object] = {"load_before": os.getloadavg(), "size": asked.size, "angles": asked.angles}
    if "frame" in asked.parts:
        result["frame"] = measure_frame(asked.size, room)
    if "change" in asked.parts:
        result["change"] = measure_change(asked.size, asked.angles, room)
    if "stream" in asked.parts:
        smaller = replace(room, most_slots=min(room.most_slots, asked.angles + 40))
        result["stream"] = [
            measure_stream(asked.size, asked.angles, smaller, asked.seconds, rate) for rate in asked.rates
        ]
    if "drift" in asked.parts:
        result["drift"] = measure_drift(asked.drift_frames, room)
    print(json.dumps({**result, "load_after": os.getloadavg()}, indent=1))


if __name__ == "__main__":
    main()
