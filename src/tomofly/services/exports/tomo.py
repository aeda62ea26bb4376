"""Exports of tilt series: each that is done is given to the format that is asked for; the rest is told of."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from tomofly.formats.errors import BadFile
from tomofly.model import TomoflyError
from tomofly.services.exports.aretomo import AretomoExport
from tomofly.services.exports.export import Draft, Format
from tomofly.services.exports.imod import ImodExport
from tomofly.services.exports.relion4 import Relion4Export
from tomofly.services.exports.relion5 import Relion5Export
from tomofly.services.exports.series import ExportedSeries, NotReady, exported_series, is_hand_known
from tomofly.services.exports.tilt_tables import write_tilt_tables
from tomofly.services.exports.warp import WarpExport
from tomofly.services.home import Home
from tomofly.store.browse import BrowsedItem

SHOWN = 5
"""So many series are named in a note; ``provenance.json`` has them all."""


class SeriesWriter(Protocol):
    """Writes series in one format."""

    def add(self, exported: ExportedSeries) -> None:
        """Write one series. Raises NotReady, saying why, where the format cannot have it."""

    def finish(self) -> None:
        """Write what lists them all."""


_FORMATS: Mapping[Format, Callable[[Draft], SeriesWriter]] = {
    "relion": Relion5Export,
    "relion4": Relion4Export,
    "imod": ImodExport,
    "aretomo": AretomoExport,
    "warp": WarpExport,
}


@dataclass
class _Doubts:
    """What is not certain of some series, and of which."""

    series: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))

    def look(self, draft: Draft, exported: ExportedSeries) -> None:
        if not exported.has_doses:
            self.series["The dose before some tilts is not known and written as 0"].append(exported.item.key)
        if exported.ctf is None:
            self.series["There is no CTF yet"].append(exported.item.key)
        if not is_hand_known(draft, exported):
            what = "The sense of the defocus across the tilts (hand) is not certain: the likelier is written"
            self.series[what].append(exported.item.key)
        if exported.alignment.local is not None:
            what = "Local movement was measured, which these files do not hold: their geometry is without it"
            self.series[what].append(exported.item.key)
        left = sum(not aligned for aligned in exported.alignment.aligned)
        if left:
            self.series["Tilts that could not be aligned are left out"].append(exported.item.key)

    def tell(self, draft: Draft) -> None:
        for what, keys in self.series.items():
            draft.note(f"{what}: {named(keys)}")


def named(keys: Iterable[str]) -> str:
    """Name a few of many."""
    keys = list(keys)
    more = len(keys) - SHOWN
    return ", ".join(keys[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def write_series(home: Home, items: Iterable[BrowsedItem], draft: Draft) -> None:
    """Write the series among the items that are done; note why the others are not there."""
    if draft.options.format in ("csv", "json"):
        write_tilt_tables(home, items, draft)
        return
    writer = _FORMATS[draft.options.format](draft)
    doubts = _Doubts()
    for item in items:
        try:
            with draft.whole_or_none():
                exported = exported_series(home, draft, item)
                writer.add(exported)
        except (NotReady, TomoflyError, BadFile, FileNotFoundError) as error:
            draft.leave_out(item.key, _reason(error))
        else:
            draft.items += 1
            doubts.look(draft, exported)
    if draft.items:
        writer.finish()
    _tell(draft, doubts)


def _reason(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return f"the file {error.filename} has gone while it was exported: export again"
    return error.sentences[0] if isinstance(error, TomoflyError) else str(error)


def _tell(draft: Draft, doubts: _Doubts) -> None:
    doubts.tell(draft)
    for key, reason in list(draft.reasons.items())[:SHOWN]:
        draft.note(f"{key} is left out: {reason}")
    more = len(draft.reasons) - SHOWN
    if more > 0:
        draft.note(f"{more} more series are left out: provenance.json says why")
    if draft.options.particles:
        draft.note("Particles are cut out of micrographs only: RELION makes those of tilt series itself")
