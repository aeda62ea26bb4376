"""A tomoScanStream that runs elsewhere: what it says of frames, dark and flat is taken over."""

from typing import Any, Protocol

import numpy as np
import structlog
from numpy.typing import NDArray
from p4p.client.thread import Context

from tomofly.live.collection.broadcast import NAMES, THETA_NAME
from tomofly.live.collection.channels import Channels, Watching
from tomofly.live.frames import FrameKind

log = structlog.get_logger(__name__)


class Told(Protocol):
    """Who takes it over."""

    def foreign_kind(self, kind: Any) -> None:
        """Frames that say nothing of themselves show this."""

    def foreign_first(self, first_id: int) -> None:
        """The first angle belongs to this id."""

    def foreign_theta(self, angles_deg: NDArray[np.float32]) -> None:
        """Angles from the first id on."""

    def foreign_field(self, kind: FrameKind, mean: NDArray[np.float32]) -> None:
        """A dark or flat field (y, x)."""


class ForeignCollection:
    """Listens to the PVs and the broadcast of another collection. A server that goes away is waited for."""

    def __init__(self, prefix: str, channels: Channels, told: Told) -> None:
        self.prefix, self._told = prefix, told
        self._watches: list[Watching] = [
            channels.watch(prefix + "FrameType", told.foreign_kind),
            channels.watch(prefix + "FirstProjid", lambda value: told.foreign_first(int(value))),
        ]
        # Structures of their own, so not as plain values.
        self._context = Context("pva", nt=False)
        for kind, name in NAMES.items():
            self._watch(name, lambda value, kind=kind: self._field(kind, value))
        self._watch(THETA_NAME, lambda value: told.foreign_theta(np.asarray(value.value, np.float32)))

    def _watch(self, name: str, come: Any) -> None:
        def told(value: Any) -> None:
            try:
                come(value)
            except (AttributeError, ValueError) as error:
                log.warning("a broadcast cannot be read", channel=self.prefix + name, reason=str(error))

        self._watches.append(self._context.monitor(self.prefix + name, told))

    def _field(self, kind: FrameKind, value: Any) -> None:
        if value.sizex * value.sizey:
            self._told.foreign_field(
                kind, np.asarray(value.value, np.float32).reshape(value.sizey, value.sizex)
            )

    def close(self) -> None:
        """Stop listening."""
        for watching in self._watches:
            watching.close()
        self._context.close()
