"""A tilt-series session: movies, mdoc files and stacks that appear one after another, with the truth."""

import heapq
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tomofly.simulate.camera import gain_reference
from tomofly.simulate.mdoc_writing import MdocTilt, mdoc_header, mdoc_section
from tomofly.simulate.spa import GAIN_FILE, Clock, Wait
from tomofly.simulate.tilt_faults import Fault
from tomofly.simulate.tilt_microscope import TiltSeriesConfig
from tomofly.simulate.tilt_names import TiltLayout, mdoc_name, mdoc_style
from tomofly.simulate.tilt_plan import PlannedSeries, Shot, files_of, plan_series, plan_shots
from tomofly.simulate.tilt_truth import series_truth
from tomofly.simulate.truth import TRUTH_SUFFIX
from tomofly.simulate.writing import FileFormat, Writing, mrc_header, write_movie, write_text_whole

# Part of the pace during which a growing file grows; the rest is the stage's and the camera's.
GROWTH_SHARE = 0.3
# Movies made ahead of their turn, on as many threads.
AHEAD = 2

Frames = NDArray[np.generic]


@dataclass(frozen=True)
class TiltFolder:
    """How one session's files are written."""

    out: Path
    layout: TiltLayout
    file_format: FileFormat
    writing: Writing
    growth_s: float
    wait: Wait

    def write_movie(self, shot: Shot, frames: Frames) -> Path:
        """Write the movie (frame, y, x) of a tilt, or its image at the end of its stack."""
        path = self.out / shot.file
        config = shot.series.config
        if self.layout == "stack":
            _append_to_stack(path, frames[0], shot.tilt, config.pixel_size_angstrom)
            angles = shot.series.reported_deg[: shot.series.taken]
            if shot.tilt == len(angles) - 1:
                write_text_whole(path.with_suffix(".rawtlt"), "".join(f"{angle:.2f}\n" for angle in angles))
            return path
        write_movie(
            path,
            frames,
            pixel_size_angstrom=config.pixel_size_angstrom,
            compression=config.compression,
            writing=self.writing,
            growth_s=self.growth_s,
            wait=self.wait,
        )
        return path

    def append_mdoc(self, shot: Shot, mean_counts: float) -> None:
        """Add a tilt to its series' mdoc, which the first one begins."""
        style, series = mdoc_style(self.layout), shot.series
        if style is None or any(fault.kind == "no-mdoc" for fault in series.faults):
            return
        views = series.camera.views
        lens = views.optics[shot.tilt]
        tilt = MdocTilt(
            z_value=shot.tilt,
            tilt_angle_deg=series.reported_deg[shot.tilt],
            sub_frame_name=_name_in_mdoc(shot),
            acquired=shot.acquired,
            prior_dose_e_per_a2=float(views.dose_before_e_per_a2[shot.tilt]),
            defocus_angstrom=(lens.defocus_u_angstrom + lens.defocus_v_angstrom) / 2,
            mean_counts=mean_counts,
        )
        path = self.out / mdoc_name(self.layout, series.key)
        with path.open("a", encoding="ascii", newline="") as file:
            if shot.tilt == 0:
                file.write(mdoc_header(series.config, style, f"{series.key}.mrc", shot.acquired))
            file.write(mdoc_section(series.config, style, tilt))


