"""The chain of pages of a TIFF or BigTIFF file, walked without decoding or trusting anything.

TIFF 6.0 (Adobe, 1992) and the BigTIFF extension. This is what tells a whole file from one being written.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from tomofly.formats.errors import BadFile
from tomofly.formats.source import open_source, read_at, size_of

TIFF_MAGIC = frozenset({b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"})
_GROWING = "Wait until it is written, or transfer it again"
_DAMAGED = "Check that it is a TIFF file and not damaged"

# tag type: size of one value in bytes, struct code of those that are numbers we use
_TYPE_BYTES = {
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 1,
    7: 1,
    8: 2,
    9: 4,
    10: 8,
    11: 4,
    12: 8,
    13: 4,
    16: 8,
    17: 8,
    18: 8,
}
_TYPE_CODE = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}
_RATIONAL = 5
_MOST_TAGS = 4096
_MOST_PAGES = 1 << 20
_MOST_VALUES = 1 << 22

WIDTH, LENGTH, BITS, COMPRESSION, SAMPLES, SAMPLE_FORMAT = 256, 257, 258, 259, 277, 339
STRIP_OFFSETS, STRIP_BYTES, TILE_OFFSETS, TILE_BYTES = 273, 279, 324, 325
X_RESOLUTION, RESOLUTION_UNIT = 282, 296
EER_METADATA, EER_SKIP_BITS, EER_HORIZONTAL_BITS, EER_VERTICAL_BITS = 65001, 65007, 65008, 65009
# bit order, rows per strip, planes, predictor, tile width and length
_WAYS_OF_STORING = (266, 278, 284, 317, 322, 323)
_NUMBERS = {
    *_WAYS_OF_STORING,
    WIDTH, LENGTH, BITS, COMPRESSION, SAMPLES, SAMPLE_FORMAT, STRIP_OFFSETS, STRIP_BYTES, TILE_OFFSETS,
    TILE_BYTES, X_RESOLUTION, RESOLUTION_UNIT, EER_SKIP_BITS, EER_HORIZONTAL_BITS, EER_VERTICAL_BITS,
}  # fmt: skip


@dataclass(frozen=True)
class TiffPage:
    """One page: its size, what its pixels are, and where its segments lie."""

    shape_yx: tuple[int, int]
    bits: int
    samples: int
    sample_format: int  # 1 unsigned, 2 signed, 3 float
    compression: int
    offsets: tuple[int, ...]
    byte_counts: tuple[int, ...]
    tags: dict[int, tuple[int, ...]] = field(repr=False)
    metadata: bytes = field(default=b"", repr=False)  # the acquisition XML of an EER file

    @property
    def storage(self) -> tuple[object, ...]:
        """All that a decoder made for one page must find the same on another."""
        ways = tuple(self.tags.get(tag) for tag in _WAYS_OF_STORING)
        return self.bits, self.samples, self.sample_format, self.compression, len(self.offsets), ways


@dataclass(frozen=True)
class _Form:
    """How this file writes numbers: byte order, and the widths that set BigTIFF apart."""

    order: str
    big: bool

    @property
    def count(self) -> tuple[str, int]:
        return (self.order + "Q", 8) if self.big else (self.order + "H", 2)

    @property
    def offset(self) -> tuple[str, int]:
        return (self.order + "Q", 8) if self.big else (self.order + "I", 4)

    @property
    def entry(self) -> tuple[str, int]:
        return (self.order + "HHQ8s", 20) if self.big else (self.order + "HHI4s", 12)


def read_pages(path: Path) -> list[TiffPage]:
    """All pages of a whole file. Raises BadFile when the chain, a tag or a segment leaves the file."""
    with open_source(path) as source:
        pages = list(_walk(path, source, size_of(source)))
    if not pages:
        raise BadFile(path, "is a TIFF file without a page", _GROWING)
    return pages


def _walk(path: Path, source: BinaryIO, file_bytes: int) -> Iterator[TiffPage]:
    form, offset = _start(path, read_at(source, 0, 16))
    seen: set[int] = set()
    while offset:
        if offset in seen or len(seen) >= _MOST_PAGES:
            raise BadFile(path, f"has a chain of pages that never ends (page {len(seen) + 1})", _DAMAGED)
        seen.add(offset)
        reader = _PageReader(path, source, file_bytes, form, len(seen))
        page, offset = reader.read(offset)
        yield page


def _start(path: Path, raw: bytes) -> tuple[_Form, int]:
    """Byte order, kind and the first page's place, from the first bytes of the file."""
    if not raw:
        raise BadFile(path, "is empty", _GROWING)
    if raw[:4] not in TIFF_MAGIC:
        if len(raw) < 4:
            raise BadFile(path, f"ends inside the TIFF header ({len(raw)} bytes)", _GROWING)
        raise BadFile(path, f"does not begin as a TIFF file does (first bytes {raw[:4]!r})", _DAMAGED)
    form = _Form("<" if raw[:1] == b"I" else ">", raw[:4] in {b"II+\0", b"MM\0+"})
    at = 8 if form.big else 4
    code, width = form.offset
    if len(raw) < at + width:
        raise BadFile(path, f"ends inside the TIFF header ({len(raw)} bytes)", _GROWING)
    offset = struct.unpack_from(code, raw, at)[0]
    if offset == 0:
        raise BadFile(path, "has no first page yet", _GROWING)
    return form, offset


