"""Tilts and mdoc files as microscopes leave them, made for tests without reading any."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from tomofly.model import SourceFile

BEGIN = datetime(2023, 5, 16, 10, 0, 0)
BEGAN_S = 1_684_000_000.0
WINDOWS = "D:\\DATA\\someone\\frames\\"


@dataclass(frozen=True)
class Tilt:
    """A tilt of a made series: its movie's name, its angle, and the second of its exposure."""

    name: str
    angle: float
    at_s: float


def dose_symmetric(count: int, step: float = 3.0) -> list[float]:
    """Give 0, 3, -3, -6, 6, ... in the order of exposure."""
    angles = [0.0]
    for n in range(1, count // 2 + 1):
        pair = [n * step, -n * step]
        angles += pair if n % 2 else pair[::-1]
    return angles[:count]


def series(name: str, count: int = 7, suffix: str = ".tif", begin_s: float = 0.0) -> list[Tilt]:
    """Make a dose-symmetric series, one tilt in 20 s, named as SerialEM does."""
    return [
        Tilt(f"{name}_{n:03d}_{angle:.1f}{suffix}", angle, begin_s + 20.0 * n)
        for n, angle in enumerate(dose_symmetric(count))
    ]


def mdoc_text(tilts: Sequence[Tilt], *, dose: float = 3.1, folder: str = WINDOWS, axis: str = "84.1") -> str:
    """Write an mdoc as SerialEM does."""
    title = f"[T = Tilt axis angle = {axis}, binning = 1  spot = 8  camera = 0]\n"
    head = f"PixelSpacing = 1.35\nVoltage = 300\nImageFile = x.mrc\n\n[T = SerialEM: made up]\n\n{title}\n"
    return head + "".join(section(n, tilt, dose=dose, folder=folder) for n, tilt in enumerate(tilts))


def section(number: int, tilt: Tilt, *, dose: float = 3.1, folder: str = WINDOWS) -> str:
    """Write one section of an mdoc."""
    when = (BEGIN + timedelta(seconds=tilt.at_s)).strftime("%d-%b-%Y  %H:%M:%S")
    return (
        f"[ZValue = {number}]\nTiltAngle = {tilt.angle + 0.0013}\nExposureDose = {dose}\n"
        f"PixelSpacing = 1.35\nBinning = 1\nTargetDefocus = -4\n"
        f"SubFramePath = {folder}{tilt.name}\nNumSubFrames = 8\nDateTime = {when}\n\n"
    )


def found(tilt: Tilt | str, folder: str = "", at_s: float | None = None, root: str = "/data") -> SourceFile:
    """Give a movie as the watcher finds it; ``folder`` below the watched ``root``."""
    name = tilt if isinstance(tilt, str) else tilt.name
    written = at_s if at_s is not None else 0.0 if isinstance(tilt, str) else tilt.at_s
    key = f"{folder}/{name}" if folder else name
    return SourceFile(Path(root) / key, key, "100:1", BEGAN_S + written)


def note(root: Path, name: str, text: str, folder: str = "", at_s: float = 0.0) -> SourceFile:
    """Write a note and give it as the watcher finds it."""
    key = f"{folder}/{name}" if folder else name
    path = root / key
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return SourceFile(path, key, f"{len(text)}:{at_s}", BEGAN_S + at_s)
