"""STAR files (Hall, 1991) in the layouts of RELION 3.1 and later: blocks of one table or one list of values.

Values with white space are quoted, as STAR has it. RELION 3.1 itself splits at every space, quoted or not:
names in a file that it shall read must have none.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from tomofly.formats.errors import BadFile
from tomofly.formats.on_disk import synced_text
from tomofly.formats.source import read_whole

StarValue = str | int | float | bool
StarBlock: TypeAlias = pd.DataFrame | Mapping[str, StarValue]

_CHECK = "Check that it is a STAR file and was written to its end"
_QUOTED = re.compile(r"""(?:"([^"]*)"(?=\s|$)|'([^']*)'(?=\s|$)|(\S+))""")
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$")
# 12_34 and 007 are names, though Python would make numbers of them
_ONLY_A_NAME = re.compile(r"_|^0\d")
_LARGEST_BYTES = 4 << 30


def write_star(path: str | Path, blocks: Mapping[str, StarBlock]) -> None:
    """Write each block as `data_<name>`: a table as a loop, a mapping as single values; flush it to the disk.

    The same values give the same bytes. Numbers keep ten significant digits; booleans become 0 and 1.
    """
    with synced_text(path) as target:
        for name, block in blocks.items():
            target.write(f"\n# version 30001\n\ndata_{name}\n\n")
            lines = _loop_lines(block) if isinstance(block, pd.DataFrame) else _list_lines(block)
            target.writelines(f"{line}\n" for line in lines)
            target.write("\n")


def read_star(path: str | Path) -> dict[str, pd.DataFrame | dict[str, StarValue]]:
    """Read all blocks by name, a loop as a table (labels without the leading `_`), other blocks as a mapping.

    A column becomes numbers when all of its values are. Raises BadFile with the line that cannot be read.
    """
    path = Path(path)
    parser = _Parser(path)
    for number, line in enumerate(_text(path).splitlines(), start=1):
        parser.take(number, line)
    return parser.result()


def _loop_lines(table: pd.DataFrame) -> Iterator[str]:
    yield "loop_"
    yield from (f"_{label} #{number}" for number, label in enumerate(table.columns, start=1))
    columns = [_column_texts(table[label]) for label in table.columns]
    widths = [max(map(len, column), default=0) for column in columns]
    padded = [[text.rjust(width) for text in column] for column, width in zip(columns, widths, strict=True)]
    yield from map(" ".join, zip(*padded, strict=True))


def _list_lines(values: Mapping[str, StarValue]) -> Iterator[str]:
    width = max((len(label) for label in values), default=0) + 2
    yield from (f"{'_' + label:<{width}} {_text_of(value)}" for label, value in values.items())


def _column_texts(column: "pd.Series[Any]") -> list[str]:
    values = column.to_numpy()
    if values.dtype.kind == "f":
        return [f"{value:.10g}" for value in values.tolist()]
    if values.dtype.kind in "iub":
        return list(map(str, values.astype(np.int64).tolist()))
    return [_text_of(value) for value in values.tolist()]


def _text_of(value: object) -> str:
    if isinstance(value, bool | np.bool_):
        return str(int(value))
    if isinstance(value, float | np.floating):
        return f"{float(value):.10g}"
    text = str(value)
    if "\n" in text or "\r" in text or ('"' in text and "'" in text):
        raise ValueError(f"STAR cannot hold a value with a line break or with both kinds of quotes: {text!r}")
    if text and not re.search(r"\s", text) and text[0] not in "\"'#_" and not _is_word(text):
        return text
    return f"'{text}'" if '"' in text else f'"{text}"'


def _is_word(text: str) -> bool:
    return text.lower() == "loop_" or text.lower().startswith("data_")


def _text(path: Path) -> str:
    try:
        return read_whole(path, _LARGEST_BYTES, "a STAR file", _CHECK).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadFile(path, f"is not text (byte {error.start})", _CHECK) from error


@dataclass
class _Block:
    values: dict[str, StarValue] = field(default_factory=dict)
    labels: list[str] = field(default_factory=list)
    rows: list[list[str]] = field(default_factory=list)
    is_loop: bool = False


@dataclass
class _Parser:
    """Reads line by line: a block's name, then a loop's labels and rows, or single values."""

    path: Path
    blocks: dict[str, _Block] = field(default_factory=dict)
    block: _Block | None = None

    def take(self, number: int, line: str) -> None:
        line = line.strip()
        if line[:5].lower() == "data_":
            self.block = self.blocks[line[5:]] = _Block()
        elif not line or line[0] == "#":
            return
        elif self.block is None:
            raise BadFile(self.path, f"has text before its first block (line {number})", _CHECK)
        elif line.lower() == "loop_":
            self.block.is_loop = True
        elif line[0] == "_" and not (self.block.is_loop and self.block.rows):
            self._label(self.block, number, line)
        else:
            self._row(self.block, number, line)

    def result(self) -> dict[str, pd.DataFrame | dict[str, StarValue]]:
        if not self.blocks:
            raise BadFile(self.path, "holds no block of data", _CHECK)
        return {name: _table(block) if block.is_loop else block.values for name, block in self.blocks.items()}

    def _label(self, block: _Block, number: int, line: str) -> None:
        words = _words(line)
        label = words[0][1:]
        if block.is_loop:
            block.labels.append(label)
        elif len(words) < 2:
            raise BadFile(self.path, f"line {number} gives {label} no value", _CHECK)
        else:
            block.values[label] = _value(words[1])

    def _row(self, block: _Block, number: int, line: str) -> None:
        words = _words(line)
        if len(words) != len(block.labels):
            what = f"line {number} has {len(words)} values for {len(block.labels)} columns"
            raise BadFile(self.path, what, _CHECK)
        block.rows.append(words)


def _words(line: str) -> list[str]:
    if '"' not in line and "'" not in line:
        words = line.split()
    else:
        words = [match[1] or match[2] or match[3] or "" for match in _QUOTED.finditer(line)]
    for index, word in enumerate(words):
        if word.startswith("#"):  # a comment ends the line; labels carry their number so
            return words[:index]
    return words


def _value(word: str) -> StarValue:
    if not _NUMBER.match(word):
        return word
    return int(word) if word.lstrip("+-").isdecimal() else float(word)


def _table(block: _Block) -> pd.DataFrame:
    columns = zip(*block.rows, strict=True) if block.rows else [()] * len(block.labels)
    return pd.DataFrame(dict(zip(block.labels, map(_column, columns), strict=True)))


def _column(words: tuple[str, ...]) -> object:
    if not words:
        return np.empty(0)
    if any(_ONLY_A_NAME.search(word) for word in words):
        return list(words)
    try:
        numbers = np.array(words, np.float64)
    except ValueError:
        return list(words)
    if all(word.lstrip("+-").isdecimal() for word in words):
        return np.array(words, np.int64) if np.abs(numbers).max() < 2**62 else list(words)
    return numbers
