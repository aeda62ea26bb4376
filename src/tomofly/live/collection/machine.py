"""What collection may do next: a table of states and wishes, without devices, clocks or PVs."""

from dataclasses import dataclass
from enum import StrEnum


class Phase(StrEnum):
    """What collection does; the words are those of the PV StreamPhase."""

    IDLE = "Idle"
    STARTING = "Starting"
    DARK = "Dark fields"
    FLAT = "Flat fields"
    STREAMING = "Streaming"
    RETAKE_DARK = "Retake dark"
    RETAKE_FLAT = "Retake flat"
    RATE = "Changing rate"
    MOVING = "Moving sample"
    ENDING = "Ending"
    FAULT = "Fault"


class Wish(StrEnum):
    """What somebody can ask of collection; the words are those of refusals."""

    START = "start streaming"
    END = "end streaming"
    ABORT = "abort"
    RETAKE_DARK = "retake dark fields"
    RETAKE_FLAT = "retake flat fields"
    SYNC = "take over exposure and step"
    SAMPLE_IN = "move the sample in"
    SAMPLE_OUT = "move the sample out"


class Task(StrEnum):
    """What is to be done then."""

    SCAN = "scan"
    END = "end"
    STOP = "stop"
    RETAKE_DARK = "retake dark"
    RETAKE_FLAT = "retake flat"
    SYNC = "sync"
    SAMPLE_IN = "sample in"
    SAMPLE_OUT = "sample out"


MESSAGES = {
    Phase.DARK: "Capturing dark fields",
    Phase.RETAKE_DARK: "Capturing dark fields",
    Phase.FLAT: "Capturing flat fields",
    Phase.RETAKE_FLAT: "Capturing flat fields",
}
"""What StreamMessage says; elsewhere Done."""

STANDING = frozenset({Phase.IDLE, Phase.FAULT})
_WHILE_STANDING = {
    Wish.START: (Phase.STARTING, Task.SCAN),
    Wish.SAMPLE_IN: (Phase.MOVING, Task.SAMPLE_IN),
    Wish.SAMPLE_OUT: (Phase.MOVING, Task.SAMPLE_OUT),
}
_WHILE_STREAMING = {
    Wish.RETAKE_DARK: (Phase.RETAKE_DARK, Task.RETAKE_DARK),
    Wish.RETAKE_FLAT: (Phase.RETAKE_FLAT, Task.RETAKE_FLAT),
    Wish.SYNC: (Phase.RATE, Task.SYNC),
    Wish.END: (Phase.ENDING, Task.END),
}
_NOT_WHILE_CAPTURING = frozenset({Wish.RETAKE_DARK, Wish.RETAKE_FLAT, Wish.SYNC})


@dataclass(frozen=True)
class Decision:
    """What follows from a wish: a phase and a task, or why not."""

    phase: Phase
    task: Task | None = None
    refusal: str = ""


def decide(phase: Phase, wish: Wish, *, capturing: bool = False) -> Decision:
    """Decide on a wish in a phase; `capturing`: frames are being saved. Nothing else matters."""
    if wish is Wish.ABORT or (wish is Wish.END and phase is not Phase.STREAMING):
        return Decision(phase) if phase is Phase.IDLE else Decision(Phase.ENDING, Task.STOP)
    if capturing and wish in _NOT_WHILE_CAPTURING:
        return Decision(phase, refusal=f"Cannot {wish} while a capture is under way")
    table = _WHILE_STANDING if phase in STANDING else _WHILE_STREAMING if phase is Phase.STREAMING else {}
    if wish in table:
        return Decision(*table[wish])
    if phase in STANDING:
        return Decision(phase, refusal=f"Cannot {wish}: nothing is streaming. Start with StartScan")
    return Decision(phase, refusal=f"Cannot {wish} while collection is at '{phase.lower()}'")
