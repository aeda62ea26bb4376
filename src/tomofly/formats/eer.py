"""Electron-event movies (EER): the events of each raw frame counted into fractions.

A frame is a bit stream, lowest bit first, of symbols: how many pixels to skip (the largest value means
"that many, and no event"), then two bits each of the event's place inside its pixel, x and y
(Guo et al., 2020; EER file format documentation 3.0, 2023).
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from defusedxml import ElementTree
from defusedxml.common import DefusedXmlException
from numba import njit
from numpy.typing import NDArray

from tomofly.formats.errors import BadFile
from tomofly.formats.source import open_source, read_at
from tomofly.formats.tiff_chain import EER_HORIZONTAL_BITS, EER_SKIP_BITS, EER_VERTICAL_BITS, TiffPage

EER_COMPRESSIONS = frozenset({65000, 65001, 65002})
_DAMAGED = "Transfer it again; if the source is the same, leave the movie out"


@dataclass(frozen=True)
class EerRendering:
    """How events become images: the number of fractions, and pixels per detector pixel and axis (1, 2, 4)."""

    fractions: int = 40
    upsampling: int = 1

    def __post_init__(self) -> None:
        if self.fractions < 1 or self.upsampling not in {1, 2, 4}:
            raise ValueError(f"fractions is at least 1 and upsampling 1, 2 or 4: got {self}")


@dataclass(frozen=True)
class Fractions:
    """Equal groups of raw frames; those left over at the end are not used."""

    count: int
    raw_frames_each: int
    raw_frames_left_over: int


def plan_fractions(raw_frames: int, fractions: int) -> Fractions:
    """Group `raw_frames` into at most `fractions` fractions of the same dose."""
    count = min(fractions, raw_frames)
    each = raw_frames // count
    return Fractions(count, each, raw_frames - count * each)


def eer_frames(pages: Sequence[TiffPage]) -> list[TiffPage]:
    """The pages that hold events: all but the integrated image that some files begin with."""
    return [page for page in pages if page.compression in EER_COMPRESSIONS]


def acquisition_metadata(page: TiffPage) -> dict[str, str]:
    """Names and values of the camera's XML, empty when there is none to be read."""
    if not page.metadata:
        return {}
    try:
        root = ElementTree.fromstring(page.metadata.rstrip(b"\0"))
    except (ElementTree.ParseError, DefusedXmlException, ValueError, LookupError):
        return {}
    return {item.get("name", ""): (item.text or "").strip() for item in root.iter("item")}


def render_fractions(
    path: Path, frames: Sequence[TiffPage], first: int, last: int, rendering: EerRendering, threads: int = 1
) -> NDArray[np.uint16]:
    """Count events into fractions `first` to `last` (not included): (fraction, y, x) of uint16 events.

    `frames` are the raw frames of the whole movie. Raises BadFile naming a frame that does not decode.
    """
    plan = plan_fractions(len(frames), rendering.fractions)
    rows, columns = frames[0].shape_yx
    factor = rendering.upsampling
    images = np.zeros((last - first, rows * factor, columns * factor), np.uint16)
    with open_source(path) as source, ThreadPoolExecutor(max(1, threads)) as pool:

        def render(index: int) -> None:
            start = (first + index) * plan.raw_frames_each
            for number in range(start, start + plan.raw_frames_each):
                page = frames[number]
                raw = b"".join(
                    read_at(source, at, count)
                    for at, count in zip(page.offsets, page.byte_counts, strict=True)
                )
                events = _count_frame(raw, page, columns, rendering, images[index])
                if events < 0:
                    raise BadFile(path, f"raw frame {number + 1} has events outside the detector", _DAMAGED)

        list(pool.map(render, range(last - first)))
    return images


def _count_frame(
    raw: bytes, page: TiffPage, columns: int, rendering: EerRendering, image: NDArray[np.uint16]
) -> int:
    """Add one raw frame's events to `image`; their number, or -1 when the stream leaves the detector."""
    bits = eer_bits(page)
    # eight bytes of zeros, so that the last symbols can be read as whole words
    stream = np.frombuffer(raw + bytes(8), np.uint8)
    log_factor = rendering.upsampling.bit_length() - 1
    return int(_add_events(stream, 8 * len(raw), columns, page.shape_yx[0], *bits, log_factor, image))


def eer_bits(page: TiffPage) -> tuple[int, int, int]:
    """Bits of skip, x and y in one symbol."""
    if page.compression == 65002:
        named = (EER_SKIP_BITS, 7), (EER_HORIZONTAL_BITS, 2), (EER_VERTICAL_BITS, 2)
        skip, horizontal, vertical = (
            page.tags[tag][0] if page.tags.get(tag) else usual for tag, usual in named
        )
        return skip, horizontal, vertical
    return (7 if page.compression == 65001 else 8), 2, 2


@njit(cache=True, nogil=True)
def _add_events(stream, bits, columns, rows, skip_bits, x_bits, y_bits, log_factor, image):  # type: ignore[no-untyped-def]
    pixels = columns * rows
    no_event = (1 << skip_bits) - 1
    symbol_bits = skip_bits + x_bits + y_bits
    at, pixel, events = 0, 0, 0
    while at + skip_bits <= bits:
        byte = at >> 3
        word = (
            np.uint32(stream[byte])
            | np.uint32(stream[byte + 1]) << np.uint32(8)
            | np.uint32(stream[byte + 2]) << np.uint32(16)
            | np.uint32(stream[byte + 3]) << np.uint32(24)
        )
        symbol = np.int64(word >> np.uint32(at & 7))
        skip = symbol & no_event
        pixel += skip
        if skip == no_event:
            at += skip_bits
            if pixel > pixels:
                return -1
            continue
        if pixel == pixels or at + symbol_bits > bits:
            break  # the end of the frame; what follows pads the stream
        if pixel > pixels:
            return -1
        y, x = pixel // columns, pixel % columns
        if log_factor > 0:
            # the upper bit of either place is stored inverted
            x_place = ((symbol >> skip_bits) & ((1 << x_bits) - 1)) ^ (1 << (x_bits - 1))
            y_place = ((symbol >> (skip_bits + x_bits)) & ((1 << y_bits) - 1)) ^ (1 << (y_bits - 1))
            x = (x << log_factor) | (x_place >> (x_bits - log_factor))
            y = (y << log_factor) | (y_place >> (y_bits - log_factor))
        image[y, x] += np.uint16(1)
        events += 1
        pixel += 1
        at += symbol_bits
    return events
