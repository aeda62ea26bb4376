"""``tomofly stages``: what is installed."""

from typing import Any

from tomofly.cli.options import JsonOption
from tomofly.cli.output import write_json, write_line, write_table


def stages(json: JsonOption = False) -> None:
    """List the stages that are installed, those of other packages as well."""
    from tomofly.stages.registry import Installed, installed_stages

    def described(installed: Installed) -> dict[str, Any]:
        stage = installed.stage
        return {
            "name": stage.name, "version": stage.version, "shape": str(stage.shape),
            "package": installed.package,
            "session_kinds": list(stage.session_kinds), "track": stage.track, "consumes": stage.consumes,
            "produces": stage.produces, "needs": list(stage.needs), "summary": stage.summary,
            "metrics": [vars(metric) for metric in stage.metrics], "previews": list(stage.previews),
        }  # fmt: skip

    rows = [described(installed) for installed in installed_stages()]
    if json:
        write_json(rows)
        return
    columns = ("name", "version", "shape", "package", "session_kinds", "track", "consumes", "produces")
    write_table(
        ("stage", *columns[1:]),
        [
            [", ".join(row[c]) if isinstance(row[c], list) else row[c] for c in columns]
            for row in sorted(rows, key=lambda row: (row["session_kinds"], row["track"], row["name"]))
        ],
    )
    write_line()
    for row in rows:
        write_line(f"{row['name']}: {row['summary']}")
