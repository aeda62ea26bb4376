"""Whose product a file is: two items whose names run into each other must not write the same one.

The item ``m`` with dose weighting makes ``motion/m_DW.mrc``, and so does an item named ``m_DW``.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from sqlalchemy import Connection

from tomofly.flow.runner import TaskReport
from tomofly.store import files


def refuse_foreign_files(
    connection: Connection, session_id: int, reports: Sequence[tuple[TaskReport, Sequence[str]]]
) -> list[TaskReport]:
    """Make a failure of every report whose products (relative paths) belong to another task already.

    To be asked before any file is moved to its place. Of two that come together the first has it.
    """
    paths = [path for _, mine in reports for path in mine]
    owners = files.owners_of(connection, session_id, paths)
    kept = []
    for report, mine in reports:
        taken = _taken(report.order.task_id, mine, owners)
        if taken is None:
            for path in mine:
                owners.setdefault(path, []).append((report.order.task_id, report.order.item.key))
        kept.append(report if taken is None else _refused(report, *taken))
    return kept


def _taken(
    task: int, paths: Iterable[str], owners: Mapping[str, Sequence[tuple[int, str]]]
) -> tuple[str, str] | None:
    """Give the first path that is another task's, and the key of that task's item."""
    foreign = ((path, key) for path in paths for owner, key in owners.get(path, ()) if owner != task)
    return next(foreign, None)


def _refused(report: TaskReport, path: str, owner: str) -> TaskReport:
    reason = (
        f"Its file {path} would overwrite that of item '{owner}'. "
        "Give one of the two another name at the source; it then comes in as a new item."
    )
    return replace(report, outcome=None, reason=reason, permanent=True)
