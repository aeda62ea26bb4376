"""The tilts of a series: what is known of each, what became of it, and what people decide of it."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import Connection

from tomofly.flow.workflows import workflow_of
from tomofly.model import GroupStage, MicroscopeParams, TomoflyError
from tomofly.services.home import Home
from tomofly.services.settings import settings_in_force
from tomofly.services.tilt_names import named_tilts
from tomofly.services.tilt_results import TiltResult, tilt_results
from tomofly.stages.tilts.composition import View, views_of
from tomofly.store import SessionRow, browse, planning, requests, retry_while_locked, sessions
from tomofly.store.browse import BrowsedItem

SERIES_SHOWN = 20

TiltState = Literal["used", "left out", "ready", "waiting", "queued", "running", "failed", "not come"]


@dataclass(frozen=True)
class Tilt:
    """One tilt of a series, or a section of a stack; None where something is not known.

    ``order`` of exposure, from 0. ``accumulated_dose_e_per_a2`` is that of all exposures of the series before
    this; ``pre_exposure_e_per_a2`` adds what the specimen had before its series. ``excluded`` is a short code
    with its ``reason``, which also says why a tilt failed, or what it waits for. Shifts are to be applied;
    the defocus is that at the tilt axis.
    """

    name: str
    file: str
    section: int | None
    order: int | None
    tilt_angle_deg: float | None
    state: TiltState
    excluded: str = ""
    reason: str = ""
    decision: str = ""
    dose_e_per_a2: float | None = None
    accumulated_dose_e_per_a2: float | None = None
    pre_exposure_e_per_a2: float | None = None
    shift_y_angstrom: float | None = None
    shift_x_angstrom: float | None = None
    shift_error_angstrom: float | None = None
    residual_angstrom: float | None = None
    defocus_angstrom: float | None = None


@dataclass(frozen=True)
class TiltSeries:
    """A series with its tilts in the order of exposure, those that have not come last.

    ``waits_for`` says what it waits for, ``reason`` why it has failed; ``provisional``: what there is was
    made of some tilts only.
    ``not_come`` counts the tilts that its mdoc lists and that have not come, of which some are in ``tilts``.
    """

    series: str
    state: str
    waits_for: str
    provisional: bool
    excluded: str
    axis_angle_deg: float | None
    order_source: str
    expected: int | None
    not_come: int
    tilts: tuple[Tilt, ...]
    flags: tuple[tuple[str, str], ...] = ()
    reason: str = ""


@dataclass(frozen=True)
class _Found:
    """A series in the database, with its members and what is decided of them."""

    session: SessionRow
    item: BrowsedItem
    members: tuple[BrowsedItem, ...]
    decisions: Mapping[int, Mapping[str, Mapping[str, str]]]
    member_stages: tuple[str, ...]
    pre_exposure_e_per_a2: float


def series_tilts(home: Home, name: str, series: str) -> TiltSeries:
    """Give a series with its tilts. Raises TomoflyError listing what there is."""
    with home.database.read() as connection:
        found = _find(connection, name, series)
    results = tilt_results(Path(found.session.folder), found.item)
    tilts = [tilt for member in found.members for tilt in _tilts(member, found, results)]
    tilts.sort(key=lambda tilt: (tilt.order is None, tilt.order or 0, tilt.name))
    known: Mapping[str, Any] = max(
        (member.attributes for member in found.members), key=lambda a: a.get("found") or 0, default={}
    )
    state, reason = _series_state(found)
    return TiltSeries(
        series=series,
        state=state,
        reason=reason,
        waits_for=found.item.waiting_for,
        provisional=any(result.provisional for result in results.values()),
        excluded=found.item.excluded,
        axis_angle_deg=next(iter(results.values())).axis_angle_deg
        if results
        else known.get("axis_angle_deg"),
        order_source=known.get("order_source") or "",
        expected=known.get("expected"),
        not_come=known.get("not_found") or 0,
        tilts=(*tilts, *_not_come(known)),
        flags=tuple((code, message) for _, code, message in found.item.flags),
    )


def all_series(home: Home, name: str) -> list[TiltSeries]:
    """Give all series of a session with their tilts, by their keys. Raises TomoflyError."""
    with home.database.read() as connection:
        session = sessions.find_session(connection, name)
        keys = _series_keys(connection, session, _group_of(session).produces)
    return [series_tilts(home, name, key) for key in keys]


def exclude_tilts(home: Home, name: str, series: str, tilts: Sequence[str], reason: str) -> list[str]:
    """Leave tilts out of their series, whatever is measured; give their names.

    ``tilts`` names them by their order of exposure (``3``, ``5-8``), their angle (``-57deg``) or their name.
    The series is composed again. Raises TomoflyError.
    """
    if not reason.strip():
        raise TomoflyError("Leaving tilts out needs a reason", "Give one with --reason")
    return _decide(home, name, series, tilts, {"verdict": "left_out", "reason": reason.strip()})


def include_tilts(home: Home, name: str, series: str, tilts: Sequence[str]) -> list[str]:
    """Have tilts used, whatever is measured and was decided before; give their names. Raises TomoflyError."""
    return _decide(home, name, series, tilts, {"verdict": "kept", "reason": ""})


def process_now(home: Home, name: str, series: Sequence[str]) -> int:
    """Ask to go on with the files that series have now; give how many there are. Raises TomoflyError."""

    def work() -> int:
        with home.database.begin() as connection:
            found = [_find(connection, name, key) for key in series]
            requests.request_now(connection, [each.item.id for each in found], time.time())
            return sum(len(each.members) for each in found)

    return retry_while_locked(work)


def _decide(
    home: Home, name: str, series: str, tilts: Sequence[str], decision: Mapping[str, str]
) -> list[str]:
    def work() -> list[str]:
        with home.database.begin() as connection:
            found = _find(connection, name, series)
            chosen = named_tilts(tilts, series, [view for item in found.members for view in _views(item)])
            decided = {item.id: dict(found.decisions[item.id]) for item in found.members}
            owner = {item.key: item for item in found.members}
            touched = {owner[view.key].id for view in chosen}
            for view in chosen:
                number = "" if view.section is None else str(view.section)
                decided[owner[view.key].id][number] = decision
            if decision["verdict"] == "kept":
                requests.set_excluded(connection, sorted(touched), "")
            requests.decide(connection, {item: decided[item] for item in sorted(touched)}, time.time())
            return [view.name for view in chosen]

    return retry_while_locked(work)


def _group_of(session: SessionRow) -> GroupStage:
    """Give the stage that brings tilts together. Raises TomoflyError where the session has no such."""
    stages = [
        s for s in workflow_of(session.kind).stages if isinstance(s, GroupStage) and s.name == "compose"
    ]
    if not stages:
        raise TomoflyError(
            f"Session '{session.name}' is of kind {session.kind}, which has no tilt series",
            "`tomofly session list` shows the kinds of sessions",
        )
    return stages[0]


def _series_keys(connection: Connection, session: SessionRow, kind: str) -> list[str]:
    wanted = browse.ItemFilter(kind=kind, final_stages=())
    order = browse.Order("key")
    return [item.key for item in browse.browse_items(connection, session.id, wanted, order, limit=10000)]


def _find(connection: Connection, name: str, series: str) -> _Found:
    session = sessions.find_session(connection, name)
    workflow, group = workflow_of(session.kind), _group_of(session)
    wanted = browse.ItemFilter(kind=group.produces, final_stages=(), keys=(series,))
    items = browse.browse_items(connection, session.id, wanted, limit=1)
    if not items:
        there = _series_keys(connection, session, group.produces)
        more = f" and {len(there) - SERIES_SHOWN} more" if len(there) > SERIES_SHOWN else ""
        raise TomoflyError(
            f"Session '{name}' has no series '{series}'",
            f"There are: {', '.join(there[:SERIES_SHOWN]) or 'none yet'}{more}",
        )
    rows = planning.members_of(connection, items[0].id)
    members = browse.items_by_id(connection, [row["child_id"] for row in rows])
    settings = settings_in_force(connection, session, workflow)[group.track]
    microscope = settings["microscope"]
    return _Found(
        session=session,
        item=items[0],
        members=tuple(members),
        decisions={row["child_id"]: row["decisions"] for row in rows},
        member_stages=tuple(
            stage.name for stage in workflow.stages if workflow.item_kind[stage.name] == workflow.root_kind
        ),
        pre_exposure_e_per_a2=microscope.pre_exposure_e_per_a2
        if isinstance(microscope, MicroscopeParams)
        else 0.0,
    )


def _views(item: BrowsedItem) -> list[View]:
    return views_of(item.key, item.attributes)


def _tilts(item: BrowsedItem, found: _Found, results: Mapping[str, TiltResult]) -> list[Tilt]:
    """Give the tilts that a file holds."""
    state, reason = _state(item, found.member_stages)
    tilts = []
    for view in _views(item):
        number = "" if view.section is None else str(view.section)
        decision = found.decisions[item.id].get(number) or {}
        before = view.accumulated_dose_e_per_a2
        tilt = Tilt(
            name=view.name,
            file=item.source or item.key,
            section=view.section,
            order=view.order if item.attributes.get("order") is not None else None,
            tilt_angle_deg=view.tilt_angle_deg,
            state=state,
            reason=reason,
            decision=decision.get("verdict", ""),
            dose_e_per_a2=view.dose_e_per_a2,
            accumulated_dose_e_per_a2=before,
            pre_exposure_e_per_a2=None if before is None else before + found.pre_exposure_e_per_a2,
        )
        tilts.append(_with_result(tilt, item, results.get(view.name), decision))
    return tilts


def _with_result(
    tilt: Tilt, item: BrowsedItem, result: TiltResult | None, decision: Mapping[str, str]
) -> Tilt:
    """Add what came of a tilt in its series, and what people have decided since."""
    if item.excluded:
        return replace(
            tilt, state="left out", excluded="by_hand", reason=f"Left out by hand: {item.excluded}"
        )
    if decision.get("verdict") == "left_out":
        reason = f"Left out by hand: {decision.get('reason')}"
        return replace(tilt, state="left out", excluded="by_hand", reason=reason)
    if tilt.state != "ready" or result is None:
        return tilt
    if result.excluded:
        awaited = result.excluded == "by_hand" or decision.get("verdict") == "kept"
        if awaited and tilt.decision:
            return replace(tilt, reason="is taken in when the series is composed again")
        return replace(tilt, state="left out", excluded=result.excluded, reason=result.reason)
    return replace(
        tilt,
        state="used",
        shift_y_angstrom=result.shift_y_angstrom,
        shift_x_angstrom=result.shift_x_angstrom,
        shift_error_angstrom=result.shift_error_angstrom,
        residual_angstrom=result.residual_angstrom,
        defocus_angstrom=result.defocus_angstrom,
    )


def _state(item: BrowsedItem, stages: Sequence[str]) -> tuple[TiltState, str]:
    """Say how far a tilt has come by itself, and why not further."""
    state = item.state(stages)
    if state == "done":
        return "ready", ""
    if state != "failed":
        return state, item.waiting_for
    failed = [(name, task) for name, task in item.tasks.items() if task.state == "failed"]
    return "failed", "; ".join(f"{name}: {task.reason}" for name, task in failed)


def _series_state(found: _Found) -> tuple[str, str]:
    """Say how far a series has come, and why it has failed; one without a usable tilt has failed."""
    stages = [stage.name for stage in workflow_of(found.session.kind).stages_for(found.item.kind)]
    tasks = found.item.tasks
    if "compose" in tasks and tasks["compose"].state == "skipped":
        reasons = [_state(member, found.member_stages)[1] for member in found.members]
        first = next((f"; {reason}" for reason in reasons if reason), "")
        return "failed", f"none of its {len(reasons)} tilts has a result{first}"
    failed = [f"{name}: {task.reason}" for name, task in tasks.items() if task.state == "failed"]
    return found.item.state([name for name in stages if name in tasks] or stages), "; ".join(failed)


def _not_come(known: Mapping[str, Any]) -> list[Tilt]:
    """Give the tilts that the mdoc lists and that have not come, as far as they are named."""
    return [
        Tilt(name, name, None, None, None, "not come", reason="its mdoc lists it, and its file has not come")
        for name in known.get("not_found_names") or ()
    ]
