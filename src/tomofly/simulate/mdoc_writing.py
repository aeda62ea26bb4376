"""Mdoc files as SerialEM, PACEtomo and Tomography 5 write them, section by section.

SerialEM's "Tilt axis angle" is that of the geometry used here, anticlockwise from the image's y axis, and
its RotationAngle is 90 degrees more. Tomography 5 gives that same angle as RotationAngle, but
-(angle + 90) as TiltAxisAngle. Stage angles are written as reported. Mastronarde (2005).
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from tomofly.simulate.tilt_microscope import TiltSeriesConfig

MdocStyle = Literal["serialem", "pacetomo", "tomo5"]

# Not from the locale of the computer that simulates.
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
SERIALEM_FOLDER = "X:\\simulated\\frames\\"
TOMO5_FOLDER = "\\\\192.168.10.81\\OffloadData\\simulated\\"
SECONDS_PER_FRAME = 0.1
NEWLINE = "\r\n"


@dataclass(frozen=True)
class MdocTilt:
    """What an mdoc says of one tilt; `sub_frame_name` is None where the image is in a stack only."""

    z_value: int
    tilt_angle_deg: float
    sub_frame_name: str | None
    acquired: datetime
    prior_dose_e_per_a2: float
    defocus_angstrom: float
    mean_counts: float


def mdoc_header(config: TiltSeriesConfig, style: MdocStyle, image_file: str, started: datetime) -> str:
    """The lines before the first section, with the names and titles of each program."""
    height, width = config.detector_yx_px
    pixel = f"{config.pixel_size_angstrom:g}"
    size = f"ImageSize = {width} {height}"
    if style == "tomo5":
        lines = ["DataMode = 6", size, f"ImageFile = {image_file}", f"PixelSpacing = {pixel}"]
        lines += [
            f"Voltage = {config.voltage_kv:.2f}",
            "",
            f"[T = Tomography: SIMULATED    {_date(started)}]",
        ]
        axis = f"TiltAxisAngle = {_wrapped(-reported_axis(config) - 90):.2f}"
        lines += ["", f"[T =   {axis}  Binning = 1  SpotSize = 6]"]
    else:
        lines = [f"PixelSpacing = {pixel}", f"Voltage = {config.voltage_kv:g}"]
        if style == "pacetomo":
            lines.append("Version = SerialEM Version 4.1.0beta 64-bit,  built Nov 25 2022  15:59:57")
        lines += [f"ImageFile = {image_file}", size, "DataMode = 1", ""]
        # Titles of an MRC file have 80 characters.
        acquired = "SerialEM: Acquired on a simulated microscope"
        lines += [f"[T = {acquired:<56}{_date(started, short=True)}    ]", ""]
        axis = f"Tilt axis angle = {reported_axis(config):.1f}"
        lines.append(f"[T =     {axis}, binning = 1  spot = 6  camera = 0]")
    return NEWLINE.join([*lines, "", ""])


def mdoc_section(config: TiltSeriesConfig, style: MdocStyle, tilt: MdocTilt) -> str:
    """One [ZValue = n] section with the blank line after it."""
    values = _tomo5_values(config, tilt) if style == "tomo5" else _serialem_values(config, style, tilt)
    lines = [f"[ZValue = {tilt.z_value}]", *(f"{name} = {value}" for name, value in values.items())]
    return NEWLINE.join([*lines, "", ""])


def reported_axis(config: TiltSeriesConfig) -> float:
    """The angle of the tilt axis that the microscope believes in, degrees."""
    return config.axis_angle_deg + config.axis_error_deg


def _serialem_values(config: TiltSeriesConfig, style: MdocStyle, tilt: MdocTilt) -> dict[str, str]:
    """Keys in SerialEM's order. PACEtomo's scopes often have no dose calibration: it writes 0."""
    per_tilt = 0.0 if style == "pacetomo" else config.dose_per_tilt_e_per_a2
    values = {
        "MinMaxMean": f"0 {4 * tilt.mean_counts + 10:.0f} {tilt.mean_counts:.3f}",
        "TiltAngle": f"{tilt.tilt_angle_deg:.6g}",
        "StagePosition": "20.7936 155.287",
        "StageZ": "163.803",
        "Magnification": f"{_magnification(config)}",
        "Intensity": "0.115275",
        "ExposureDose": f"{per_tilt:g}",
        "DoseRate": f"{_counts_per_second(config):.4f}",
        "PixelSpacing": f"{config.pixel_size_angstrom:g}",
        "SpotSize": "6",
        "Defocus": f"{-tilt.defocus_angstrom * 1e-4:.5f}",
        "ImageShift": "-0.0108126 -0.121079",
        "RotationAngle": f"{_wrapped(reported_axis(config) + 90):g}",
        "ExposureTime": f"{SECONDS_PER_FRAME * config.frames:g}",
        "Binning": "1",
        "CameraIndex": "0",
        "DividedBy2": "0",
        "CountsPerElectron": "1",
        "TargetDefocus": f"{-config.defocus_angstrom * 1e-4:g}",
    }
    if style == "serialem":
        values["PriorRecordDose"] = f"{tilt.prior_dose_e_per_a2:g}"
    values |= _frames(config, tilt, SERIALEM_FOLDER, per_tilt)
    return values | {"DateTime": _date(tilt.acquired, short=style == "serialem")}


def _tomo5_values(config: TiltSeriesConfig, tilt: MdocTilt) -> dict[str, str]:
    """Keys as Tomography 5 writes them, with two digits after the point."""
    values = {
        "TiltAngle": f"{tilt.tilt_angle_deg:.2f}",
        "StagePosition": "-453.76 204.76",
        "StageZ": "-9.73",
        "Magnification": f"{_magnification(config)}",
        "Intensity": "0.00",
        "ExposureDose": f"{config.dose_per_tilt_e_per_a2:.2f}",
        "PixelSpacing": f"{config.pixel_size_angstrom:.2f}",
        "SpotSize": "6",
        "Defocus": f"{-tilt.defocus_angstrom * 1e-4:.2f}",
        "ImageShift": "0.00 0.00",
        "RotationAngle": f"{_wrapped(reported_axis(config)):.2f}",
        "ExposureTime": f"{SECONDS_PER_FRAME * config.frames:.2f}",
        "Binning": "1",
        "MagIndex": "26",
        "CountsPerElectron": "1.00",
        "MinMaxMean": f"0.00 {4 * tilt.mean_counts + 10:.2f} {tilt.mean_counts:.2f}",
        "TargetDefocus": f"{-config.defocus_angstrom * 1e-4:.2f}",
        "PriorRecordDose": f"{tilt.prior_dose_e_per_a2:.2f}",
    }
    values |= _frames(config, tilt, TOMO5_FOLDER, config.dose_per_tilt_e_per_a2)
    return values | {"DateTime": _date(tilt.acquired)}


def _frames(config: TiltSeriesConfig, tilt: MdocTilt, folder: str, dose: float) -> dict[str, str]:
    """Keys of the movie; none for an image in a stack."""
    if tilt.sub_frame_name is None:
        return {}
    return {
        "SubFramePath": folder + tilt.sub_frame_name,
        "NumSubFrames": f"{config.frames}",
        "FrameDosesAndNumber": f"{dose / config.frames:g} {config.frames}",
    }


def _magnification(config: TiltSeriesConfig) -> int:
    return round(140000 / config.pixel_size_angstrom)


def _counts_per_second(config: TiltSeriesConfig) -> float:
    """Electrons per pixel and second without a specimen."""
    seconds = SECONDS_PER_FRAME * config.frames
    return config.dose_per_tilt_e_per_a2 * config.pixel_size_angstrom**2 / seconds


def _wrapped(angle_deg: float) -> float:
    """An angle in (-180, 180]."""
    return 180.0 - (180.0 - angle_deg) % 360.0


def _date(when: datetime, *, short: bool = False) -> str:
    """A date as in 04-Mar-2025  05:06:07; SerialEM before 4.0 has two digits of the year."""
    year = f"{when.year % 100:02d}" if short else f"{when.year}"
    return f"{when.day:02d}-{MONTHS[when.month - 1]}-{year}  {when:%H:%M:%S}"
