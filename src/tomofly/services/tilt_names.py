"""Tilts as people name them: by order of exposure, by angle, or by name."""

import re
from collections.abc import Iterator, Sequence

from tomofly.model import TomoflyError
from tomofly.stages.tilts.composition import View

NAMES_SHOWN = 5
ANGLE_AGREEMENT_DEG = 0.5
"""People read angles off a screen, rounded."""

_ORDERS = re.compile(r"(\d+)(?:-(\d+))?")
_ANGLE = re.compile(r"([+-]?\d+(?:\.\d+)?)\s*(?:deg|°)")


def named_tilts(words: Sequence[str], series: str, views: Sequence[View]) -> list[View]:
    """Give the views that are meant, each once: ``3``, ``5-8``, ``-57deg``, or names; commas part them.

    Orders of exposure count from 0. Raises TomoflyError for what is not there, and for an angle that
    several have.
    """
    wanted = [word.strip() for text in words for word in text.split(",") if word.strip()]
    if not wanted:
        raise TomoflyError("No tilt is named", "Name them by their order of exposure, such as --tilts 3,5-8")
    chosen = {view.name: view for word in wanted for view in _meant(word, series, views)}
    return list(chosen.values())


def _meant(word: str, series: str, views: Sequence[View]) -> Iterator[View]:
    """Give the views that a word means; whole names come first, as a name may look like a number."""
    by_name = [view for view in views if word in (view.name, view.name.rpartition("/")[2])]
    if by_name:
        yield from by_name
    elif orders := _ORDERS.fullmatch(word):
        first, last = int(orders[1]), int(orders[2] or orders[1])
        if last < first:
            raise TomoflyError(f"{word} ends before it begins", f"Write {last}-{first}")
        yield from _of_orders(range(first, last + 1), series, views)
    elif angle := _ANGLE.fullmatch(word):
        yield _of_angle(float(angle[1]), series, views)
    else:
        raise _unknown(f"no tilt '{word}'", series, views)


def _of_orders(orders: range, series: str, views: Sequence[View]) -> Iterator[View]:
    by_order = {view.order: view for view in views}
    for order in orders:
        if order not in by_order:
            raise _unknown(f"no tilt of order {order}", series, views)
        yield by_order[order]


def _of_angle(angle_deg: float, series: str, views: Sequence[View]) -> View:
    near = [
        view
        for view in views
        if view.tilt_angle_deg is not None and abs(view.tilt_angle_deg - angle_deg) <= ANGLE_AGREEMENT_DEG
    ]
    if not near:
        raise _unknown(f"no tilt at {angle_deg:g}°", series, views)
    if len(near) > 1:
        orders = ", ".join(str(view.order) for view in near)
        raise TomoflyError(
            f"Series '{series}' has {len(near)} tilts at {angle_deg:g}°", f"Name them by order: {orders}"
        )
    return near[0]


def _unknown(what: str, series: str, views: Sequence[View]) -> TomoflyError:
    orders = [view.order for view in views]
    there = f"orders {min(orders)} to {max(orders)}" if orders else "none yet"
    return TomoflyError(
        f"Series '{series}' has {what}; there are {there}",
        "Write 3, 5-8, -57deg or a name; `tomofly session tilts` lists them",
    )
