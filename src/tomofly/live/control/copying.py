"""The PVs of copies after a capture: where to, what is under way, and once more."""

from pathlib import Path
from typing import Any

from tomofly.live.capture.copy_queue import Copy, CopyQueue
from tomofly.live.capture.copying import parse_target, refuse_method
from tomofly.live.records.pv import Value
from tomofly.live.records.values import PVValues
from tomofly.model import BadInput

NONE = "None"
_CAPTURE = ".h5"


class CopyControl:
    """Binds the PVs to a queue of copies. For the asyncio loop."""

    def __init__(self, values: PVValues, queue: CopyQueue) -> None:
        self.values, self._queue = values, queue

    def connect(self) -> None:
        """Follow the PVs."""
        self.values.guard(self._refuse_unfit)
        self.values.watch("StreamCopyFile", lambda text: self._again(str(text)))

    def _refuse_unfit(self, name: str, value: Value) -> None:
        if name == "CopyToAnalysisDir":
            method = str(self.values.table[name].shown(value))
            if method != NONE:
                refuse_method(method)
        elif name == "RemoteAnalysisDir" and value:
            parse_target(str(value))
        elif name == "StreamCopyFile":
            self._files(str(value))

    def captured(self, path: Path) -> None:
        """Copy a file that has just been captured, where that is wanted."""
        if self.values.text("CopyToAnalysisDir") != NONE:
            self._put(path)

    def _put(self, path: Path) -> None:
        method, target = self.values.text("CopyToAnalysisDir"), self.values.text("RemoteAnalysisDir")
        self._queue.put(Copy(str(path), "scp" if method == NONE else method, target))

    def _again(self, text: str) -> None:
        for path in self._files(text):
            self._put(path)

    def _files(self, text: str) -> list[Path]:
        """Give what is to be copied once more: the file named, else all that failed. Raises BadInput."""
        if not self.values.text("RemoteAnalysisDir"):
            raise BadInput("Copies have no folder to go to", "Set RemoteAnalysisDir")
        failed = [Path(copy.file) for copy in self._queue.failed]
        if not text:
            if not failed:
                raise BadInput("No copy has failed", "Name a file to copy it once more")
            return failed
        last = Path(self.values.text("FullFileName"))
        path = last.parent / Path(text).expanduser()
        known = path in failed or path.resolve().parent == last.resolve().parent
        # Nothing but captures: who may write this PV may not read whatever this computer holds.
        if not known or path.suffix != _CAPTURE or not path.is_file():
            raise BadInput(
                f"'{text}' is no captured file in {last.parent}", "Name one, or none for those that failed"
            )
        return [path]

    def publish(self) -> dict[str, Any]:
        """Show how copies stand; give it as a part of the status."""
        status = self._queue.status()
        self.values.set("StreamCopyState", status["state"])
        self.values.set("StreamCopyWaiting", status["waiting"] + bool(status["copying"]))
        self.values.set("StreamCopied", status["copied"])
        return status
