"""Dark and flat fields of a scan: averaged, each epoch of flats for itself, and kept for the later stages."""

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt

from tomofly.formats.hdf5 import blamed_on_file, open_hdf5
from tomofly.formats.scan import FrameSet, Scan, ScanRows
from tomofly.imaging.xray.volume import Fields

FloatArray = npt.NDArray[np.float32]

_ZINGER = 1.25
_FEW = 3


def average_fields(scan: Scan, rows: ScanRows) -> Fields:
    """Average the dark fields, and the flat fields of each time at which there are some.

    Flats of another exposure are scaled. Raises ValueError where there are no flats.
    """
    if scan.flats is None:
        raise ValueError("there are no flat fields")
    dark = np.zeros(scan.shape_yx, np.float32)
    if scan.darks is not None:
        dark = _average(scan, rows, scan.darks, np.arange(len(scan.darks)))
    times, members = _epochs(scan.flats)
    flats = np.stack([_average(scan, rows, scan.flats, chosen) for chosen in members])
    if scan.flat_scale != 1.0:
        flats = dark + np.float32(scan.flat_scale) * (flats - dark)
    return Fields(dark, flats, times, saturation_of(scan))


def no_fields(scan: Scan) -> Fields:
    """Give fields that leave transmissions as they are."""
    return Fields(
        np.zeros(scan.shape_yx, np.float32), np.ones((1, *scan.shape_yx), np.float32), np.array([np.nan])
    )


def saturation_of(scan: Scan) -> float | None:
    """Give the number at which a pixel is full, of a camera that counts."""
    return float(np.iinfo(scan.dtype).max) if scan.dtype.kind == "u" else None


def _epochs(flats: FrameSet) -> tuple[npt.NDArray[np.float64], list[npt.NDArray[np.intp]]]:
    """Put flats together that were taken without a projection between them."""
    if not np.isfinite(flats.taken_at).all():
        return np.array([np.nan]), [np.arange(len(flats))]
    times = np.unique(flats.taken_at)
    return times, [np.flatnonzero(flats.taken_at == time) for time in times]


def _average(scan: Scan, rows: ScanRows, frames: FrameSet, chosen: npt.NDArray[np.intp]) -> FloatArray:
    """Average frames one by one; of several, a pixel that is far brighter in one is left out there."""
    height = scan.shape_yx[0]
    total = np.zeros(scan.shape_yx, np.float64)
    highest = np.full(scan.shape_yx, -np.inf)
    for place in chosen:
        frame = rows.frames(frames, 0, height, slice(int(place), int(place) + 1))[0]
        total += frame
        np.maximum(highest, frame, out=highest)
    count = len(chosen)
    if count < _FEW:
        return np.asarray(total / count, np.float32)
    others = (total - highest) / (count - 1)
    return np.where(highest > _ZINGER * others, others, total / count).astype(np.float32)


def write_fields(path: Path, fields: Fields) -> None:
    """Keep fields for the later stages."""
    with h5py.File(path, "w") as file:
        file["dark"], file["flats"], file["at"] = fields.dark, fields.flats, fields.at
        if fields.saturation is not None:
            file["saturation"] = fields.saturation


@dataclass(frozen=True)
class FieldRows:
    """The fields of some rows, read as they are needed."""

    path: Path

    def read(self, first: int, last: int) -> Fields:
        """Give the fields of rows first to last. Raises BadFile."""
        with open_hdf5(self.path) as file, blamed_on_file(self.path):
            saturation = float(file["saturation"][()]) if "saturation" in file else None
            return Fields(file["dark"][first:last], file["flats"][:, first:last], file["at"][()], saturation)
