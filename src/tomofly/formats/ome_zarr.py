"""Volumes as OME-Zarr 0.4: a pyramid of chunked arrays that viewers load piece by piece. Moore et al. (2023).

Version 0.4 because it is what released viewers open; written slab by slab, whatever the size of the volume.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt

CHUNK = (64, 128, 128)
_SMALLEST = 128
_BLOSC = {"id": "blosc", "cname": "zstd", "clevel": 3, "shuffle": 1, "blocksize": 0}

ReadSlices = Callable[[int, int], npt.NDArray[Any]]
"""Gives slices (z, y, x) from one to another."""


@dataclass(frozen=True)
class Pyramid:
    """What a pyramid is made of: shape (z, y, x) and type of the volume, and the size of its voxels (µm)."""

    shape_zyx: tuple[int, int, int]
    dtype: np.dtype[Any]
    voxel_um: float | None
    name: str

    @property
    def shapes(self) -> list[tuple[int, int, int]]:
        """The shapes of all levels, each half of the one before, down to a small one."""
        shapes = [self.shape_zyx]
        while max(shapes[-1]) > _SMALLEST and min(shapes[-1]) > 1:
            z, y, x = (max(1, size // 2) for size in shapes[-1])
            shapes.append((z, y, x))
        return shapes


def write_ome_zarr(folder: Path, pyramid: Pyramid, read: ReadSlices) -> None:
    """Write a volume and its smaller versions, each voxel of which is the mean of eight."""
    folder.mkdir(parents=True)
    _write_json(folder / ".zgroup", {"zarr_format": 2})
    _write_json(folder / ".zattrs", _attributes(pyramid))
    source = read
    for level, shape in enumerate(pyramid.shapes):
        array = _Array(folder / str(level), shape, pyramid.dtype)
        array.begin()
        for first in range(0, shape[0], CHUNK[0]):
            last = min(shape[0], first + CHUNK[0])
            slab = source(first, last) if level == 0 else _halved(source(2 * first, 2 * last), shape[1:])
            array.write(first, slab)
        source = array.read


def _halved(slab: npt.NDArray[Any], shape_yx: tuple[int, int]) -> npt.NDArray[Any]:
    """Average eight voxels; a level one voxel thick, high or wide stays so."""
    rows, columns = shape_yx
    steps = [min(2, slab.shape[0]), min(2, slab.shape[1]), min(2, slab.shape[2])]
    kept = slab[: slab.shape[0] // steps[0] * steps[0], : rows * steps[1], : columns * steps[2]]
    parts = [
        kept[z :: steps[0], y :: steps[1], x :: steps[2]].astype(np.float32)
        for z in range(steps[0]) for y in range(steps[1]) for x in range(steps[2])
    ]  # fmt: skip
    mean = sum(parts[1:], parts[0]) / np.float32(len(parts))
    return np.rint(mean).astype(slab.dtype) if slab.dtype.kind == "u" else mean.astype(slab.dtype)


def _attributes(pyramid: Pyramid) -> dict[str, Any]:
    unit = {"unit": "micrometer"} if pyramid.voxel_um else {}
    size = pyramid.voxel_um or 1.0
    levels = []
    for level, shape in enumerate(pyramid.shapes):
        factors = [a // b for a, b in zip(pyramid.shape_zyx, shape, strict=True)]
        steps = [min(2**level, factor) if factor > 1 else 1 for factor in factors]
        scale = [size * step for step in steps]
        # Means of voxels lie between them: half a large voxel less half a small one from the first.
        moved = [0.5 * size * (step - 1) for step in steps]
        transforms: list[dict[str, Any]] = [{"type": "scale", "scale": scale}]
        if level:
            transforms.append({"type": "translation", "translation": moved})
        levels.append({"path": str(level), "coordinateTransformations": transforms})
    axes = [{"name": axis, "type": "space", **unit} for axis in "zyx"]
    return {"multiscales": [{"version": "0.4", "name": pyramid.name, "axes": axes, "datasets": levels}]}


@dataclass(frozen=True)
class _Array:
    """One level: a Zarr 2 array of compressed chunks, ``z/y/x`` below its folder."""

    folder: Path
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]

    def begin(self) -> None:
        """Write what describes it."""
        self.folder.mkdir()
        _write_json(
            self.folder / ".zarray",
            {
                "zarr_format": 2, "shape": list(self.shape), "chunks": list(CHUNK), "dtype": self.dtype.str,
                "compressor": _BLOSC, "fill_value": 0, "order": "C", "filters": None,
                "dimension_separator": "/",
            },
        )  # fmt: skip

    def write(self, first: int, slab: npt.NDArray[Any]) -> None:
        """Write slices from ``first``, where a chunk begins, on; at most as many as a chunk has."""
        for path, y, x in self._chunks(first):
            part = slab[:, y : y + CHUNK[1], x : x + CHUNK[2]]
            chunk = np.zeros(CHUNK, self.dtype)
            chunk[: part.shape[0], : part.shape[1], : part.shape[2]] = part
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(
                imagecodecs.blosc_encode(
                    chunk.tobytes(), level=3, compressor="zstd", shuffle=1, typesize=self.dtype.itemsize
                )
            )

    def read(self, first: int, last: int) -> npt.NDArray[Any]:
        """Read slices again."""
        last = min(last, self.shape[0])
        slab = np.zeros((last - first, *self.shape[1:]), self.dtype)
        for begin in range(first - first % CHUNK[0], last, CHUNK[0]):
            wanted = slice(max(begin, first), min(begin + CHUNK[0], last))
            inside = slice(wanted.start - begin, wanted.stop - begin)
            place = slice(wanted.start - first, wanted.stop - first)
            for path, y, x in self._chunks(begin):
                packed = imagecodecs.blosc_decode(path.read_bytes())
                chunk = np.frombuffer(packed, self.dtype).reshape(CHUNK)
                target = slab[place, y : y + CHUNK[1], x : x + CHUNK[2]]
                target[:] = chunk[inside, : target.shape[1], : target.shape[2]]
        return slab

    def _chunks(self, first: int) -> Iterator[tuple[Path, int, int]]:
        for y in range(0, self.shape[1], CHUNK[1]):
            for x in range(0, self.shape[2], CHUNK[2]):
                name = f"{first // CHUNK[0]}/{y // CHUNK[1]}/{x // CHUNK[2]}"
                yield self.folder / name, y, x


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
