"""What ``tomofly session`` shows of single items, and what people decide of them."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from tomofly.cli.options import (
    FilterOption,
    HomeOption,
    JsonOption,
    KeysArgument,
    NameArgument,
    TiltsOption,
)
from tomofly.cli.output import fitting_columns, tell, write_json, write_line, write_table

if TYPE_CHECKING:
    from tomofly.services.home import Home


def items(
    name: NameArgument,
    filter: FilterOption = None,  # noqa: A002
    sort: Annotated[str, typer.Option(help="arrival, key or a metric; -metric turns it round")] = "-arrival",
    column: Annotated[list[str] | None, typer.Option("--column", help="Show this column")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100000)] = 30,
    offset: Annotated[int, typer.Option(min=0)] = 0,
    kind: Annotated[str, typer.Option(help="Kind of items, such as movie for the tilts of series")] = "",
    json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """List items with their states and numbers: movies, or tilt series."""
    from tomofly.services.highlights import telling_columns, with_brief_state
    from tomofly.services.home import open_home
    from tomofly.services.table import table_page

    place = open_home(home)
    page = table_page(place, name, filters=filter or (), sort=sort, limit=limit, offset=offset, kind=kind)
    if json:
        write_json({"total": page.total, "offset": page.offset, "items": page.rows})
        return
    if not page.rows:
        tell("No item passes the filter." if filter else "No items yet.")
        return
    rows = [with_brief_state(row) for row in page.rows]
    wanted = column or fitting_columns(telling_columns(rows, page.metrics), rows)
    write_table(wanted, [[row.get(name) for name in wanted] for row in rows])
    tell(f"{page.offset + 1} to {page.offset + len(page.rows)} of {page.total}")


def failures(
    name: NameArgument,
    limit: Annotated[int, typer.Option(min=1)] = 50,
    json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """List what failed: the item, the stage, why, and the log."""
    from tomofly.services.home import open_home
    from tomofly.services.table import list_failures

    found = list_failures(open_home(home), name, limit=limit)
    if json:
        write_json([asdict(failure) for failure in found])
    elif not found:
        tell("Nothing has failed.")
    for failure in () if json else found:
        write_line(f"{failure.item}  {failure.stage}  {failure.reason}")
        write_line(f"    {failure.log}")


def retry(
    name: NameArgument,
    keys: Annotated[list[str] | None, typer.Argument(help="Keys of items; none: all that failed")] = None,
    json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Try again what failed."""
    from tomofly.services.control import retry_failed
    from tomofly.services.home import open_home

    count = retry_failed(open_home(home), name, keys or None)
    write_json({"retried": count}) if json else write_line(f"{count} failed tasks will be tried again")


def exclude(
    name: NameArgument, keys: KeysArgument,
    reason: Annotated[str, typer.Option(help="Why", show_default=False)],
    tilts: TiltsOption = None, json: JsonOption = False, home: HomeOption = None,
) -> None:  # fmt: skip
    """Leave items out of exports, groups and folds; with --tilts, leave tilts out of their series."""
    from tomofly.services.control import exclude_items
    from tomofly.services.home import open_home
    from tomofly.services.tilts import exclude_tilts

    place = open_home(home)
    if tilts:
        done = exclude_tilts(place, name, _one_series(keys), tilts, reason)
        _write_decided(place, name, keys[0], done, json, "excluded", "left out")
        return
    count = exclude_items(place, name, keys, reason)
    write_json({"excluded": count}) if json else write_line(f"{_items(count)} left out")


def include(
    name: NameArgument, keys: KeysArgument, tilts: TiltsOption = None, json: JsonOption = False,
    home: HomeOption = None,
) -> None:  # fmt: skip
    """Take items in again; with --tilts, use tilts of a series whatever was measured."""
    from tomofly.services.control import include_items
    from tomofly.services.home import open_home
    from tomofly.services.tilts import include_tilts

    place = open_home(home)
    if tilts:
        done = include_tilts(place, name, _one_series(keys), tilts)
        _write_decided(place, name, keys[0], done, json, "included", "used, whatever is measured")
        return
    count = include_items(place, name, keys)
    write_json({"included": count}) if json else write_line(f"{_items(count)} in again")


def _items(count: int) -> str:
    return "1 item is" if count == 1 else f"{count} items are"


def _one_series(keys: list[str]) -> str:
    if len(keys) > 1:
        raise typer.BadParameter("Give one series with --tilts, as tilts are named within their series")
    return keys[0]


def _write_decided(
    home: "Home", name: str, series: str, tilts: list[str], json: bool, code: str, word: str
) -> None:
    if json:
        write_json({code: tilts, "series": series})
        return
    count = "1 tilt is" if len(tilts) == 1 else f"{len(tilts)} tilts are"
    write_line(f"{count} {word}: {', '.join(tilts)}")
    tell_when(home, name, "The series is composed again")


def tell_when(home: "Home", name: str, what: str) -> None:
    """Say when something happens: now, or when the session is started again."""
    from tomofly.services.control import session_alive
    from tomofly.services.sessions import session_info

    alive = session_alive(session_info(home, name).row)
    tell(f"{what}." if alive else f"{what} when the session is started: `tomofly session start {name}`")


def logs(
    name: NameArgument,
    item: Annotated[str, typer.Option(help="Key of an item; none: the session's own log")] = "",
    stage: Annotated[str, typer.Option(help="Only this stage")] = "",
    lines: Annotated[int, typer.Option(min=1, help="So many of the last lines")] = 100,
    json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Show the log of an item, or of the session."""
    from tomofly.services.control import CONDUCTOR_LOG
    from tomofly.services.home import open_home
    from tomofly.services.sessions import session_info
    from tomofly.services.table import item_logs

    place = open_home(home)
    if item:
        found = item_logs(place, name, item, stage)
    else:
        path = session_info(place, name).folder / CONDUCTOR_LOG
        found = {"session": path.read_text(errors="replace")} if path.is_file() else {}
    found = {title: "\n".join(text.splitlines()[-lines:]) for title, text in found.items()}
    if json:
        write_json(found)
    elif not found:
        tell("No log has been written.")
    for title, text in {} if json else found.items():
        write_line(f"== {title}\n{text}" if item else text)
