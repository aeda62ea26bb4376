"""Ports on this computer for servers that tests start."""

import socket
from contextlib import ExitStack


def free_ports(count: int) -> list[int]:
    """Find ports that nobody listens at now, over TCP and UDP."""
    with ExitStack() as kept:
        ports: list[int] = []
        while len(ports) < count:
            tcp = kept.enter_context(socket.socket())
            tcp.bind(("127.0.0.1", 0))
            port = tcp.getsockname()[1]
            udp = kept.enter_context(socket.socket(type=socket.SOCK_DGRAM))
            try:
                udp.bind(("127.0.0.1", port))
            except OSError:
                continue
            ports.append(port)
        return ports