@dataclass(frozen=True)
class _PageReader:
    path: Path
    source: BinaryIO
    file_bytes: int
    form: _Form
    number: int

    def read(self, offset: int) -> tuple[TiffPage, int]:
        """The page at `offset`, and the place of the next one (0: none)."""
        code, width = self.form.count
        (count,) = struct.unpack(code, self._bytes(offset, width, "its list of tags"))
        if not 0 < count <= _MOST_TAGS:
            raise BadFile(self.path, f"page {self.number} has {count} tags", _DAMAGED)
        entry, entry_width = self.form.entry
        next_code, next_width = self.form.offset
        raw = self._bytes(offset + width, count * entry_width + next_width, "its list of tags")
        tags: dict[int, tuple[int, ...]] = {}
        metadata = b""
        for tag, kind, values, inline in struct.iter_unpack(entry, raw[: count * entry_width]):
            place = self._value(kind, values, inline, tag in _NUMBERS or tag == EER_METADATA)
            if tag in _NUMBERS and values:
                tags[tag] = self._numbers(kind, values, place)
            elif tag == EER_METADATA:
                metadata = place
        (following,) = struct.unpack(next_code, raw[count * entry_width :])
        return self._page(tags, metadata), following

    def _value(self, kind: int, count: int, inline: bytes, wanted: bool) -> bytes:
        """Bytes of a tag's value, read only where wanted, checked to lie in the file in any case."""
        total = _TYPE_BYTES.get(kind, 1) * count
        if total <= len(inline):
            return inline[:total]
        (place,) = struct.unpack(self.form.offset[0], inline)
        if place + total > self.file_bytes:
            self._beyond("a tag")
        if not wanted:
            return b""
        if total > _MOST_VALUES:
            raise BadFile(self.path, f"page {self.number} has a tag of {total} bytes", _DAMAGED)
        return self._bytes(place, total, "a tag")

    def _numbers(self, kind: int, count: int, raw: bytes) -> tuple[int, ...]:
        if kind == _RATIONAL:
            return struct.unpack(f"{self.form.order}{2 * count}I", raw)
        if kind not in _TYPE_CODE:
            raise BadFile(self.path, f"page {self.number} has a size or place that is no integer", _DAMAGED)
        return struct.unpack(f"{self.form.order}{count}{_TYPE_CODE[kind]}", raw)

    def _page(self, tags: dict[int, tuple[int, ...]], metadata: bytes) -> TiffPage:
        def one(tag: int, default: int) -> int:
            return tags[tag][0] if tags.get(tag) else default

        shape = one(LENGTH, 0), one(WIDTH, 0)
        offsets = tags.get(STRIP_OFFSETS, ()) or tags.get(TILE_OFFSETS, ())
        counts = tags.get(STRIP_BYTES, ()) or tags.get(TILE_BYTES, ())
        if min(shape) < 1 or not offsets or len(offsets) != len(counts):
            what = f"page {self.number} says {shape[1]} x {shape[0]} pixels in {len(offsets)} pieces"
            raise BadFile(self.path, what, _DAMAGED)
        if any(place + size > self.file_bytes for place, size in zip(offsets, counts, strict=True)):
            self._beyond("pixels")
        if not all(counts) or not all(offsets):
            raise BadFile(self.path, f"page {self.number} has pixels not written yet", _GROWING)
        return TiffPage(
            shape_yx=shape,
            bits=one(BITS, 1),
            samples=one(SAMPLES, 1),
            sample_format=one(SAMPLE_FORMAT, 1),
            compression=one(COMPRESSION, 1),
            offsets=offsets,
            byte_counts=counts,
            tags=tags,
            metadata=metadata,
        )

    def _bytes(self, offset: int, count: int, of_what: str) -> bytes:
        if offset + count > self.file_bytes:
            self._beyond(of_what)
        raw = read_at(self.source, offset, count)
        if len(raw) < count:
            self._beyond(of_what)
        return raw

    def _beyond(self, of_what: str) -> None:
        what = f"ends before {of_what} of page {self.number} ({self.file_bytes} bytes are there)"
        raise BadFile(self.path, what, _GROWING)