def write_tilt_session(
    config: TiltSeriesConfig,
    out: Path,
    series: int,
    *,
    pace_s: float = 0.0,
    layout: TiltLayout = "serialem",
    file_format: FileFormat = "mrc",
    writing: Writing = "whole",
    name: str = "TS",
    faults: tuple[Fault, ...] = (),
    on_written: Callable[[Path, Shot], None] | None = None,
    first: int = 1,
    started: datetime | None = None,
    stop: threading.Event | None = None,
    wait: Wait | None = None,
    clock: Clock = time.monotonic,
) -> None:
    """Write series `first` to `first + series - 1` into `out`, a tilt every `pace_s` seconds.

    The truth of a series and, if pixels differ, the gain reference come before its first tilt; the mdoc
    grows by a section after each movie. `on_written(path, shot)` follows each movie. `stop` ends the session
    before the next tilt. `wait(seconds)` and `clock()` stand in for the passage of time; without them real
    time passes. `started` (default: now) dates the first tilt. Raises ValueError for faults in series or
    tilts that are not there, OSError where `out` cannot be written.
    """
    ending = stop or threading.Event()
    pause = wait or ending.wait
    planned = plan_series(config, layout, name, range(first, first + series), faults)
    shots = plan_shots(planned, layout, file_format, started or datetime.now(UTC), pace_s)
    folder = TiltFolder(out, layout, file_format, writing, GROWTH_SHARE * pace_s, pause)
    write_gain(planned[0].config, out)
    late: list[tuple[float, int, Shot]] = []
    began = clock()

    def write(shot: Shot, frames: Frames) -> None:
        path = folder.write_movie(shot, frames)
        if on_written is not None:
            on_written(path, shot)

    def write_late(until: float) -> None:
        while late and late[0][0] <= until and not ending.is_set():
            due, _, shot = heapq.heappop(late)
            pause(max(0.0, due - clock()))
            write(shot, shot.series.camera.movie(shot.tilt))

    for count, (shot, frames) in enumerate(_movies(shots, ending)):
        due = began + count * pace_s
        write_late(due)
        pause(max(0.0, due - clock()))
        if ending.is_set():
            return
        if shot.tilt == 0:
            write_truth(out, shot.series, shots)
        delay = shot.series.delay_s(shot.tilt)
        if delay:
            heapq.heappush(late, (max(due, clock()) + delay, count, shot))
        elif not shot.series.has("missing", shot.tilt):
            write(shot, frames)
        folder.append_mdoc(shot, float(frames.mean()) * len(frames))
    write_late(np.inf)


def write_truth(out: Path, series: PlannedSeries, shots: list[Shot]) -> Path:
    """Write the truth of one series into `out` and return its path."""
    tilts = range(len(series.config.nominal_tilts_deg))
    truth = series_truth(
        series.camera,
        series.key,
        list(files_of(shots, series)),
        series.reported_deg,
        [series.faults_of(tilt) for tilt in tilts],
    )
    gain = str(GAIN_FILE) if series.config.gain_variation else ""
    path = out / f"{series.key}{TRUTH_SUFFIX}"
    write_text_whole(path, truth.model_copy(update={"gain_file": gain}).model_dump_json())
    return path


def write_gain(config: TiltSeriesConfig, out: Path) -> None:
    """Write the gain reference below `out`, unless all pixels are alike or it is there."""
    path = out / GAIN_FILE
    if not config.gain_variation or path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    gain = gain_reference(config.camera_microscope())[None]
    write_movie(path, gain, pixel_size_angstrom=config.pixel_size_angstrom, writing="rename")


def _movies(shots: list[Shot], ending: threading.Event) -> Iterator[tuple[Shot, Frames]]:
    """Each exposure with its frames, some of them made ahead on threads of their own."""
    with ThreadPoolExecutor(AHEAD) as pool:
        under_way: deque[tuple[Shot, Future[Frames]]] = deque()
        for shot in shots:
            _ = shot.series.camera  # Made here, so that two threads do not both make it.
            under_way.append((shot, pool.submit(_take, shot, ending)))
            if len(under_way) > AHEAD:
                first, frames = under_way.popleft()
                yield first, frames.result()
        for shot, frames in under_way:
            yield shot, frames.result()


def _take(shot: Shot, ending: threading.Event) -> Frames:
    """The frames of a tilt, or empty ones where the session has ended meanwhile."""
    return np.zeros((1, 1, 1), dtype=np.uint8) if ending.is_set() else shot.series.camera.movie(shot.tilt)


def _name_in_mdoc(shot: Shot) -> str:
    """The name that the mdoc gives a movie; with a fault it is one that no file has."""
    if not shot.series.has("misnamed", shot.tilt):
        return shot.file
    path = Path(shot.file)
    return f"{path.stem}_renamed{path.suffix}"


def _append_to_stack(path: Path, image: Frames, tilt: int, pixel_size_angstrom: float) -> None:
    """Add an image (y, x) uint16 to an MRC stack whose header counts the images so far."""
    header = mrc_header((tilt + 1, *image.shape), image.dtype, pixel_size_angstrom)
    with path.open("r+b" if tilt else "wb") as file:
        file.seek(0, 2)
        file.write(header if tilt == 0 else b"")
        file.write(image.astype("<u2").tobytes())
        file.seek(0)
        file.write(header)
