"""A watcher with a clock of its own, and small movies for it to find. Nothing here waits."""

import os
from pathlib import Path

import mrcfile
import numpy as np

from tomofly.flow.watch import Arrival, Watcher
from tomofly.model import SourceParams

NOON = 1_700_000_000.0
SHAPE = (3, 13, 17)


def movie_bytes(tmp_path: Path, value: int = 1, shape: tuple[int, ...] = SHAPE) -> bytes:
    """The bytes of a whole movie, the same for the same values whenever it is made."""
    path = tmp_path / "made.partial"
    with mrcfile.new(path, overwrite=True) as mrc:
        mrc.set_data(np.full(shape, value, np.int16))
        mrc.header.label[0] = "made for a test"  # mrcfile's own label holds the time
    content = path.read_bytes()
    path.unlink()
    return content


def source(pattern: object, **changes: object) -> SourceParams:
    return SourceParams.model_validate({"pattern": str(pattern), **changes})


def write(path: Path, content: bytes, mtime: float = NOON - 3600) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.utime(path, (mtime, mtime))
    return path


def keys(arrivals: list[Arrival]) -> list[str]:
    return [arrival.key for arrival in arrivals]


class Watched:
    """A watcher with a clock of its own, looked through once a second."""

    def __init__(self, source: SourceParams, *args: object, **kwargs: object) -> None:
        self.watcher = Watcher(source, *args, **kwargs)  # type: ignore[arg-type]
        self.now = NOON

    def poll(self, seconds: int = 0, *, impatient: bool = False) -> list[Arrival]:
        """Look now, and once more at the end of each second to come."""
        found = self.watcher.poll(self.now, impatient=impatient)
        for _ in range(seconds):
            self.now += 1.0
            found += self.watcher.poll(self.now, impatient=impatient)
        return found
