"""Dark, flat and theta over PVAccess, under the names and structures that tomoStream's clients read.

Behind the fields that they know come others that say what they leave open: from which frame on, since when,
and for which lens, exposure and binning it holds.
"""

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray
from p4p import Type, Value
from p4p.server import StaticProvider
from p4p.server.thread import SharedPV

from tomofly.live.collection.angles import AngleList
from tomofly.live.frames import FrameKind

TIME = ("S", "time_t", [("secondsPastEpoch", "l"), ("nanoseconds", "i"), ("userTag", "i")])
FIELD = Type(
    [
        ("value", "af"), ("sizex", "i"), ("sizey", "i"),
        ("firstFrame", "l"), ("frames", "i"), ("version", "i"), ("lens", "i"), ("exposure", "d"),
        ("binning", "i"), ("timeStamp", TIME),
    ]
)  # fmt: skip
THETA = Type([("value", "af"), ("sizex", "i"), ("firstProjid", "i"), ("timeStamp", TIME)])
NAMES = {FrameKind.DARK: "StreamDarkFields", FrameKind.FLAT: "StreamFlatFields"}
THETA_NAME = "StreamTheta"
UNKNOWN = -1


class Broadcast:
    """Serves the newest dark and flat field and the angles; `provider` is for a p4p server."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.provider = StaticProvider("broadcast")
        self._fields = {kind: SharedPV(initial=Value(FIELD, {"lens": UNKNOWN})) for kind in NAMES}
        self._theta = SharedPV(initial=Value(THETA, {}))
        for kind, name in NAMES.items():
            self.provider.add(prefix + name, self._fields[kind])
        self.provider.add(prefix + THETA_NAME, self._theta)
        self._versions = dict.fromkeys(NAMES, 0)

    def field(
        self, kind: FrameKind, mean: NDArray[np.float32], first_frame: int, *, frames: int = 0,
        lens: int | None = None, exposure_s: float | None = None, binning: int = 1,
    ) -> None:  # fmt: skip
        """Send a new mean (y, x), counts, valid from frame `first_frame` on."""
        self._versions[kind] += 1
        height, width = mean.shape
        value: dict[str, Any] = {
            "value": np.ascontiguousarray(mean, np.float32).ravel(), "sizex": width, "sizey": height,
            "firstFrame": first_frame, "frames": frames, "version": self._versions[kind],
            "lens": UNKNOWN if lens is None else lens, "exposure": exposure_s or 0.0, "binning": binning,
            "timeStamp": _now(),
        }  # fmt: skip
        self._fields[kind].post(Value(FIELD, value))

    def theta(self, angles: AngleList, first_id: int) -> None:
        """Send the angles of the frames from uniqueId `first_id` on."""
        value = {
            "value": angles.angles_deg, "sizex": len(angles.angles_deg), "firstProjid": first_id,
            "timeStamp": _now(),
        }  # fmt: skip
        self._theta.post(Value(THETA, value))


def _now() -> dict[str, int]:
    now = time.time_ns()
    return {"secondsPastEpoch": now // 10**9, "nanoseconds": now % 10**9}
