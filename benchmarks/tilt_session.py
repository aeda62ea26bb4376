"""A tilt series from movies to tomogram: how fast, how soon after the last tilt, and in how much memory.

One series is simulated with `tomofly simulate tomo` (kept in --folder for the next time). It is processed
twice: as a whole (catching up), and with its last tilts arriving at a pace, after the others have been
processed, which is what the last tilt of a series meets. Times are wall times; processor times stand beside
them, for a machine that others use too. Memory is that of all processes of the session together (the sum of
their proportional shares).

    python benchmarks/tilt_session.py --folder /large/disk/series --json figures.json
    python benchmarks/tilt_session.py --tilts 9 --live 3 --pace 8      # a short look
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import Row, func, select

from tomofly.services.home import open_home
from tomofly.store import sessions, tables

SERIES = "TS_1"
PER_TILT = ("transfer", "import", "tilt_motion", "tilt_image")
MB = 1e6


@dataclass
class Usage:
    """What a process and its children take, looked at a few times a second until it ends."""

    process: subprocess.Popen[str]
    peak_mb: float = 0.0
    cpu_s: dict[int, float] = field(default_factory=dict)

    def watch(self) -> threading.Thread:
        """Begin to look."""
        thread = threading.Thread(target=self._look, daemon=True)
        thread.start()
        return thread

    def _look(self) -> None:
        while self.process.poll() is None:
            self._sample()
            time.sleep(0.3)

    def _sample(self) -> None:
        try:
            root = psutil.Process(self.process.pid)
            tree = [root, *root.children(recursive=True)]
        except psutil.NoSuchProcess:
            return
        total = 0.0
        for one in tree:
            try:
                times = one.cpu_times()
                self.cpu_s[one.pid] = times.user + times.system
                total += one.memory_full_info().pss / MB
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
        self.peak_mb = max(self.peak_mb, total)


def make_series(folder: Path, given: argparse.Namespace) -> None:
    """Have the series simulated, unless it is there."""
    wanted = {name: getattr(given, name) for name in ("tilts", "detector", "frames", "pixel")}
    record = folder / "made.json"
    if record.is_file() and json.loads(record.read_text()) == wanted:
        return
    half = (given.tilts - 1) // 2 * 3.0
    numbers = {
        "tilt_range_deg": [-half, (given.tilts - 1) * 3.0 - half], "compression": "lzw",
        "tracking_error_angstrom": 200, "axis_error_deg": 2, "pre_tilt_deg": 4, "drift_angstrom_per_tilt": 6,
    }  # fmt: skip
    words = [word for name, value in numbers.items() for word in ("--set", f"{name}={value}")]
    shutil.rmtree(folder, ignore_errors=True)
    command = [
        sys.executable, "-m", "tomofly.cli", "simulate", "tomo", "--out", str(folder), "--format", "tiff",
        "--detector", given.detector, "--pixel", str(given.pixel), "--frames", str(given.frames), *words,
    ]  # fmt: skip
    subprocess.run(command, check=True, stdout=sys.stderr)
    record.write_text(json.dumps(wanted))


def tilt_files(made: Path) -> list[Path]:
    """Give the movies in the order in which they were taken, which their names say."""
    return sorted(made.glob(f"{SERIES}_*.tif"))


def start(source: Path, work: Path, given: argparse.Namespace, *more: str) -> subprocess.Popen[str]:
    """Start a session on a folder of movies."""
    command = [
        sys.executable, "-m", "tomofly.cli", "run", "tomo", "--source", str(source / "*.tif"),
        "--out", str(work / "out"), "--home", str(work / "home"), "--json",
        "--set", f"microscope.pixel_size_angstrom={given.pixel}", *more,
    ]  # fmt: skip
    for setting in given.set:
        command += ["--set", setting]
    log = (work / "session.log").open("w")
    return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, text=True)


class Looking:
    """The session's database, while it works."""

    def __init__(self, work: Path) -> None:
        self._database = open_home(work / "home").database
        self._id: int | None = None

    def tasks(self) -> list[Row[Any]]:
        """Give key, stage, state, mode and times of all tasks; none while there is no session."""
        with self._database.read() as connection:
            if self._id is None:
                found = connection.execute(select(tables.sessions.c.name)).scalars().all()
                if not found:
                    return []
                self._id = sessions.find_session(connection, found[0]).id
            t, items = tables.tasks.c, tables.items.c
            columns = (items.key, t.stage, t.state, t.mode, t.queued_at, t.started_at, t.done_at)
            query = select(*columns).join(tables.items, items.id == t.item_id)
            return list(connection.execute(query.where(t.session_id == self._id)))

    def composed_tilts(self) -> int:
        """Give of how many tilts the series is, with those that it leaves out."""
        names = ("tilts", "excluded_tilts")
        m = tables.metrics.c
        query = select(func.sum(m.value)).where(m.stage == "compose", m.name.in_(names))
        with self._database.read() as connection:
            return int(connection.scalar(query) or 0)

    def done_at(self, stage: str, tilts: int) -> float | None:
        """Give when the result of a stage of the series with so many tilts was there; None before."""
        if self.composed_tilts() < tilts:
            return None
        mine = {row.stage: row for row in self.tasks() if row.key == SERIES}
        composed, wanted = mine.get("compose"), mine.get(stage)
        if composed is None or wanted is None or composed.mode or "done" not in composed.state:
            return None
        final = wanted.state == "done" and wanted.started_at >= composed.done_at
        return float(wanted.done_at) if final else None


