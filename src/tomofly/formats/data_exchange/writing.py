"""Writes Data Exchange files while the frames come, so that little is lost where the writer is killed."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import h5py
import hdf5plugin
import numpy as np
from numpy.typing import NDArray

from tomofly.formats.data_exchange import layout
from tomofly.formats.data_exchange.layout import Fact, Facts, stored, text
from tomofly.formats.on_disk import sync

Compression = Literal["none", "bslz4", "blosc"]
# HDF5 keeps so much of each dataset in memory when it reads; larger chunks would be unpacked again and again.
_CHUNK_BYTES = 1 << 20
# The first format that can be read while it is being written; newer ones need newer readers.
_FORMAT = ("v110", "v110")
# EPICS counts seconds from 1990.
_EPICS_EPOCH = 631_152_000
_PER_FRAME: dict[str, str] = {
    layout.THETA: "f4", layout.UNIQUE_ID: "i4", layout.TIME_STAMP: "f8", layout.EPICS_SECONDS: "u4",
    layout.EPICS_NANOSECONDS: "u4", layout.LOCATION: "S24", layout.NUMBER: "i8", layout.RECEIVED: "f8",
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class ScanFrame:
    """One projection: `image` (y, x), `angle_deg` NaN where unknown, times in POSIX seconds."""

    image: NDArray[Any]
    number: int
    unique_id: int
    angle_deg: float
    acquired_at: float
    received_at: float


@dataclass(frozen=True, eq=False)
class Fields:
    """Dark or flat fields (frame, y, x), and the angles (frame,) in degrees they were taken at, if known."""

    images: NDArray[Any]
    angles_deg: NDArray[np.floating[Any]] | None = None


class ScanWriter:
    """A Data Exchange file that grows frame by frame; what was at `path` before is lost.

    Whatever has been flushed can be read by `open_unfinished` after the process was killed. Without
    compression the camera's numbers are written as they are. `compression` 'bslz4' (bitshuffle and LZ4) and
    'blosc' (bitshuffle and zstd) need the HDF5 plugins of the package hdf5plugin where the file is read.
    """

    def __init__(
        self,
        path: Path,
        shape_yx: tuple[int, int],
        dtype: np.dtype[Any],
        *,
        facts: Facts | None = None,
        dark: Fields | None = None,
        flat: Fields | None = None,
        compression: Compression = "none",
    ) -> None:
        self.path, self.shape_yx, self.dtype = path, shape_yx, np.dtype(dtype)
        self.frames = 0
        self._rows: list[ScanFrame] = []
        self._compression = compression
        self._file = h5py.File(path, "w", libver=_FORMAT, locking=False)
        self._file.attrs["implements"] = text(layout.IMPLEMENTS)
        self._make_datasets()
        self._known = {name for name, fields in (("dark", dark), ("flat", flat)) if fields is not None}
        write_facts(self._file, {**(facts or {}), "width_px": shape_yx[1], "height_px": shape_yx[0]})
        _write_fields(self._file, dark, flat, compression)
        self._file.flush()
        self._file.swmr_mode = True

    @property
    def has_darks(self) -> bool:
        """Whether there are dark fields in the file."""
        return "dark" in self._known

    @property
    def has_flats(self) -> bool:
        """Whether there are flat fields in the file."""
        return "flat" in self._known

    def _make_datasets(self) -> None:
        _make_data(self._file, self.shape_yx, self.dtype, self._compression)
        for path, code in _PER_FRAME.items():
            self._file.create_dataset(path, shape=(0,), maxshape=(None,), chunks=(1024,), dtype=code)
        _describe(self._file[layout.THETA], {"units": "degrees"})

    def append(self, frame: ScanFrame) -> None:
        """Write one frame; raises ValueError for another size or type, OSError where the disk fails."""
        if frame.image.shape != self.shape_yx or frame.image.dtype != self.dtype:
            raise ValueError(
                f"a frame of {frame.image.shape} {frame.image.dtype} in a file of {self.shape_yx}"
            )
        data = self._file[layout.DATA]
        at = self.frames
        if at >= data.shape[0]:  # room is made for many at once; what stays empty takes no space
            data.resize(at + 256, axis=0)
        if self._compression == "none":
            data.id.write_direct_chunk((at, 0, 0), np.ascontiguousarray(frame.image))
        else:
            data[at] = frame.image
        self.frames += 1
        self._rows.append(frame)

    def flush(self) -> None:
        """Make all that was appended readable, whatever happens to this process."""
        if not self._rows:
            return
        rows, self._rows = self._rows, []
        self._file[layout.DATA].flush()
        for path, values in _columns(rows).items():
            _extend(self._file[path], values)
        self._file[layout.NUMBER].flush()

    def finish(
        self, facts: Facts | None = None, dark: Fields | None = None, flat: Fields | None = None
    ) -> None:
        """Write what was not known before, close the file, and have it on the disk."""
        self.flush()
        self._file.close()
        with h5py.File(self.path, "r+", libver=_FORMAT, locking=False) as file:
            _write_fields(
                file,
                None if self.has_darks else dark,
                None if self.has_flats else flat,
                self._compression,
            )
            trim(file, _whole_frames(file))
            write_facts(file, facts or {})
        sync(self.path)

    def abandon(self) -> None:
        """Close and remove the file."""
        with suppress(OSError, RuntimeError):  # a disk that is full or gone fails the closing too
            self._file.close()
        self.path.unlink(missing_ok=True)


def _make_data(
    group: h5py.Group, shape_yx: tuple[int, int], dtype: np.dtype[Any], compression: Compression
) -> None:
    """Make the dataset of the projections, without any yet."""
    data = group.file.create_dataset(
        layout.DATA,
        shape=(0, *shape_yx),
        maxshape=(None, *shape_yx),
        chunks=chunk_shape(shape_yx, dtype, compression),
        dtype=dtype,
        **compression_options(compression),
    )
    _describe(data, layout.IMAGE_ATTRIBUTES[layout.DATA])


def _compression_of(data: h5py.Dataset) -> Compression:
    """How a dataset is compressed. A list of its filters cannot be used again, as they have changed it."""
    filters = data.id.get_create_plist()
    used = {filters.get_filter(n)[0] for n in range(filters.get_nfilters())}
    if hdf5plugin.Bitshuffle.filter_id in used:
        return "bslz4"
    return "blosc" if hdf5plugin.Blosc.filter_id in used else "none"


def chunk_shape(
    shape_yx: tuple[int, int], dtype: np.dtype[Any], compression: Compression
) -> tuple[int, int, int]:
    """One frame; compressed ones in bands of about 1 MiB, as slices are read band by band."""
    rows, columns = shape_yx
    if compression == "none":
        return 1, rows, columns
    bands = -(-rows * columns * dtype.itemsize // _CHUNK_BYTES)
    return 1, -(-rows // bands), columns


def compression_options(compression: Compression) -> dict[str, Any]:
    """What h5py is to be told about a dataset."""
    if compression == "bslz4":
        return dict(hdf5plugin.Bitshuffle(cname="lz4"))
    if compression == "blosc":
        return dict(hdf5plugin.Blosc(cname="zstd", clevel=1, shuffle=hdf5plugin.Blosc.BITSHUFFLE))
    return {}


def write_facts(file: h5py.File, facts: Facts) -> None:
    """Write each fact wherever the layout says; raises KeyError for a fact that it does not know."""
    for fact, value in facts.items():
        entry = layout.BY_FACT[fact]
        for path in entry.paths:
            _replace(file, path, value, entry.units)


def _replace(file: h5py.File, path: str, value: Fact, units: str) -> None:
    if path in file:
        del file[path]
    dataset = file.create_dataset(path, data=stored(value))
    if units:
        _describe(dataset, {"units": units})


def trim(file: h5py.File, frames: int) -> None:
    """Cut everything that has one entry per frame to so many; forget angles where there are none at all."""
    for path in (layout.DATA, *_PER_FRAME):
        file[path].resize(frames, axis=0)
    angles = file[layout.THETA][()]
    if not np.isfinite(angles).any():
        del file[layout.THETA]  # readers then take evenly spread angles, as for any file without
        return
    known = angles[np.isfinite(angles)]
    spans: dict[str, Fact] = {"angles": frames, "rotation_start_deg": float(known[0])}
    if len(known) > 1:
        spans["rotation_step_deg"] = float(np.median(np.diff(known)))
    write_facts(file, spans)


def open_unfinished(path: Path) -> tuple[h5py.File, int]:
    """A file whose writer was killed, for reading, and how many whole frames it has.

    Raises OSError or KeyError where nothing can be read of it.
    """
    file = h5py.File(path, "r", libver=_FORMAT, swmr=True, locking=False)
    return file, _whole_frames(file)


def _whole_frames(file: h5py.File) -> int:
    """How many frames have all that belongs to them; the images have room for more."""
    return min(len(file[path]) for path in (layout.DATA, *_PER_FRAME))


def copy_unfinished(path: Path, whole: Path, facts: Facts) -> int:
    """Make a whole file of one whose writer was killed; give the number of frames.

    Raises OSError or KeyError where nothing can be read of it.
    """
    source, frames = open_unfinished(path)
    with source, h5py.File(whole, "x", libver=_FORMAT, locking=False) as target:
        for name, value in source.attrs.items():
            target.attrs[name] = value
        _copy_tree(source, target)
        _copy_chunks(source[layout.DATA], target[layout.DATA], frames)
        trim(target, frames)
        write_facts(target, facts)
    sync(whole)
    return frames


def _copy_tree(source: h5py.Group, target: h5py.Group) -> None:
    """Copy all groups and datasets, the projections as an empty one."""
    for name, member in source.items():
        if member.name == layout.DATA:
            _make_data(target, member.shape[1:], member.dtype, _compression_of(member))
        elif isinstance(member, h5py.Group):
            _copy_tree(member, target.create_group(name))
        else:
            source.copy(name, target)


def _copy_chunks(source: h5py.Dataset, target: h5py.Dataset, frames: int) -> None:
    """Copy as they are, one at a time: HDF5 lets nobody else do anything meanwhile."""
    target.resize(frames, axis=0)
    rows = range(0, source.shape[1], source.chunks[1])
    for place in ((frame, row, 0) for frame in range(frames) for row in rows):
        mask, content = source.id.read_direct_chunk(place)
        target.id.write_direct_chunk(place, content, mask)


def publish(part: Path, final: Path, *, overwrite: bool = False) -> None:
    """Give a whole file its name; raises FileExistsError where that name is taken."""
    if overwrite:
        part.replace(final)
    else:
        _link_or_rename(part, final)
    sync(final.parent)


def _link_or_rename(part: Path, final: Path) -> None:
    """Renaming replaces; linking never does, but not every file system can."""
    try:
        final.hardlink_to(part)
    except FileExistsError:
        raise
    except OSError:
        if final.exists():
            raise FileExistsError(str(final)) from None
        part.rename(final)
    else:
        part.unlink()


def _columns(rows: Sequence[ScanFrame]) -> dict[str, NDArray[Any]]:
    taken = np.array([row.acquired_at for row in rows])
    nanoseconds = np.round((taken - _EPICS_EPOCH).clip(min=0) * 1e9).astype(np.int64)
    columns: dict[str, Callable[[], Any]] = {
        layout.THETA: lambda: [row.angle_deg for row in rows],
        layout.UNIQUE_ID: lambda: [row.unique_id for row in rows],
        layout.TIME_STAMP: lambda: taken,
        layout.EPICS_SECONDS: lambda: nanoseconds // 10**9,
        layout.EPICS_NANOSECONDS: lambda: nanoseconds % 10**9,
        layout.LOCATION: lambda: [layout.DATA.encode()] * len(rows),
        layout.NUMBER: lambda: [row.number for row in rows],
        layout.RECEIVED: lambda: [row.received_at for row in rows],
    }
    return {path: np.array(column(), _PER_FRAME[path]) for path, column in columns.items()}


def _extend(dataset: h5py.Dataset, values: NDArray[Any]) -> None:
    before = dataset.shape[0]
    dataset.resize(before + len(values), axis=0)
    dataset[before:] = values
    dataset.flush()


def _write_fields(
    file: h5py.File, dark: Fields | None, flat: Fields | None, compression: Compression
) -> None:
    for fields, path, angles, fact in (
        (dark, layout.DARK, layout.THETA_DARK, "darks"),
        (flat, layout.WHITE, layout.THETA_WHITE, "flats"),
    ):
        if fields is None:
            continue
        shape, dtype = fields.images.shape[1:], fields.images.dtype
        chunks = chunk_shape((shape[0], shape[1]), dtype, compression)
        options = compression_options(compression)
        data = file.create_dataset(path, data=fields.images, chunks=chunks, **options)
        _describe(data, layout.IMAGE_ATTRIBUTES[path])
        if fields.angles_deg is not None and np.isfinite(fields.angles_deg).all():
            file.create_dataset(angles, data=np.asarray(fields.angles_deg, np.float32))
            _describe(file[angles], {"units": "degrees"})
        write_facts(file, {fact: len(fields.images)})


def _describe(dataset: h5py.Dataset, attributes: dict[str, str]) -> None:
    for name, value in attributes.items():
        dataset.attrs[name] = text(value)
