"""AreTomo's .aln files of an alignment, of versions 1 to 3. Zheng et al. (2022).

ROT is the direction of the tilt axis and TILT the tilt angle in the sense used here; (TX, TY) is where the
specimen's origin appears in the raw image, in its pixels from the image's middle, index n // 2 of even sizes:
minus the shift to be applied. So AreTomo's own .xf is Rz(-ROT) with d = Rz(-ROT)·(-TX, -TY). There is no
rotation about x. Sections of the stack are counted from 0, by AreTomo 3 from 1.
"""

import re
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from tomofly.formats.errors import BadFile
from tomofly.formats.on_disk import synced_text
from tomofly.formats.source import read_whole
from tomofly.formats.tilt_record import FloatArray, TiltSeriesRecord

_CHECK = "Check that it is an .aln file of AreTomo, written to its end"
_HEADING = "# SEC     ROT         GMAG       TX          TY      SMEAN     SFIT    SCALE     BASE     TILT"
_LARGEST_BYTES = 256 << 20
# AreTomo has no rotation about x; this much moves a point at the border of a 4096 image by a third of a pixel
_NO_X_TILT_DEG = 0.01


@dataclass(frozen=True)
class LocalAlignment:
    """Local shifts: patch centres and shifts (tilt, patch, 2) as (y, x) in raw pixels, and which are good."""

    centre_yx_px: FloatArray
    shift_yx_px: FloatArray
    good: np.ndarray


@dataclass(frozen=True)
class AretomoAlignment:
    """What an .aln says, in the project's geometry. Sections are counted from 0, in the file's order.

    ``raw_size_xyz``: width and height of the images and number of sections. ``shift_yx_px`` is to be applied.
    ``dark``: section and tilt angle of those left out. The offsets and the thickness (pixels) are as written.
    """

    raw_size_xyz: tuple[int, int, int] | None
    section: np.ndarray
    tilt_angle_deg: FloatArray
    axis_angle_deg: FloatArray
    shift_yx_px: FloatArray
    dark: tuple[tuple[int, float], ...] = ()
    alpha_offset_deg: float = 0.0
    beta_offset_deg: float = 0.0
    thickness_px: int | None = None
    local: LocalAlignment | None = None


def write_aln(path: str | Path, series: TiltSeriesRecord) -> None:
    """Write the alignment of a series; excluded tilts are AreTomo's dark frames.

    Raises ValueError when the series is turned about x, which an .aln cannot express; see
    ``not_turned_about_x``.
    """
    if abs(series.x_tilt_deg) > _NO_X_TILT_DEG:
        what = f"AreTomo has no rotation about x, by which {series.name} is turned ({series.x_tilt_deg:.2f}°)"
        raise ValueError(f"{what}. Export it to RELION, IMOD or Warp, or align it without levelling about x.")
    width, height = series.image_size_xy
    by_angle = sorted(range(len(series.tilts)), key=lambda n: series.tilts[n].nominal_tilt_deg)
    with synced_text(path) as target:
        target.write("# AreTomo Alignment / Priims bprmMn\n")
        target.write(f"# RawSize = {width} {height} {len(series.tilts)}\n# NumPatches = 0\n")
        for place, section in enumerate(by_angle):
            tilt = series.tilts[section]
            if tilt.excluded:
                target.write(f"# DarkFrame =  {place:4d} {section:4d} {tilt.tilt_angle_deg:8.2f}\n")
        target.write(f"# AlphaOffset = {0:8.2f}\n# BetaOffset = {0:8.2f}\n{_HEADING}\n")
        target.writelines(
            _line(series, section) for section in by_angle if not series.tilts[section].excluded
        )


def not_turned_about_x(series: TiltSeriesRecord) -> TiltSeriesRecord:
    """Give a series as AreTomo can have it: the same views of a specimen that is not turned about x.

    A point p from the middle of the series' volume is at Rx(x_tilt)·p from the middle of that volume, and
    seen at the same place in every tilt.
    """
    return replace(series, x_tilt_deg=0.0)


