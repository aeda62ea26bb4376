"""One view of an X-ray scan, whatever the file: projections, flats and darks by rows, with their angles."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from tomofly.formats.errors import BadFile
from tomofly.formats.hdf5 import blamed_on_file, missing_chunks, open_hdf5

AXES = ("theta", "y", "x")


@dataclass(frozen=True)
class ScanNote:
    """Something of a file that is not as it should be, and what is done about it."""

    code: str
    message: str


@dataclass(frozen=True)
class FrameSet:
    """Frames of one kind: a dataset, where theta, y and x lie among its axes, and which of its frames.

    ``taken_at`` (frame) is when, counted in projections (below 0: before the first; NaN: not known).
    """

    dataset: str
    order: tuple[int, int, int]
    frames: npt.NDArray[np.int64]
    taken_at: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.frames)


@dataclass(frozen=True)
class Scan:
    """What a scan file holds. ``angles_deg`` (projection); ``flats`` and ``darks`` are None if it has none.

    ``flat_scale`` is what flats (less the dark) are to be multiplied with, where they had another exposure.
    ``row_chunk`` rows are stored together; reading fewer costs as much where frames are compressed
    (``packed``). What the file does not tell is None.
    """

    path: Path
    layout: str
    projections: FrameSet
    flats: FrameSet | None
    darks: FrameSet | None
    angles_deg: npt.NDArray[np.float64]
    shape_yx: tuple[int, int]
    dtype: np.dtype[Any]
    row_chunk: int
    packed: bool
    frames_in_file: int
    flat_scale: float = 1.0
    frame_ids: npt.NDArray[np.int64] | None = None
    pixel_size_um: float | None = None
    energy_kev: float | None = None
    distance_mm: float | None = None
    exposure_s: float | None = None
    sample: str = ""
    started: str = ""
    notes: tuple[ScanNote, ...] = ()


class ScanRows:
    """An open scan: gives rows of its frames as they were recorded. May be used by one thread at a time."""

    def __init__(self, scan: Scan, file: h5py.File) -> None:
        self._scan = scan
        self._file = file

    def projections(self, first_row: int, last_row: int, some: slice = slice(None)) -> npt.NDArray[Any]:
        """Give rows of projections (angle, y, x); ``some`` of them by their place in ``angles_deg``."""
        return self._rows(self._scan.projections, first_row, last_row, some)

    def frames(
        self, frames: FrameSet, first_row: int, last_row: int, some: slice = slice(None)
    ) -> npt.NDArray[Any]:
        """Give rows of flats or darks (frame, y, x)."""
        return self._rows(frames, first_row, last_row, some)

    def single_rows(self, rows: Sequence[int], chosen: npt.NDArray[np.intp]) -> npt.NDArray[Any]:
        """Give single rows (row, angle, x) of the projections with these places in ``angles_deg``."""
        count, (height, width) = len(chosen), self._scan.shape_yx
        found = np.empty((len(rows), count, width), self._scan.dtype)
        if not self._scan.packed:
            projections = replace(self._scan.projections, frames=self._scan.projections.frames[chosen])
            for n, row in enumerate(rows):
                found[n] = self._rows(projections, row, row + 1)[:, 0]
            return found
        # Compressed frames are unpacked whole: once for all rows.
        for n, place in enumerate(chosen):
            frame = self.projections(0, height, slice(int(place), int(place) + 1))[0]
            found[:, n] = frame[list(rows)]
        return found

    def _rows(self, frames: FrameSet, first: int, last: int, some: slice = slice(None)) -> npt.NDArray[Any]:
        wanted = frames.frames[some]
        with blamed_on_file(self._scan.path):
            data = self._file[frames.dataset]
            rows = np.empty((len(wanted), last - first, self._scan.shape_yx[1]), data.dtype)
            for place, run in _runs(wanted):
                rows[place] = _read(data, frames.order, run, slice(first, last))
        return rows


def _read(data: h5py.Dataset, order: tuple[int, int, int], frames: slice, rows: slice) -> npt.NDArray[Any]:
    """Read a block as (theta, y, x) of a dataset whose axes lie in any order."""
    chosen: list[slice] = [slice(None)] * 3
    chosen[order[0]], chosen[order[1]] = frames, rows
    block: npt.NDArray[Any] = data[tuple(chosen)]
    return block if order == (0, 1, 2) else block.transpose(order)


def _runs(frames: npt.NDArray[np.int64]) -> Iterator[tuple[slice, slice]]:
    """Take indices apart into blocks that follow each other in the file: (place in the result, frames)."""
    if not len(frames):
        return
    breaks = np.flatnonzero(np.diff(frames) != 1) + 1
    for part in np.split(np.arange(len(frames)), breaks):
        first = int(frames[part[0]])
        yield slice(int(part[0]), int(part[-1]) + 1), slice(first, first + len(part))


@contextmanager
def open_rows(scan: Scan) -> Iterator[ScanRows]:
    """Open a scan to read rows of it. Raises BadFile."""
    with open_hdf5(scan.path, cached=scan.packed) as file:
        yield ScanRows(scan, file)


def read_scan(path: str | Path) -> Scan:
    """Read what a scan file says of itself: Data Exchange or NXtomo. Raises BadFile."""
    from tomofly.formats.data_exchange.reading import is_data_exchange, read_data_exchange
    from tomofly.formats.nxtomo import find_nxtomo, read_nxtomo

    path = Path(path)
    with open_hdf5(path) as file, blamed_on_file(path):
        if is_data_exchange(file):
            return read_data_exchange(path, file)
        entry = find_nxtomo(file)
        if entry is not None:
            return read_nxtomo(path, file, entry)
    raise BadFile(
        path, "holds neither a Data Exchange scan (/exchange/data) nor an NXtomo entry", "Leave it out"
    )


def probe_scan(path: Path) -> tuple[int, int]:
    """Give the chunks of a scan's images that are not written, and its frames. Raises BadFile.

    A file without images has none that are missing: what it is shows when it is read.
    """
    from tomofly.formats.data_exchange.reading import DATA, is_data_exchange
    from tomofly.formats.nxtomo import find_nxtomo, images_of

    with open_hdf5(path) as file, blamed_on_file(path):
        entry = None if is_data_exchange(file) else find_nxtomo(file)
        data = images_of(entry) if entry is not None else file.get(DATA)
        if not isinstance(data, h5py.Dataset):
            return 0, 0
        return missing_chunks(data), int(data.shape[0]) if data.ndim else 0


def image_axes(path: Path, data: h5py.Dataset, declared: str) -> tuple[int, int, int]:
    """Give where theta, y and x lie in a dataset, as it declares (``theta:y:x`` where it does not)."""
    if data.ndim != 3:
        raise BadFile(
            path, f"{data.name} has {data.ndim} dimensions, a stack of images has 3", "Leave it out"
        )
    words = [word.strip().split("_")[0] for word in declared.lower().split(":")] if declared else list(AXES)
    if sorted(words) != sorted(AXES):
        raise BadFile(path, f"{data.name} declares the axes '{declared}'", "Legal are theta:y:x in any order")
    theta, y, x = (words.index(axis) for axis in AXES)
    return theta, y, x


def storage(data: h5py.Dataset, order: tuple[int, int, int]) -> tuple[int, bool]:
    """Give the rows that are stored together, and whether a chunk must be unpacked whole."""
    if data.chunks is None:
        return 1, False
    return int(data.chunks[order[1]]), bool(data.compression or data._filters)


def usable_angles(
    path: Path, angles_deg: npt.NDArray[np.float64], notes: list[ScanNote]
) -> npt.NDArray[np.bool_]:
    """Say which projections have an angle; notes those that have none. Raises BadFile when hardly any has."""
    usable = np.isfinite(angles_deg)
    if usable.sum() < 2:
        raise BadFile(path, f"has an angle for {int(usable.sum())} of its projections", "Leave it out")
    if not usable.all():
        count = int((~usable).sum())
        notes.append(ScanNote("angles_not_finite", f"{count} projections have no angle and are left out"))
    return usable


def in_degrees(angles: npt.NDArray[np.float64], units: str, notes: list[ScanNote]) -> npt.NDArray[np.float64]:
    """Give angles in degrees: as the unit says, and as the range says where that says otherwise."""
    if units.startswith("rad"):
        notes.append(ScanNote("theta_in_radians", "The file says that its angles are radians"))
        return np.rad2deg(angles)
    finite = angles[np.isfinite(angles)]
    if len(finite) < 16:
        return angles
    # One step more, for a scan that leaves out its last angle.
    span = float(np.ptp(finite)) * (1 + 1 / (len(finite) - 1))
    turns = min(abs(span / np.pi - turn) for turn in (1.0, 2.0))
    if turns < 0.02:
        message = f"Angles span {span:.3f}, half a turn or a whole one in radians: taken as radians"
        notes.append(ScanNote("theta_in_radians", message))
        return np.rad2deg(angles)
    return angles


def as_indices(values: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Give indices as an array."""
    return np.asarray(values, np.int64)
