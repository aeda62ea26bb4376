"""Who puts a value: what EPICS knows of the client whose put is being processed in this thread."""

import ctypes
import threading
from pathlib import Path

import softioc
import structlog
from epicscorelibs.ioc import Com, dbCore

log = structlog.get_logger(__name__)

# Servers name their threads; by that a put is told where nothing else is known.
_SERVERS = {"CAS": "CA", "PVX": "PVA"}
ELSEWHERE = "the program"


class _Message(ctypes.Structure):
    """EPICS's asTrapWriteMessage, as far as it is read."""

    _fields_ = (("user", ctypes.c_char_p), ("host", ctypes.c_char_p))


_Listener = ctypes.CFUNCTYPE(None, ctypes.POINTER(_Message), ctypes.c_int)


class Writers:
    """Hears of each put before it is processed. One per process; to be made before the IOC starts."""

    def __init__(self) -> None:
        # By thread id and not in a thread's own room: that of EPICS's threads is gone after each call.
        self._writing: dict[int, str] = {}
        self._kept = _Listener(self._heard)
        try:
            rules = Path(softioc.__file__).with_name("access.acf")
            Com.asTrapWriteRegisterListener.restype = ctypes.c_void_p
            Com.asTrapWriteRegisterListener(self._kept)
            dbCore.asSetFilename(str(rules).encode())
        except AttributeError as missing:
            log.warning("users and hosts of puts are not known", reason=str(missing))

    def _heard(self, message: "ctypes._Pointer[_Message]", after: int) -> None:
        if not after:
            user, host = (text.decode(errors="replace") for text in _texts(message.contents))
            self._writing[threading.get_native_id()] = f"{user}@{host}"

    def current(self) -> str:
        """Give who puts in this thread, as 'user@host CA'; asked once for each put."""
        who = self._writing.pop(threading.get_native_id(), "")
        return f"{who} {_server()}".strip()


def _texts(message: _Message) -> tuple[bytes, bytes]:
    return message.user or b"?", message.host or b"?"


def _server() -> str:
    try:
        name = Path(f"/proc/self/task/{threading.get_native_id()}/comm").read_text()
    except OSError:
        return "CA or PVA"
    return _SERVERS.get(name[:3], ELSEWHERE)
