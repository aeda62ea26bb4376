"""Scans as other programs write them, by h5py alone."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

SHAPE_YX = (5, 11)


def counts(frames: int, seed: int = 0) -> npt.NDArray[np.uint16]:
    """Frames of which each pixel can be told from all others."""
    rng = np.random.default_rng(seed)
    return rng.integers(200, 4000, (frames, *SHAPE_YX)).astype(np.uint16)


def write_data_exchange(
    path: Path,
    frames: int = 7,
    *,
    theta: npt.ArrayLike | None = None,
    units: str = "degrees",
    flats: int = 3,
    darks: int = 2,
    values: dict[str, Any] | None = None,
    **storage: Any,
) -> npt.NDArray[np.uint16]:
    """Write a Data Exchange file; ``values`` are datasets by their path. Gives the projections."""
    data = counts(frames)
    with h5py.File(path, "w") as file:
        file["exchange/data"] = data if not storage else np.zeros(0)
        if storage:
            del file["exchange/data"]
            file.create_dataset("exchange/data", data=data, **storage)
        if flats:
            file["exchange/data_white"] = counts(flats, 1) + 8000
        if darks:
            file["exchange/data_dark"] = counts(darks, 2) // 40
        if theta is not None:
            file["exchange/theta"] = np.asarray(theta)
            file["exchange/theta"].attrs["units"] = units
        for place, value in (values or {}).items():
            file[place] = value
    return data


def write_nxtomo(
    path: Path, keys: npt.ArrayLike, angles: npt.ArrayLike, entry: str = "entry", **storage: Any
) -> npt.NDArray[np.uint16]:
    """Write an NXtomo file; gives all frames."""
    kinds = np.asarray(keys)
    data = counts(len(kinds))
    data[kinds == 1] += 8000
    data[kinds == 2] //= 40
    with h5py.File(path, "w") as file:
        group = file.create_group(entry)
        group["definition"] = "NXtomo"
        group.create_dataset("instrument/detector/data", data=data, **storage)
        group["instrument/detector/image_key"] = kinds
        group["instrument/detector/x_pixel_size"] = 6.5e-7
        group["sample/rotation_angle"] = np.asarray(angles, np.float64)
        group["sample/name"] = "a snail"
    return data
