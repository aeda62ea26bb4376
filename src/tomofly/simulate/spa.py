"""A single-particle session: movies that appear one after another, with what belongs to them."""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from tomofly.simulate import epu
from tomofly.simulate.camera import gain_reference
from tomofly.simulate.exposure import expose
from tomofly.simulate.microscope import SpaMicroscope
from tomofly.simulate.truth import TRUTH_SUFFIX, Truth
from tomofly.simulate.writing import FileFormat, Writing, write_movie, write_text_whole

Layout = Literal["flat", "epu"]
Clock = Callable[[], float]
Wait = Callable[[float], object]

GAIN_FILE = Path("gain") / "gain_reference.mrc"
"""The gain reference below the session's folder, away from the movies so that no pattern takes it for one."""

# Part of the pace during which a growing file grows; the rest is the camera's pause.
GROWTH_SHARE = 0.5


def write_session(
    microscope: SpaMicroscope,
    out: Path,
    items: int,
    *,
    pace_s: float = 0.0,
    layout: Layout = "flat",
    file_format: FileFormat = "mrc",
    writing: Writing = "whole",
    on_written: Callable[[Path, Truth], None] | None = None,
    start: int = 0,
    started: datetime | None = None,
    stop: threading.Event | None = None,
    wait: Wait | None = None,
    clock: Clock = time.monotonic,
) -> None:
    """Write movies `start` to `start + items - 1` into `out`, one every `pace_s` seconds.

    First the gain reference, then for each movie its truth, its XML (layout "epu") and the movie
    itself; `on_written(path, truth)` follows each movie. `stop` ends the session before the next one.
    `wait(seconds)` and `clock()` stand in for the passage of time; without them real time passes.
    `started` (default: now) dates movie 0. Raises OSError where `out` cannot be written.
    """
    ending = stop or threading.Event()
    pause = wait or ending.wait
    began = started or datetime.now(UTC)
    write_gain(microscope, out)
    first_due = clock()
    for count in range(items):
        pause(max(0.0, first_due + count * pace_s - clock()))
        if ending.is_set():
            return
        index = start + count
        exposure = expose(microscope, index)
        path, truth = _write_companions(
            microscope, out, exposure.truth, epu.next_shot(index, began, pace_s), layout, file_format
        )
        write_movie(
            path,
            exposure.frames,
            pixel_size_angstrom=truth.pixel_size_angstrom,
            compression=microscope.compression,
            writing=writing,
            growth_s=GROWTH_SHARE * pace_s,
            wait=pause,
        )
        if on_written is not None:
            on_written(path, truth)


def write_gain(microscope: SpaMicroscope, out: Path) -> Path:
    """Write the gain reference below `out`, unless it is there, and return its path."""
    path = out / GAIN_FILE
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        gain = gain_reference(microscope)[None]
        write_movie(path, gain, pixel_size_angstrom=microscope.frame_pixel_size_angstrom, writing="rename")
    return path


def _write_companions(
    microscope: SpaMicroscope,
    out: Path,
    truth: Truth,
    shot: epu.Shot,
    layout: Layout,
    file_format: FileFormat,
) -> tuple[Path, Truth]:
    """Write what lies beside a movie; returns the movie's path and the truth with names filled in."""
    if layout == "epu":
        folder, stem = out / shot.folder, f"{shot.stem}_Fractions"
    else:
        folder, stem = out, truth.key
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{stem}.{file_format}"
    camera = truth.camera.model_copy(update={"gain_file": str(GAIN_FILE)})
    named = truth.model_copy(update={"key": stem, "file": str(path.relative_to(out)), "camera": camera})
    write_text_whole(folder / f"{stem}{TRUTH_SUFFIX}", named.model_dump_json())
    if layout == "epu":
        write_text_whole(folder / f"{shot.stem}.xml", epu.acquisition_xml(microscope, named, shot))
    return path, named
