"""A session of small tilts with real files, stepped by hand: time is whatever the test says.

Everything is as in a session but the processes: files are found by the watcher, grouped by the catalogue, and
worked on by the stages, up to the composed series unless a test asks for more.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from tests.flow.inline import InlineExecutor
from tomofly.flow.cataloguing import Cataloguer, _source_file
from tomofly.flow.conductor import Conductor, RunOptions
from tomofly.flow.engine import Engine, Scope
from tomofly.flow.graph import Workflow, build_workflow
from tomofly.flow.runner import run_task
from tomofly.flow.watch import Watcher
from tomofly.flow.workflows import workflow_of
from tomofly.formats.mrc import write_image
from tomofly.model import SourceParams
from tomofly.services.home import Home, open_home
from tomofly.services.sessions import create_session, session_info
from tomofly.services.tilts import Tilt, TiltSeries, all_series, series_tilts
from tomofly.store import intake, sessions
from tomofly.store.database import Database

PIXEL_ANGSTROM = 10.0
SHAPE = (132, 140)
MARGIN = 120
COUNTS = 60.0
BEGAN = datetime(2024, 2, 28, 23, 58, 0)
COMPOSING = ("transfer", "import", "tilt_motion", "tilt_image", "compose")
WINDOWS = "D:\\DATA\\frames\\"


def texture(seed: int = 0) -> np.ndarray:
    """A specimen that looks the same from all sides: grains of some pixels, wider than the field."""
    rng = np.random.default_rng(seed)
    size = (SHAPE[0] + 2 * MARGIN, SHAPE[1] + 2 * MARGIN)
    grains = gaussian_filter(rng.normal(size=size), 2.0)
    return np.asarray(grains / grains.std(), dtype=np.float32)


SPECIMEN = texture()


@dataclass
class Shot:
    """One exposure: what its file and the mdoc say of it. ``level`` of the beam: 0 is dark."""

    name: str
    angle: float
    number: int
    at_s: float
    dose: float = 3.0
    level: float = 1.0
    blocked: float = 0.0
    shift_yx: tuple[int, int] = (0, 0)
    shape: tuple[int, int] = SHAPE


def shots(name: str, angles: Sequence[float], begin_s: float = 0.0, dose: float = 3.0) -> list[Shot]:
    """Make a series, one tilt in 20 s, named as SerialEM does; over midnight of a leap day."""
    return [
        Shot(f"{name}_{n:03d}_{angle:.1f}.mrc", angle, n, begin_s + 20.0 * n, dose)
        for n, angle in enumerate(angles)
    ]


def image_of(shot: Shot) -> np.ndarray:
    """Two frames (2, y, x) of a tilt: the specimen moved and dimmed, with the noise of counting."""
    rng = np.random.default_rng(shot.number + 1)
    top, left = (MARGIN - shot.shift_yx[0], MARGIN - shot.shift_yx[1])
    rows, columns = shot.shape
    field_ = SPECIMEN[top : top + rows, left : left + columns]
    seen = COUNTS * np.exp(1 - 1 / np.cos(np.deg2rad(shot.angle))) * (1 + 0.2 * field_)
    seen[:, : round(shot.blocked * columns)] *= 0.02
    half = np.maximum(shot.level * seen / 2, 0)
    return np.stack([rng.poisson(half), rng.poisson(half)]).astype(np.int16)


def mdoc_head(axis: str = "84.1") -> str:
    title = f"[T = Tilt axis angle = {axis}, binning = 1  spot = 8  camera = 0]\n"
    return f"PixelSpacing = {PIXEL_ANGSTROM}\nVoltage = 300\nImageFile = none.mrc\n\n{title}\n"


def mdoc_section(shot: Shot, number: int | None = None, folder: str = WINDOWS) -> str:
    when = (BEGAN + timedelta(seconds=shot.at_s)).strftime("%d-%b-%Y  %H:%M:%S")
    return (
        f"[ZValue = {shot.number if number is None else number}]\nTiltAngle = {shot.angle}\n"
        f"ExposureDose = {shot.dose}\nPixelSpacing = {PIXEL_ANGSTROM}\nBinning = 1\nTargetDefocus = -4\n"
        f"SubFramePath = {folder}{shot.name}\nNumSubFrames = 2\nDateTime = {when}\n\n"
    )


def mdoc_text(listed: Sequence[Shot], axis: str = "84.1", folder: str = WINDOWS) -> str:
    return mdoc_head(axis) + "".join(mdoc_section(shot, folder=folder) for shot in listed)


@dataclass
class TiltBench:
    """A session on a folder of tilts. ``now`` is what its clock says, in seconds since 1970."""

    root: Path
    document: dict[str, dict[str, Any]] = field(default_factory=dict)
    stages: Sequence[str] = COMPOSING
    now: float = field(default_factory=time.time)
    ran: list[tuple[str, str]] = field(default_factory=list)
    name: str = "bench"

    def __post_init__(self) -> None:
        self.microscope = self.root / "microscope"
        self.microscope.mkdir(parents=True, exist_ok=True)
        self.home: Home = open_home(self.root / "home", f"sqlite:///{self.root / 'home' / 'tomofly.db'}")
        base: dict[str, dict[str, Any]] = {
            "source": {"pattern": f"{self.microscope}/*.mrc", "settle_s": 0, "give_up_s": 0},
            "microscope": {"pixel_size_angstrom": PIXEL_ANGSTROM},
            "tilt_image": {"ctf_resolution_range_angstrom": (60, 22)},
            "compose": {"provisional_every": 0, "minimum_count": 5},
        }
        self.document = {n: base.get(n, {}) | self.document.get(n, {}) for n in {*base, *self.document}}
        info = create_session(
            self.home, self.name, kind="tomo", folder=self.root / "session", document=self.document
        )
        self.session_id, self.folder = info.row.id, info.folder
        self.whole = workflow_of("tomo")
        self.workflow: Workflow = build_workflow("tomo", [self.whole[name] for name in self.stages])
        self.restart()

    @property
    def database(self) -> Database:
        return self.home.database

    def restart(self) -> None:
        """Begin anew as after a crash: nothing is known but what the database and the files hold."""
        self._settings()
        scope = Scope(self.session_id, self.workflow, self.folder)
        self.engine = Engine(self.database, scope, self._by_track)
        self.engine.recover()
        self._fill_catalogue()

    def _settings(self) -> None:
        settings = self.whole.settings(self.document)
        self._by_track = dict.fromkeys(self.workflow.tracks, settings)
        self.settings = settings

    def _fill_catalogue(self) -> None:
        self.cataloguer = Cataloguer(self.workflow, self.settings, 0.0)
        with self.database.read() as connection:
            for rows in intake.items_in_lots(connection, self.session_id, 1000, self.cataloguer.kind):
                self.cataloguer.remember(rows)
        source = self.settings["source"]
        assert isinstance(source, SourceParams)
        notes = self.cataloguer.note_sources(source)
        self._watchers = [*(Watcher(each) for each in notes), Watcher(source)]

    def change(self, **sections: dict[str, Any]) -> None:
        """Put other settings in force, as a restart of the session does."""
        for section, values in sections.items():
            self.document.setdefault(section, {}).update(values)
        self._settings()
        self.engine.use_settings(self._by_track)
        self._fill_catalogue()

    # the microscope

    def write(self, *taken: Shot) -> None:
        """Write the movies of these exposures, whole, at the time when they were taken."""
        for shot in taken:
            partial = self.microscope / f".{shot.name}"
            write_image(partial, image_of(shot), PIXEL_ANGSTROM)
            partial.rename(self.microscope / shot.name)

    def write_mdoc(self, name: str, text: str) -> Path:
        path = self.microscope / f"{name}.mrc.mdoc"
        path.write_text(text, encoding="utf-8")
        return path

    # the session

    def look(self) -> None:
        """Find what is there, and what has changed."""
        for watcher in self._watchers:
            found = [_source_file(arrival) for arrival in self._arrivals(watcher)]
            self._take(found)

    def _arrivals(self, watcher: Watcher) -> list[Any]:
        self.now += 100.0  # folders are listed again
        return watcher.poll(self.now, impatient=True)

    def _take(self, found: Sequence[Any]) -> None:
        catalog = self.cataloguer._catalog
        assert catalog is not None
        items = [self.cataloguer._of_entry(entry) for entry in catalog.take(found)]
        self.engine.register(items, self.now)

    def step(self, limit: int = 100) -> int:
        """Plan, run up to ``limit`` tasks, and write down what they made."""
        self.now += 1.0
        while self.engine.plan(self.now):
            pass
        orders = self.engine.take_orders([stage.name for stage in self.workflow.stages], limit, self.now, 1)
        reports = [run_task(order) for order in orders]
        self.ran += [(report.order.stage.name, report.order.item.key) for report in reports]
        self.engine.commit(reports, self.now)
        return len(orders)

    def work(self) -> None:
        """Go on until there is nothing to do just now."""
        for _ in range(300):
            if self.step() == 0:
                return
        raise AssertionError("the session does not come to rest")

    def pass_time(self, seconds: float) -> None:
        """Let time pass in which nothing comes, and do what there is to do then."""
        self.now += seconds
        self.work()

    def finish(self) -> None:
        """Find what is there, do it, then close the session as ``--once`` does."""
        self.look()
        self.work()
        self.engine.set_closed(True)
        self.work()
        assert self.engine.settled(), "the session does not end"

    def run_conductor(self) -> None:
        """Run the session as ``--once`` does, with its real clock, in this process."""
        legal = self.workflow.schema()
        document = {name: values for name, values in self.settings.document().items() if name in legal}
        with self.database.begin() as connection:
            revision = sessions.save_settings(connection, self.session_id, document, self.now)
            sessions.update_tracks(connection, self.session_id, None, revision=revision)
        row = session_info(self.home, self.name).row
        options = RunOptions(once=True)
        Conductor(self.database, row, self.workflow, options).run(InlineExecutor())

    # what came of it

    def series(self, name: str) -> TiltSeries:
        return series_tilts(self.home, self.name, name)

    def all_series(self) -> dict[str, TiltSeries]:
        return {each.series: each for each in all_series(self.home, self.name)}

    def tilts(self, name: str) -> dict[int | str, Tilt]:
        """Give the tilts of a series by their order of exposure, or by name where they have none."""
        return {t.name if t.order is None else t.order: t for t in self.series(name).tilts}

    def left_out(self, name: str) -> dict[int | str, str]:
        return {order: tilt.excluded for order, tilt in self.tilts(name).items() if tilt.excluded}

    def times_run(self, stage: str, key: str) -> int:
        return self.ran.count((stage, key))
