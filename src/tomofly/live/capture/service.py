"""Takes requests for captures, and writes them in a thread of its own while the frames come."""

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Condition, Thread
from typing import Self

import structlog

from tomofly.formats.data_exchange.layout import Fact
from tomofly.formats.data_exchange.writing import Compression
from tomofly.live.calibration import CalibrationStore
from tomofly.live.capture.names import final_path
from tomofly.live.capture.recording import Recording
from tomofly.live.capture.recovery import Recovered, recover, unfinished_parts
from tomofly.live.capture.request import CaptureRequest, CaptureTicket, Ending
from tomofly.live.capture.space import FreeBytes, SpaceGuard, free_bytes
from tomofly.live.frames import Frame, FrameKind
from tomofly.live.losses import LossCounter
from tomofly.live.raw_ring import RawRing
from tomofly.model.errors import BadInput

log = structlog.get_logger(__name__)

QUEUE_FULL = "capture queue full"
# So much is written at most before the others get their turn.
_FRAMES_A_TURN = 16
# What a crash may cost.
_FLUSH_S = 0.25
_END_S = 60.0
_HISTORY = 100


@dataclass(frozen=True)
class CaptureSettings:
    """Where captures go and what they may cost.

    `base`: what numbered names begin with. `ring_bytes`: memory of frames from before requests, and
    `queue_bytes` of what waits to be written. `reserve_bytes` of the disk stay free. `at_once`: captures.
    `compression`: 'none' writes at the speed of the disk, and every reader can read it.
    """

    folder: Path
    base: str = "capture"
    ring_bytes: int = 2 << 30
    queue_bytes: int = 1 << 30
    reserve_bytes: int = 1 << 30
    at_once: int = 4
    compression: Compression = "none"


@dataclass
class _Passing:
    """How the frames pass, of all kinds."""

    last_number: int | None = None
    frame_bytes: int = 0
    # Before which number how many never came, and which one of them came late (-1).
    gaps: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=10_000))
    tickets: list[CaptureTicket] = field(default_factory=list)


