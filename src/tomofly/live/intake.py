"""The camera's images over PVAccess: received, numbered, read, and handed to whoever wants them."""

import math
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from threading import Condition, Event, Lock, Thread
from typing import Self

import structlog
from p4p import Value
from p4p.client.raw import Context, Disconnected, Subscription

from tomofly.formats.ntndarray import NDFrame, has_pixels, parse_ndarray, peek_unique_id
from tomofly.live.frame_numbers import Arrival
from tomofly.live.frame_reading import FrameReader
from tomofly.live.frames import Frame
from tomofly.live.losses import LossCounter
from tomofly.model.errors import BadInput

log = structlog.get_logger(__name__)

# A server that comes back is looked for this often; the library itself slows down to once in half a minute.
_SEARCH_S = 2.0
# The rate is that of about this many frames.
_RATE_FRAMES = 30
_END_S = 5.0


class Consumer:
    """Somebody who wants frames: a function, called in a thread of its own, behind a queue with an end.

    What does not fit into the queue is lost and counted; the camera never waits.
    """

    def __init__(
        self, name: str, take: Callable[[Frame], None], losses: LossCounter, depth: int = 64
    ) -> None:
        if depth < 1:
            raise ValueError(f"a queue of {depth} frames holds none")
        self.name = name
        self._take, self._losses, self._depth = take, losses, depth
        self._waiting: deque[Frame] = deque()
        self._changed = Condition()
        self._closed = False
        self._thread = Thread(target=self._run, name=f"frames for {name}", daemon=True)
        self._thread.start()

    def offer(self, frame: Frame) -> bool:
        """Queue the frame; False where it is lost, as the queue is full."""
        with self._changed:
            fits = len(self._waiting) < self._depth and not self._closed
            if fits:
                self._waiting.append(frame)
                self._changed.notify()
        if not fits:
            self._losses.lose(f"{self.name} queue full")
        return fits

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if not self._waiting:
                    return
                frame = self._waiting.popleft()
            try:
                self._take(frame)
            except Exception:
                # One bad frame, or a fault of one consumer, must not stop the others.
                self._losses.lose(f"{self.name} failed")
                log.exception("a consumer failed on a frame", consumer=self.name, frame=frame.number)

    def close(self) -> None:
        """Take what waits, then end."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(_END_S)


@dataclass(frozen=True)
class IntakeStatus:
    """How the intake is doing. `flags` count frames by what they did not say of themselves."""

    channel: str
    connected: bool
    frames_per_s: float
    shape_yx: tuple[int, int] | None
    dtype: str
    changes: int
    problem: str
    flags: Mapping[str, int] = field(default_factory=dict)


class Intake:
    """Watches one channel of NTNDArrays; a server that goes away is waited for.

    `queue_frames`: how many frames the PVAccess library keeps for us while we are busy. A frame that overruns
    that queue is replaced by the next, which shows as a gap in the ids and is counted as missing.
    `configuration`: EPICS_PVA_* settings of the client; those of the environment where None.
    """

    def __init__(
        self,
        channel: str,
        *,
        reader: FrameReader | None = None,
        losses: LossCounter | None = None,
        queue_frames: int = 200,
        configuration: Mapping[str, str] | None = None,
    ) -> None:
        self.channel = channel
        self.reader = reader or FrameReader()
        self.losses = losses or LossCounter()
        self._request = f"field()record[queueSize={queue_frames}]"
        self._configuration = configuration
        self._consumers: tuple[Consumer, ...] = ()
        self._lock = Lock()
        self._wake = Event()
        self._closing = False
        self._thread: Thread | None = None
        self._connected = False
        self._problem = ""
        self._flags: Counter[str] = Counter()
        self._form: tuple[tuple[int, ...], str] | None = None
        self._changes = 0
        self._interval_s = math.nan
        self._last_at = math.nan

    def attach(self, name: str, take: Callable[[Frame], None], *, depth: int = 64) -> Consumer:
        """Hand every frame from now on to `take`, in a thread of its own behind a queue of `depth` frames."""
        consumer = Consumer(name, take, self.losses, depth)
        with self._lock:
            self._consumers = (*self._consumers, consumer)
        return consumer

    def detach(self, consumer: Consumer) -> None:
        """Hand it no more frames, and end its thread."""
        with self._lock:
            self._consumers = tuple(other for other in self._consumers if other is not consumer)
        consumer.close()

    def start(self) -> Self:
        """Begin to watch the channel."""
        conf = self._configuration
        context = Context("pva", conf=conf, useenv=conf is None, nt=False)
        name = f"intake of {self.channel}"
        self._thread = Thread(target=self._run, args=(context,), name=name, daemon=True)
        self._thread.start()
        return self

    def close(self) -> None:
        """Stop watching; consumers take what waits for them, and end."""
        self._closing = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(_END_S)
        for consumer in self._consumers:
            consumer.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    def status(self) -> IntakeStatus:
        """How it stands."""
        form = self._form
        # A rate that is not renewed falls as time goes by.
        interval = max(self._interval_s, time.time() - self._last_at)
        return IntakeStatus(
            channel=self.channel,
            connected=self._connected,
            frames_per_s=1 / interval if interval > 0 else 0.0,
            shape_yx=(form[0][0], form[0][1]) if form else None,
            dtype=form[1] if form else "",
            changes=self._changes,
            problem=self._problem,
            flags=dict(self._flags),
        )

    def _subscribe(self, context: Context) -> Subscription:
        return context.monitor(self.channel, self._wake.set, request=self._request)

    def _run(self, context: Context) -> None:
        subscription = self._subscribe(context)
        while not self._closing:
            woken = self._wake.wait(_SEARCH_S)
            self._wake.clear()
            if self._drain(subscription):
                subscription.close()
                subscription = self._subscribe(context)
            if not self._connected and not woken:
                context.hurryUp()
        subscription.close()
        context.close()

    def _drain(self, subscription: Subscription) -> bool:
        """Take all that has come; True where the subscription has ended and must be made anew."""
        while not self._closing and (event := subscription.pop()) is not None:
            if isinstance(event, Value):
                self._connected = True
                self._take_safely(event)
                continue
            self._connected = False
            log.warning("the camera's channel is gone", channel=self.channel, reason=str(event))
            if not isinstance(event, Disconnected):
                self._problem = f"{self.channel}: {event}"
                return True
        return False

    def _take_safely(self, value: Value) -> None:
        try:
            self._take(value)
        except Exception:
            # Whatever a server sends, the next frame must be taken.
            self.losses.lose("unreadable")
            log.exception("an image cannot be read", channel=self.channel)

    def _take(self, value: Value) -> None:
        received_at = time.time()
        if not has_pixels(value):  # what a server shows before its first frame
            return
        unique_id, taken_at = peek_unique_id(value)
        numbered = self.losses.receive(unique_id, taken_at)
        if numbered.arrival is Arrival.DUPLICATE:
            return
        try:
            frame, flags = self.reader.read(_one_image(parse_ndarray(value)), numbered, received_at)
        except BadInput as error:
            self.losses.lose("unreadable")
            self._problem = str(error)
            return
        self._note(frame, flags)
        for consumer in self._consumers:
            consumer.offer(frame)

    def _note(self, frame: Frame, flags: tuple[str, ...]) -> None:
        self._problem = ""
        self._flags.update(str(flag) for flag in flags)
        interval = frame.received_at - self._last_at
        if math.isfinite(interval):
            weight = 1 / _RATE_FRAMES
            known = math.isfinite(self._interval_s)
            self._interval_s = self._interval_s * (1 - weight) + interval * weight if known else interval
        self._last_at = frame.received_at
        form = (frame.image.shape, str(frame.image.dtype))
        if form != self._form:
            self._changes += self._form is not None
            self._form = form
            log.info("the camera's images", shape=form[0], dtype=form[1], first=frame.number)


def _one_image(received: NDFrame) -> NDFrame:
    if received.image.ndim != 2:
        raise BadInput(
            f"the images have {received.image.ndim} dimensions", "set the camera to monochrome images"
        )
    return received
