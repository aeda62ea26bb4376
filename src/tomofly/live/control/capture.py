"""The PVs of capture: a request becomes a file, and its state becomes PVs."""

import asyncio
import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Protocol

import structlog

from tomofly.live.capture.folder import check_folder
from tomofly.live.capture.names import CONFIGURATION, check_base
from tomofly.live.capture.request import CaptureRequest, CaptureState, CaptureTicket, Ending
from tomofly.live.capture.service import CaptureService
from tomofly.live.frames import Frame, FrameKind
from tomofly.live.records.pv import Value
from tomofly.live.records.saving import configuration, write_configuration
from tomofly.live.records.values import PVValues
from tomofly.model import BadInput, TomoflyError

log = structlog.get_logger(__name__)

LOOK_S = 0.1
RATE_FRAMES = 20


class MakeService(Protocol):
    """Makes a service that writes into a folder."""

    def __call__(self, folder: Path, base: str) -> CaptureService:
        """Make it, started."""


class CaptureControl:
    """Binds the PVs to a capture service. For the asyncio loop; `take` and `request` are for any thread."""

    def __init__(
        self, values: PVValues, make: MakeService, default_folder: Path,
        message_elsewhere: Callable[[], str] = lambda: "Done",
        groups: Sequence[PVValues] = (), captured: Callable[[Path], object] | None = None,
    ) -> None:  # fmt: skip
        """`captured` is told each file that is whole."""
        self.values, self._default = values, default_folder
        self._elsewhere, self._captured = message_elsewhere, captured
        self._groups = groups or (values,)
        self._folder = self._folder_of(values.text("FilePath"))
        self._service = make(self._folder, values.text("FileName"))
        self._intervals_s: deque[float] = deque(maxlen=RATE_FRAMES)
        self._last_at = math.nan
        self.problem = ""
        self._saved = self._told = 0
        self._counted: set[int] = set()
        self._tickets = 0

    def connect(self) -> None:
        """Follow the PVs."""
        self.values.guard(self._refuse_unfit)
        self.values.watch("StreamCapture", lambda on: self._begin() if on else self._service.stop())
        self.values.watch("FilePath", lambda _: self._move())
        self.values.watch("FileName", lambda _: self._rename())
        self._show_folder()

    @property
    def capturing(self) -> bool:
        """Whether a capture is under way."""
        return bool(self._service.active)

    @property
    def last(self) -> CaptureTicket | None:
        """The newest capture."""
        tickets = self._service.tickets
        return tickets[-1] if tickets else None

    @property
    def folder(self) -> Path:
        """Where files go."""
        return self._folder

    def take(self, frame: Frame) -> None:
        """Hand a frame to the ring and to captures; for the intake's thread."""
        self._service.put(frame)
        if frame.kind is not FrameKind.PROJECTION:
            return
        interval, self._last_at = frame.acquired_at - self._last_at, frame.acquired_at
        if math.isfinite(interval):
            self._intervals_s.append(interval)

    def request(self, frames: int, before: int, reason: str) -> CaptureTicket:
        """Begin a capture. Raises BadInput where there is no room or another is under way."""
        if self.capturing:
            raise BadInput("A capture is under way", "Wait for it, or put 0 to StreamCapture")
        return self._service.request(CaptureRequest(frames, before, reason))

    def _begin(self) -> None:
        busy = self._elsewhere()
        try:
            if busy != "Done":
                raise BadInput(f"Cannot capture while another thing is under way: {busy}")
            frames, before = self.values.whole("StreamNumCapture"), self.values.whole("StreamPreCount")
            if frames + before == 0:
                raise BadInput("A capture of no frames", "Set StreamNumCapture")
            self.request(frames, before, "request")
        except (TomoflyError, OSError) as error:
            self.problem = str(error)
            self.notice(self.problem)
            self.values.set("StreamCaptureState", "Failed")
            if not self.capturing:
                self.values.set("StreamCapture", 0)

    def notice(self, text: str) -> None:
        """Tell the operator."""
        log.warning("notice", text=text)
        self.values.notice(text)

    # Where files go.

    def _refuse_unfit(self, name: str, value: Value) -> None:
        """Refuse a folder or a name that no capture can have, before it is put. Raises BadInput."""
        try:
            if name == "FilePath":
                self._check_folder(self._folder_of(str(value)))
            elif name == "FileName":
                check_base(str(value))
        except BadInput as refusal:
            raise BadInput(f"{name}: {refusal.what}", refusal.do) from None

    def _check_folder(self, folder: Path) -> None:
        if self.capturing:
            raise BadInput("A capture is under way", "Wait for it to end")
        check_folder(folder)

    def _folder_of(self, text: str) -> Path:
        return Path(text).expanduser() if text else self._default

    def _move(self) -> None:
        """Write into another folder from now on; the pre-trigger ring stays."""
        wanted = self._folder_of(self.values.text("FilePath"))
        if wanted == self._folder:
            return
        try:
            self._service.move(wanted)
        except (TomoflyError, OSError) as error:
            self.notice(f"FilePath {wanted}: {error}")
            self.values.set("FilePath", str(self._folder) if self._folder != self._default else "")
            return
        self._folder = wanted
        self._show_folder()

    def _rename(self) -> None:
        self._service.settings = replace(self._service.settings, base=self.values.text("FileName"))

    def _show_folder(self) -> None:
        self.values.set("FilePathExists", int(self._folder.is_dir()))

    # What becomes of it.

    async def look_after(self) -> None:
        """Show what captures do, ten times a second."""
        while True:
            self.publish()
            await asyncio.sleep(LOOK_S)

    def publish(self) -> None:
        """Show what captures do."""
        values = self.values
        values.set("StreamPreCounted", len(self._service.ring))
        # The median, as a retake or a new start is no interval between two frames.
        span_s = len(self._service.ring) * median(self._intervals_s) if self._intervals_s else 0.0
        values.set("StreamRingSeconds", round(span_s, 2))
        values.set("StreamCBStatusMessage", f"{len(self._service.ring)} frames, {span_s:.1f} s")
        self._tell_recovered()
        ticket = self.last
        if ticket is None:
            return
        message = self._service.message()
        if ticket.ended:
            self._ended(ticket)
            return
        values.set("StreamCapture", 1)
        values.set("StreamMessage", message)
        values.set("StreamCaptureState", "Capturing" if ticket.taken < ticket.wanted else "Finishing")
        values.set("StreamNumCaptured", max(ticket.written - ticket.before, 0))
        values.set("StreamNumTotalCaptured", ticket.written)

    def _ended(self, ticket: CaptureTicket) -> None:
        if id(ticket) in self._counted:
            return
        self._counted = {id(ticket)}
        self._tickets += 1
        values = self.values
        whole = ticket.state is CaptureState.DONE
        values.set("StreamNumCaptured", max(ticket.written - ticket.before, 0))
        values.set("StreamNumTotalCaptured", ticket.written)
        values.set("StreamCaptureTicket", self._tickets)
        if whole:
            self._saved += ticket.written
            values.set("ImagesSaved", self._saved)
            values.set("StreamFileName", ticket.path.name)
            values.set("FullFileName", str(ticket.path))
            self._write_configuration(ticket.path)
            if self._captured is not None:
                self._captured(ticket.path)
        early = ticket.ending is not Ending.COMPLETE
        self.problem = f"{ticket.path.name} ended early: {ticket.problem or ticket.ending}" if early else ""
        if early:
            self.notice(f"Capture {self.problem}")
        values.set("StreamCaptureState", "Idle" if whole else "Failed")
        values.set("StreamMessage", self._elsewhere())
        values.set("StreamCapture", 0)

    def _tell_recovered(self) -> None:
        """Tell what became of captures that were cut off when the program was killed."""
        recovered = self._service.recovered
        for one in recovered[self._told :]:
            kept = (
                f"is whole again, with {one.frames} frames" if one.path else "held no frame, and is removed"
            )
            self.notice(f"{(one.path or one.part).name}: a capture that was cut off {kept}")
        self._told = len(recovered)

    def _write_configuration(self, path: Path) -> None:
        """Write the settings beside the file, as tomoScan does."""
        try:
            write_configuration(path.with_suffix(CONFIGURATION), configuration(self._groups))
        except OSError as error:
            self.notice(f"The settings of {path.name} cannot be written beside it: {error.strerror}")

    def close(self) -> None:
        """End captures with what they have."""
        self._service.close()
        self.publish()
