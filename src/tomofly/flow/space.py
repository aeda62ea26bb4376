"""The guard over free space: it stops the copying before the disk is full, and lets it go on."""

import shutil
from dataclasses import dataclass
from pathlib import Path

GO_ON_AT = 1.2
"""Go on only at this multiple of the minimum: one small file deleted must not start and stop the track."""

GIGABYTE = 1e9


@dataclass(frozen=True)
class FreeSpace:
    """Room on the disk that holds a folder, in bytes; ``free`` is what this user may fill."""

    total: int
    free: int


@dataclass(frozen=True)
class SpaceVerdict:
    """Whether the track that fills the disk must rest, and what a person should know (empty: nothing)."""

    pause: bool
    message: str = ""


@dataclass(frozen=True)
class SpaceGuard:
    """Judges free space against a minimum; 0 judges nothing."""

    minimum_free_bytes: int

    def judge(self, free_bytes: int, paused: bool, backlog_bytes: int = 0) -> SpaceVerdict:
        """Decide whether to rest. ``paused``: as things are now; ``backlog_bytes``: what waits to be copied.

        A backlog that will not fit is said in advance, but does not stop what still fits.
        """
        minimum = _gigabytes(self.minimum_free_bytes)
        wanted = self.minimum_free_bytes * (GO_ON_AT if paused else 1.0)
        if free_bytes < wanted:
            return SpaceVerdict(
                True,
                f"Paused: {_gigabytes(free_bytes)} are free, less than the {minimum} that must stay so."
                f" Make room; it goes on by itself at {_gigabytes(self.minimum_free_bytes * GO_ON_AT)}.",
            )
        if backlog_bytes > max(0, free_bytes - self.minimum_free_bytes) and self.minimum_free_bytes:
            return SpaceVerdict(
                False,
                f"The {_gigabytes(backlog_bytes)} that wait will not fit: {_gigabytes(free_bytes)} are free"
                f" and {minimum} must stay so.",
            )
        return SpaceVerdict(False)


def free_space(folder: Path) -> FreeSpace:
    """Measure the disk that holds ``folder``, or will when the folder is made. Raises OSError."""
    existing = folder.absolute()
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    usage = shutil.disk_usage(existing)
    return FreeSpace(usage.total, usage.free)


def _gigabytes(count: float) -> str:
    return f"{count / GIGABYTE:.1f} GB"
