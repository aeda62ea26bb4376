"""What commands write: results on standard output, everything else on standard error."""

import json
import shutil
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

SIGNIFICANT_DIGITS = 5


def write_json(value: Any) -> None:
    """Write one JSON value to standard output."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=1, default=str) + "\n")
    sys.stdout.flush()


def write_line(text: str = "") -> None:
    """Write one line of the result to standard output."""
    sys.stdout.write(text + "\n")


def tell(text: str) -> None:
    """Tell something beside the result, on standard error."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def fitting_columns(
    columns: Sequence[str], rows: Sequence[Mapping[str, Any]], width: int | None = None
) -> list[str]:
    """Leave out columns, the last but one first, until a line fits the terminal; elsewhere give them all.

    The first two and the last one stay: which item it is, how it stands, and what is wrong with it.
    """
    if width is None:
        width = shutil.get_terminal_size().columns if sys.stdout.isatty() else sys.maxsize
    taken = {name: max([len(name), *(len(_cell(row.get(name))) for row in rows)]) for name in columns}
    kept = list(columns)
    while len(kept) > 3 and sum(taken[name] + 2 for name in kept) - 2 > width:
        kept.pop(-2)
    return kept


def write_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write lines with aligned columns; numbers stand to the right."""
    cells = [[_cell(value) for value in row] for row in rows]
    numeric = [all(_is_number(row[place]) for row in cells) and bool(cells) for place in range(len(columns))]
    widths = [max([len(title), *(len(row[place]) for row in cells)]) for place, title in enumerate(columns)]
    for row in [list(columns), *cells]:
        padded = [
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(row, widths, numeric, strict=True)
        ]
        write_line("  ".join(padded).rstrip())


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.{SIGNIFICANT_DIGITS}g}"
    return str(value)


def _is_number(text: str) -> bool:
    return text == "-" or text.replace(".", "").replace("-", "").replace("e+", "").isdecimal()


def time_text(seconds: float | None) -> str:
    """Write a time of the database as people read it, UTC to the second."""
    if seconds is None:
        return "-"
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def duration_text(seconds: float | None) -> str:
    """Write a duration in the two largest units that matter."""
    if seconds is None:
        return "-"
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def size_text(count: float | None) -> str:
    """Write a number of bytes with its unit."""
    if count is None:
        return "-"
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
