"""Where a Data Exchange file keeps what is known of a scan: the places that 2-BM's own files have.

De Carlo et al. (2014), J. Synchrotron Rad. 21, 1224; the places of areaDetector's layout files at APS 2-BM,
32-ID and 7-BM, and the longer names of 13-BM, 6-BM and older files beside them.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

DATA, DARK, WHITE = "/exchange/data", "/exchange/data_dark", "/exchange/data_white"
THETA, THETA_DARK, THETA_WHITE = "/exchange/theta", "/exchange/theta_dark", "/exchange/theta_white"
UNIQUE_ID = "/defaults/NDArrayUniqueId"
TIME_STAMP = "/defaults/NDArrayTimeStamp"
EPICS_SECONDS, EPICS_NANOSECONDS = "/defaults/NDArrayEpicsTSSec", "/defaults/NDArrayEpicsTSnSec"
LOCATION = "/defaults/HDF5FrameLocation"
NUMBER = "/process/tomofly/frame_number"
RECEIVED = "/process/tomofly/received"
IMPLEMENTS = "exchange:measurement:process"

Fact = str | int | float
Facts = Mapping[str, Fact]

IMAGE_ATTRIBUTES: dict[str, dict[str, str]] = {
    DATA: {"description": "ImageData", "axes": "theta:y:x", "units": "counts"},
    DARK: {"description": "DarkData", "axes": "theta:y:x", "units": "counts"},
    WHITE: {"description": "WhiteData", "axes": "theta:y:x", "units": "counts"},
}

_INSTRUMENT = "/measurement/instrument"
_DETECTOR = f"{_INSTRUMENT}/detector"
_SAMPLE = "/measurement/sample"
_ACQUISITION = "/process/acquisition"
_ROTATION, _DARKS, _FLATS = (
    f"{_ACQUISITION}/rotation",
    f"{_ACQUISITION}/dark_fields",
    f"{_ACQUISITION}/flat_fields",
)


@dataclass(frozen=True)
class Entry:
    """One dataset with one value: the fact it tells, in its units, and where it stands, by every name."""

    fact: str
    paths: tuple[str, ...]
    units: str = ""


def _entry(fact: str, *paths: str, units: str = "") -> Entry:
    return Entry(fact, paths, units)


ENTRIES: tuple[Entry, ...] = (
    _entry("instrument", f"{_INSTRUMENT}/name"),
    _entry("source", f"{_INSTRUMENT}/source/name"),
    _entry("beamline", f"{_INSTRUMENT}/source/beamline"),
    _entry("ring_current_ma", f"{_INSTRUMENT}/source/current", units="mA"),
    _entry("attenuator", f"{_INSTRUMENT}/attenuator_1/description"),
    _entry("attenuator_thickness_um", f"{_INSTRUMENT}/attenuator_1/thickness", units="microns"),
    _entry("energy_kev", f"{_INSTRUMENT}/monochromator/energy", units="keV"),
    _entry("monochromator_mode", f"{_INSTRUMENT}/monochromator/mode"),
    _entry(
        "detector_distance_mm",
        f"{_INSTRUMENT}/detector_motor_stack/setup/z",
        f"{_INSTRUMENT}/detector_motor_stack/detector_distance",
        f"{_INSTRUMENT}/sample_motor_stack/detector_distance",
        units="mm",
    ),
    _entry("sample_x_mm", f"{_INSTRUMENT}/sample_motor_stack/setup/x", units="mm"),
    _entry("sample_y_mm", f"{_INSTRUMENT}/sample_motor_stack/setup/y", units="mm"),
    _entry("detector_manufacturer", f"{_DETECTOR}/manufacturer"),
    _entry("detector_model", f"{_DETECTOR}/model"),
    _entry("detector_serial_number", f"{_DETECTOR}/serial_number"),
    _entry("exposure_s", f"{_DETECTOR}/exposure_time", units="s"),
    _entry("frame_period_s", f"{_DETECTOR}/acquire_period", units="s"),
    _entry("frames_per_s", f"{_DETECTOR}/frame_rate", units="1/s"),
    _entry("gain", f"{_DETECTOR}/gain"),
    _entry("temperature_c", f"{_DETECTOR}/temperature", units="C"),
    _entry("binning_x", f"{_DETECTOR}/binning_x", units="pixel"),
    _entry("binning_y", f"{_DETECTOR}/binning_y", units="pixel"),
    _entry("width_px", f"{_DETECTOR}/array_size_x", f"{_DETECTOR}/dimension_x", units="pixel"),
    _entry("height_px", f"{_DETECTOR}/array_size_y", f"{_DETECTOR}/dimension_y", units="pixel"),
    _entry("data_type", f"{_DETECTOR}/data_type"),
    # The pixel of the detector itself, before the lens; that of the image is the objective's resolution.
    _entry(
        "detector_pixel_um",
        f"{_DETECTOR}/pixel_size",
        f"{_DETECTOR}/pixel_size_x",
        f"{_DETECTOR}/pixel_size_y",
        units="microns",
    ),
    _entry("pixel_size_um", f"{_INSTRUMENT}/detection_system/objective/resolution", units="microns"),
    _entry("magnification", f"{_INSTRUMENT}/detection_system/objective/magnification"),
    _entry("lens", f"{_INSTRUMENT}/detection_system/objective/lens_select"),
    _entry(
        "scintillator",
        f"{_INSTRUMENT}/detection_system/scintillator/type",
        f"{_INSTRUMENT}/detection_system/scintillator/name",
        f"{_INSTRUMENT}/detection_system/scintillator/description",
    ),
    _entry(
        "scintillator_um",
        f"{_INSTRUMENT}/detection_system/scintillator/active_thickness",
        f"{_INSTRUMENT}/detection_system/scintillator/scintillating_thickness",
        units="microns",
    ),
    _entry("sample", f"{_SAMPLE}/name"),
    *(_entry(f"description_{n}", f"{_SAMPLE}/description_{n}") for n in (1, 2, 3)),
    _entry("file_name", f"{_SAMPLE}/file/name"),
    _entry("file_path", f"{_SAMPLE}/file/path"),
    _entry("full_file_name", f"{_SAMPLE}/file/full_name"),
    _entry("user", f"{_SAMPLE}/experimenter/name"),
    _entry("institution", f"{_SAMPLE}/experimenter/institution"),
    _entry("user_id", f"{_SAMPLE}/experimenter/user_id"),
    _entry("email", f"{_SAMPLE}/experimenter/email"),
    _entry("proposal", f"{_SAMPLE}/experiment/proposal"),
    _entry("title", f"{_SAMPLE}/experiment/title"),
    _entry("safety_id", f"{_SAMPLE}/experiment/safety_id"),
    _entry("scan_type", f"{_ACQUISITION}/scan_type"),
    _entry("start_date", f"{_ACQUISITION}/start_date"),
    _entry("end_date", f"{_ACQUISITION}/end_date"),
    _entry("rotation_start_deg", f"{_ROTATION}/start", f"{_ROTATION}/rotation_start", units="degrees"),
    _entry("rotation_step_deg", f"{_ROTATION}/step", f"{_ROTATION}/rotation_step", units="degrees"),
    _entry("rotation_speed_deg_per_s", f"{_ROTATION}/speed", units="degrees/s"),
    _entry("angles", f"{_ROTATION}/num_angles"),
    _entry("darks", f"{_DARKS}/number", f"{_DARKS}/num_dark_fields"),
    _entry("dark_mode", f"{_DARKS}/mode", f"{_DARKS}/dark_field_mode"),
    _entry("dark_value", f"{_DARKS}/value", f"{_DARKS}/dark_field_value"),
    _entry("flats", f"{_FLATS}/number", f"{_FLATS}/num_flat_fields"),
    _entry("flat_mode", f"{_FLATS}/mode", f"{_FLATS}/flat_field_mode"),
    _entry("flat_value", f"{_FLATS}/value", f"{_FLATS}/flat_field_value"),
    _entry("flat_axis", f"{_FLATS}/axis", f"{_FLATS}/flat_field_axis"),
    _entry("flat_exposure_s", f"{_FLATS}/flat_exposure_time", units="s"),
    _entry("different_flat_exposure", f"{_FLATS}/different_flat_exposure"),
    _entry("sample_in_x_mm", f"{_FLATS}/sample/in_x", units="mm"),
    _entry("sample_out_x_mm", f"{_FLATS}/sample/out_x", units="mm"),
    _entry("sample_in_y_mm", f"{_FLATS}/sample/in_y", units="mm"),
    _entry("sample_out_y_mm", f"{_FLATS}/sample/out_y", units="mm"),
    # What only this program knows of a capture.
    _entry("reason", "/process/tomofly/reason"),
    _entry("version", "/process/tomofly/version"),
    _entry("frames_before_request", "/process/tomofly/frames_before_request"),
    _entry("frames_wanted", "/process/tomofly/frames_wanted"),
    _entry("frames_lost", "/process/tomofly/frames_lost"),
    _entry("frames_missing", "/process/tomofly/frames_missing"),
    _entry("ended", "/process/tomofly/ended"),
    _entry("recovered", "/process/tomofly/recovered"),
    _entry("dark_valid_from", "/process/tomofly/dark_valid_from"),
    _entry("flat_valid_from", "/process/tomofly/flat_valid_from"),
    _entry("rotation_centre_px", "/process/tomofly/rotation_centre", units="pixel"),
)

BY_FACT: dict[str, Entry] = {entry.fact: entry for entry in ENTRIES}


def stored(fact: Fact) -> np.ndarray[tuple[int], np.dtype[np.generic]]:
    """A value as areaDetector writes it and readers expect it: an array of one, text in fixed length."""
    if isinstance(fact, str):
        return np.array([text(fact)])
    return np.array([fact], dtype=np.float64 if isinstance(fact, float) else np.int64)


def text(words: str) -> np.bytes_:
    """Text of fixed length: readers of these files decode bytes."""
    return np.bytes_(words.encode("utf-8") or b" ")
