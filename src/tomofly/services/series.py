"""How the tilt series of a session are coming along: their tilts as they come, and what is made of them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from tomofly.model import TomoflyError
from tomofly.services.highlights import told_briefly
from tomofly.services.home import Home
from tomofly.store import SessionRow, browse
from tomofly.store.browse import BrowsedItem, ItemFilter, Order

if TYPE_CHECKING:
    from tomofly.services.tilts import Tilt

SERIES_KIND = "tilt series"
TOMOGRAM = "tomogram"
"""The stage whose end is what people wait for."""

Mark = Literal["awaited", "arrived", "ready", "aligned", "left out", "failed"]
MARKS: tuple[Mark, ...] = ("awaited", "arrived", "ready", "aligned", "left out", "failed")


@dataclass(frozen=True)
class SeriesProgress:
    """One series: its state, what it waits for, its tilts in the order of exposure, and its tomogram.

    ``tomogram``: none yet, ``provisional`` of some tilts, or ``ready``; ``latency_s``: from the last tilt.
    """

    item: BrowsedItem
    state: str
    waiting_for: str
    tilts: "tuple[Tilt, ...]"
    tomogram: Literal["", "provisional", "ready"]
    latency_s: float | None

    @property
    def come(self) -> int:
        """Tilts that have come."""
        return sum(mark_of(tilt) != "awaited" for tilt in self.tilts)

    @property
    def numbers(self) -> list[str]:
        """What was measured, briefly."""
        return told_briefly(self.item)

    def counts(self) -> dict[Mark, int]:
        """Count its tilts by mark."""
        found = Counter(mark_of(tilt) for tilt in self.tilts)
        return {mark: found[mark] for mark in MARKS if found[mark]}

    def as_json(self) -> dict[str, Any]:
        """Give it as JSON values."""
        return {
            "series": self.item.key,
            "state": self.state,
            "waiting_for": self.waiting_for,
            "tomogram": self.tomogram,
            "last_tilt_to_tomogram_s": self.latency_s,
            "counts": self.counts(),
            "tilts": [
                {"tilt_angle_deg": t.tilt_angle_deg, "order": t.order, "mark": mark_of(t), "reason": t.reason}
                for t in self.tilts
            ],
            "metrics": {f"{stage}.{name}": value for (stage, name), value in self.item.metrics.items()},
        }


def mark_of(tilt: "Tilt") -> Mark:
    """Sum up in one word how far a tilt has come."""
    if tilt.state in ("failed", "left out", "ready"):
        return tilt.state
    if tilt.state == "used":
        return "ready" if tilt.shift_y_angstrom is None else "aligned"
    return "awaited" if tilt.state == "not come" else "arrived"


def newest_series(
    home: Home, session: SessionRow, final_stages: Sequence[str], count: int,
    known: Sequence[SeriesProgress] = (),
) -> tuple[SeriesProgress, ...]:  # fmt: skip
    """Give the series that came last, the newest first; there are none in sessions of other kinds.

    ``final_stages`` are those whose end makes a series done. Of those ``known`` from an earlier look, which
    are done and as they were, the tilts are not looked at again.
    """
    wanted = ItemFilter(SERIES_KIND, tuple(final_stages))
    with home.database.read() as connection:
        newest = Order("arrival", descending=True)
        items = browse.browse_items(connection, session.id, wanted, newest, limit=count)
    same = {one.item.id: one for one in known if one.state == "done"}
    found = (
        before
        if (before := same.get(item.id)) is not None and before.item == item
        else _of_item(home, session.name, item, final_stages)
        for item in items
    )
    return tuple(series for series in found if series is not None)


def _of_item(home: Home, name: str, item: BrowsedItem, final: Sequence[str]) -> SeriesProgress | None:
    # What reads the files of a series takes a while to load, which other sessions need not wait for.
    from tomofly.services.tilts import series_tilts

    try:
        tilts = series_tilts(home, name, item.key).tilts
    except TomoflyError:  # its tilts were found to belong to another series since it was listed
        return None
    return SeriesProgress(
        item=item,
        state=item.state(final),
        waiting_for=item.waiting_for,
        tilts=tilts,
        tomogram=_tomogram(item),
        latency_s=item.latency_s((TOMOGRAM,)),
    )


def _tomogram(item: BrowsedItem) -> Literal["", "provisional", "ready"]:
    if TOMOGRAM not in item.tasks or item.tasks[TOMOGRAM].state != "done":
        return ""
    return "provisional" if item.done_at((TOMOGRAM,)) is None else "ready"
