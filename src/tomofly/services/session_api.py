"""Sessions from Python: made, run, read and exported in a few lines."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tomofly.flow.conductor import RunOptions
from tomofly.flow.process import run_session
from tomofly.model import TomoflyError
from tomofly.services import control, sessions, settings, tilts
from tomofly.services.exports.export import Export, ExportOptions, checked_format, export_session
from tomofly.services.home import Home, open_home
from tomofly.services.progress import Progress, session_progress
from tomofly.services.sessions import SessionInfo, session_info
from tomofly.services.status import Status
from tomofly.services.summary import summarise_session
from tomofly.services.table import Failure, data_frame, list_failures
from tomofly.services.tilts import TiltSeries

if TYPE_CHECKING:
    import pandas


class Session:
    """One session, by its name in a home. It holds nothing itself: everything is read when it is asked for.

    ``settings`` are given as ``{"picks": {"diameter_angstrom": 150}}`` or as ``"section.name=value"`` lines.
    """

    def __init__(self, home: Home, name: str) -> None:
        self._home = home
        self.name = name

    @classmethod
    def create(
        cls,
        name: str,
        *,
        source: str | Path = "",
        out: str | Path | None = None,
        kind: str = "spa",
        settings: Mapping[str, Mapping[str, Any]] | Sequence[str] = (),
        home: str | Path | None = None,
    ) -> "Session":
        """Make a new session. ``source`` is a pattern such as ``/data/**/*.tiff``. Raises TomoflyError."""
        place = open_home(home)
        document = dict(settings) if isinstance(settings, Mapping) else None
        lines = [] if isinstance(settings, Mapping) else list(settings)
        if source:
            lines.append(f"source.pattern={source}")
        sessions.create_session(place, name, kind=kind, folder=out, assignments=lines, document=document)
        return cls(place, name)

    @classmethod
    def open(cls, name: str, *, home: str | Path | None = None) -> "Session":
        """Open a session that exists. Raises TomoflyError listing what there is."""
        place = open_home(home)
        session_info(place, name)
        return cls(place, name)

    def __repr__(self) -> str:
        return f"Session({self.name!r}, {self.status}, in {self.folder})"

    @property
    def info(self) -> SessionInfo:
        """What the database says of the session."""
        return session_info(self._home, self.name)

    @property
    def status(self) -> Status:
        """What the session is doing, in one word."""
        return self.info.status

    @property
    def folder(self) -> Path:
        """Where its products are."""
        return self.info.folder

    def run(
        self,
        *,
        once: bool = True,
        idle_timeout_s: float | None = None,
        on_tick: Callable[[], None] | None = None,
    ) -> dict[str, Any]:
        """Run here until everything that there is has been processed; give the summary.

        With ``idle_timeout_s`` it waits for more, and ends after so long without. Workers are processes:
        a script must call this under ``if __name__ == "__main__":``. Raises TomoflyError.
        """
        begin = time.monotonic()
        control.put_in_force(self._home, self.name)
        once = once and idle_timeout_s is None
        state = run_session(self._home.database, self.info.row.id, RunOptions(once, idle_timeout_s, on_tick))
        if state == "failed":
            raise TomoflyError(f"Session '{self.name}' ended by an error", self.info.row.note)
        return summarise_session(self._home, self.name, wall_s=time.monotonic() - begin)

    def start(self) -> None:
        """Start in the background; the session outlives this program."""
        control.start_session(self._home, self.name)

    def stop(self) -> None:
        """Stop what was started; nothing is lost."""
        control.stop_session(self._home, self.name)

    def restart(self, tracks: Sequence[str] | None = None) -> None:
        """Put the newest settings in force and redo what they make stale."""
        control.restart_session(self._home, self.name, tracks)

    def set(self, *assignments: str) -> int:
        """Change settings, as in ``session.set("picks.threshold=5")``; give the new revision's number."""
        return settings.change_settings(self._home, self.name, assignments)

    def settings(self) -> dict[str, Any]:
        """Give the newest settings."""
        return settings.current_settings(self._home, self.name).document()

    def progress(self) -> Progress:
        """Look at how it is coming along."""
        return session_progress(self._home, self.name)

    def summary(self) -> dict[str, Any]:
        """Give counts, speed, latency and the spread of every metric."""
        return summarise_session(self._home, self.name)

    def table(self, *filters: str, kind: str = "") -> "pandas.DataFrame":
        """Give one line per item with all metrics, for those that pass filters like ``"ice_ring < 2"``.

        Of a session of tilt series the items are those; ``kind="movie"`` gives their tilts.
        """
        return data_frame(self._home, self.name, filters, kind=kind)

    def failures(self) -> list[Failure]:
        """Give the failed tasks, the latest first."""
        return list_failures(self._home, self.name)

    def exclude(self, *keys: str, reason: str) -> int:
        """Leave items out by hand."""
        return control.exclude_items(self._home, self.name, keys, reason)

    def include(self, *keys: str) -> int:
        """Take items in again."""
        return control.include_items(self._home, self.name, keys)

    def tilts(self, series: str) -> TiltSeries:
        """Give a tilt series with what is known of each tilt."""
        return tilts.series_tilts(self._home, self.name, series)

    def exclude_tilts(self, series: str, *names: str, reason: str) -> list[str]:
        """Leave tilts out of their series: named by order of exposure (``"3"``, ``"5-8"``), angle or name."""
        return tilts.exclude_tilts(self._home, self.name, series, names, reason)

    def include_tilts(self, series: str, *names: str) -> list[str]:
        """Have tilts used, whatever is measured and was decided before."""
        return tilts.include_tilts(self._home, self.name, series, names)

    def process_now(self, *series: str) -> None:
        """Go on with the tilts that series have now, without waiting for more."""
        tilts.process_now(self._home, self.name, series)

    def export(
        self,
        out: str | Path | None = None,
        format: str = "relion",  # noqa: A002 - the word that users read
        *,
        filters: Sequence[str] = (),
        particles: bool = False,
        copy_files: bool = False,
        full_stacks: bool = False,
        threshold: float | None = None,
    ) -> Export:
        """Export for other programs (see ``Format``), or as tables (``csv``, ``json``).

        ``threshold``: take all candidates that score so high, instead of the session's picks.
        """
        options = ExportOptions(
            checked_format(format), tuple(filters), particles, copy_files, full_stacks, threshold
        )
        return export_session(self._home, self.name, out, options)

    def close(self) -> None:
        """Close the database."""
        self._home.close()
