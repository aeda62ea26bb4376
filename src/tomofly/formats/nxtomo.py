"""NXtomo entries of NeXus files: all frames in one dataset, with a key that tells their kind.

The application definition NXtomo (NIAC 2014, 2022). Entries of older files lie one group deeper.
"""

from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt

from tomofly.formats.errors import BadFile
from tomofly.formats.hdf5 import (
    KEV,
    MICROMETRES,
    as_text,
    first_number,
    first_quantity,
    first_text,
    units_of,
)
from tomofly.formats.scan import (
    FrameSet,
    Scan,
    ScanNote,
    as_indices,
    image_axes,
    in_degrees,
    storage,
    usable_angles,
)

PROJECTION, FLAT, DARK = 0, 1, 2
_ENERGIES = (
    "beam/incident_energy", "instrument/beam/energy", "instrument/beam/incident_energy",
    "instrument/monochromator/energy",
)  # fmt: skip


def find_nxtomo(file: h5py.File) -> h5py.Group | None:
    """Give the entry that holds a tomography scan: one that says so first, else one that looks so."""
    groups = [file[name] for name in file if isinstance(file.get(name), h5py.Group)]
    groups += [g[name] for g in groups for name in g if isinstance(g.get(name), h5py.Group)]
    entries = [group for group in groups if _detector_of(group) is not None]
    named = [g for g in entries if as_text(g["definition"][()] if "definition" in g else "") == "NXtomo"]
    return next(iter(named or entries), None)


def _detector_of(entry: h5py.Group) -> h5py.Group | None:
    """Give the group with images and their keys: a detector, or the data group of older files."""
    instrument = entry.get("instrument")
    inside = [instrument.get(name) for name in instrument] if isinstance(instrument, h5py.Group) else []
    for group in (*inside, entry.get("data")):
        if isinstance(group, h5py.Group) and isinstance(group.get("data"), h5py.Dataset):
            key = group.get("image_key")
            if isinstance(key, h5py.Dataset):
                return group
    return None


def images_of(entry: h5py.Group) -> h5py.Dataset | None:
    """Give the dataset with all frames of an entry."""
    detector = _detector_of(entry)
    return None if detector is None else detector["data"]


def read_nxtomo(path: Path, file: h5py.File, entry: h5py.Group) -> Scan:
    """Read what an NXtomo entry says of its scan. Raises BadFile."""
    detector = _detector_of(entry)
    if detector is None:
        raise BadFile(path, "has no images with an image_key", "Leave it out")
    data = detector["data"]
    order = image_axes(path, data, "")
    count, rows, columns = data.shape
    keys = _per_frame(path, detector["image_key"], count)
    notes: list[ScanNote] = []
    chosen = np.flatnonzero(keys == PROJECTION)
    if not len(chosen) or not rows * columns:
        raise BadFile(path, "has no projections (image_key 0)", "Leave it out")
    angles = _angles(entry, detector, count, chosen, notes)
    usable = usable_angles(path, angles, notes)
    row_chunk, packed = storage(data, order)
    name, within = data.name, entry.name
    return Scan(
        path=path,
        layout="NXtomo",
        projections=FrameSet(name, order, as_indices(chosen[usable]), np.arange(float(usable.sum()))),
        flats=_references(name, order, keys, FLAT),
        darks=_references(name, order, keys, DARK),
        angles_deg=angles[usable],
        shape_yx=(int(rows), int(columns)),
        dtype=data.dtype,
        row_chunk=row_chunk,
        packed=packed,
        frames_in_file=len(chosen),
        pixel_size_um=_pixel_size(file, entry, detector),
        energy_kev=first_quantity(file, KEV, "kev", *(f"{within}/{name}" for name in _ENERGIES)),
        distance_mm=_millimetres(file, f"{detector.name}/distance"),
        exposure_s=first_number(file, f"{detector.name}/count_time", f"{detector.name}/exposure_time"),
        sample=first_text(file, f"{within}/sample/name", f"{within}/title"),
        started=first_text(file, f"{within}/start_time"),
        notes=tuple(notes),
    )  # fmt: skip


def _per_frame(path: Path, item: h5py.Dataset, count: int) -> npt.NDArray[np.int64]:
    keys = np.asarray(item[()]).reshape(-1)
    if len(keys) != count:
        raise BadFile(
            path, f"{item.name} has {len(keys)} values for {count} frames", "Wait until it is whole"
        )
    return keys.astype(np.int64)


def _angles(
    entry: h5py.Group, detector: h5py.Group, count: int,
    chosen: npt.NDArray[np.intp], notes: list[ScanNote],
) -> npt.NDArray[np.float64]:  # fmt: skip
    """Give the angles of the projections, in degrees."""
    places = (
        entry.get("sample/rotation_angle"),
        entry.get("data/rotation_angle"),
        detector.get("rotation_angle"),
    )
    item = next((place for place in places if isinstance(place, h5py.Dataset) and place.size), None)
    if item is None:
        notes.append(ScanNote("theta_missing", "The file has no angles: 0° to 180° are taken"))
        return np.linspace(0, 180, len(chosen), endpoint=False)
    theta = np.asarray(item[()], np.float64).reshape(-1)
    if len(theta) == len(chosen) != count:
        return in_degrees(theta, units_of(item), notes)
    if len(theta) < count:
        message = f"The file has {len(theta)} angles for {count} frames: projections beyond are left out"
        notes.append(ScanNote("theta_shorter", message))
        theta = np.concatenate([theta, np.full(count - len(theta), np.nan)])
    elif len(theta) > count:
        notes.append(ScanNote("theta_longer", f"The file has {len(theta)} angles for {count} frames"))
    return in_degrees(theta[chosen], units_of(item), notes)


def _references(
    name: str, order: tuple[int, int, int], keys: npt.NDArray[np.int64], kind: int
) -> FrameSet | None:
    """Give the frames of a kind, with when each was taken, counted in projections."""
    frames = np.flatnonzero(keys == kind)
    if not len(frames):
        return None
    before = np.cumsum(keys == PROJECTION)
    return FrameSet(name, order, as_indices(frames), before[frames] - 0.5)


def _pixel_size(file: h5py.File, entry: h5py.Group, detector: h5py.Group) -> float | None:
    for path in (f"{entry.name}/sample/x_pixel_size", f"{detector.name}/x_pixel_size"):
        value = first_quantity(file, MICROMETRES, "m", path)
        if value and value > 0:
            return value
    return None


def _millimetres(file: h5py.File, path: str) -> float | None:
    value = first_quantity(file, MICROMETRES, "m", path)
    return None if value is None else abs(value) / 1e3