class CaptureService:
    """The ring of raw frames, and the captures that take from it and from what follows.

    `put` takes every frame of the stream and never waits. A request takes effect between two frames: nothing
    is missing or double between those from the ring and those that follow. `facts` is asked at each request
    for what is known of the beamline.
    """

    def __init__(
        self,
        settings: CaptureSettings,
        *,
        calibration: CalibrationStore | None = None,
        losses: LossCounter | None = None,
        facts: Callable[[], Mapping[str, Fact]] = dict,
        free: FreeBytes = free_bytes,
    ) -> None:
        self.settings = settings
        self.ring = RawRing(settings.ring_bytes)
        self._calibration, self._losses, self._facts = calibration, losses or LossCounter(), facts
        self._free = free
        self._space = SpaceGuard(settings.folder, settings.reserve_bytes, free)
        self._changed = Condition()
        self._recordings: list[Recording] = []
        self._passing = _Passing()
        self._closing = False
        self._thread = Thread(target=self._run, name="capture", daemon=True)
        self._recovering: Thread | None = None
        self.recovered: tuple[Recovered, ...] = ()

    def start(self) -> Self:
        """Begin, and meanwhile recover what an earlier run left; raises OSError for a folder of no use."""
        self.settings.folder.mkdir(parents=True, exist_ok=True)
        self._begin_recovery(unfinished_parts(self.settings.folder))
        self._thread.start()
        return self

    def move(self, folder: Path) -> None:
        """Write into another folder from now on; the ring stays.

        Raises BadInput during a capture, and OSError for a folder of no use; then nothing has changed.
        """
        folder.mkdir(parents=True, exist_ok=True)
        left = unfinished_parts(folder)
        with self._changed:
            if self._recordings:
                raise BadInput("A capture is under way", "Wait for it to end")
            self.settings = replace(self.settings, folder=folder)
            self._space = SpaceGuard(folder, self.settings.reserve_bytes, self._free)
        self._begin_recovery(left)

    def _begin_recovery(self, left: list[Path]) -> None:
        self._recovering = Thread(
            target=self._recover, args=(left, self._space), name="recovery", daemon=True
        )
        self._recovering.start()

    def _recover(self, left: list[Path], space: SpaceGuard) -> None:
        try:
            self.recovered = (*self.recovered, *recover(left, space))
        except OSError as error:
            log.warning("a killed capture cannot be recovered", reason=str(error))

    def close(self) -> None:
        """End captures with what they have, and wait until that is on the disk."""
        with self._changed:
            self._closing = True
            for recording in self._recordings:
                recording.stop(Ending.CLOSED)
            self._changed.notify()
        for thread in (self._thread, self._recovering):
            if thread is not None and thread.is_alive():
                thread.join(_END_S)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def put(self, frame: Frame) -> None:
        """Take a frame of the stream, of whatever kind; only projections are kept."""
        with self._changed:
            self._count_missing(frame)
            if frame.kind is not FrameKind.PROJECTION:
                return
            self._passing.frame_bytes = frame.image.nbytes
            self.ring.put(frame)
            lost = sum(not recording.offer(frame) for recording in self._recordings)
            self._changed.notify()
        if lost:
            self._losses.lose(QUEUE_FULL, lost)

    def _count_missing(self, frame: Frame) -> None:
        """Numbers that never came, to each capture that waits for frames; a late one was missing no more."""
        passing = self._passing
        last = passing.last_number
        gap = 0 if last is None else frame.number - last - 1
        passing.last_number = frame.number if last is None else max(frame.number, last)
        if not gap:
            return
        passing.gaps.append((frame.number, max(gap, -1)))
        for recording in self._recordings:
            ticket = recording.ticket
            if recording.accepts and ticket.taken:
                ticket.missing = max(ticket.missing + max(gap, -1), 0)

    def request(self, request: CaptureRequest) -> CaptureTicket:
        """Begin a capture now; raises BadInput where there is no room for it or its name is taken."""
        facts = dict(self._facts())
        with self._changed:
            if self._closing or len(self._recordings) >= self.settings.at_once:
                raise BadInput(f"{len(self._recordings)} captures are under way", "Wait for one to end")
            before = self.ring.latest(request.before)
            self._space.require((len(before) + request.frames) * self._passing.frame_bytes)
            settings = self.settings
            path = final_path(settings.folder, settings.base, request.name, overwrite=request.overwrite)
            if any(recording.ticket.path == path for recording in self._recordings):
                raise BadInput(f"{path.name} is being written", "Choose another name")
            ticket = CaptureTicket(request, path, len(before))
            if before:
                span = range(before[0].number + 1, before[-1].number + 1)
                ticket.missing = sum(gap for number, gap in self._passing.gaps if number in span)
            recording = Recording(
                ticket, before, calibration=self._calibration, space=self._space,
                compression=settings.compression, queue_bytes=settings.queue_bytes, facts=facts,
            )  # fmt: skip
            recording.reserve()
            self._recordings.append(recording)
            self._passing.tickets = [*self._passing.tickets[1 - _HISTORY :], ticket]
            self._changed.notify()
        log.info("capture", file=path.name, before=len(before), frames=request.frames, reason=request.reason)
        return ticket

    def stop(self, ticket: CaptureTicket | None = None) -> None:
        """End a capture, or all, with what they have."""
        with self._changed:
            for recording in self._recordings:
                if ticket is None or recording.ticket is ticket:
                    recording.stop()
            self._changed.notify()

    @property
    def tickets(self) -> tuple[CaptureTicket, ...]:
        """The last captures, oldest first."""
        with self._changed:
            return tuple(self._passing.tickets)

    @property
    def active(self) -> tuple[CaptureTicket, ...]:
        """The captures under way, oldest first."""
        with self._changed:
            return tuple(recording.ticket for recording in self._recordings)

    def message(self) -> str:
        """What is being done, in the words of tomoScan's StreamMessage."""
        with self._changed:
            if not self._recordings:
                return "Done"
            if self._recordings[0].in_ring_frames:
                return "Capturing circular buffer"
            return "Capturing projections"

    def _run(self) -> None:
        flushed = time.monotonic()
        while True:
            with self._changed:
                self._changed.wait_for(self._has_work, _FLUSH_S)
                recordings = list(self._recordings)
                if self._closing and not recordings:
                    return
            ended = [recording for recording in recordings if recording.write(_FRAMES_A_TURN)]
            if ended:
                with self._changed:
                    self._recordings = [kept for kept in self._recordings if kept not in ended]
            if time.monotonic() - flushed >= _FLUSH_S:
                flushed = time.monotonic()
                for recording in recordings:
                    recording.flush()

    def _has_work(self) -> bool:
        waiting = any(recording.waiting or not recording.accepts for recording in self._recordings)
        return waiting or (self._closing and not self._recordings)
