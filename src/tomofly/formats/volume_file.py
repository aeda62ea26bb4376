"""Reconstructed volumes in HDF5, written and read slab by slab.

The layout is that of Data Exchange for a reconstruction: ``/exchange/data`` (z, y, x), not compressed and in
one piece, so that any slice of a volume larger than memory is one short read for every program. Size of a
voxel, unit and what it was made with stand beside it under names: TIFF and MRC headers have no room for them.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from tomofly.formats.errors import BadFile
from tomofly.formats.hdf5 import as_text, blamed_on_file, first_number, first_text, open_hdf5

DATA = "exchange/data"
FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True)
class VolumeHeader:
    """What a volume is: ``unit`` is 1/um where the size of a voxel is known, else 1/px."""

    shape_zyx: tuple[int, int, int]
    voxel_um: float | None
    unit: str
    made_by: Mapping[str, Any]


class VolumeWriter:
    """Writes slabs of a volume; those that are not written are zero."""

    def __init__(self, data: h5py.Dataset) -> None:
        self._data = data

    def write(self, first: int, slab: npt.NDArray[Any]) -> None:
        """Write slices (z, y, x) from ``first`` on."""
        self._data[first : first + len(slab)] = slab


@dataclass(frozen=True)
class Scaling:
    """How voxels are written: value = offset + scale * number."""

    dtype: np.dtype[Any]
    offset: float = 0.0
    scale: float = 1.0

    def apply(self, slab: FloatArray) -> npt.NDArray[Any]:
        """Turn values into numbers of the type."""
        if self.dtype.kind == "f":
            return slab.astype(self.dtype, copy=False)
        top = np.iinfo(self.dtype).max
        numbers: npt.NDArray[Any] = np.clip(np.rint((slab - self.offset) / self.scale), 0, top)
        return numbers.astype(self.dtype)


AS_RECONSTRUCTED = Scaling(np.dtype(np.float32))


@contextmanager
def new_volume(
    path: str | Path, header: VolumeHeader, scaling: Scaling = AS_RECONSTRUCTED
) -> Iterator[VolumeWriter]:
    """Begin a volume of float32, or of numbers by a scaling, which it then says."""
    with h5py.File(path, "w") as file:
        data = file.create_dataset(DATA, header.shape_zyx, scaling.dtype)
        data.attrs["axes"] = "z:y:x"
        data.attrs["units"] = header.unit
        data.attrs["description"] = "linear absorption coefficient"
        if scaling != AS_RECONSTRUCTED:
            data.attrs["offset"], data.attrs["scale"] = scaling.offset, scaling.scale
        file["implements"] = "exchange:measurement:process"
        if header.voxel_um is not None:
            file["exchange/voxel_size"] = header.voxel_um
            file["exchange/voxel_size"].attrs["units"] = "um"
        file["process/tomofly"] = json.dumps(dict(header.made_by), ensure_ascii=False, sort_keys=True)
        yield VolumeWriter(data)


class VolumeSlices:
    """An open volume."""

    def __init__(self, path: Path, header: VolumeHeader, data: h5py.Dataset) -> None:
        self.header = header
        self._path = path
        self._data = data

    def slices(self, first: int, last: int) -> FloatArray:
        """Read slices (z, y, x)."""
        with blamed_on_file(self._path):
            slab: FloatArray = self._data[first:last]
        return slab


@contextmanager
def open_volume(path: str | Path) -> Iterator[VolumeSlices]:
    """Open a volume that ``new_volume`` wrote. Raises BadFile."""
    path = Path(path)
    with open_hdf5(path) as file:
        with blamed_on_file(path):
            data = file.get(DATA)
            if not isinstance(data, h5py.Dataset) or as_text(data.attrs.get("axes")) != "z:y:x":
                raise BadFile(path, "holds no volume", "Reconstruct it again")
            header = VolumeHeader(
                shape_zyx=data.shape,
                voxel_um=first_number(file, "exchange/voxel_size"),
                unit=as_text(data.attrs.get("units")),
                made_by=json.loads(first_text(file, "process/tomofly") or "{}"),
            )
        yield VolumeSlices(path, header, data)
