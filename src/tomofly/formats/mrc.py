"""MRC2014 images, stacks and movies: what the header says, the pixels, and files that RELION and IMOD read.

Header layout and modes: Cheng et al. (2015), and the IMOD notes on signed bytes and 4-bit data.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from mrcfile.dtypes import HEADER_DTYPE
from numpy.typing import NDArray

from tomofly.formats.errors import BadFile
from tomofly.formats.on_disk import sync
from tomofly.formats.source import open_source, read_at, size_of

HEADER_BYTES = 1024
FOUR_BIT_MODE = 101

_IMOD_STAMP_AT = (
    152  # two int32: a stamp, then flags of which bit 0 says that bytes are signed, bit 4 that they are pairs
)
_IMOD_STAMP = 1146047817
_IMOD_SIGNED_BYTES = 1
_IMOD_PACKED_BYTES = 16
_MODES = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 12: "f2", FOUR_BIT_MODE: "u1"}
_COMPLEX_MODES = {3: "complex int16", 4: "complex float32"}
_LARGEST_SIDE = 1 << 20
_LARGEST_HALF = 65504
_CACHED_PIXELS = 1 << 16
_PLAUSIBLE_PIXEL_ANGSTROM = (1e-3, 1e5)


@dataclass(frozen=True)
class MrcLayout:
    """Where the pixels of an MRC file are and what they are."""

    path: Path
    mode: int
    dtype: np.dtype[Any]  # as stored, byte order included; uint8 for 4-bit pairs
    sections: int
    shape_yx: tuple[int, int]
    data_offset: int
    pixel_size_angstrom: float | None
    file_bytes: int

    @property
    def row_bytes(self) -> int:
        """Bytes of one row: 4-bit data holds two pixels in a byte, the last byte of an odd row half used."""
        columns = self.shape_yx[1]
        return (columns + 1) // 2 if self.mode == FOUR_BIT_MODE else columns * self.dtype.itemsize

    @property
    def section_bytes(self) -> int:
        """Bytes of one image."""
        return self.row_bytes * self.shape_yx[0]

    @property
    def expected_bytes(self) -> int:
        """Size the file has when it is whole."""
        return self.data_offset + self.sections * self.section_bytes

    @property
    def dtype_read(self) -> np.dtype[Any]:
        """What the reader returns: native byte order, half floats widened to float32."""
        return np.dtype("f4") if self.mode == 12 else self.dtype.newbyteorder("=")


def read_layout(path: Path) -> MrcLayout:
    """Read the header alone; the pixels may not be there yet. Raises BadFile when it is no header of ours."""
    with open_source(path) as source:
        return _layout(path, read_at(source, 0, HEADER_BYTES), size_of(source))


def require_whole(layout: MrcLayout) -> None:
    """Raise BadFile when the file is shorter than its header says."""
    if layout.file_bytes >= layout.expected_bytes:
        return
    there = max(0, layout.file_bytes - layout.data_offset) // layout.section_bytes
    what = (
        f"holds {there} of {layout.sections} images of {layout.shape_yx[1]} x {layout.shape_yx[0]} "
        f"({layout.file_bytes} of {layout.expected_bytes} bytes)"
    )
    raise BadFile(layout.path, what, "Wait until it is written, or transfer it again")


def read_sections(layout: MrcLayout, start: int, stop: int) -> NDArray[Any]:
    """Read images `start` to `stop` (not included), as (section, y, x) of `layout.dtype_read`."""
    require_whole(layout)
    count, (rows, columns) = stop - start, layout.shape_yx
    stored_columns = layout.row_bytes // layout.dtype.itemsize
    stored = np.empty((count, rows, stored_columns), layout.dtype)
    with open_source(layout.path) as source:
        _read_into(source, layout, start, stored)
    if layout.mode == FOUR_BIT_MODE:
        return _unpack_four_bits(stored, columns)
    if not stored.dtype.isnative:
        stored = stored.byteswap(inplace=True).view(stored.dtype.newbyteorder("="))
    return stored.astype(np.float32) if layout.mode == 12 else stored


def read_image(path: str | Path) -> tuple[NDArray[Any], float | None]:
    """Read an image (y, x), or a stack (section, y, x) where there are several, and the pixel size."""
    layout = read_layout(Path(path))
    pixels = read_sections(layout, 0, layout.sections)
    return (pixels[0] if layout.sections == 1 else pixels), layout.pixel_size_angstrom


def write_image(
    path: str | Path,
    array: NDArray[Any],
    pixel_size_angstrom: float,
    *,
    float16: bool = False,
    labels: Sequence[str] = (),
    volume: bool = False,
) -> None:
    """Write an image (y, x), a stack of images (section, y, x) or a volume (z, y, x); flush it to the disk.

    int8, int16, uint16 and float32 are stored as they are, uint8 as uint16, other numbers as float32;
    `float16` stores half floats (mode 12). A stack is marked as images (mz 1), as RELION and IMOD expect of
    `.mrcs`, a `volume` as one (space group 1, mz its sections). The header carries minimum, maximum, mean
    and deviation. Raises ValueError for
    another rank, or a value too large for a half float.
    """
    if array.ndim not in {2, 3} or array.size == 0:
        raise ValueError(f"an image has 2 axes and a stack 3, none empty: got shape {array.shape}")
    if float16 and np.abs(array, dtype=np.float32).max() > _LARGEST_HALF:
        raise ValueError(f"half floats end at {_LARGEST_HALF}: scale {Path(path).name} down or store float32")
    stored = np.ascontiguousarray(array, dtype=_stored_dtype(array.dtype, float16))
    with Path(path).open("wb") as target:
        full = array if float16 else stored
        header = _new_header(stored, full, pixel_size_angstrom, labels)
        if volume and stored.ndim == 3:
            header["ispg"], header["mz"] = 1, len(stored)
            header["cella"]["z"] = len(stored) * pixel_size_angstrom
        target.write(header.tobytes())
        stored.tofile(target)
    sync(Path(path))


def _layout(path: Path, raw: bytes, file_bytes: int) -> MrcLayout:
    if len(raw) < HEADER_BYTES:
        what = "is empty" if not raw else f"ends inside the MRC header ({len(raw)} of {HEADER_BYTES} bytes)"
        raise BadFile(path, what, "Wait until it is written, or transfer it again")
    order = _byte_order(path, raw)
    header = np.frombuffer(raw, HEADER_DTYPE.newbyteorder(order))[0]
    mode, extended = int(header["mode"]), int(header["nsymbt"])
    columns, rows, sections = (int(header[name]) for name in ("nx", "ny", "nz"))
    if not (0 < columns <= _LARGEST_SIDE and 0 < rows <= _LARGEST_SIDE and sections > 0):
        raise BadFile(path, f"says it holds {sections} images of {columns} x {rows} pixels", _NOT_MRC)
    if extended < 0:
        raise BadFile(path, f"says its extended header has {extended} bytes", _NOT_MRC)
    return MrcLayout(
        path=path,
        mode=mode,
        dtype=np.dtype(_pixel_code(path, mode, raw, order)).newbyteorder(order),
        sections=sections,
        shape_yx=(rows, columns),
        data_offset=HEADER_BYTES + extended,
        pixel_size_angstrom=_pixel_size(float(header["cella"]["x"]), int(header["mx"])),
        file_bytes=file_bytes,
    )


_NOT_MRC = "Check that it is an MRC file and not damaged"


def _byte_order(path: Path, raw: bytes) -> Literal["<", ">"]:
    """The byte order under which the mode is known; the machine stamp is often wrong in old files."""
    orders: tuple[Literal["<", ">"], ...] = ("<", ">")
    modes = {order: int(np.frombuffer(raw, order + "i4", 1, 12)[0]) for order in orders}
    known = [order for order, mode in modes.items() if mode in _MODES or mode in _COMPLEX_MODES]
    if not known:
        legal = ", ".join(str(mode) for mode in sorted(_MODES))
        raise BadFile(path, f"has the unknown MRC mode {modes['<']} (readable: {legal})", _NOT_MRC)
    stamped: Literal["<", ">"] = ">" if raw[212] == 0x11 else "<"
    return stamped if stamped in known else known[0]  # mode 0 reads the same in both


def _pixel_code(path: Path, mode: int, raw: bytes, order: str) -> str:
    if mode in _COMPLEX_MODES:
        what = f"holds a transform ({_COMPLEX_MODES[mode]}, MRC mode {mode}), not images"
        raise BadFile(path, what, "Give the real-space images")
    stamp, flags = np.frombuffer(raw, order + "i4", 2, _IMOD_STAMP_AT)
    if mode != 0 or stamp != _IMOD_STAMP:
        return _MODES[mode]
    if flags & _IMOD_PACKED_BYTES:
        raise BadFile(path, "packs two 4-bit pixels in each byte of mode 0", "Unpack it with IMOD's newstack")
    return "i1" if flags & _IMOD_SIGNED_BYTES else "u1"


def _pixel_size(cell_angstrom: float, samples: int) -> float | None:
    if samples <= 0 or not np.isfinite(cell_angstrom):
        return None
    pixel, (low, high) = cell_angstrom / samples, _PLAUSIBLE_PIXEL_ANGSTROM
    # single precision in the header: give 1.06 back, not 1.0599999427795410
    return float(f"{pixel:.7g}") if low <= pixel <= high else None


def _read_into(source: BinaryIO, layout: MrcLayout, start: int, stored: NDArray[Any]) -> None:
    source.seek(layout.data_offset + start * layout.section_bytes)
    view = stored.reshape(-1).view(np.uint8).data
    done = 0
    while done < len(view):
        got = source.readinto(view[done:])  # type: ignore[attr-defined]
        if not got:
            raise BadFile(layout.path, "became shorter while it was read", "Let nothing else write to it")
        done += got


def _unpack_four_bits(packed: NDArray[np.uint8], columns: int) -> NDArray[np.uint8]:
    """Two pixels from each byte, the low four bits first."""
    pixels = np.empty((*packed.shape[:-1], packed.shape[-1] * 2), np.uint8)
    pixels[..., 0::2] = packed & 0x0F
    pixels[..., 1::2] = packed >> 4
    return np.ascontiguousarray(pixels[..., :columns])


def _stored_dtype(dtype: np.dtype[Any], float16: bool) -> np.dtype[Any]:
    if float16:
        return np.dtype("<f2")
    if dtype == np.uint8:  # MRC2014 has signed bytes only
        return np.dtype("<u2")
    return dtype.newbyteorder("<") if dtype in ("i1", "i2", "u2", "f4") else np.dtype("<f4")


def _new_header(
    stored: NDArray[Any], full: NDArray[Any], pixel_size_angstrom: float, labels: Sequence[str]
) -> NDArray[Any]:
    """Header for `stored`, with the statistics of `full`: the same numbers before they became half floats."""
    sections = stored.shape[0] if stored.ndim == 3 else 1
    rows, columns = stored.shape[-2:]
    header = np.zeros((), HEADER_DTYPE.newbyteorder("<"))
    codes = {"i1": 0, "i2": 1, "f4": 2, "u2": 6, "f2": 12}
    header["mode"] = codes[stored.dtype.str[1:]]
    header["nx"], header["ny"], header["nz"] = columns, rows, sections
    header["mx"], header["my"], header["mz"] = columns, rows, 1
    header["cella"] = (columns * pixel_size_angstrom, rows * pixel_size_angstrom, pixel_size_angstrom)
    header["cellb"] = (90, 90, 90)
    header["mapc"], header["mapr"], header["maps"] = 1, 2, 3
    header["dmin"], header["dmax"] = full.min(), full.max()
    header["dmean"], header["rms"] = _mean_and_deviation(full)
    header["map"], header["nversion"] = b"MAP ", 20141
    header["machst"] = (0x44, 0x44, 0, 0)
    header["nlabl"] = min(len(labels), 10)
    for index, label in enumerate(labels[:10]):
        header["label"][index] = label.encode("ascii", "replace")[:80]
    return header


def _mean_and_deviation(stored: NDArray[Any]) -> tuple[float, float]:
    """Mean and standard deviation in double precision, a few rows at a time: they stay in the cache."""
    rows = stored.reshape(-1, stored.shape[-1])
    few = max(1, _CACHED_PIXELS // rows.shape[1])
    parts = (rows[start : start + few].astype(np.float64) for start in range(0, len(rows), few))
    sums = np.array([(part.sum(), np.square(part, out=part).sum()) for part in parts])
    mean, square = sums.sum(axis=0) / stored.size
    if not np.isfinite(square):  # an image with a pixel that is no number has no mean either
        return float(mean), float("nan")
    return float(mean), float(np.sqrt(max(0.0, square - mean**2)))
