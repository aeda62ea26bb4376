"""Filters as people write them, such as ``fit_resolution_angstrom < 6``; parsed, never evaluated."""

import re
from collections.abc import Iterable
from dataclasses import replace
from difflib import SequenceMatcher

from tomofly.flow.graph import Workflow
from tomofly.model import Metric, TomoflyError
from tomofly.store.browse import ITEM_STATES, ItemFilter, MetricRange, Order

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
_NAME = r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)?"
_COMPARISON = re.compile(rf"\s*({_NAME})\s*(<=|>=|==|=|<|>)\s*({_NUMBER})\s*")
_BETWEEN = re.compile(rf"\s*({_NUMBER})\s*(<=|<)\s*({_NAME})\s*(<=|<)\s*({_NUMBER})\s*")
_WORD = re.compile(r"\s*(state|flag|excluded|key)\s*(!=|==|=|~)\s*(\S.*?)\s*")
_YES_NO = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}
_EXAMPLES = (
    "Write it like fit_resolution_angstrom<6, 5000<defocus_u_angstrom<25000, flag!=ice_ring, state=done"
)


def final_stages(
    workflow: Workflow, enabled: Iterable[str] | None = None, track: str = "", kind: str = ""
) -> tuple[str, ...]:
    """Give the stages whose end makes an item of a kind done: those that feed no other of its stages.

    ``enabled`` are the stages that are switched on; ``track`` looks at one track alone. The kind is the
    main one unless another is named.
    """
    mine = [s for s in workflow.stages_for(kind or workflow.main_kind) if track in ("", s.track)]
    active = [s for s in mine if enabled is None or s.name in enabled] or mine
    needed = {need for stage in active for need in stage.needs}
    return tuple(stage.name for stage in active if stage.name not in needed)


def checked_kind(workflow: Workflow, name: str = "") -> str:
    """Return the kind of item that is meant, the main one for an empty name. Raises TomoflyError."""
    wanted = name.strip().lower().replace("-", " ").replace("_", " ")
    if wanted and wanted not in workflow.kinds:
        raise TomoflyError(
            f"A session of kind {workflow.kind} has no items of kind '{name}'",
            f"Legal are: {', '.join(workflow.kinds)}",
        )
    return wanted or workflow.main_kind


def no_filter(workflow: Workflow, kind: str = "") -> ItemFilter:
    """Give the filter that all items of a kind pass, of the main one unless another is named."""
    kind = kind or workflow.main_kind
    return ItemFilter(kind, final_stages(workflow, kind=kind))


def parse_filters(
    workflow: Workflow, expressions: Iterable[str], base: ItemFilter | None = None
) -> ItemFilter:
    """Read filter expressions, all of which must hold; ``and`` joins several in one.

    Raises TomoflyError naming the part that cannot be read and what is legal.
    """
    wanted = base or no_filter(workflow)
    for expression in expressions:
        for part in re.split(r"\s+and\s+|&&", expression.strip()):
            wanted = _with_part(workflow, wanted, part)
    return wanted


def _with_part(workflow: Workflow, wanted: ItemFilter, part: str) -> ItemFilter:
    if match := _WORD.fullmatch(part):
        return _with_word(wanted, part, match[1], match[2], match[3])
    if match := _COMPARISON.fullmatch(part):
        stage, name = find_metric(workflow, match[1], wanted.kind)
        limits = _range(stage, name, match[2], float(match[3]))
    elif match := _BETWEEN.fullmatch(part):
        stage, name = find_metric(workflow, match[3], wanted.kind)
        limits = MetricRange(stage, name, float(match[1]), float(match[5]), match[2] == "<", match[4] == "<")
    else:
        raise TomoflyError(f"'{part.strip()}' is no filter", _EXAMPLES)
    return replace(wanted, ranges=(*wanted.ranges, limits))


def _range(stage: str, name: str, sign: str, value: float) -> MetricRange:
    if sign in ("<", "<="):
        return MetricRange(stage, name, high=value, high_open=sign == "<")
    if sign in (">", ">="):
        return MetricRange(stage, name, low=value, low_open=sign == ">")
    return MetricRange(stage, name, low=value, high=value)


def _with_word(wanted: ItemFilter, part: str, word: str, sign: str, value: str) -> ItemFilter:
    if (sign == "~") != (word == "key") and not (word == "key" and sign in ("=", "==")):
        raise TomoflyError(f"'{part.strip()}' is no filter", _EXAMPLES)
    if word == "key":
        return replace(wanted, text=value) if sign == "~" else replace(wanted, keys=(*wanted.keys, value))
    if word == "flag":
        if sign == "!=":
            return replace(wanted, without_flags=(*wanted.without_flags, value))
        return replace(wanted, flags=(*wanted.flags, value))
    if word == "excluded":
        if value.lower() not in _YES_NO:
            raise TomoflyError(f"'{part.strip()}' is no filter", "Write excluded=yes or excluded=no")
        return replace(wanted, excluded=_YES_NO[value.lower()] == (sign != "!="))
    if value not in ITEM_STATES:
        raise TomoflyError(f"There is no state '{value}'", f"Legal are: {', '.join(ITEM_STATES)}")
    named = tuple(state for state in ITEM_STATES if (state == value) == (sign != "!="))
    return replace(wanted, states=(*wanted.states, *named))


def find_metric(workflow: Workflow, name: str, kind: str = "") -> tuple[str, str]:
    """Give (stage, metric) for ``metric`` or ``stage.metric``. Raises TomoflyError with what is legal."""
    stage, _, short = name.rpartition(".")
    measured = metrics_of(workflow, kind)
    found = [
        (owner, metric.name) for owner, metric in measured if metric.name == short and stage in ("", owner)
    ]
    if len(found) == 1:
        return found[0]
    if found:
        choices = ", ".join(f"{owner}.{metric}" for owner, metric in found)
        raise TomoflyError(f"Several stages have a metric '{name}'", f"Write one of: {choices}")
    names = dict.fromkeys(metric.name for _, metric in measured)
    legal = sorted(names, key=lambda known: _likeness(short, known), reverse=True)
    raise TomoflyError(f"There is no metric '{name}'", f"Legal are, the nearest first: {', '.join(legal)}")


def _likeness(one: str, other: str) -> float:
    return SequenceMatcher(None, one.lower(), other.lower()).ratio()


def metrics_of(workflow: Workflow, kind: str = "") -> list[tuple[str, Metric]]:
    """Give (stage, metric) of everything that is measured on items of a kind, in the order of the work."""
    stages = workflow.stages_for(kind or workflow.main_kind)
    return [(stage.name, metric) for stage in stages for metric in stage.metrics]


def parse_order(workflow: Workflow, text: str, kind: str = "") -> Order:
    """Read a sort order: ``arrival``, ``key`` or a metric; a leading ``-`` turns it round."""
    name = text.removeprefix("-")
    descending = text.startswith("-")
    if name == "arrival":
        return Order("arrival", descending)
    if name == "key":
        return Order("key", descending)
    return Order(find_metric(workflow, name, kind), descending)
