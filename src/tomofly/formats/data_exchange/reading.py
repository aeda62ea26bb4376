"""Data Exchange files as beamlines of the APS and others write them. De Carlo et al. (2014).

What a file lacks is taken from what else it says, and noted: a scan is not lost for a missing angle list.
"""

from pathlib import Path
from typing import Any

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

Vector = npt.NDArray[np.float64]

DATA = "exchange/data"
FLATS = ("exchange/data_white", "exchange/data_flat")
DARKS = ("exchange/data_dark",)
THETA = "exchange/theta"

_ACQUISITION = "process/acquisition"
_INSTRUMENT = "measurement/instrument"
_START_AND_STEP = (("rotation_start", "rotation_step"), ("start", "step"))


def is_data_exchange(file: h5py.File) -> bool:
    """Say whether this is a Data Exchange file with images."""
    return isinstance(file.get(DATA), h5py.Dataset)


def read_data_exchange(path: Path, file: h5py.File) -> Scan:
    """Read what a Data Exchange file says of its scan. Raises BadFile."""
    data = file[DATA]
    order = image_axes(path, data, as_text(data.attrs.get("axes")))
    count, rows, columns = (int(data.shape[axis]) for axis in order)
    if min(count, rows, columns) == 0:
        raise BadFile(path, f"{DATA} is empty ({count} x {rows} x {columns})", "Wait for it, or leave it out")
    notes: list[ScanNote] = []
    ids, kinds = _frame_ids(file)
    own_ids = _ids_of(ids, kinds, "projection", count)
    angles = _angles(file, count, own_ids, notes)
    usable = usable_angles(path, angles, notes)
    row_chunk, packed = storage(data, order)
    shape = (rows, columns)
    return Scan(
        path=path,
        layout="Data Exchange",
        projections=FrameSet(DATA, order, as_indices(np.flatnonzero(usable)), _places(usable)),
        flats=_references(path, file, FLATS, shape, _taken_at(file, "flat", ids, kinds, own_ids, count)),
        darks=_references(path, file, DARKS, shape, _taken_at(file, "dark", ids, kinds, own_ids, count)),
        angles_deg=angles[usable],
        shape_yx=shape,
        dtype=data.dtype,
        row_chunk=row_chunk,
        packed=packed,
        frames_in_file=count,
        flat_scale=_flat_scale(file, notes),
        frame_ids=None if own_ids is None else own_ids[usable],
        pixel_size_um=_pixel_size(file),
        energy_kev=first_quantity(file, KEV, "kev", f"{_INSTRUMENT}/monochromator/energy"),
        distance_mm=_distance_mm(file),
        exposure_s=first_number(file, f"{_INSTRUMENT}/detector/exposure_time"),
        sample=first_text(file, "measurement/sample/name"),
        started=first_text(file, f"{_ACQUISITION}/start_date"),
        notes=tuple(notes),
    )  # fmt: skip


def _places(usable: npt.NDArray[np.bool_]) -> Vector:
    return np.arange(int(usable.sum()), dtype=np.float64)


# Angles


def _angles(file: h5py.File, count: int, ids: npt.NDArray[np.int64] | None, notes: list[ScanNote]) -> Vector:
    """Give one angle for each frame, in degrees; NaN where the file has none for it."""
    item = file.get(THETA)
    if not isinstance(item, h5py.Dataset) or item.size == 0:
        return _angles_from_metadata(file, count, notes)
    theta: Vector = in_degrees(np.asarray(item[()], np.float64).reshape(-1), units_of(item), notes)
    if len(theta) == count:
        return theta
    if len(theta) > count:
        return _chosen(theta, count, ids, notes)
    message = f"The file has {len(theta)} angles for {count} projections: those beyond are left out"
    notes.append(ScanNote("theta_shorter", message))
    return np.concatenate([theta, np.full(count - len(theta), np.nan)])


def _chosen(theta: Vector, count: int, ids: npt.NDArray[np.int64] | None, notes: list[ScanNote]) -> Vector:
    """Take of a longer list the angles of the frames that were kept, by their ids where these are told."""
    said = f"The file has {len(theta)} angles for {count} projections"
    places = None if ids is None else ids - ids.min()
    if places is not None and places.max() < len(theta) and len(np.unique(places)) == count:
        notes.append(ScanNote("theta_longer", f"{said}: each frame has that of its id"))
        chosen: Vector = theta[places]
        return chosen
    notes.append(ScanNote("theta_longer", f"{said}: the first are used"))
    return theta[:count]


def _angles_from_metadata(file: h5py.File, count: int, notes: list[ScanNote]) -> Vector:
    for start, step in _START_AND_STEP:
        folder = f"{_ACQUISITION}/rotation"
        first, each = first_number(file, f"{folder}/{start}"), first_number(file, f"{folder}/{step}")
        if first is not None and each:
            message = f"The file has no angles: from {first:g}° in steps of {each:g}°, as it says elsewhere"
            notes.append(ScanNote("theta_missing", message))
            return np.asarray(first + each * np.arange(count), np.float64)
    notes.append(
        ScanNote("theta_missing", "The file has no angles, and no start and step: 0° to 180° are taken")
    )
    return np.linspace(0, 180, count, endpoint=False)


