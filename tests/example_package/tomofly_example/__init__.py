"""An example of stages that another package brings: one of each shape, on numbers in text files.

A *note* is a text file with one number. Its name says to which *ledger* it belongs: ``A_01.note`` is the
first note of ledger ``A``. The stage ``number`` reads a note, ``ledger`` adds up the notes of a ledger
when it is complete, ``report`` writes a line about a ledger, and ``balance`` keeps a running total.
"""

import json
import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from tomofly.model import (
    BadInput,
    Completion,
    FoldStage,
    GroupStage,
    GroupState,
    ItemRef,
    MapStage,
    Member,
    Metric,
    Outcome,
    StageContext,
    StageParams,
    SwitchableParams,
    TaskState,
    parameter,
)

KIND = "notes"


class NumberParams(StageParams):
    """How a note is read."""

    factor: float = parameter(1.0, "Multiply every number by this")
    pause_s: float = parameter(0.0, "Work for so long", unit="s", ge=0, affects_result=False)


class LedgerParams(StageParams):
    """When a ledger is complete."""

    notes: int = parameter(3, "Notes in a ledger", ge=1)
    silence_s: float = parameter(
        30.0, "Complete it with fewer after so long without a new note", unit="s", gt=0
    )
    provisional_every: int = parameter(
        0, "Add up what is there after each so many notes; 0: only when complete", ge=0, affects_result=False
    )


class PlainParams(SwitchableParams):
    """Nothing to set."""


def read_number(item: ItemRef, params: NumberParams, ctx: StageContext) -> Outcome:
    """Read the number of a note. A note that holds none is bad input."""
    if item.source is None:
        raise BadInput("a note needs a file")
    text = item.source.read_text()
    _misbehave(text.strip(), ctx)
    try:
        value = float(text) * params.factor
    except ValueError:
        raise BadInput(f"{item.source.name} holds no number but {text[:20]!r}", "Write one number") from None
    if params.pause_s:
        time.sleep(params.pause_s)
    copy = ctx.new_file(".txt")
    copy.write_text(repr(value))
    ctx.log.info("read %s", value)
    return Outcome({"number": copy}, {"value": value})


def _misbehave(text: str, ctx: StageContext) -> None:
    """Do what notes for the tests of faults ask for."""
    if text == "crash":
        raise RuntimeError("this note always crashes its reader")
    if text == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if text == "fill":
        ctx.new_file(".large").write_bytes(bytes(64_000_000))


def ledger_of(item: ItemRef) -> str | None:
    """Give the ledger of a note by its name: what stands before the last underscore, compared whole."""
    if "ledger" in item.attributes:
        return str(item.attributes["ledger"]) or None
    name, underscore, _ = Path(item.key).name.rpartition("_")
    return name if underscore else None


def is_complete(state: GroupState, params: LedgerParams) -> Completion:
    """Complete by count; by silence, a person's request or the end of the stream with fewer."""
    if state.done >= params.notes:
        return Completion(True, "all notes are there")
    if state.unsettled == 0 and (state.closed or state.requested):
        return Completion(True, "no more notes will come")
    due = state.last_arrival + params.silence_s
    if state.now >= due and state.unsettled == 0:
        return Completion(True, "no new note for a while")
    return Completion(
        False, f"{state.done} of {params.notes} notes", wake_at=due if state.now < due else None
    )


def first_notes(state: GroupState, params: LedgerParams) -> list[str]:
    """Give the notes to add up while others are awaited: the first ones, in lots of so many."""
    keys = sorted(member.key for member in state.members if member.state is TaskState.DONE)
    every = params.provisional_every
    return keys[: len(keys) // every * every] if every else []


def add_ledger(members: Sequence[Member], params: LedgerParams, ctx: StageContext) -> Outcome:
    """Add up the notes of a ledger, reading the files that the notes' stage left."""
    total = sum(
        float(member.result.products["number"].read_text()) * member.item.attributes.get("times", 1)
        for member in members
    )
    path = ctx.new_file(".json")
    path.write_text(json.dumps({"notes": sorted(m.item.key for m in members), "total": total}))
    return Outcome({"ledger": path}, {"total": total, "notes": len(members)})


def write_report(item: ItemRef, params: PlainParams, ctx: StageContext) -> Outcome:
    """Write a line about a ledger."""
    path = ctx.new_file(".txt")
    path.write_text(f"{item.key}: {ctx.inputs['ledger'].metrics['total']:g}")
    return Outcome({"report": path}, {"length": float(path.stat().st_size)})


def add_balance(members: Sequence[Member], params: PlainParams, ctx: StageContext) -> Outcome:
    """Add new notes to the running total that the checkpoint holds."""
    total, seen = (0.0, 0) if ctx.checkpoint is None else json.loads(ctx.checkpoint.read_text())
    total += sum(member.result.metrics["value"] for member in members)
    seen += len(members)
    path = ctx.new_file("_checkpoint.json")
    path.write_text(json.dumps([total, seen]))
    return Outcome({"checkpoint": path}, {"total": total, "notes": float(seen)}, content=f"{total:g}")


NUMBER = MapStage(
    name="number", version="1", summary="Read a note", session_kinds=(KIND,), track="reading",
    consumes="note", produces="note", params=NumberParams, run=read_number,
    metrics=(Metric("value", "", "The number"),),
)  # fmt: skip
LEDGER = GroupStage(
    name="ledger", version="1", summary="Add up a ledger", session_kinds=(KIND,), track="adding",
    consumes="note", produces="ledger", params=LedgerParams, needs=("number",), member_of=ledger_of,
    complete=is_complete, run=add_ledger, partial=first_notes, attributes=("times",),
    metrics=(Metric("total", "", "Sum"), Metric("notes", "", "Count")),
)  # fmt: skip
REPORT = MapStage(
    name="report", version="1", summary="Write about a ledger", session_kinds=(KIND,), track="adding",
    consumes="ledger", produces="ledger", params=PlainParams, needs=("ledger",), run=write_report,
    metrics=(Metric("length", "B", "Length of the report"),),
)  # fmt: skip
BALANCE = FoldStage(
    name="balance", version="1", summary="Keep a running total", session_kinds=(KIND,), track="balance",
    consumes="note", produces="balance", params=PlainParams, needs=("number",), run=add_balance, every=4,
    metrics=(Metric("total", "", "Sum of all notes"), Metric("notes", "", "Count of all notes")),
)  # fmt: skip
