"""The live reconstruction: frames and parameters go in at any time, slices come out."""

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from threading import Condition, Thread
from typing import Any

import structlog

from tomofly.imaging.xray.rotation_centre import CentreEstimate
from tomofly.live.frames import Frame
from tomofly.live.live_slices import LivePreview, LiveSlices, Stage
from tomofly.live.parameters import PREPARATION, LiveParameters
from tomofly.live.pixels import binning_ratio
from tomofly.live.preparation import FieldsOf, Preparation, why_not
from tomofly.live.slicer import BATCH, Images, LiveSlicer, Room

log = structlog.get_logger(__name__)

_MEBIBYTE = 2**20
# Where frames have waited this long, for this long, every other one is left out: slices that are late by
# seconds help nobody, and angles that lie twice as far apart are missed less than a range of them.
_LATE_S, _PATIENCE_S = 0.5, 0.5
# Size, type and lens: what projections of one ring have in common.
_Kind = tuple[tuple[int, ...], str, int | None]


class LiveReconstructor:
    """Reconstructs three slices from frames as they come, in a thread of its own.

    ``fields_of`` gives the dark and flat of a frame, or None while there are none. ``queue_bytes`` bounds
    the frames that wait; when they are more, the oldest is dropped and counted. Where the machine is too slow
    for the frames, every other one that waits is left out, and counted. ``most_per_second``: outputs while
    nothing but new projections comes. ``preview_every_s``: a small volume of ``preview_size`` voxels along x
    is made so often, with an output. All methods may be called from any thread, and none waits for
    arithmetic but ``wait``, ``drain`` and ``close``.
    """

    def __init__(
        self,
        fields_of: FieldsOf,
        parameters: LiveParameters | None = None,
        *,
        room: Room | None = None,
        queue_bytes: int = 512 * _MEBIBYTE,
        most_per_second: float = 15.0,
        preview_every_s: float | None = None,
        preview_size: int = 96,
    ) -> None:
        self._room = room or Room()
        self._preparation = Preparation(fields_of, self._room.threads)
        self._queue_bytes, self._interval = queue_bytes, 1 / most_per_second
        self._preview_every_s, self._preview_size = preview_every_s, preview_size
        self._preview: LivePreview | None = None
        self._preview_due = 0.0
        self._changed = Condition()
        self._queue: deque[Frame] = deque()
        self._queued_bytes = 0
        self._late_since: float | None = None
        self._parameters = parameters or LiveParameters()
        self._version = self._prepared_as = 0
        self._forget = self._closing = self._busy = False
        self._losses: Counter[str] = Counter()
        self._messages: deque[str] = deque(maxlen=100)
        self._detector: tuple[int, int] | None = None
        self._latest: LiveSlices | None = None
        self._listeners: list[Callable[[LiveSlices], None]] = []
        # Of the worker alone.
        self._slicer: LiveSlicer | None = None
        self._fitted: _Kind | None = None
        self._in_effect = -1
        self._waiting = 0
        self._thread = Thread(target=self._work, name="live reconstruction", daemon=True)
        self._thread.start()

    def put(self, frame: Frame) -> bool:
        """Take a frame; False where it is no part of a reconstruction, which is counted by reason."""
        reason = why_not(frame)
        with self._changed:
            if self._closing:
                return False
            self._losses["received"] += 1
            if reason is not None:
                self._losses[reason] += 1
                return False
            self._queue.append(frame)
            self._queued_bytes += frame.image.nbytes
            while self._queued_bytes > self._queue_bytes and len(self._queue) > 1:
                self._queued_bytes -= self._queue.popleft().image.nbytes
                self._losses["queue_full"] += 1
            self._thin_out(frame.received_at)
            self._changed.notify_all()
        return True

    def _thin_out(self, now: float) -> None:
        """Leave out every other frame that waits, where the worker has been behind for a while."""
        if now - self._queue[0].received_at < _LATE_S:
            self._late_since = None
        elif self._late_since is None:
            self._late_since = now
        elif now - self._late_since > _PATIENCE_S:
            before, self._late_since = len(self._queue), None
            self._queue = deque(list(self._queue)[1::2])
            self._queued_bytes = sum(frame.image.nbytes for frame in self._queue)
            self._losses["thinned_out"] += before - len(self._queue)

    def set(self, **values: Any) -> LiveParameters:
        """Change parameters, in effect on the next output.

        Raises BadInput with the reason where a value is refused; then nothing has changed.
        """
        with self._changed:
            after = self._parameters.changed(values)
            if self._detector is not None:
                after.check_against(*self._detector)
            if after != self._parameters:
                if any(getattr(after, name) != getattr(self._parameters, name) for name in PREPARATION):
                    self._prepared_as += 1
                self._parameters = after
                self._version += 1
                self._changed.notify_all()
            return after

    def restart(self) -> None:
        """Forget all projections, as for a new sample."""
        with self._changed:
            self._forget = True
            self._changed.notify_all()

    def on_output(self, call: Callable[[LiveSlices], None]) -> None:
        """Call with every output, in the worker's thread; an exception of it is logged, and nothing else."""
        self._listeners.append(call)

    @property
    def latest(self) -> LiveSlices | None:
        """The newest output."""
        return self._latest

    @property
    def preview(self) -> LivePreview | None:
        """The newest small volume, where ``preview_every_s`` asks for any."""
        return self._preview

    @property
    def parameters(self) -> LiveParameters:
        """The parameters as last set."""
        return self._parameters

    @property
    def losses(self) -> Mapping[str, int]:
        """Frames received, and not used by reason."""
        with self._changed:
            return dict(self._losses)

    @property
    def messages(self) -> tuple[str, ...]:
        """What a person should know, oldest first."""
        return tuple(self._messages)

    def wait(
        self, wanted: Callable[[LiveSlices], bool] = lambda _: True, timeout_s: float = 10.0
    ) -> LiveSlices | None:
        """Wait for an output of which ``wanted`` is true; None where none came in time."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._closing or (self._latest is not None and wanted(self._latest)), timeout_s
            )
            return self._latest if self._latest is not None and wanted(self._latest) else None

    def drain(self, timeout_s: float = 10.0) -> bool:
        """Wait until every frame that was put is in an output or counted; False where it took too long."""
        with self._changed:
            return self._changed.wait_for(lambda: not (self._queue or self._waiting or self._busy), timeout_s)

    def close(self) -> None:
        """Stop; frames that wait are left out."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join()

    def __enter__(self) -> "LiveReconstructor":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _work(self) -> None:
        due = 0.0
        while (step := self._next_step(due)) is not None:
            try:
                self._begin_anew(step)
                self._accept(step)
                began = time.monotonic()
                if self._answer(step, due):
                    due = began + self._interval
                    self._look_at_all(step)
            except Exception as error:  # the session goes on with the next frame
                self._note(f"a step of the live reconstruction failed: {error}", "failed", len(step.frames))
                log.exception("live reconstruction failed")
                self._slicer, self._fitted, self._waiting = None, None, 0

    def _next_step(self, due: float) -> "_Step | None":
        """Wait for something to do; None when closing."""
        with self._changed:
            self._busy = False
            self._changed.notify_all()
            rest = max(0.0, due - time.monotonic()) if self._waiting else None
            self._changed.wait_for(self._something, rest)
            if self._closing:
                return None
            self._busy = True
            forget, self._forget = self._forget, False
            return _Step(self._take(), self._parameters, self._version, self._prepared_as, forget)

    def _something(self) -> bool:
        full = self._waiting >= BATCH
        changed = self._has_projections and self._version != self._in_effect
        return bool(self._queue and not full) or self._closing or self._forget or changed or full

    def _take(self) -> list[Frame]:
        """Take frames that fit the ring's spare slots, all of one kind."""
        frames: list[Frame] = []
        while self._queue and len(frames) + self._waiting < BATCH:
            if frames and _kind(self._queue[0]) != _kind(frames[0]):
                break
            frames.append(self._queue.popleft())
            self._queued_bytes -= frames[-1].image.nbytes
        return frames

    @property
    def _has_projections(self) -> bool:
        return self._slicer is not None and self._slicer.newest is not None

    def _begin_anew(self, step: "_Step") -> None:
        """Make the ring anew where the frames' size, type or lens changed, or it was asked for."""
        if step.forget and self._slicer is not None:
            self._slicer.forget()
            self._in_effect = -1
        if not step.frames or self._fitted == _kind(step.frames[0]):
            return
        before, self._fitted = self._fitted, _kind(step.frames[0])
        found = None if self._slicer is None else self._slicer.found_centre
        rows, columns = step.frames[0].image.shape
        self._in_effect, self._waiting = -1, 0
        with self._changed:
            if before is not None:
                self._rescale(binning_ratio((before[0][0], before[0][1]), (rows, columns)), found)
            self._detector = (rows, columns)
            fitting, outside = self._parameters.within(rows, columns)
            if fitting != self._parameters:
                self._parameters = fitting
                self._version += 1
            step.parameters, step.version = self._parameters, self._version
        if self._slicer is None or before is None or before[:2] != self._fitted[:2]:
            # The old ring goes before the new one comes: both may not fit the memory.
            self._slicer = None
            self._slicer = LiveSlicer(rows, columns, step.parameters, self._room)
        else:
            self._slicer.forget()
        if before is not None:
            self._note(f"frames changed from {_told(before)} to {_told(self._fitted)}: the ring begins anew")
        if outside:
            self._note(f"outside of the new detector, and at their defaults: {', '.join(outside)}")

    def _rescale(self, ratio: float, found: CentreEstimate | None) -> None:
        """Keep what is looked at when the binning has changed; under the lock."""
        if ratio == 1:
            return
        now = self._parameters
        if now.auto_centre and found is not None and found.certain:
            now = now.model_copy(update={"centre": found.centre})
        self._parameters = now.rescaled(ratio)
        self._version += 1

    def _accept(self, step: "_Step") -> None:
        if not step.frames or self._slicer is None:
            return
        prepared, without = self._preparation.prepare(step.frames, step.parameters)
        if without:
            self._note(self._preparation.complaint or "no dark and flat fit the frames", "no_fields", without)
        if prepared:
            self._slicer.accept(prepared, step.prepared_as)
            self._waiting += len(prepared)

    def _answer(self, step: "_Step", due: float) -> bool:
        """Give out what there is to give: after a change at once, else when it is due."""
        if self._slicer is None or not self._has_projections:
            return False
        if step.version != self._in_effect:
            self._answer_change(self._slicer, step)
            return True
        if not self._waiting or (time.monotonic() < due and self._waiting < BATCH):
            return False
        began = time.monotonic()
        images = self._slicer.follow()
        if images is None:
            return self._answer_full(self._slicer, step)
        self._publish(self._slicer, step, images, "running", began)
        return True

    def _answer_change(self, slicer: LiveSlicer, step: "_Step") -> None:
        began = time.monotonic()
        slicer.set(step.parameters)
        self._publish(slicer, step, slicer.coarse(), "coarse", began)
        if self._answer_full(slicer, step):
            self._in_effect = step.version

    def _answer_full(self, slicer: LiveSlicer, step: "_Step") -> bool:
        began = time.monotonic()
        images = slicer.full(lambda: self._closing or self._version != step.version)
        if images is None:
            return False
        self._publish(slicer, step, images, "full", began)
        return True

    def _look_at_all(self, step: "_Step") -> None:
        """Make a preview when one is due, and no frames are in danger of being dropped for it."""
        slicer = self._slicer
        if self._preview_every_s is None or time.monotonic() < self._preview_due or slicer is None:
            return
        if 2 * self._queued_bytes > self._queue_bytes or slicer.newest is None:
            return
        self._preview_due = time.monotonic() + self._preview_every_s
        volume, pixel = slicer.preview(self._preview_size), step.parameters.pixel_size_um
        self._preview = LivePreview(
            volume if pixel is None else volume / pixel, slicer.shape.columns // volume.shape[2],
            "1/px" if pixel is None else "1/um", slicer.newest.number, time.time(),
        )  # fmt: skip

    def _publish(self, slicer: LiveSlicer, step: "_Step", images: Images, stage: Stage, began: float) -> None:
        newest, entries = slicer.newest, slicer.ring.entries()
        if newest is None or not entries:
            return
        pixel = step.parameters.pixel_size_um
        z, y, x = ((image if pixel is None else image / pixel) for image in (images.z, images.y, images.x))
        made_at = time.time()
        output = LiveSlices(
            sequence=0 if self._latest is None else self._latest.sequence + 1, stage=stage, z=z, y=y, x=x,
            unit="1/px" if pixel is None else "1/um", parameters=step.parameters,
            parameters_version=step.version, centre=slicer.centre, ortho_xyz=slicer.ortho_xyz,
            number=newest.number, unique_id=newest.unique_id, angle_deg=newest.angle_deg,
            oldest=min(entry.number for entry in entries), projections=len(entries),
            coverage_deg=slicer.ring.coverage_deg(), settled=slicer.settled(step.prepared_as),
            acquired_at=newest.acquired_at, made_at=made_at, latency_s=made_at - newest.received_at,
            taken_s=time.monotonic() - began, found_centre=slicer.found_centre, losses=self.losses,
            lens=newest.lens,
        )  # fmt: skip
        with self._changed:
            self._latest = output
            if stage != "coarse":
                self._waiting = 0
            self._changed.notify_all()
        for call in self._listeners:
            try:
                call(output)
            except Exception:
                log.exception("a listener of the live reconstruction failed")

    def _note(self, message: str, loss: str | None = None, count: int = 0) -> None:
        with self._changed:
            if loss is not None:
                self._losses[loss] += count
        if not self._messages or self._messages[-1] != message:
            self._messages.append(message)
            log.warning(message)


@dataclass
class _Step:
    """What the worker took at once, under one lock."""

    frames: list[Frame]
    parameters: LiveParameters
    version: int
    prepared_as: int
    forget: bool


def _kind(frame: Frame) -> _Kind:
    return (frame.image.shape, str(frame.image.dtype), frame.lens)


def _told(kind: _Kind) -> str:
    lens = "" if kind[2] is None else f", lens {kind[2]}"
    return f"{' × '.join(str(size) for size in kind[0])} {kind[1]}{lens}"