# Frame ids and the order in which things were taken


def _frame_ids(file: h5py.File) -> tuple[npt.NDArray[np.int64] | None, list[str]]:
    """Give the id of every frame in the order of taking, and to which dataset it went."""
    ids, places = file.get("defaults/NDArrayUniqueId"), file.get("defaults/HDF5FrameLocation")
    if not isinstance(ids, h5py.Dataset) or ids.size == 0:
        return None, []
    known = np.asarray(ids[()]).reshape(-1).astype(np.int64)
    if not isinstance(places, h5py.Dataset) or places.shape[:1] != known.shape:
        return known, []
    return known, [as_text(place).lower() for place in places[()]]


def _kind_of(place: str) -> str:
    if "dark" in place:
        return "dark"
    return "flat" if "white" in place or "flat" in place else "projection"


def _ids_of(
    ids: npt.NDArray[np.int64] | None, kinds: list[str], wanted: str, count: int
) -> npt.NDArray[np.int64] | None:
    """Give the ids of the frames of one kind, if there are as many as frames."""
    if ids is None:
        return None
    own = ids if not kinds else ids[[_kind_of(kind) == wanted for kind in kinds]]
    return own if len(own) == count else None


def _taken_at(
    file: h5py.File, what: str, ids: npt.NDArray[np.int64] | None, kinds: list[str],
    projections: npt.NDArray[np.int64] | None, count: int,
) -> Vector | None:  # fmt: skip
    """Say when each flat or dark was taken, in projections; None where the file does not tell."""
    if ids is not None and kinds and projections is not None:
        kind = np.array([_kind_of(place) for place in kinds])
        before = np.cumsum(kind == "projection")
        when: Vector = before[kind == what] - 0.5
        return when
    mode = first_text(
        file, f"{_ACQUISITION}/{what}_fields/mode", f"{_ACQUISITION}/{what}_fields/{what}_field_mode"
    )
    number = first_number(file, f"{_ACQUISITION}/{what}_fields/number")
    if mode.lower() == "both" and number:
        each = int(number)
        return np.repeat(np.array([-0.5, count - 0.5]), each)
    return None


def _references(
    path: Path, file: h5py.File, names: tuple[str, ...], shape: tuple[int, int],
    taken_at: Vector | None,
) -> FrameSet | None:  # fmt: skip
    """Find flats or darks that fit the projections; None where the file has none."""
    for name in names:
        data = file.get(name)
        if not isinstance(data, h5py.Dataset) or data.size == 0:
            continue
        order = image_axes(path, data, as_text(data.attrs.get("axes")))
        found = (int(data.shape[order[1]]), int(data.shape[order[2]]))
        if found != shape:
            said = f"{name} has images (y, x) of {found} pixels, the projections of {shape}"
            raise BadFile(path, said, "Take dark and flat fields with the settings of the projections")
        count = int(data.shape[order[0]])
        known = taken_at if taken_at is not None and len(taken_at) == count else np.full(count, np.nan)
        return FrameSet(name, order, as_indices(np.arange(count)), known)
    return None


# Metadata


def _distance_mm(file: h5py.File) -> float | None:
    """Give how far the detector is from the sample."""
    names = (
        "sample_motor_stack/detector_distance", "detector_motor_stack/setup/z",
        "detector_motor_stack/detector_distance",
    )  # fmt: skip
    value = first_quantity(file, MICROMETRES, "mm", *(f"{_INSTRUMENT}/{name}" for name in names))
    return None if value is None else value / 1e3


def _flat_scale(file: h5py.File, notes: list[ScanNote]) -> float:
    """Give by how much flats are to be multiplied, where they were exposed for another time."""
    folder = f"{_ACQUISITION}/flat_fields"
    said: Any = first_text(file, f"{folder}/different_flat_exposure").lower()
    exposure = first_number(file, f"{_INSTRUMENT}/detector/exposure_time")
    flat = first_number(file, f"{folder}/flat_exposure_time")
    if said not in ("different", "yes", "1", "1.0", "true") or not exposure or not flat or exposure == flat:
        return 1.0
    message = f"Flats were exposed for {flat:g} s, projections for {exposure:g} s: flats are scaled"
    notes.append(ScanNote("flats_scaled", message))
    return exposure / flat


def _pixel_size(file: h5py.File) -> float | None:
    """Give the size of a pixel at the sample, in micrometres."""
    objective = f"{_INSTRUMENT}/detection_system/objective"
    size = _length_um(file, f"{objective}/resolution")
    if size:
        return size
    for name in ("pixel_size_x", "pixel_size", "x_pixel_size"):
        detector = _length_um(file, f"{_INSTRUMENT}/detector/{name}")
        if detector:
            return detector / (first_number(file, f"{objective}/magnification") or 1.0)
    return None


def _length_um(file: h5py.File, path: str) -> float | None:
    value = first_quantity(file, MICROMETRES, "um", path)
    return value if value is not None and value > 0 else None
