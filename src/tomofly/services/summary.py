"""What a session has come to, in one object: counts, speed, latency, metrics, accuracy, exports."""

from collections.abc import Sequence
from typing import Any

from tomofly.services.accuracy import measure_accuracy
from tomofly.services.exports.export import Export
from tomofly.services.home import Home
from tomofly.services.progress import session_progress
from tomofly.services.scan_accuracy import SCAN_KIND, measure_scan_accuracy
from tomofly.services.series import SERIES_KIND
from tomofly.services.table import table_filter, table_scope
from tomofly.services.tilt_accuracy import measure_tilt_accuracy, summed_up
from tomofly.store import browse, statistics


def summarise_session(
    home: Home, name: str, *, wall_s: float | None = None, exports: Sequence[Export] = ()
) -> dict[str, Any]:
    """Sum a session up as JSON values.

    ``wall_s`` is the time that a run took; without it, the time from the first task to the last result.
    ``accuracy`` is there for simulated data alone, and ``series`` for simulated tilt series.
    """
    scope = table_scope(home, name)
    progress = session_progress(home, name, errors=20)
    with home.database.read() as connection:
        span = statistics.time_span(connection, scope.session.id)
        spreads = statistics.summarise_metrics(connection, scope.session.id)
        items = browse.each_item(connection, scope.session.id, table_filter(scope))
        if scope.kind == SERIES_KIND:
            compared = measure_tilt_accuracy(connection, scope.folder, items)
            accuracy = summed_up(compared) if compared else None
        elif scope.kind == SCAN_KIND:
            compared, accuracy = [], measure_scan_accuracy(items)
        else:
            compared, accuracy = [], measure_accuracy(scope.folder, items)
    wall = wall_s if wall_s is not None else (span[1] - span[0] if span else 0.0)
    units = {
        (stage.name, metric.name): metric.unit for stage in scope.workflow.stages for metric in stage.metrics
    }
    summary: dict[str, Any] = {
        "session": name,
        "folder": str(scope.folder),
        "status": progress.status,
        "items": progress.items,
        "done": progress.done,
        "failed": progress.failed,
        "kinds": {kind: vars(count) for kind, count in progress.kinds.items()},
        "wall_s": round(wall, 3),
        "throughput_per_hour": round(progress.done / wall * 3600, 2) if wall > 0 else 0.0,
        "latency_p50_s": progress.latency_p50_s,
        "latency_p95_s": progress.latency_p95_s,
        "metrics": {
            f"{s.stage}.{s.name}": {
                "unit": units.get((s.stage, s.name), ""), "count": s.count, "median": s.median,
                "minimum": s.minimum, "maximum": s.maximum,
            }
            for s in spreads
        },
        "failures": [vars(error) for error in progress.errors],
        "alerts": [dict(alert) for alert in progress.alerts],
        "exports": [export.as_json() for export in exports],
    }  # fmt: skip
    if accuracy is not None:
        summary["accuracy"] = accuracy
    if compared:
        summary["series"] = compared
    return summary
