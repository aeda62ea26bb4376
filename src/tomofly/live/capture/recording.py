"""One capture on its way to the disk."""

from collections import deque
from collections.abc import Mapping
from datetime import UTC, datetime
from threading import Lock

import structlog

from tomofly.formats.data_exchange.layout import Fact
from tomofly.formats.data_exchange.writing import Compression, Fields, ScanFrame, ScanWriter, publish
from tomofly.live.calibration import CalibrationStore
from tomofly.live.capture.names import Claim, final_path, part_path
from tomofly.live.capture.request import CaptureState, CaptureTicket, Ending
from tomofly.live.capture.space import SpaceGuard
from tomofly.live.field_runs import FieldVersion
from tomofly.live.frames import Frame, FrameKind
from tomofly.live.raw_ring import form_of
from tomofly.model.errors import BadInput

log = structlog.get_logger(__name__)


# The disk is asked for room in steps of so many frames, of so many bytes at least and at most.
_FRAMES_A_STEP, _LEAST_STEP, _LARGEST_STEP = 16, 1 << 20, 64 << 20
# Files that HDF5 could not write are never closed: closing them can end the whole program.
_GIVEN_UP: list[ScanWriter] = []


class Recording:
    """Frames of one capture: offered by the thread that has them, written by another.

    `queue_bytes` bounds what waits to be written, beside the frames from the ring.
    """

    def __init__(
        self,
        ticket: CaptureTicket,
        before: list[Frame],
        *,
        calibration: CalibrationStore | None,
        space: SpaceGuard,
        compression: Compression,
        queue_bytes: int,
        facts: Mapping[str, Fact],
    ) -> None:
        self.ticket = ticket
        self._calibration, self._space, self._compression = calibration, space, compression
        self._room = queue_bytes
        self._facts = facts
        self._waiting: deque[tuple[Frame, int]] = deque((frame, 0) for frame in before)
        self._lock = Lock()
        self._first = self._last = before[-1] if before else None
        if before:
            self._first = before[0]
        ticket.taken = len(before)
        self._ending: Ending | None = Ending.COMPLETE if ticket.taken == ticket.wanted else None
        self._writer: ScanWriter | None = None
        self._granted = 0
        self._part = part_path(ticket.path)
        self._claim: Claim | None = None

    def reserve(self) -> None:
        """Claim the file's name; raises BadInput where that cannot be done."""
        try:
            self._claim = Claim(self._part, new=True)
        except OSError as error:
            raise BadInput(
                f"{self._part.name} cannot be written: {error}", "Look at the folder and its permissions"
            ) from error

    @property
    def accepts(self) -> bool:
        """Whether more frames are wanted."""
        return self._ending is None

    @property
    def waiting(self) -> int:
        """How many frames wait to be written."""
        return len(self._waiting)

    @property
    def in_ring_frames(self) -> bool:
        """Whether frames from before the request are still being written."""
        return self.ticket.written < self.ticket.before

    def offer(self, frame: Frame) -> bool:
        """Take a projection; False where it is lost, as too many wait already."""
        with self._lock:
            if self._ending is not None:
                return True
            if self._last is not None and form_of(frame) != form_of(self._last):
                self._ending = Ending.CHANGED
                return True
            size = frame.image.nbytes
            if size > self._room:
                self.ticket.lost += 1
                return False
            self._room -= size
            self._waiting.append((frame, size))
            self._first = self._first or frame
            self._last = frame
            self.ticket.taken += 1
            if self.ticket.taken >= self.ticket.wanted:
                self._ending = Ending.COMPLETE
            return True

    def stop(self, ending: Ending = Ending.STOPPED) -> None:
        """Take no more frames; what waits is still written."""
        with self._lock:
            self._ending = self._ending or ending

    def _has_room(self, bytes_more: int) -> bool:
        """Whether the disk takes so much; it is asked again after every step only."""
        self._granted -= bytes_more
        if self._granted >= 0:
            return True
        step = min(max(_FRAMES_A_STEP * bytes_more, _LEAST_STEP), _LARGEST_STEP)
        self._granted = step
        return self._space.grants(bytes_more + step)

    def write(self, most: int) -> bool:
        """Write up to so many waiting frames; True where the capture is over, and its file there or gone."""
        try:
            for _ in range(most):
                if not self._waiting or self.ticket.ended:
                    break
                self._write_one()
            if self._ending is not None and not self._waiting:
                self._finish(self._ending)
        except Exception as error:
            # Whatever happens to one file, the others are written on.
            self._give_up(error)
        return self.ticket.ended

    def flush(self) -> None:
        """Make what was written readable whatever happens; end early where the disk is nearly full."""
        try:
            if self._writer is not None and not self.ticket.ended:
                self._writer.flush()
                if self._space.is_short():
                    self.stop(Ending.NO_SPACE)
                    self._drop_waiting(Ending.NO_SPACE)
        except Exception as error:
            self._give_up(error)

    def _drop_waiting(self, ending: Ending) -> None:
        with self._lock:
            self._ending = ending
            self.ticket.lost += len(self._waiting)
            self._waiting.clear()

    def _write_one(self) -> None:
        frame, size = self._waiting[0]
        if not self._has_room(frame.image.nbytes):
            self._drop_waiting(Ending.NO_SPACE)
            return
        writer = self._writer or self._open(frame)
        writer.append(_scan_frame(frame))
        with self._lock:
            self._waiting.popleft()
            self._room += size
            self.ticket.written += 1

    def _open(self, first: Frame) -> ScanWriter:
        rows, columns = first.image.shape
        start = datetime.fromtimestamp(first.acquired_at, UTC).isoformat(timespec="milliseconds")
        known: dict[str, Fact] = {
            "start_date": start, "data_type": str(first.image.dtype), "reason": self.ticket.request.reason,
            "frames_before_request": self.ticket.before, "frames_wanted": self.ticket.wanted,
            "file_name": self.ticket.path.name, "file_path": str(self.ticket.path.parent),
            "full_file_name": str(self.ticket.path),
        }  # fmt: skip
        if first.exposure_s is not None:
            known["exposure_s"] = first.exposure_s
        if first.lens is not None:
            known["lens"] = first.lens
        dark, flat, fields = self._fields(first, nearest=False)
        if not self._space.grants(_bytes_of(dark) + _bytes_of(flat)):
            dark, flat, fields = None, None, {}
        self._writer = ScanWriter(
            self._part, (rows, columns), first.image.dtype,
            # What the frames themselves say counts more than what was told of them.
            facts={**self._facts, **self.ticket.request.facts, **known, **fields},
            dark=dark, flat=flat, compression=self._compression,
        )  # fmt: skip
        return self._writer

    def _fields(self, frame: Frame, *, nearest: bool) -> tuple[Fields | None, Fields | None, dict[str, Fact]]:
        """Darks and flats of the frame's epoch, and what is to be said of them."""
        if self._calibration is None:
            return None, None, {}
        dark = self._calibration.version(FrameKind.DARK, frame, nearest=nearest)
        flat = self._calibration.version(FrameKind.FLAT, frame, nearest=nearest)
        said: dict[str, Fact] = {}
        if dark is not None:
            said["dark_valid_from"] = dark.valid_from
        if flat is not None:
            said["flat_valid_from"] = flat.valid_from
            if flat.exposure_s is not None and frame.exposure_s is not None:
                said["flat_exposure_s"] = flat.exposure_s
                same = abs(flat.exposure_s - frame.exposure_s) <= 0.001 * frame.exposure_s
                said["different_flat_exposure"] = "Same" if same else "Different"
        return _stack(dark, frame), _stack(flat, frame), said

    def _finish(self, ending: Ending, problem: str = "") -> None:
        writer, first, last = self._writer, self._first, self._last
        if writer is None or first is None or last is None or not writer.frames:
            self._abandon(ending, problem or "no frame came")
            return
        dark, flat, said = self._fields(first, nearest=True)
        if not self._space.grants(_bytes_of(dark) + _bytes_of(flat)):
            dark = flat = None
        # What was written at the start, of the same epoch, stands.
        kept = {"dark_valid_from": writer.has_darks, "flat_valid_from": writer.has_flats}
        said = {fact: value for fact, value in said.items() if not kept.get(fact)}
        writer.finish({**said, **self._outcome(ending, writer.frames, first, last)}, dark, flat)
        self._publish(writer)
        self._release()
        there = {"darks": writer.has_darks or dark, "flats": writer.has_flats or flat}
        lacking = [name for name, found in there.items() if not found]
        problem = problem or (f"no {' and no '.join(lacking)} known" if lacking else "")
        name = self.ticket.path.name
        log.info("captured", file=name, frames=writer.frames, ending=ending.value, problem=problem)
        self.ticket.end(CaptureState.DONE, ending, problem)

    def _outcome(self, ending: Ending, frames: int, first: Frame, last: Frame) -> dict[str, Fact]:
        end = datetime.fromtimestamp(last.acquired_at, UTC).isoformat(timespec="milliseconds")
        said: dict[str, Fact] = {
            "end_date": end, "ended": ending.value, "frames_lost": self.ticket.lost,
            "frames_missing": self.ticket.missing,
        }  # fmt: skip
        if last.acquired_at > first.acquired_at and frames > 1:
            said["frames_per_s"] = (frames - 1) / (last.acquired_at - first.acquired_at)
        return said

    def _publish(self, writer: ScanWriter) -> None:
        """Give the file its name; where somebody else has taken that meanwhile, the next one."""
        while True:
            try:
                publish(writer.path, self.ticket.path, overwrite=self.ticket.request.overwrite)
            except FileExistsError:
                taken = self.ticket.path
                self.ticket.path = final_path(taken.parent, taken.stem, None)
            else:
                return

    def _give_up(self, error: Exception) -> None:
        """The disk failed: touch the file no more, as HDF5 may crash, and leave it to the next start."""
        log.warning("a capture's disk failed", file=self._part.name, exc_info=error)
        self._drop_waiting(Ending.DISK_FAILED)
        if self._writer is None:
            self._abandon(Ending.DISK_FAILED, str(error))
            return
        _GIVEN_UP.append(self._writer)
        self._release()
        problem = f"{error}; what is on the disk is recovered at the next start"
        self.ticket.end(CaptureState.FAILED, Ending.DISK_FAILED, problem)

    def _abandon(self, ending: Ending, problem: str) -> None:
        if self._writer is not None:
            self._writer.abandon()
        self._part.unlink(missing_ok=True)
        self._release()
        self.ticket.end(CaptureState.FAILED, ending, problem)

    def _release(self) -> None:
        if self._claim is not None:
            self._claim.release()


def _scan_frame(frame: Frame) -> ScanFrame:
    return ScanFrame(
        image=frame.image,
        number=frame.number,
        unique_id=frame.unique_id,
        angle_deg=frame.angle_deg,
        acquired_at=frame.acquired_at,
        received_at=frame.received_at,
    )


def _bytes_of(fields: Fields | None) -> int:
    return 0 if fields is None else fields.images.nbytes


def _stack(version: FieldVersion | None, frame: Frame) -> Fields | None:
    """The frames of a field in the type of the projections; its mean, where only that is known."""
    if version is None:
        return None
    if version.raw is not None and version.raw.dtype == frame.image.dtype:
        return Fields(version.raw, version.angles_deg)
    mean = version.mean[None]
    whole = frame.image.dtype.kind in "iu"
    return Fields((mean.round() if whole else mean).astype(frame.image.dtype))