def stage_seconds(rows: list[Row[Any]]) -> dict[str, Any]:
    """Give how often each stage ran to its end, and how long one run took."""
    found: dict[str, list[float]] = {}
    for row in rows:
        if row.state == "done" and row.done_at and row.started_at:
            found.setdefault(row.stage, []).append(row.done_at - row.started_at)
    return {s: {"runs": len(t), "mean_s": round(sum(t) / len(t), 2)} for s, t in sorted(found.items())}


def catch_up(made: Path, work: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Process the series as a whole."""
    begun = time.time()
    process = start(made, work, given, "--once")
    usage = Usage(process)
    watching = usage.watch()
    status = process.wait()
    watching.join()
    wall, cpu = time.time() - begun, sum(usage.cpu_s.values())
    looking = Looking(work)
    if looking.done_at("tomogram", given.tilts) is None:
        sys.exit((work / "session.log").read_text())
    return {
        "nothing_failed": status == 0,
        "wall_s": round(wall, 1), "cpu_s": round(cpu, 1),
        "series_per_hour_wall": round(3600 / wall, 1),
        "series_per_hour_if_two_cores_were_free": round(2 * 3600 / cpu, 1),
        "peak_memory_mb": round(usage.peak_mb), "stages": stage_seconds(looking.tasks()),
    }  # fmt: skip


def mdoc_parts(made: Path) -> tuple[str, list[str]]:
    """Give the head of the series' mdoc and its sections, one per tilt in the order taken."""
    (path,) = made.glob("*.mdoc")
    with path.open(newline="") as file:
        head, *sections = re.split(r"(?=\[ZValue)", file.read())
    return head, sections


def deliver(movie: Path, source: Path, section: str) -> float:
    """Bring a tilt as a camera's computer does, whole at once, then its lines in the mdoc; say when."""
    partial = source / f".{movie.name}.part"
    shutil.copyfile(movie, partial)
    partial.rename(source / movie.name)
    done = time.time()
    with (source / f"{SERIES}.mrc.mdoc").open("a", newline="") as file:
        file.write(section)
    return done


def live(made: Path, work: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Have the last tilts come one by one after the others were processed; time what follows the last."""
    source = work / "source"
    source.mkdir()
    movies = tilt_files(made)
    head, sections = mdoc_parts(made)
    early = len(movies) - given.live
    (source / f"{SERIES}.mrc.mdoc").write_text(head + "".join(sections[:early]), newline="")
    for number, movie in enumerate(movies[:early]):
        os.link(movie, source / movie.name)
        # As if they had come at the pace: how long a series is waited for depends on it.
        os.utime(movie, (time.time() - (early - number) * given.pace,) * 2)
    process = start(source, work, given)
    usage = Usage(process)
    watching = usage.watch()
    try:
        looking = Looking(work)
        _wait(process, lambda: _settled(looking, early), given.limit)
        cpu_before = sum(usage.cpu_s.values())
        delivered = 0.0
        for movie, section in zip(movies[early:], sections[early:], strict=True):
            delivered = deliver(movie, source, section)
            if movie is not movies[-1]:
                time.sleep(given.pace)
        _wait(process, lambda: looking.done_at("tomogram", given.tilts) is not None, given.limit)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait()
        watching.join()
    return _latency(looking, delivered, usage, (cpu_before, given.tilts))


def _settled(looking: Looking, tilts: int) -> bool:
    """Whether so many tilts are ready, and nothing is under way."""
    rows = looking.tasks()
    ready = sum(row.stage == PER_TILT[-1] and row.state == "done" for row in rows)
    return ready >= tilts and not any(row.state in ("queued", "running") for row in rows)


def _wait(process: subprocess.Popen[str], there: Any, limit_s: float) -> None:
    end = time.monotonic() + limit_s
    while not there():
        if process.poll() is not None or time.monotonic() > end:
            sys.exit("The session ended, or took too long; see session.log in its folder")
        time.sleep(0.2)


def _latency(looking: Looking, delivered: float, usage: Usage, before: tuple[float, int]) -> dict[str, Any]:
    cpu_before, tilts = before
    rows = [row for row in looking.tasks() if row.done_at]
    last = max((row for row in rows if row.stage == PER_TILT[-1]), key=lambda row: row.done_at)
    mine = {row.stage: row for row in rows if row.key == SERIES}
    steps = {"tilt_image": (last.started_at, last.done_at)}
    steps |= {stage: (row.started_at, row.done_at) for stage, row in mine.items()}
    done = looking.done_at("tomogram", tilts) or float("nan")
    return {
        "last_tilt_to_tomogram_s": round(done - delivered, 1),
        "cpu_s_of_live_part": round(sum(usage.cpu_s.values()) - cpu_before, 1),
        "peak_memory_mb": round(usage.peak_mb),
        "seconds_after_last_tilt": {
            name: [round(at - delivered, 1) for at in times]
            for name, times in sorted(steps.items(), key=lambda step: step[1])
        },
    }


def main() -> None:
    """Run the benchmark and print its figures."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, default=None, help="where the series is, or is to be kept")
    parser.add_argument("--tilts", type=int, default=41)
    parser.add_argument("--detector", default="4096x4096")
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--pixel", type=float, default=2.0, help="Å")
    parser.add_argument("--live", type=int, default=6, help="last tilts that come at the pace; 0: none")
    parser.add_argument("--pace", type=float, default=20.0, help="seconds from one tilt to the next")
    parser.add_argument("--no-batch", action="store_true", help="leave out the series as a whole")
    parser.add_argument("--limit", type=float, default=1800.0, help="seconds to wait for anything")
    parser.add_argument("--set", action="append", default=[], help="a setting of the session: name=value")
    parser.add_argument("--json", type=Path, default=None)
    given = parser.parse_args()
    figures: dict[str, Any] = {
        "tilts": given.tilts, "detector": given.detector, "frames": given.frames, "pixel": given.pixel,
        "settings": given.set, "load_before": os.getloadavg()[0],
    }  # fmt: skip
    with tempfile.TemporaryDirectory(dir=given.folder and given.folder.parent) as name:
        made = given.folder or Path(name) / "made"
        make_series(made, given)
        for what, how in (("batch", catch_up), ("live", live)):
            if not (given.no_batch if what == "batch" else given.live == 0):
                work = Path(name) / what
                work.mkdir()
                figures[what] = how(made, work, given)
    figures["load_after"] = os.getloadavg()[0]
    json.dump(figures, sys.stdout, indent=2)
    print()
    if given.json:
        given.json.write_text(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
