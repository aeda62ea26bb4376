"""Copies of captured files on another disk or another computer: how one file gets there."""

import re
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from tomofly.live.capture.names import CONFIGURATION
from tomofly.live.capture.space import free_bytes
from tomofly.model import BadInput, TomoflyError
from tomofly.stages.verified_copy import Look, checksum, copy_verified

log = structlog.get_logger(__name__)

_LOOK_S = 0.2
_ENDING_S = 5.0
_REASON_LENGTH = 200
# A user and host; the folder without anything that a shell at the other end would read.
_HOST = re.compile(r"(?:[\w.][\w.-]*@)?[A-Za-z0-9][\w.-]*")
_FOLDER = re.compile(r"[\w./~+@%=,:][\w./~+@%=,:-]*")
_METHODS = ("scp", "fdt")

GivenUp = Callable[[], str]
"""Says why to stop; empty while there is no reason."""


@dataclass(frozen=True)
class Target:
    """A folder, on `host` or, where that is empty, on this computer."""

    host: str
    folder: str


def parse_target(text: str) -> Target:
    """Read `folder` or `host:folder`. Raises BadInput for what a program could take for something else."""
    before, colon, after = text.partition(":")
    host, folder = (before, after) if colon and "/" not in before else ("", text)
    if not all(character.isprintable() for character in text):
        raise BadInput("The name of the folder has control characters in it")
    if not host and colon and not before:
        raise BadInput(f"'{text}' names no host", "Write it as host:folder")
    if host and not _HOST.fullmatch(host):
        raise BadInput(f"'{host}' is no name of a host", "Write it as host:folder or user@host:folder")
    if host and not _FOLDER.fullmatch(folder):
        raise BadInput(
            f"'{folder}' cannot be a folder on {host}", "Use letters, digits and . / _ - ~ + @ % ="
        )
    if not host and not Path(folder).expanduser().is_absolute():
        raise BadInput(f"'{text}' is no whole path", "Begin with /, or write it as host:folder")
    return Target(host, folder)


def refuse_method(method: str) -> None:
    """Refuse a way of copying whose program is not there. Raises BadInput."""
    if method not in _METHODS:
        raise BadInput(f"There is no way of copying named '{method}'", f"Legal are: {', '.join(_METHODS)}")
    if shutil.which(method) is None and method == "fdt":
        raise BadInput("There is no program fdt on this computer", "Install it, or use scp")


def command(method: str, files: Sequence[Path], target: Target) -> list[str]:
    """Give the program and its arguments that copy files to another host. Raises BadInput."""
    refuse_method(method)
    program = shutil.which(method)
    if program is None:
        raise BadInput(f"There is no program {method} on this computer", "Install it")
    # Whole paths: nothing begins with a '-', and no ':' is taken for the end of a host's name.
    names = [str(file.absolute()) for file in files]
    if method == "fdt":
        return [program, "-c", target.host, "-d", target.folder, *names]
    options = ["-B", "-p", "-q", "-o", "BatchMode=yes", "-o", "ConnectTimeout=20"]
    return [program, *options, "--", *names, f"{target.host}:{target.folder.rstrip('/')}/"]


def copy_capture(method: str, capture: Path, target: Target, limit_s: float, given_up: GivenUp) -> None:
    """Copy a captured file and its configuration. Raises BadInput or OSError with the reason."""
    until = time.monotonic() + limit_s

    def stop() -> str:
        return given_up() or (f"it took longer than {limit_s:g} s" if time.monotonic() > until else "")

    beside = capture.with_suffix(CONFIGURATION)
    files = [capture, *([beside] if beside.is_file() else [])]
    if target.host:
        run(command(method, files, target), stop)
        return
    if method == "fdt":
        raise BadInput("fdt copies to another computer", "Write RemoteAnalysisDir as host:folder, or use scp")
    folder = Path(target.folder).expanduser()
    # One level at most: a disk that is not mounted must not be taken for its empty folder.
    folder.mkdir(exist_ok=True)
    for file in files:
        copy_into(file, folder, stop)


def run(arguments: Sequence[str], stop: GivenUp) -> None:
    """Run a program to its end, or until `stop` says why not. Raises OSError with what it complains of."""
    with subprocess.Popen(
        arguments, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        while True:
            try:
                complaint = process.communicate(timeout=_LOOK_S)[1]
                break
            except subprocess.TimeoutExpired:
                if reason := stop():
                    _end(process)
                    raise OSError(reason) from None
    if process.returncode:
        text = " ".join(complaint.decode(errors="replace").split())[-_REASON_LENGTH:]
        raise OSError(text or f"{Path(arguments[0]).name} ended with {process.returncode}")


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.communicate(timeout=_ENDING_S)
    except subprocess.TimeoutExpired:
        process.kill()


def copy_into(source: Path, folder: Path, stop: GivenUp = str) -> Path:
    """Copy a file into a folder of this computer; it appears under its name only when proven equal.

    What an earlier try has written is taken on as far as it is right. Raises BadInput where another file has
    the name, and OSError.
    """

    def look() -> None:
        if reason := stop():
            raise TomoflyError(reason)

    final, part = folder / source.name, folder / f".{source.name}.copying"
    try:
        if final.exists():
            _require_same_file(source, final, look)
            return final
        _require_room(source, part)
        copy_verified(source, final, part, log, look=look)
    except BadInput:
        raise
    except TomoflyError as error:
        raise OSError(error.what) from error
    return final


def _require_same_file(source: Path, final: Path, look: Look) -> None:
    if final.samefile(source):
        raise BadInput(
            f"{final.parent} is where {source.name} is already", "Set RemoteAnalysisDir to another"
        )
    if checksum(final, look) != checksum(source, look):
        raise BadInput(f"{final} is there already, and is another file", "Move it away")


def _require_room(source: Path, part: Path) -> None:
    missing = source.stat().st_size - (part.stat().st_size if part.exists() else 0)
    if missing > free_bytes(part.parent):
        raise BadInput(f"{part.parent} has no room for {source.name}", "Make room")
