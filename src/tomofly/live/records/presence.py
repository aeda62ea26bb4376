"""Who serves a name already: two servers of one prefix would answer clients by turns."""

import asyncio
import os
import socket
from collections.abc import Sequence

import aioca
from p4p.client.asyncio import Context

from tomofly.model import TomoflyError

SEARCH_S = 1.0
LOOPBACK = "127.0.0.1"
USUAL_PORT = "5064"
WAY_OUT = "End that server, or choose another prefix in the settings"


def refuse_hidden() -> None:
    """Refuse a port on the loopback that another server has: clients there find one server only.

    On a network several servers share a port, as searches are broadcast. Raises TomoflyError.
    """
    interfaces = os.environ.get("EPICS_CAS_INTF_ADDR_LIST", "").split()
    if interfaces != [LOOPBACK]:
        return
    text = os.environ.get("EPICS_CAS_SERVER_PORT") or os.environ.get("EPICS_CA_SERVER_PORT") or USUAL_PORT
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, int(text)))
        except (OSError, ValueError, OverflowError) as error:
            raise TomoflyError(
                f"Port {text} of Channel Access cannot be used: {error}",
                "Set EPICS_CAS_SERVER_PORT to another, and name it in the clients' EPICS_CA_ADDR_LIST",
            ) from error


async def refuse_served(names: Sequence[str], search_s: float = SEARCH_S) -> None:
    """Look for other servers of these names, over CA and PVA. Raises TomoflyError naming the first found.

    To be asked before the own server starts, which would answer as well.
    """
    for name, info in zip(names, await aioca.cainfo(list(names), timeout=search_s, throw=False), strict=True):
        if info.ok:
            raise TomoflyError(f"{name} is already served over Channel Access, by {info.host}", WAY_OUT)
    # Channels that go on searching would find the own server, and never let go of it.
    aioca.purge_channel_caches()
    with Context("pva") as context:
        answers = await asyncio.gather(*(_answers(context, name, search_s) for name in names))
    for name, answered in zip(names, answers, strict=True):
        if answered:
            raise TomoflyError(f"{name} is already served over PVAccess", WAY_OUT)


async def _answers(context: Context, name: str, search_s: float) -> bool:
    try:
        await asyncio.wait_for(context.get(name), search_s)
    except TimeoutError:
        return False
    return True
