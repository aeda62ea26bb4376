"""When the lens changes: the sample's way into the middle of the field, and what each lens remembers."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import structlog

from tomofly.live.collection.channels import Channels, DeviceFault
from tomofly.live.pixels import rescaled_centre
from tomofly.live.records.saving import write_configuration
from tomofly.live.records.values import PVValues

log = structlog.get_logger(__name__)

LIMIT_S = 60.0
OF_A_LENS = ("Center", "PixelSize")
_IN = "in"


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


class LensMemory:
    """Rotation centre and pixel size of each lens, by their PVs' names, in a file: in pixels of the camera.

    `lens`: the one that the PVs belong to, also after a restart, as PVs are kept too. `binning`: that of the
    values given and taken.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known = _read(path)
        self.lens = int(self._known.pop(_IN, {}).get("lens", 0))

    def change(self, lens: int, binning: float) -> dict[str, float]:
        """Have another lens in; give what is known of it."""
        self.lens = lens
        self._write()
        return {name: _seen(name, value, 1 / binning) for name, value in self._of(lens).items()}

    def keep(self, values: Mapping[str, float], binning: float) -> None:
        """Remember what is chosen for the lens that is in; 0: nothing is."""
        chosen = {name: _seen(name, value, binning) for name, value in values.items() if value}
        known = {**self._of(self.lens), **chosen}
        if known != self._of(self.lens):
            self._known[str(self.lens)] = known
            self._write()

    def _of(self, lens: int) -> dict[str, float]:
        return {name: value for name, value in self._known.get(str(lens), {}).items() if name in OF_A_LENS}

    def _write(self) -> None:
        try:
            write_configuration(self._path, {**self._known, _IN: {"lens": self.lens}})
        except OSError as error:
            log.warning("what lenses need is not saved", reason=error.strerror)


def _seen(name: str, value: float, ratio: float) -> float:
    """Give a lens's centre or pixel size in pixels of which `ratio` make one."""
    return rescaled_centre(value, ratio) if name == "Center" else value / ratio


def _read(path: Path) -> dict[str, dict[str, float]]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        return {str(lens): {str(n): float(v) for n, v in known.items()} for lens, known in document.items()}
    except (OSError, ValueError, AttributeError, TypeError):
        return {}
