"""Movies as cameras write them: MRC, TIFF (LZW and others) and EER; what they hold, and their frames.

Frames come as (frame, y, x) in the type they were stored in. MRC has its first row at the bottom, TIFF at
the top: TIFF frames are turned upside down, as RELION and IMOD do, so that the hand of the specimen stays
the same whichever way a movie was saved. EER is taken as it is stored, again as RELION does.
Nothing is allocated before the file has been checked to hold what its header says.
"""

import struct
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tifffile
from numpy.typing import NDArray

from tomofly.formats.eer import (
    EER_COMPRESSIONS,
    EerRendering,
    acquisition_metadata,
    eer_bits,
    eer_frames,
    plan_fractions,
    render_fractions,
)
from tomofly.formats.errors import BadFile
from tomofly.formats.lzw import LZW, is_sound
from tomofly.formats.mrc import read_layout, read_sections, require_whole
from tomofly.formats.source import open_source, read_at
from tomofly.formats.suffixes import MRC_SUFFIXES, TIFF_SUFFIXES
from tomofly.formats.tiff_chain import (
    RESOLUTION_UNIT,
    TIFF_MAGIC,
    X_RESOLUTION,
    TiffPage,
    read_pages,
)

MovieFormat = Literal["mrc", "tiff", "eer"]

_DAMAGED = "Transfer it again; if the source is the same, leave the movie out"
_SAMPLE_TYPES = {
    (1, 4): "u1",
    (1, 8): "u1",
    (1, 16): "u2",
    (2, 8): "i1",
    (2, 16): "i2",
    (3, 16): "f4",
    (3, 32): "f4",
}
# LZW packs at most 4096 bytes into 12 bits; nothing that a camera writes is packed closer
_CLOSEST_PACKING = 4096
_PLAUSIBLE_PIXEL_ANGSTROM = (0.01, 1000.0)


@dataclass(frozen=True)
class MovieHeader:
    """What a movie holds, read without its pixels. For EER `frames` counts the raw frames."""

    path: Path
    format: MovieFormat
    frames: int
    shape_yx: tuple[int, int]
    dtype: np.dtype[Any]  # of the frames as `read_frames` returns them
    pixel_size_angstrom: float | None
    file_bytes: int
    trailing_bytes: int = 0  # beyond what the header says (MRC): a person should know of them
    compression: int = 1  # the TIFF code
    exposure_time_s: float | None = None


def movie_format(path: str | Path) -> MovieFormat:
    """The format by content, then by name; EER answers "tiff" as well. Raises BadFile for anything else."""
    path = Path(path)
    with open_source(path) as source:
        start = read_at(source, 0, 212)
    if start[:4] in TIFF_MAGIC or path.suffix.lower() in TIFF_SUFFIXES:
        return "tiff"
    if start[208:211] == b"MAP" or path.suffix.lower() in MRC_SUFFIXES:
        return "mrc"
    what = "is neither an MRC, a TIFF nor an EER file" if start else "is empty"
    raise BadFile(path, what, "Narrow the pattern to movies, or convert the file")


def read_header(path: str | Path) -> MovieHeader:
    """Read what the movie holds, and check that the file holds it. Raises BadFile."""
    path = Path(path)
    return _mrc_header(path) if movie_format(path) == "mrc" else _tiff_header(path, read_pages(path))


def read_frames(
    path: str | Path,
    *,
    frame_range: tuple[int, int] | None = None,
    eer: EerRendering | None = None,
    threads: int = 1,
) -> NDArray[Any]:
    """Read the frames as (frame, y, x), native byte order: int8, uint8, int16, uint16 or float32.

    `frame_range` is (first, one after the last), counted from 0; for EER it counts fractions, not raw frames.
    `eer` says how events are rendered (default: 40 fractions at the detector's pixels). Compressed frames are
    decoded in `threads` threads. Raises BadFile for a file, or a range, that cannot be read.
    """
    path = Path(path)
    if movie_format(path) == "mrc":
        layout = read_layout(path)
        first, last = _checked_range(path, frame_range, layout.sections)
        return read_sections(layout, first, last)
    pages = read_pages(path)
    header = _tiff_header(path, pages)
    if header.format == "eer":
        rendering = eer or EerRendering()
        available = plan_fractions(header.frames, rendering.fractions).count
        first, last = _checked_range(path, frame_range, available)
        return render_fractions(path, eer_frames(pages), first, last, rendering, threads)
    first, last = _checked_range(path, frame_range, len(pages))
    return _decode_pages(header, pages[first:last], first, threads)


