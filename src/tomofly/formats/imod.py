"""IMOD's files of an alignment: .xf, .tlt, .rawtlt, .xtilt, and the commands for them. Mastronarde (1997).

IMOD counts from the middle of an image, index (n - 1) / 2 from 0, and applies x' = A·x + d about the
middles of the raw and of the aligned image (newstack). Its tilt axis is the aligned image's y axis, and a
point (x, y, z) from the middle of the volume appears at x·cos θ + z·sin θ after a rotation by the .xtilt
angle about x, in the volume that ``trimvol -rx`` gives (the file that tilt writes counts its thickness
downwards; its XAXISTILT is subtracted from the .xtilt). The project's origin is index n // 2, so that for
even sizes half a pixel is between the two, in the images and in the volume. For volumes of odd size some
versions of tilt round their centre down; even sizes leave no doubt.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from tomofly.formats.errors import BadFile
from tomofly.formats.on_disk import synced_text
from tomofly.formats.source import read_whole
from tomofly.formats.tilt_record import FloatArray, TiltSeriesRecord, rotations

_LARGEST_BYTES = 16 << 20


def imod_transforms(series: TiltSeriesRecord) -> FloatArray:
    """Give what stands in an .xf (tilt, 6), A11 A12 A21 A22 DX DY, for aligned images of the volume's size.

    With these a volume of ``tomogram_size_xyz`` by IMOD has every point at the index that the record gives.
    """
    to_axis = rotations(0.0, -series.axis_angle_deg, 0.0)[:, :2, :2]
    image_half = series.image_centre_xy - _middle(series.image_size_xy)
    volume_half = series.tomogram_centre_xyz - _middle(series.tomogram_size_xyz)
    level = rotations(series.tilt_angle_deg, 0.0, series.x_tilt_deg)[:, :2]
    moved = np.einsum("tij,tj->ti", to_axis, series.shift_xy_px - image_half) + level @ volume_half
    return np.concatenate([to_axis.reshape(-1, 4), moved], axis=1)


def geometry_of_transforms(
    transforms: FloatArray,
    tilt_angle_deg: FloatArray,
    image_size_xy: tuple[int, int],
    tomogram_size_xyz: tuple[int, int, int],
    x_tilt_deg: float = 0.0,
) -> tuple[FloatArray, FloatArray, float]:
    """Give the axis angles (tilt,), shifts (tilt, 2) as (y, x) in pixels, and what is lost, of an .xf.

    The last is the largest displacement at the image's edge, in pixels, of the stretch and skew that an .xf
    may have and a rotation has not.
    """
    matrix, moved = transforms[:, :4].reshape(-1, 2, 2), transforms[:, 4:]
    axis = np.rad2deg(np.arctan2(matrix[:, 0, 1] - matrix[:, 1, 0], matrix[:, 0, 0] + matrix[:, 1, 1]))
    turned = rotations(0.0, -axis, 0.0)[:, :2, :2]
    lost = float(np.abs(matrix - turned).max(initial=0.0)) * max(image_size_xy) / 2
    image_half = np.array([n // 2 for n in image_size_xy]) - _middle(image_size_xy)
    volume_half = np.array([n // 2 for n in tomogram_size_xyz]) - _middle(tomogram_size_xyz)
    level = rotations(tilt_angle_deg, 0.0, x_tilt_deg)[:, :2]
    shift = np.linalg.solve(matrix, (moved - level @ volume_half)[..., None])[..., 0] + image_half
    return axis, shift[:, ::-1], lost


def write_xf(path: str | Path, transforms: FloatArray) -> None:
    """Write transforms (tilt, 6), one line per section of the stack, excluded ones too."""
    _write(
        path, (f"{''.join(f'{v:12.7f}' for v in row[:4])}{row[4]:12.3f}{row[5]:12.3f}" for row in transforms)
    )


def read_xf(path: str | Path) -> FloatArray:
    """Read transforms (tilt, 6). Raises BadFile when a line has not six numbers."""
    return _read(Path(path), 6, "six numbers, A11 A12 A21 A22 DX DY", "an .xf file of IMOD")


def write_angles(path: str | Path, angle_deg: FloatArray) -> None:
    """Write a .tlt, .rawtlt or .xtilt: an angle in degrees per section of the stack."""
    _write(path, (f"{angle:8.3f}" for angle in angle_deg))


def read_angles(path: str | Path) -> FloatArray:
    """Read a .tlt, .rawtlt or .xtilt (tilt,), in degrees. Raises BadFile when a line is not one number."""
    return _read(Path(path), 1, "one angle", "a file of tilt angles, one a line")[:, 0]


def write_imod(folder: str | Path, series: TiltSeriesRecord) -> list[Path]:
    """Write <name>.xf, .tlt, .rawtlt, .xtilt, newst.com and tilt.com into a folder; give their paths."""
    folder = Path(folder)
    named = {ending: folder / f"{series.name}.{ending}" for ending in ("xf", "tlt", "rawtlt", "xtilt")}
    write_xf(named["xf"], imod_transforms(series))
    write_angles(named["tlt"], series.tilt_angle_deg)
    write_angles(named["rawtlt"], np.array([tilt.nominal_tilt_deg for tilt in series.tilts]))
    write_angles(named["xtilt"], np.full(len(series.tilts), series.x_tilt_deg))
    commands = {folder / "newst.com": _newst(series), folder / "tilt.com": _tilt(series)}
    for path, lines in commands.items():
        _write(path, lines)
    return [*named.values(), *commands]


def _newst(series: TiltSeriesRecord) -> list[str]:
    width, height = series.tomogram_size_xyz[:2]
    return [
        "$newstack -StandardInput",
        f"InputFile {series.stack_name or f'{series.name}.st'}",
        f"OutputFile {series.name}.ali",
        f"TransformFile {series.name}.xf",
        f"SizeToOutputInXandY {width},{height}",
        "OffsetsInXandY 0.0,0.0",
        "TaperAtFill 1,0",
    ]


def _tilt(series: TiltSeriesRecord) -> list[str]:
    width, height, thickness = series.tomogram_size_xyz
    excluded = [str(section) for section, tilt in enumerate(series.tilts, start=1) if tilt.excluded]
    return [
        "$tilt -StandardInput",
        f"InputProjections {series.name}.ali",
        f"OutputFile {series.name}_full.rec",
        f"FULLIMAGE {width} {height}",
        f"TILTFILE {series.name}.tlt",
        f"XTILTFILE {series.name}.xtilt",
        f"THICKNESS {thickness}",
        "PERPENDICULAR",
        "SHIFT 0.0 0.0",
        *([f"EXCLUDELIST2 {','.join(excluded)}"] if excluded else []),
        f"$trimvol -rx {series.name}_full.rec {series.name}.rec",
    ]


def _middle(size: Iterable[int]) -> FloatArray:
    return (np.array(tuple(size), dtype=np.float64) - 1) / 2


def _write(path: str | Path, lines: Iterable[str]) -> None:
    with synced_text(path) as target:
        target.writelines(f"{line}\n" for line in lines)


def _read(path: Path, columns: int, wanted: str, kind: str) -> FloatArray:
    check = f"Check that it is {kind}"
    text = read_whole(path, _LARGEST_BYTES, "a file of an alignment", check).decode("utf-8-sig", "replace")
    rows = [
        _row(path, number, line, columns, wanted, check) for number, line in enumerate(text.splitlines(), 1)
    ]
    found = [row for row in rows if row]
    if not found:
        raise BadFile(path, "is empty", check)
    return np.array(found, dtype=np.float64)


def _row(path: Path, number: int, line: str, columns: int, wanted: str, check: str) -> list[float]:
    words = line.split()
    try:
        values = [float(word) for word in words]
    except ValueError:
        values = [float("nan")]
    if words and (len(values) != columns or not np.isfinite(values).all()):
        raise BadFile(path, f"line {number} is not {wanted}: {line.strip()[:60]!r}", check)
    return values
