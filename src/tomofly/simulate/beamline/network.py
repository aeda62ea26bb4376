"""Where the beamline serves: ports and interfaces, settled before EPICS is loaded."""

import os
import socket

from tomofly.model import TomoflyError

LOOPBACK = "127.0.0.1"
DEFAULT_PORTS = {"EPICS_CA_SERVER_PORT": 5064, "EPICS_PVAS_SERVER_PORT": 5075}
PROTOCOLS = {
    "EPICS_CA_SERVER_PORT": ("Channel Access", "--ca-port"),
    "EPICS_PVAS_SERVER_PORT": ("PVAccess", "--pva-port"),
}


def settle_network(ca_port: int | None, pva_port: int | None, *, everywhere: bool) -> None:
    """Set the EPICS_* variables of this process before EPICS reads them. Raises TomoflyError.

    Those that are set already stay. Without `everywhere` only this computer can reach the server.
    """
    given = {"EPICS_CA_SERVER_PORT": ca_port, "EPICS_PVAS_SERVER_PORT": pva_port}
    for variable, port in given.items():
        if port is not None:
            os.environ[variable] = str(port)
    if not everywhere:
        for variable in ("EPICS_CAS_INTF_ADDR_LIST", "EPICS_PVAS_INTF_ADDR_LIST"):
            os.environ.setdefault(variable, LOOPBACK)
    for variable, usual in DEFAULT_PORTS.items():
        _refuse_taken_port(variable, usual)


def _refuse_taken_port(variable: str, usual: int) -> None:
    protocol, option = PROTOCOLS[variable]
    text = os.environ.get(variable, "").strip()
    if text and not (text.isdecimal() and int(text) < 65536):
        raise TomoflyError(f"{variable}={text} is no port", "Set it to a number below 65536")
    port = int(text) if text else usual
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            raise TomoflyError(
                f"Port {port} of {protocol} is taken: another EPICS server is at work",
                f"Choose with {option}",
            ) from error
