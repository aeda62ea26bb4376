"""The text of an mdoc file: IMOD's "autodoc" of titles, global values and sections of `key = value`."""

import codecs
import re
from dataclasses import dataclass, field
from pathlib import Path

from tomofly.formats.errors import BadFile
from tomofly.formats.source import read_whole

_LARGEST_BYTES = 64 << 20
_WAIT = "Wait until the microscope has written it, or transfer it again"
_CHECK = "Check that it is the mdoc file that SerialEM or Tomography 5 writes beside a tilt series"
_HEADER = re.compile(r"\[\s*(\w+)\s*=\s*(.*?)\s*\]$")
# not splitlines: Latin-1 has letters of other encodings that it takes for line ends
_LINE_END = re.compile(r"\r\n|\r|\n")
_PAIR = re.compile(r"([A-Za-z_][\w.]*)\s*=\s*(.*)$")


@dataclass
class RawSection:
    """A section's kind and name, as in `[ZValue = 3]`, and its values as written."""

    kind: str
    name: str
    values: dict[str, str] = field(default_factory=dict)


@dataclass
class RawMdoc:
    """What the lines of a file say.

    A last line that no line break ends may be cut: ``cut_header`` when it began a section, otherwise
    ``cut_key`` is the key that it has, "" where it has none.
    """

    titles: list[str] = field(default_factory=list)
    values: dict[str, str] = field(default_factory=dict)
    sections: list[RawSection] = field(default_factory=list)
    strange_lines: list[int] = field(default_factory=list)
    cut_key: str | None = None
    cut_header: bool = False


def read_raw(path: Path) -> RawMdoc:
    """Read the lines of an mdoc file in UTF-8, UTF-16 or Latin-1, with any line ends.

    Raises BadFile for a file that is empty or no mdoc. Lines that are no `key = value` are counted, not
    followed: one of them must not cost the series.
    """
    text, padded = _text(path)
    raw = RawMdoc()
    lines = _LINE_END.split(text)
    for number, line in enumerate(lines, start=1):
        _take(raw, number, line.strip())
    if padded or lines[-1]:
        _note_cut(raw, lines[-1].strip())
    if not (raw.titles or raw.values or raw.sections) or len(raw.strange_lines) > max(3, len(lines) // 4):
        raise BadFile(path, "is not an mdoc file: it has no titles, values and sections", _CHECK)
    return raw


def _take(raw: RawMdoc, number: int, line: str) -> None:
    if not line or line.startswith("#"):
        return
    header = _HEADER.match(line)
    if header and header[1] == "T":
        raw.titles.append(header[2])
    elif header:
        raw.sections.append(RawSection(header[1], header[2]))
    elif pair := _PAIR.match(line):
        _keep(raw, pair[1], pair[2].strip())
    else:
        raw.strange_lines.append(number)


def _keep(raw: RawMdoc, key: str, value: str) -> None:
    if raw.sections:
        raw.sections[-1].values[key] = value
    elif key == "T":  # as a FrameSet's file has its title
        raw.titles.append(value)
    else:
        raw.values[key] = value


def _note_cut(raw: RawMdoc, line: str) -> None:
    if line.startswith("[") and not line.endswith("]"):
        raw.cut_header = True
    else:
        pair = _PAIR.match(line)
        raw.cut_key = pair[1] if pair else ""


def _text(path: Path) -> tuple[str, bool]:
    whole = read_whole(path, _LARGEST_BYTES, "an mdoc file", _CHECK, when_empty=_WAIT)
    # a file that is being copied may have its final size already, and nothing yet in its end
    data = whole if whole.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else whole.rstrip(b"\0")
    if not data.strip():
        raise BadFile(path, "is empty", _WAIT)
    return _decoded(path, data), len(data) < len(whole)


def _decoded(path: Path, data: bytes) -> str:
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", errors="replace")
    if b"\0" in data:
        raise BadFile(path, "is not text", _CHECK)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        return data.decode("latin-1")
