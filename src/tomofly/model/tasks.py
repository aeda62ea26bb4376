"""The states of a task."""

from enum import StrEnum


class TaskState(StrEnum):
    """One stage applied to one item: ``waiting → queued → running → done | failed | skipped``.

    ``stale`` is not among them: it is derived from the fingerprint.
    """

    WAITING = "waiting"
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"

    @property
    def settled(self) -> bool:
        """Whether nothing more will happen unless something changes."""
        return self in (TaskState.DONE, TaskState.FAILED, TaskState.SKIPPED)
