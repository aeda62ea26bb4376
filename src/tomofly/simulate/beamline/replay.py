"""A real scan replayed: projections by the stage's angle, flats and darks as shutter and stage say."""

import re
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import tifffile
from numpy.typing import NDArray

from tomofly.formats.errors import BadFile
from tomofly.formats.hdf5 import open_hdf5
from tomofly.model import BadInput
from tomofly.simulate.beamline.detector import Counts
from tomofly.simulate.beamline.scene import DARK, FLAT, CameraSetup, Look

Stack = NDArray[np.generic]
TIFF_SUFFIXES = {".tif", ".tiff"}


@dataclass(frozen=True)
class RecordedScan:
    """Frames (number, y, x) as the camera gave them, and the angle (projection,) of each in degrees."""

    projections: Stack
    flats: Stack
    darks: Stack
    angles_deg: NDArray[np.float64]

    @property
    def turn_deg(self) -> float:
        """After how many degrees the recording begins again: half a turn, a turn, or where it ends."""
        angles = np.sort(self.angles_deg)
        step = self.step_deg
        span = angles[-1] - angles[0] + step
        for whole in (180.0, 360.0):
            if abs(span - whole) <= 1.5 * step:
                return whole
        return float(span)

    @property
    def step_deg(self) -> float:
        """The usual step from one angle to the next."""
        angles = np.sort(self.angles_deg)
        return float(np.median(np.diff(angles))) if angles.size > 1 else 1.0

    def nearest(self, angle_deg: float) -> int:
        """Number of the projection that was taken nearest to an angle, whole turns apart."""
        turn = self.turn_deg
        away = (self.angles_deg - angle_deg + turn / 2) % turn - turn / 2
        return int(np.abs(away).argmin())


def read_recorded(path: Path) -> RecordedScan:
    """Read a Data Exchange file or a folder of TIFF files. Raises BadInput."""
    if path.is_dir():
        return _read_folder(path)
    try:
        with open_hdf5(path) as file:
            return _read_data_exchange(file, path)
    except BadFile as error:
        raise BadInput(f"{path} {error.what}", "Give a Data Exchange file or a folder") from error


def _read_data_exchange(file: h5py.File, path: Path) -> RecordedScan:
    missing = [
        name for name in ("data", "data_white", "data_dark", "theta") if f"exchange/{name}" not in file
    ]
    if missing:
        raise BadInput(f"{path} has no /exchange/{missing[0]}", "Give a Data Exchange file with all frames")
    exchange = file["exchange"]
    angles = np.asarray(exchange["theta"][:], dtype=float)
    return _checked(
        RecordedScan(exchange["data"][:], exchange["data_white"][:], exchange["data_dark"][:], angles), path
    )


def _read_folder(path: Path) -> RecordedScan:
    """TIFF files whose names say dark or flat, the rest projections, and angles in a text file."""
    files = sorted((p for p in path.rglob("*") if p.suffix.lower() in TIFF_SUFFIXES), key=_numbered)
    names: dict[str, list[Path]] = {"dark": [], "flat": [], "": []}
    for file in files:
        kind = next((word for word in ("dark", "flat") if word in file.name.lower()), "")
        names[kind].append(file)
    texts = sorted(path.glob("*.txt"))
    if not texts or not all(names.values()):
        raise BadInput(
            f"{path} is no folder of a scan",
            "It holds TIFF files of projections, others named flat and dark, and a text file of angles",
        )
    angles = np.loadtxt(texts[0], dtype=float).ravel()
    # Angles of darks and flats before and after the projections are as many on both sides.
    more = angles.size - len(names[""])
    if more < 0 or more % 2:
        raise BadInput(f"{texts[0]} has {angles.size} angles", f"There are {len(names[''])} projections")
    angles = angles[more // 2 : angles.size - more // 2]
    projections, flats, darks = (_stack(names[kind]) for kind in ("", "flat", "dark"))
    return _checked(RecordedScan(projections, flats, darks, angles), path)


def _stack(files: list[Path]) -> Stack:
    return np.stack([tifffile.imread(file) for file in files])


def _numbered(path: Path) -> tuple[int, str]:
    numbers = re.findall(r"\d+", path.stem)
    return (int(numbers[-1]) if numbers else 0, path.name)


def _checked(scan: RecordedScan, path: Path) -> RecordedScan:
    if len(scan.projections) != scan.angles_deg.size or not len(scan.projections):
        raise BadInput(
            f"{path} has {len(scan.projections)} projections and {scan.angles_deg.size} angles",
            "Give a scan with one angle for each projection",
        )
    shapes = {stack.shape[1:] for stack in (scan.projections, scan.flats, scan.darks)}
    if len(shapes) != 1 or not len(scan.flats) or not len(scan.darks):
        raise BadInput(f"{path} has frames of sizes {sorted(shapes)}", "Give a scan with flats and darks")
    return scan


class ReplaySource:
    """Pictures of a recorded scan. The angle told is the recorded one, so that the geometry stays true."""

    def __init__(self, scan: RecordedScan, pixel_um: float) -> None:
        self.scan = scan
        self._pixel_um = pixel_um

    def covers(self, shift_um: tuple[float, float]) -> bool:
        """Whether the sample is less than the field's width away."""
        return bool(abs(shift_um[0]) < self.scan.projections.shape[2] * self._pixel_um)

    def picture(self, setup: CameraSetup, look: Look, time_s: float, number: int) -> tuple[Counts, float]:
        """The recorded frame, cut and binned as the camera is told, and its angle."""
        del time_s  # a recording has no time of its own
        scan = self.scan
        angle = look.angle_deg
        if look.kind == DARK:
            image = scan.darks[number % len(scan.darks)]
        elif look.kind == FLAT:
            image = scan.flats[number % len(scan.flats)]
        else:
            nearest = scan.nearest(look.angle_deg)
            image = scan.projections[nearest]
            angle = float(scan.angles_deg[nearest])
            image = self._displaced(image, look, number)
        return _as_camera(image, setup), angle

    def _displaced(self, image: Stack, look: Look, number: int) -> Stack:
        """The projection moved by whole pixels, with the flat where nothing of it is seen."""
        shift = round(look.shift_um[0] / self._pixel_um)
        if shift == 0:
            return image
        seen: Stack = self.scan.flats[number % len(self.scan.flats)].astype(image.dtype)
        width = image.shape[1]
        if abs(shift) < width:
            target = slice(max(shift, 0), width + min(shift, 0))
            source = slice(max(-shift, 0), width + min(-shift, 0))
            seen[:, target] = image[:, source]
        return seen


def _as_camera(image: Stack, setup: CameraSetup) -> Counts:
    top, left, height, width = setup.region
    cut = image[top : top + height, left : left + width].astype(np.float32)
    if setup.binning > 1:
        rows, columns = height // setup.binning, width // setup.binning
        cut = cut[: rows * setup.binning, : columns * setup.binning]
        cut = cut.reshape(rows, setup.binning, columns, setup.binning).sum(axis=(1, 3), dtype=np.float32)
    if setup.dtype == "float32":
        plain: NDArray[np.float32] = cut
        return plain
    limits = np.iinfo(setup.dtype)
    whole = np.clip(np.rint(cut), limits.min, limits.max)
    return whole.astype(np.uint8) if setup.dtype == "uint8" else whole.astype(np.uint16)
