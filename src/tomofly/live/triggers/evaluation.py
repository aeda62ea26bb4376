"""Measures in a process of their own: none can hold up the live reconstruction, or outlast its time limit."""

import multiprocessing
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from tomofly.live.triggers.observation import Mask, Observation
from tomofly.live.triggers.plugins import measure_of
from tomofly.live.triggers.settings import MetricMeasure, TriggerSettings
from tomofly.model import TomoflyError

LOADING_LIMIT_S = 120.0
"""Learning from strokes and loading a model may take so long, once."""

_CONTEXT = multiprocessing.get_context("spawn")


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What a measurement gave: a value (NaN where there is none), what it counted, or why it failed."""

    value: float = float("nan")
    mask: Mask | None = None
    trouble: str = ""
    seconds: float = 0.0


class Evaluator:
    """One trigger's measure, in a process that is ended when it takes too long, and then started again."""

    def __init__(self, settings: TriggerSettings) -> None:
        self._settings = settings
        self._child: _Child | None = None
        self._lock = threading.Lock()
        self._closed = False

    def start(self) -> None:
        """Start the process and make the measure. Raises TomoflyError where it cannot be made."""
        with self._lock:
            self._started()

    def evaluate(self, seen: Observation) -> Evaluation:
        """Measure, within the time limit."""
        begun, limit = time.monotonic(), self._settings.time_limit_s
        with self._lock:
            try:
                child = self._child or self._started()
            except TomoflyError as error:
                return Evaluation(trouble=str(error))
            answer = child.asked(_needed(self._settings, seen), limit)
            if answer is None:
                self._stop()
        seconds = time.monotonic() - begun
        if answer is None:
            over = f"took longer than {limit:g} s and was ended"
            return Evaluation(trouble=over if seconds >= limit else "its process ended", seconds=seconds)
        return Evaluation(answer["value"], answer["mask"], answer["trouble"], seconds)

    def close(self) -> None:
        """End the process, also one that somebody is waiting for."""
        self._closed = True
        if (child := self._child) is not None:
            child.kill()
        with self._lock:
            self._stop()

    def _started(self) -> "_Child":
        if self._closed:
            raise TomoflyError(f"The trigger '{self._settings.name}' is being ended")
        self._child = child = _Child(self._settings)
        if self._closed:  # meanwhile
            child.kill()
        answer = child.answer(LOADING_LIMIT_S)
        if answer is None or answer["trouble"]:
            self._stop()
            why = answer["trouble"] if answer else "its process ended, or took too long to get ready"
            raise TomoflyError(f"The trigger '{self._settings.name}' cannot work: {why}", "Mend its settings")
        return child

    def _stop(self) -> None:
        if self._child is not None:
            self._child.end()
        self._child = None


class _Child:
    """The process of a measure and the pipe to it."""

    def __init__(self, settings: TriggerSettings) -> None:
        self._pipe, theirs = _CONTEXT.Pipe()
        name = f"trigger {settings.name}"
        self._process = _CONTEXT.Process(target=_serve, args=(theirs, settings), name=name, daemon=True)
        self._process.start()
        theirs.close()

    def asked(self, seen: Observation, limit_s: float) -> dict[str, Any] | None:
        """Have something measured; None where no answer comes in time."""
        try:
            self._pipe.send(seen)
        except OSError:
            return None
        return self.answer(limit_s)

    def answer(self, limit_s: float) -> dict[str, Any] | None:
        """Wait for an answer; None where none comes in time."""
        try:
            answer: dict[str, Any] | None = self._pipe.recv() if self._pipe.poll(limit_s) else None
        except (EOFError, OSError):
            return None
        return answer

    def kill(self) -> None:
        """End the process, from any thread; whoever waits for an answer learns it."""
        with suppress(ValueError):  # it has ended by itself
            self._process.kill()

    def end(self) -> None:
        """End the process at once."""
        self._pipe.close()
        self._process.kill()
        self._process.join()
        self._process.close()


def _needed(settings: TriggerSettings, seen: Observation) -> Observation:
    """Leave out the pictures that the measure does not look at: they need not be copied."""
    measure = settings.measure
    wanted = () if isinstance(measure, MetricMeasure) else (measure.source,)
    images = {name: image for name, image in seen.images.items() if name in wanted}
    return Observation(images, seen.metrics, seen.first_frame, seen.last_frame, seen.at)


def _serve(pipe: Connection, settings: TriggerSettings) -> None:
    """Make the measure, then answer until the pipe is closed."""
    try:
        measure = measure_of(settings.measure)
    except Exception as error:  # whatever it was, the parent tells it
        pipe.send({"trouble": _told(error)})
        return
    pipe.send({"trouble": ""})
    while True:
        try:
            seen = pipe.recv()
        except (EOFError, KeyboardInterrupt):
            return
        pipe.send(_measured(measure, seen))


def _measured(measure: Any, seen: Observation) -> Mapping[str, Any]:
    try:
        found = measure(seen)
    except Exception as error:  # a measure may be anybody's code
        return {"value": float("nan"), "mask": None, "trouble": _told(error)}
    return {"value": found.value, "mask": found.mask, "trouble": ""}


def _told(error: Exception) -> str:
    """Say an error of anybody's code: one that is not in words with its kind, as KeyError: 'above'."""
    in_words = isinstance(error, TomoflyError | ValueError | RuntimeError) and str(error)
    return str(error) if in_words else f"{type(error).__name__}: {error}"
