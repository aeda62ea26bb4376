"""Click to slice: a pixel of the three-panel picture becomes the two positions of its panel."""

import asyncio
import os
from pathlib import Path
from typing import Protocol

import structlog

from tomofly.live.live_slices import LiveSlices
from tomofly.live.records.pv import Value
from tomofly.live.records.values import PVValues
from tomofly.model import BadInput

log = structlog.get_logger(__name__)

PANELS = (("z", "OrthoX", "OrthoY"), ("y", "OrthoX", "OrthoZ"), ("x", "OrthoY", "OrthoZ"))
"""Slices from left to right: name, and what its columns and rows count."""
LOOK_S = 0.2
_END_BYTES = 200


class Positions(Protocol):
    """What clicks need of the control of reconstruction."""

    @property
    def latest(self) -> LiveSlices | None:
        """The newest slices."""

    def go_to(self, positions: dict[str, int]) -> None:
        """Put the slices at positions by the names of the PVs."""


def clicked(slices: LiveSlices | None, x: int, y: int) -> dict[str, int]:
    """Give the positions for pixel (x, y) of the picture, (0, 0) at the top left, by the names of the PVs.

    In a turned plane, pixels count along the plane. Raises BadInput where no slice is at that pixel.
    """
    if slices is None:
        raise BadInput("A click without a picture: there are no slices yet")
    left = 0
    for name, across, down in PANELS:
        height, width = getattr(slices, name).shape
        if left <= x < left + width and 0 <= y < height:
            return {across: x - left, down: y}
        left += width
    raise BadInput(f"No slice is at pixel {x}, {y} of the picture of {left} columns", "Click into a slice")


def last_click(path: Path) -> tuple[int, int] | None:
    """Read the last line `x,y` of a file; None where that is none."""
    with path.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - _END_BYTES))
        lines = file.read(_END_BYTES).decode("utf-8", errors="replace").split()
    try:
        x, y = (float(word) for word in lines[-1].split(",")[:2])
        return int(x), int(y)
    except (IndexError, ValueError, OverflowError):
        return None


class Clicks:
    """Takes clicks from the PVs ClickX and ClickY, and from a file where one is named."""

    def __init__(
        self, values: PVValues, control: Positions, file: Path | None, look_s: float = LOOK_S
    ) -> None:
        self.values, self._control, self._file, self._look_s = values, control, file, look_s
        # What the file holds at the start was clicked long ago.
        self._known = self._seen = self._stamp()

    def connect(self) -> None:
        """Follow the PVs: writing ClickY takes over both."""
        self.values.guard(self._refuse_outside)
        self.values.watch("ClickY", lambda y: self.click(self.values.whole("ClickX"), int(y)))

    def _refuse_outside(self, name: str, value: Value) -> None:
        if name == "ClickY":
            clicked(self._control.latest, self.values.whole("ClickX"), int(value))

    def click(self, x: int, y: int) -> None:
        """Let the slices cross in what is at this pixel of the picture; say why where they cannot."""
        try:
            self._control.go_to(clicked(self._control.latest, x, y))
        except BadInput as refusal:
            self.values.notice(str(refusal))

    async def look_after(self) -> None:
        """Look at the file a few times a second."""
        while self._file is not None:
            await asyncio.sleep(self._look_s)
            self.look(self._file)

    def look(self, file: Path) -> None:
        """Take what was written into the file, once it has not changed since the last look."""
        stamp, before = self._stamp(), self._seen
        self._seen = stamp
        if stamp is None or stamp != before or stamp == self._known:
            return
        self._known = stamp
        try:
            click = last_click(file)
        except OSError as error:
            log.warning("the file of clicks cannot be read", reason=error.strerror)
            return
        if click is None:
            self.values.notice(f"{file.name} does not end with a line x,y")
            return
        self.values.set("ClickX", click[0])
        self.values.set("ClickY", click[1])
        self.click(*click)

    def _stamp(self) -> tuple[int, int, int] | None:
        try:
            state = self._file.stat() if self._file is not None else None
        except OSError:
            return None
        return (state.st_mtime_ns, state.st_size, state.st_ino) if state is not None else None
