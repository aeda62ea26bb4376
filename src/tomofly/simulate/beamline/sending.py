"""The camera's image channel."""

import os

from p4p import Value
from p4p.server import Server, StaticProvider
from p4p.server.raw import SharedPV

from tomofly.simulate.beamline.codecs import CodecName
from tomofly.simulate.beamline.ndarrays import CameraFrame, image_type, to_value


class ImageServer:
    """Serves NTNDArrays under one name; a slow subscriber loses frames, the camera does not wait."""

    def __init__(self, channel: str) -> None:
        self._type = image_type()
        self._pv = SharedPV(initial=Value(self._type))
        self._provider = StaticProvider("images")
        self._provider.add(channel, self._pv)
        self._server: Server | None = None

    def start(self) -> None:
        """Serve, beside the records' own server."""
        # The records' server has the port that is known; this one is found by searching.
        settings = {name: value for name, value in os.environ.items() if name.startswith("EPICS_PVA")}
        settings["EPICS_PVAS_SERVER_PORT"] = "0"
        self._server = Server(providers=[self._provider], conf=settings, useenv=False)

    def send(self, frame: CameraFrame, unique_id: int, codec: CodecName) -> None:
        """Send one frame to all subscribers."""
        self._pv.post(to_value(self._type, frame, unique_id, codec))

    def end(self) -> None:
        """Close the channel."""
        if self._server is not None:
            self._server.stop()
        self._pv.close(destroy=True)