def _checked_range(path: Path, frame_range: tuple[int, int] | None, frames: int) -> tuple[int, int]:
    first, last = frame_range or (0, frames)
    if not 0 <= first < last <= frames:
        what = f"has {frames} frames, not the range {first} to {last} (last not included)"
        raise BadFile(path, what, f"Ask for frames within 0 to {frames}")
    return first, last


def _mrc_header(path: Path) -> MovieHeader:
    layout = read_layout(path)
    require_whole(layout)
    return MovieHeader(
        path=path,
        format="mrc",
        frames=layout.sections,
        shape_yx=layout.shape_yx,
        dtype=layout.dtype_read,
        pixel_size_angstrom=layout.pixel_size_angstrom,
        file_bytes=layout.file_bytes,
        trailing_bytes=layout.file_bytes - layout.expected_bytes,
    )


def _tiff_header(path: Path, pages: Sequence[TiffPage]) -> MovieHeader:
    frames = eer_frames(pages)
    is_eer = bool(frames)
    frames = frames or list(pages)
    _require_same_pages(path, frames)
    first = frames[0]
    metadata = acquisition_metadata(pages[0]) if is_eer else {}
    dtype = np.dtype("u2") if is_eer else _page_dtype(path, first)
    file_bytes = path.stat().st_size
    if is_eer:
        _require_known_bits(path, first)
    _require_plausible(path, first, dtype, is_eer)
    return MovieHeader(
        path=path,
        format="eer" if is_eer else "tiff",
        frames=len(frames),
        shape_yx=first.shape_yx,
        dtype=dtype,
        pixel_size_angstrom=_eer_pixel_size(metadata) if is_eer else _tiff_pixel_size(first),
        file_bytes=file_bytes,
        compression=first.compression,
        exposure_time_s=_positive(metadata.get("exposureTime")),
    )


def _require_same_pages(path: Path, pages: Sequence[TiffPage]) -> None:
    first = pages[0]
    for number, page in enumerate(pages, start=1):
        if page.shape_yx != first.shape_yx:
            size, usual = page.shape_yx[::-1], first.shape_yx[::-1]
            what = f"page {number} is {size[0]} x {size[1]}, page 1 is {usual[0]} x {usual[1]}"
            raise BadFile(path, what, "All frames of a movie must have one size: write it again")
        if page.storage != first.storage:
            raise BadFile(path, f"page {number} stores its pixels otherwise than page 1", "Write it again")


def _page_dtype(path: Path, page: TiffPage) -> np.dtype[Any]:
    code = _SAMPLE_TYPES.get((page.sample_format, page.bits))
    if page.samples != 1 or code is None:
        what = (
            f"has {page.samples} samples of {page.bits} bits (sample format {page.sample_format}) in a pixel"
        )
        raise BadFile(path, what, "Write grey images of 8 or 16-bit integers or 32-bit floats")
    return np.dtype(code)


def _require_known_bits(path: Path, page: TiffPage) -> None:
    skip, horizontal, vertical = eer_bits(page)
    if not (4 <= skip <= 12 and 2 <= horizontal <= 4 and 2 <= vertical <= 4):
        what = f"codes its events in {skip}, {horizontal} and {vertical} bits"
        raise BadFile(path, what, "Readable are 4 to 12 bits of skip and 2 to 4 of either place")


