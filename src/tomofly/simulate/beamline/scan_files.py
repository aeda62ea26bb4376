"""Layouts of scan files: Data Exchange as tomoScan writes it, and NXtomo."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import h5py
import numpy as np

from tomofly.simulate.beamline.detector import Counts
from tomofly.simulate.beamline.truth import BeamlineTruth

Images = tuple[h5py.Dataset, int]


@dataclass(frozen=True)
class NewScan:
    """A file that is being written: for each kind of frame its dataset, and where its frames begin in it."""

    darks: Images
    flats: Images
    projections: Images

    def add_dark(self, number: int, image: Counts) -> None:
        """Write the dark `number`."""
        self.darks[0][self.darks[1] + number] = image

    def add_flat(self, number: int, image: Counts) -> None:
        """Write the flat `number`."""
        self.flats[0][self.flats[1] + number] = image

    def add_projection(self, number: int, image: Counts) -> None:
        """Write the projection `number`."""
        self.projections[0][self.projections[1] + number] = image


@contextmanager
def new_data_exchange(path: Path, truth: BeamlineTruth, darks: int, flats: int) -> Iterator[NewScan]:
    """A Data Exchange file with everything but the frames."""
    config = truth.config
    with h5py.File(path, "w") as file:
        file["implements"] = "exchange:measurement:process"
        exchange = file.create_group("exchange")
        sets = {}
        kinds = {"data": ("ImageData", len(truth.angles_deg)), "data_dark": ("DarkData", darks)}
        for name, (description, number) in (kinds | {"data_white": ("WhiteData", flats)}).items():
            shape = (number, *config.detector_yx_px)
            chunks = (1, *config.detector_yx_px) if number else None
            sets[name] = exchange.create_dataset(name, shape, config.dtype, chunks=chunks)
            sets[name].attrs.update(description=description, axes="theta:y:x", units="counts")
        exchange["theta"] = np.array(truth.angles_deg, dtype=np.float32)
        exchange["theta"].attrs["units"] = "degrees"
        _describe_frames(file, truth, darks, flats)
        _describe_instrument(file, truth)
        _describe_acquisition(file, truth, darks, flats)
        yield NewScan((sets["data_dark"], 0), (sets["data_white"], 0), (sets["data"], 0))


def _describe_frames(file: h5py.File, truth: BeamlineTruth, darks: int, flats: int) -> None:
    """Ids, times and places of all frames in the order taken."""
    projections = len(truth.angles_deg)
    places = ["/exchange/data_dark"] * darks + ["/exchange/data_white"] * flats
    places += ["/exchange/data"] * projections
    defaults = file.create_group("defaults")
    defaults["NDArrayUniqueId"] = np.arange(1, len(places) + 1, dtype=np.int32)
    moments = truth.started_at + _frame_times(truth, darks + flats)
    defaults["NDArrayTimeStamp"] = moments
    defaults["HDF5FrameLocation"] = np.array(places, dtype="S40")


def _frame_times(truth: BeamlineTruth, before: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """The sample's times of all frames: those before the first projection follow each other as it does."""
    times = np.array(truth.times_s)
    period = times[1] - times[0] if times.size > 1 else truth.config.exposure_s
    return np.concatenate([np.arange(-before, 0) * period, times])


def _describe_instrument(file: h5py.File, truth: BeamlineTruth) -> None:
    config = truth.config
    instrument = file.create_group("measurement/instrument")
    instrument["name"] = "simulated beamline"
    _valued(instrument, "detector/exposure_time", config.exposure_s, "s")
    _valued(instrument, "detector/pixel_size", truth.pixel_of_lenses_um[0], "um")
    _valued(instrument, "detector/pixel_size_x", truth.pixel_of_lenses_um[0], "um")
    _valued(instrument, "detector/pixel_size_y", truth.pixel_of_lenses_um[0], "um")
    _valued(instrument, "detector/binning_x", 1, "pixels")
    _valued(instrument, "detector/binning_y", 1, "pixels")
    _valued(instrument, "detection_system/objective/resolution", truth.pixel_of_lenses_um[0], "um")
    _valued(instrument, "detection_system/objective/magnification", 1.0, "x")
    file["measurement/sample/name"] = f"simulated sample {config.seed}"


