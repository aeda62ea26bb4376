"""Members on the side of what gathers them: how each stands, and which of them a checkpoint holds."""

from collections.abc import Sequence

from sqlalchemy import Connection, bindparam, case, or_, select, update

from tomofly.store import tables as t

OUTDATED = ""
"""In place of an identity: a checkpoint holds an element that is no longer what it was."""


def update_members(connection: Connection, rows: Sequence[tuple[int, str, str, str | None]]) -> list[int]:
    """Note (child, gathering stage, state, identity) of members; give the parents that this concerns."""
    if not rows:
        return []
    mine = (t.members.c.child_id == bindparam("b_child"), t.members.c.stage == bindparam("b_stage"))
    moved = (
        update(t.members).where(*mine).values(state=bindparam("b_state"), identity=bindparam("b_identity"))
    )
    # What a checkpoint holds of an element that has ended differently since is marked as outdated.
    consumed = t.members.c.consumed
    same = or_(consumed.is_(None), consumed == bindparam("b_same"))
    settled = moved.values(consumed=case((same, consumed), else_=OUTDATED))
    for query, part in ((moved, [r for r in rows if r[2] == "waiting"]),
                        (settled, [r for r in rows if r[2] != "waiting"])):  # fmt: skip
        values = [
            {"b_child": child, "b_stage": stage, "b_state": state, "b_identity": identity,
             "b_same": identity or OUTDATED}
            for child, stage, state, identity in part
        ]  # fmt: skip
        if values:
            connection.execute(query, values)
    children = sorted({row[0] for row in rows})
    stages = sorted({row[1] for row in rows})
    parents = select(t.members.c.parent_id).where(
        t.members.c.child_id.in_(children), t.members.c.stage.in_(stages)
    )
    return sorted(set(connection.scalars(parents)))


def waiting_members(
    connection: Connection, rows: Sequence[tuple[int, str, str, str | None]]
) -> list[tuple[int, str, str, str | None]]:
    """Keep the (child, gathering stage, ...) rows of members that are noted as waiting."""
    if not rows:
        return []
    m = t.members.c
    query = select(m.child_id, m.stage).where(
        m.child_id.in_({row[0] for row in rows}), m.stage.in_({row[1] for row in rows}), m.state == "waiting"
    )
    waiting = {(row[0], row[1]) for row in connection.execute(query)}
    return [row for row in rows if (row[0], row[1]) in waiting]


def consume_elements(
    connection: Connection, parent_id: int, consumed: Sequence[tuple[int, str]], *, restart: bool
) -> None:
    """Note which (child, identity) elements a fold's checkpoint holds."""
    m = t.members.c
    if restart:
        connection.execute(update(t.members).where(m.parent_id == parent_id).values(consumed=None))
    # An element may have been made again while the fold was at work.
    same = or_(m.identity == bindparam("b_identity"), m.state == "waiting")
    query = (
        update(t.members)
        .where(m.parent_id == parent_id, m.child_id == bindparam("b_child"))
        .values(consumed=case((same, bindparam("b_identity")), else_=OUTDATED))
    )
    if consumed:
        connection.execute(
            query, [{"b_child": child, "b_identity": identity} for child, identity in consumed]
        )


def forget_checkpoints(connection: Connection, task_ids: Sequence[int]) -> None:
    """Have folds begin anew: their checkpoints are gone."""
    folds = select(t.tasks.c.item_id).where(
        t.tasks.c.id.in_(list(task_ids)), t.tasks.c.checkpoint.is_not(None)
    )
    parents = list(connection.scalars(folds))
    if parents:
        connection.execute(update(t.members).where(t.members.c.parent_id.in_(parents)).values(consumed=None))
        cleared = update(t.tasks).where(t.tasks.c.id.in_(list(task_ids)))
        connection.execute(cleared.values(checkpoint=None))
