"""What a session is doing: idle, closed, failed and finished are four different things."""

import os
import socket
from typing import Literal

from tomofly.flow.folder import STALE_S
from tomofly.store import SessionRow

Status = Literal[
    "created", "running", "idle", "closed", "stopping", "stopped", "finished", "failed", "crashed"
]

MEANINGS: dict[Status, str] = {
    "created": "never started",
    "running": "at work",
    "idle": "everything is done, and more may come",
    "closed": "no more is expected; the last results are being made",
    "stopping": "asked to stop",
    "stopped": "stopped by a person",
    "finished": "everything is done and the stream has closed",
    "failed": "ended by an error of its own",
    "crashed": "its process is gone; starting it again loses nothing",
}


def is_alive(session: SessionRow, now: float) -> bool:
    """Say whether a conductor is at work: it said so lately, and its process is not known to be gone."""
    if session.state != "running" or now - session.heartbeat_at > STALE_S:
        return False
    host, _, pid = session.conductor.rpartition(":")
    return host != socket.gethostname() or not pid.isdecimal() or _process_exists(int(pid))


def status_of(session: SessionRow, now: float) -> Status:
    """Sum up in one word what a session is doing."""
    if session.state != "running":
        known: dict[str, Status] = {
            "created": "created", "stopped": "stopped", "finished": "finished", "failed": "failed"
        }  # fmt: skip
        return known.get(session.state, "stopped")
    if not is_alive(session, now):
        return "crashed"
    if session.desired == "stopped":
        return "stopping"
    if session.closed:
        return "closed"
    return "idle" if session.vitals.get("idle") else "running"


def _process_exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