def _describe_acquisition(file: h5py.File, truth: BeamlineTruth, darks: int, flats: int) -> None:
    """Numbers of the scan under the short names of newer layouts and under the long ones of older ones."""
    acquisition = file.create_group("process/acquisition")
    angles = np.array(truth.angles_deg)
    step = float(angles[1] - angles[0]) if angles.size > 1 else 0.0
    started = datetime.fromtimestamp(truth.started_at, UTC)
    acquisition["start_date"] = started.isoformat()
    acquisition["scan_type"] = truth.angle_rule.pattern
    for prefix in ("", "rotation_"):
        _valued(acquisition, f"rotation/{prefix}start", truth.angle_rule.start_deg, "degrees")
        _valued(acquisition, f"rotation/{prefix}step", step, "degrees")
        _valued(acquisition, f"rotation/{prefix}speed", truth.angle_rule.velocity_deg_s or 0.0, "degrees/s")
    for name in ("num_angles", "rotation_num_angles"):
        acquisition[f"rotation/{name}"] = angles.size
    for kind, number in (("dark", darks), ("flat", flats)):
        for name in ("number", f"num_{kind}_fields"):
            acquisition[f"{kind}_fields/{name}"] = number
    _valued(acquisition, "flat_fields/flat_exposure_time", truth.config.exposure_s, "s")
    acquisition["flat_fields/different_flat_exposure"] = "Same"


def _valued(group: h5py.Group, name: str, value: float, units: str) -> None:
    group[name] = value
    group[name].attrs["units"] = units


@contextmanager
def new_nxtomo(path: Path, truth: BeamlineTruth, darks: int, flats: int) -> Iterator[NewScan]:
    """An NXtomo file with everything but the frames: darks, flats and projections in one dataset."""
    angles = np.array(truth.angles_deg)
    before = darks + flats
    keys = np.array([2] * darks + [1] * flats + [0] * angles.size, dtype=np.int8)
    with h5py.File(path, "w") as file:
        file.attrs.update(default="entry")
        entry = _classed(file, "entry", "NXentry")
        entry.attrs["default"] = "data"
        entry["definition"] = "NXtomo"
        entry["title"] = "simulated scan"
        instrument = _classed(entry, "instrument", "NXinstrument")
        detector = _classed(instrument, "detector", "NXdetector")
        shape = (keys.size, *truth.config.detector_yx_px)
        chunks = (1, *truth.config.detector_yx_px) if keys.size else None
        images = detector.create_dataset("data", shape, truth.config.dtype, chunks=chunks)
        detector["image_key"] = keys
        _valued(detector, "count_time", truth.config.exposure_s, "s")
        for name in ("x_pixel_size", "y_pixel_size"):
            _valued(detector, name, truth.pixel_of_lenses_um[0], "um")
        sample = _classed(entry, "sample", "NXsample")
        sample["name"] = f"simulated sample {truth.config.seed}"
        first = angles[0] if angles.size else 0.0
        sample["rotation_angle"] = np.concatenate([np.full(before, first), angles])
        sample["rotation_angle"].attrs["units"] = "degree"
        _link_data(entry)
        yield NewScan((images, 0), (images, darks), (images, before))


def _classed(parent: h5py.Group, name: str, nexus_class: str) -> h5py.Group:
    group = parent.create_group(name)
    group.attrs["NX_class"] = nexus_class
    return group


def _link_data(entry: h5py.Group) -> None:
    data = _classed(entry, "data", "NXdata")
    data.attrs["signal"] = "data"
    data["data"] = entry["instrument/detector/data"]
    data["image_key"] = entry["instrument/detector/image_key"]
    data["rotation_angle"] = entry["sample/rotation_angle"]
