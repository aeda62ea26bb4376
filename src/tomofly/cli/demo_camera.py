"""A simulated microscope at work beside a session, and when a demonstration of it ends."""

import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tomofly.flow import conductor
from tomofly.flow.workflows import workflow_of
from tomofly.model import TomoflyError
from tomofly.services.home import Home, checked_folder
from tomofly.services.sessions import session_info
from tomofly.store import statistics

LAST_FILE_GRACE_S = 30.0


@dataclass(frozen=True)
class Camera:
    """The simulated microscope: its process, what it says, and how many movies it takes."""

    process: "subprocess.Popen[bytes]"
    log: Path
    items: int

    def is_at_work(self) -> bool:
        """Say whether it still takes movies. Raises TomoflyError when it has died."""
        status = self.process.poll()
        if status:
            lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            said = lines[-1] if lines else f"it ended with status {status}"
            raise TomoflyError(f"The simulated microscope has died: {said}", f"Its whole log is {self.log}")
        return status is None


@contextmanager
def taking_movies(arguments: Sequence[str], log: Path, items: int) -> Iterator[Camera]:
    """Have `tomofly simulate` write so many movies in a process of its own, which ends with the block."""
    command = [sys.executable, "-m", "tomofly.cli", "simulate", *arguments]
    with log.open("wb") as file:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
    try:
        yield Camera(process, log, items)
    finally:
        process.terminate()
        process.wait(timeout=30)


def until_camera_stops(place: Home, name: str, camera: Camera) -> conductor.RunOptions:
    """Options of a run that ends by itself when the camera has stopped and all its movies have come in."""
    row = session_info(place, name).row
    kind = workflow_of(row.kind).root_kind

    def arrived() -> int:
        with place.database.read() as connection:
            return statistics.count_kinds(connection, row.id).get(kind, 0)

    @dataclass(frozen=True)
    class UntilCameraStops(conductor.RunOptions):
        @property
        def ends_by_itself(self) -> bool:
            if camera.is_at_work():
                return False
            if arrived() >= camera.items:
                return True
            stopped.append(time.monotonic())
            return time.monotonic() - stopped[0] > LAST_FILE_GRACE_S

    stopped: list[float] = []
    return UntilCameraStops()


def new_folder(out: Path | None) -> Path:
    """Give the folder for a demonstration: the one asked for, or the first free one here."""
    if out is None:
        number = 1
        while (folder := Path.cwd() / f"tomofly-demo{'' if number == 1 else f'-{number}'}").exists():
            number += 1
        return folder
    folder = checked_folder(out, "a demonstration")
    if folder.exists() and any(folder.iterdir()):
        raise TomoflyError(f"The folder {folder} is not empty", "Name a new one with --out")
    return folder
