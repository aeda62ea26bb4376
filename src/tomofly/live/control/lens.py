"""The sample's way when the lens changes: what the slices cross in goes into the middle of the field."""

from collections.abc import Callable, Mapping

from tomofly.live.collection.channels import Channels, DeviceFault
from tomofly.live.records.values import PVValues

LIMIT_S = 60.0


async def move_by(
    channels: Channels, values: PVValues, ways_mm: Mapping[str, float], tell: Callable[[str], object]
) -> None:
    """Move each motor, named by the PV `ways_mm` gives, by so many mm; one that does not move is told."""
    for pv, way in ways_mm.items():
        motor = values.text(pv)
        if not motor:
            continue
        try:
            await channels.put(motor, float(await channels.get(motor)) + way, LIMIT_S)
        except DeviceFault as fault:
            tell(f"The sample does not follow the lens: {fault}")