def _require_plausible(path: Path, page: TiffPage, dtype: np.dtype[Any], is_eer: bool) -> None:
    """Refuse sizes that the stored bytes cannot fill, before anything is allocated for them."""
    rows, columns = page.shape_yx
    stored = sum(page.byte_counts)
    most = stored * 8 // 4 * 4096 if is_eer else stored * _CLOSEST_PACKING
    unpacked = rows * columns * (1 if is_eer else dtype.itemsize)
    if page.compression == 1 and page.bits >= 8:
        most = stored * (2 if page.bits == 16 and page.sample_format == 3 else 1)
    if unpacked > most:
        what = f"says {columns} x {rows} pixels in a page of {stored} bytes"
        raise BadFile(path, what, _DAMAGED)


def _decode_pages(header: MovieHeader, pages: Sequence[TiffPage], first: int, threads: int) -> NDArray[Any]:
    """Decode each page in a thread of its own; the codecs release the interpreter's lock."""
    path = header.path
    frames = np.empty((len(pages), *header.shape_yx), header.dtype)
    decode = _decoder(path)
    with open_source(path) as source, ThreadPoolExecutor(max(1, threads)) as pool:

        def fill(index: int) -> None:
            page = pages[index]
            for segment, (at, count) in enumerate(zip(page.offsets, page.byte_counts, strict=True)):
                stored = read_at(source, at, count)
                if page.compression == LZW and not is_sound(stored):
                    raise BadFile(path, f"page {first + index + 1} does not decode (LZW)", _DAMAGED)
                try:
                    piece, place, _ = decode(stored, segment)
                except Exception as error:  # whatever a codec finds to complain of, it is this page
                    raise BadFile(
                        path, f"page {first + index + 1} does not decode ({error})", _DAMAGED
                    ) from error
                _place(path, frames[index][::-1], piece, place, first + index + 1)

        list(pool.map(fill, range(len(pages))))
    return frames


def _decoder(path: Path) -> Any:
    """What turns a strip or tile, stored as on the first page, into pixels and their place."""
    try:
        with tifffile.TiffFile(path) as tif:
            return tif.pages.first.decode
    except (tifffile.TiffFileError, ValueError, KeyError, TypeError, IndexError, struct.error) as error:
        raise BadFile(path, f"is no TIFF file that can be decoded ({error})", _DAMAGED) from error


def _place(path: Path, frame: NDArray[Any], piece: NDArray[Any] | None, place: Any, page: int) -> None:
    """Put a decoded strip or tile where it belongs; its end may hang over the image."""
    y, x = place[2], place[3]
    target = frame[y:, x:]
    if piece is None or piece.ndim != 4:
        raise BadFile(path, f"page {page} lacks pixels", _DAMAGED)
    pixels = piece[0, : target.shape[0], : target.shape[1], 0]
    target[: pixels.shape[0], : pixels.shape[1]] = pixels


def _tiff_pixel_size(page: TiffPage) -> float | None:
    """Pixel size from the resolution tag, when it is per centimetre and small enough for a microscope's."""
    resolution, unit = page.tags.get(X_RESOLUTION, ()), page.tags.get(RESOLUTION_UNIT, (2,))
    if len(resolution) != 2 or 0 in resolution or unit[0] not in {2, 3}:
        return None
    unit_angstrom = 1e8 if unit[0] == 3 else 2.54e8
    return _plausible(unit_angstrom * resolution[1] / resolution[0])


def _eer_pixel_size(metadata: dict[str, str]) -> float | None:
    """Pixel size at the specimen from the camera's XML, in metres there."""
    metres = _positive(metadata.get("sensorPixelSize.width"))
    return _plausible(metres * 1e10) if metres else None


def _plausible(pixel_size_angstrom: float) -> float | None:
    low, high = _PLAUSIBLE_PIXEL_ANGSTROM
    return float(f"{pixel_size_angstrom:.7g}") if low <= pixel_size_angstrom <= high else None


def _positive(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if np.isfinite(value) and value > 0 else None


__all__ = ["EER_COMPRESSIONS", "EerRendering", "MovieHeader", "movie_format", "read_frames", "read_header"]
