"""What the PVs tell of a scan, by the names under which a captured file keeps it."""

from tomofly.formats.data_exchange.layout import Fact
from tomofly.live.pixels import rescaled_centre
from tomofly.live.records.values import PVValues

SCAN_FACTS = {
    "sample": "SampleName", "description_1": "SampleDescription1", "description_2": "SampleDescription2",
    "description_3": "SampleDescription3", "user": "UserName", "institution": "UserInstitution",
    "user_id": "UserBadge", "email": "UserEmail", "proposal": "ProposalNumber", "title": "ProposalTitle",
    "safety_id": "ESAFNumber", "scan_type": "StreamScanType", "exposure_s": "ExposureTime",
    "rotation_start_deg": "RotationStart", "rotation_step_deg": "RotationStep", "angles": "NumAngles",
    "darks": "NumDarkFields", "dark_mode": "DarkFieldMode", "dark_value": "DarkFieldValue",
    "flats": "NumFlatFields", "flat_mode": "FlatFieldMode", "flat_value": "FlatFieldValue",
    "flat_axis": "FlatFieldAxis", "flat_exposure_s": "FlatExposureTime",
    "different_flat_exposure": "DifferentFlatExposure", "sample_in_x_mm": "SampleInX",
    "sample_out_x_mm": "SampleOutX", "sample_in_y_mm": "SampleInY", "sample_out_y_mm": "SampleOutY",
    "lens": "StreamLens",
}  # fmt: skip
STREAM_FACTS = {
    "energy_kev": "Energy", "detector_distance_mm": "Distance", "pixel_size_um": "PixelSize",
    "rotation_centre_px": "Center",
}  # fmt: skip
UNKNOWN = ("", 0.0)


def facts(scan: PVValues, stream: PVValues, binning: int = 1) -> dict[str, Fact]:
    """Give all that is known; what nobody has told is left out.

    `binning`: how many pixels of a captured frame, across, are one of those that reconstruction's PVs count.
    """
    known: dict[str, Fact] = {}
    for fact, name in SCAN_FACTS.items():
        value = scan.table[name].shown(scan[name])
        if value != "":
            known[fact] = value
    for fact, name in STREAM_FACTS.items():
        if stream[name] not in UNKNOWN:
            known[fact] = stream[name]
    if "pixel_size_um" in known:
        known["pixel_size_um"] = stream.number("PixelSize") / binning
    if "rotation_centre_px" in known:
        known["rotation_centre_px"] = rescaled_centre(stream.number("Center"), binning)
    return known