def read_aln(path: str | Path) -> AretomoAlignment:
    """Read an .aln. Raises BadFile for one that is empty, cut off, or has a line that is no alignment."""
    path = Path(path)
    parts = _Parts()
    for number, line in enumerate(_text(path).splitlines(), start=1):
        _take(path, parts, number, line.strip())
    if not parts.rows:
        raise BadFile(path, "holds no alignment", _CHECK)
    table = np.array(parts.rows, dtype=np.float64)
    dark = [(int(row[1]) if len(row) > 2 else int(row[0]), row[-1]) for row in parts.dark]
    first = 0 if 0 in table[:, 0] or any(section == 0 for section, _ in dark) else 1
    found = AretomoAlignment(
        raw_size_xyz=_raw_size(parts.header.get("RawSize", "")),
        section=table[:, 0].astype(np.int64) - first,
        tilt_angle_deg=table[:, 9],
        axis_angle_deg=table[:, 1],
        shift_yx_px=-table[:, [4, 3]],
        dark=tuple((section - first, angle) for section, angle in dark),
        alpha_offset_deg=float(_first(parts.header.get("AlphaOffset")) or 0.0),
        beta_offset_deg=float(_first(parts.header.get("BetaOffset")) or 0.0),
        thickness_px=_thickness(parts.header.get("Thickness")),
    )
    patches = int(_first(parts.header.get("NumPatches")) or 0)
    return replace(found, local=_local(path, parts.local, len(table), patches))


@dataclass
class _Parts:
    header: dict[str, str] = field(default_factory=dict)
    dark: list[list[float]] = field(default_factory=list)
    rows: list[list[float]] = field(default_factory=list)
    local: list[list[float]] = field(default_factory=list)
    in_local: bool = False


def _take(path: Path, parts: _Parts, number: int, line: str) -> None:
    if line.startswith("#"):
        parts.in_local |= "local alignment" in line.lower()
        key, _, value = line.lstrip("# ").partition("=")
        if key.strip() == "DarkFrame":
            parts.dark.append(_floats(value))
        elif value:
            parts.header[key.strip()] = value.strip()
        return
    numbers = _floats(line)
    wanted = 7 if parts.in_local else 10
    if numbers and len(numbers) >= wanted - (1 if parts.in_local else 0):
        (parts.local if parts.in_local else parts.rows).append(numbers)
    elif number > 1 and line:  # the first line is whatever the version writes
        raise BadFile(path, f"line {number} has {len(numbers)} of {wanted} numbers: {line[:60]!r}", _CHECK)


def _line(series: TiltSeriesRecord, section: int) -> str:
    tilt = series.tilts[section]
    y, x = tilt.shift_yx_px
    return (
        f"{section:5d}  {tilt.axis_angle_deg:9.4f}  {1:9.5f}  {-x:9.3f}  {-y:9.3f}  "
        f"{1:7.2f}  {1:7.2f}  {1:7.2f}  {0:7.2f}  {tilt.tilt_angle_deg:9.4f}\n"
    )


def _local(path: Path, rows: list[list[float]], tilts: int, patches: int) -> LocalAlignment | None:
    if not patches or not rows:
        return None
    if len(rows) != tilts * patches:
        what = f"has {len(rows)} local shifts for {tilts} tilts and {patches} patches"
        raise BadFile(path, what, _CHECK)
    padded = np.array([[*row, 1.0][:7] for row in rows])
    table = padded[np.lexsort((padded[:, 1], padded[:, 0]))].reshape(tilts, patches, 7)
    return LocalAlignment(
        centre_yx_px=table[..., [3, 2]], shift_yx_px=table[..., [5, 4]], good=table[..., 6] > 0.5
    )


def _text(path: Path) -> str:
    return read_whole(path, _LARGEST_BYTES, "an .aln file", _CHECK).decode("utf-8-sig", errors="replace")


def _floats(text: str) -> list[float]:
    try:
        return [float(word) for word in text.split()]
    except ValueError:
        return []


def _first(text: str | None) -> float | None:
    found = re.match(r"[-+]?[\d.]+(?:[eE][-+]?\d+)?", text or "")
    return float(found[0]) if found else None


def _thickness(text: str | None) -> int | None:
    value = _first(text)
    return int(value) if value and value > 0 else None


def _raw_size(text: str) -> tuple[int, int, int] | None:
    numbers = [int(value) for value in _floats(text)]
    return (numbers[0], numbers[1], numbers[2]) if len(numbers) >= 3 else None
