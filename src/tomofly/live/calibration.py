"""Dark and flat fields: versions, each with the frame from which it is valid, per lens, exposure and form."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import structlog
from numpy.typing import NDArray

from tomofly.live.field_runs import FieldRun, FieldVersion, unusable
from tomofly.live.field_storage import load_versions, save_version
from tomofly.live.frames import Frame, FrameKind

log = structlog.get_logger(__name__)

# Versions of one kind, lens and size that are kept; older frames are no longer in any ring.
_KEPT = 8


@dataclass(frozen=True, eq=False)
class DarkFlat:
    """The fields for a frame: means (y, x) float32, with the versions they come from.

    `flat_scale` is by how much longer the frame was exposed than the flat: the flat it would have had is
    ``dark + (flat - dark) * flat_scale``.
    """

    dark: NDArray[np.float32]
    flat: NDArray[np.float32]
    dark_version: FieldVersion
    flat_version: FieldVersion
    flat_scale: float = 1.0


class CalibrationStore:
    """Collects dark and flat frames into versions, and knows which are valid for a frame.

    `put` takes every frame of the stream: a run of dark or flat frames is a version as soon as it ends, with
    the next frame of another kind or `close_run`. A version that cannot be right is refused, with a reason in
    `refused`, by kind, until a good one comes. `fits`: whether there were both for the last frame that
    asked; None before. With a `folder`, versions are saved there, and valid again after a restart, from the
    first frame on. `raw_frames`: how many frames of a version are kept as they were, for captures.
    """

    def __init__(self, folder: Path | None = None, *, raw_frames: int = 40) -> None:
        self._folder = folder
        self._raw_frames = raw_frames
        self._lock = Lock()
        # Saving waits for the disk; the frames do not wait for it.
        self._saving = ThreadPoolExecutor(1, "fields") if folder else None
        self._run: FieldRun | None = None
        self._last: DarkFlat | None = None
        self._changed: list[Callable[[FieldVersion], None]] = []
        self.refused: dict[FrameKind, str] = {}
        self._refusal: list[Callable[[str], None]] = []
        self.fits: bool | None = None
        self._versions: list[FieldVersion] = load_versions(folder) if folder else []

    def close(self) -> None:
        """Make a version of an open run, and wait until all are saved."""
        self.close_run()
        if self._saving is not None:
            self._saving.shutdown()

    def on_change(self, call: Callable[[FieldVersion], None]) -> None:
        """Call with every new version, in the thread that made it."""
        self._changed.append(call)

    def on_refusal(self, call: Callable[[str], None]) -> None:
        """Call with the reason of each version that is refused, in the thread that made it."""
        self._refusal.append(call)

    def put(self, frame: Frame) -> None:
        """Take a frame of the stream, of whatever kind; moving ones never enter a version."""
        usable = frame.kind in (FrameKind.DARK, FrameKind.FLAT) and not frame.moving
        if self._run is not None and not (usable and self._run.continues_with(frame)):
            self.close_run()
        if usable:
            if self._run is None:
                self._run = FieldRun(frame, self._raw_frames)
            else:
                self._run.add(frame)

    def close_run(self) -> FieldVersion | None:
        """Make a version of the run so far; None where there is none, or none that can be right."""
        run, self._run = self._run, None
        return self.add(run.version()) if run else None

    def add_mean(
        self, kind: FrameKind, mean: NDArray[Any], valid_from: int, *, lens: int | None = None
    ) -> FieldVersion | None:
        """Take a mean (y, x) that another program made, such as a tomoScanStream's broadcast."""
        image = np.ascontiguousarray(mean, np.float32)
        return self.add(FieldVersion(kind, image, 1, float("nan"), valid_from, lens=lens))

    def add(self, version: FieldVersion) -> FieldVersion | None:
        """Take a version, unless it cannot be right: then None, and the reason is in `refused`."""
        other = FrameKind.FLAT if version.kind is FrameKind.DARK else FrameKind.DARK
        with self._lock:
            sort = _Sort(version.lens, version.exposure_s, version.mean.shape, version.dtype)
            opposite = _best(self._versions, other, version.valid_from, sort)
            reason = unusable(version, opposite)
            if reason:
                self.refused[version.kind] = reason
            else:
                self.refused.pop(version.kind, None)
                self._versions = _without_old([*self._versions, version], version)
        if reason:
            log.warning("a dark or flat is refused", reason=reason)
            for refuse in self._refusal:
                refuse(reason)
            return None
        if self._saving is not None and self._folder is not None:
            self._saving.submit(_save, self._folder, version)
        log.info("new field", kind=version.kind.name, frames=version.count, valid_from=version.valid_from)
        for call in self._changed:
            call(version)
        return version

    def versions(self) -> tuple[FieldVersion, ...]:
        """All that are kept, oldest first."""
        with self._lock:
            return tuple(self._versions)

    def version(self, kind: FrameKind, frame: Frame, *, nearest: bool = False) -> FieldVersion | None:
        """The dark or flat of a frame; with `nearest`, the first one after it where there is none before."""
        with self._lock:
            return _best(self._versions, kind, frame.number, _sort_of(frame), nearest=nearest)

    def at(
        self,
        number: int,
        shape_yx: tuple[int, ...] | None = None,
        *,
        lens: int | None = None,
        exposure_s: float | None = None,
        dtype: str | None = None,
    ) -> DarkFlat | None:
        """The dark and flat valid for a frame number; None where either is missing.

        As long as they stay the same, so does the object.
        """
        sort = _Sort(lens, exposure_s, shape_yx, dtype)
        with self._lock:
            flat = _best(self._versions, FrameKind.FLAT, number, sort)
            if flat is not None:
                sort = replace(sort, shape=flat.mean.shape, dtype=dtype or flat.dtype)
            dark = _best(self._versions, FrameKind.DARK, number, sort)
        if dark is None or flat is None:
            return None
        scale = exposure_s / flat.exposure_s if exposure_s and flat.exposure_s else 1.0
        last = self._last
        if last and last.dark_version is dark and last.flat_version is flat and last.flat_scale == scale:
            return last
        self._last = DarkFlat(dark.mean, flat.mean, dark, flat, scale)
        return self._last

    def for_frame(self, frame: Frame) -> DarkFlat | None:
        """The dark and flat of a frame."""
        sort = _sort_of(frame)
        found = self.at(
            frame.number, sort.shape, lens=sort.lens, exposure_s=sort.exposure_s, dtype=sort.dtype
        )
        self.fits = found is not None
        return found


def _save(folder: Path, version: FieldVersion) -> None:
    try:
        save_version(folder, version)
    except OSError as error:
        log.warning("a dark or flat cannot be saved", folder=str(folder), error=str(error))


@dataclass(frozen=True)
class _Sort:
    """What a field must have in common with a frame; None: does not matter."""

    lens: int | None
    exposure_s: float | None
    shape: tuple[int, ...] | None
    dtype: str | None

    def has(self, version: FieldVersion) -> bool:
        return (
            (self.lens is None or version.lens is None or version.lens == self.lens)
            and (self.shape is None or version.mean.shape == self.shape)
            and (self.dtype is None or version.dtype is None or version.dtype == self.dtype)
        )


def _sort_of(frame: Frame) -> _Sort:
    sent = frame.binned
    shape, dtype = (sent.shape, sent.dtype) if sent else (frame.image.shape, str(frame.image.dtype))
    return _Sort(frame.lens, frame.exposure_s, shape, dtype)


def _best(
    versions: Iterable[FieldVersion], kind: FrameKind, number: int, sort: _Sort, *, nearest: bool = False
) -> FieldVersion | None:
    """The newest of those that are valid and fit; one of the same exposure before any other."""
    fitting = [version for version in versions if version.kind is kind and sort.has(version)]
    valid = [version for version in fitting if version.valid_from <= number]
    if not valid:
        return min(fitting, key=lambda version: version.valid_from, default=None) if nearest else None
    return max(valid, key=lambda version: (_same_exposure(version, sort.exposure_s), version.valid_from))


def _same_exposure(version: FieldVersion, exposure_s: float | None) -> bool:
    if exposure_s is None or version.exposure_s is None:
        return True
    return abs(version.exposure_s - exposure_s) <= 0.001 * exposure_s


def _without_old(versions: list[FieldVersion], newest: FieldVersion) -> list[FieldVersion]:
    """All but the oldest of the newest's sort, where there are many; raw frames only of the last two."""
    alike = [version for version in versions if version.key == newest.key]
    gone = set(map(id, alike[:-_KEPT]))
    bare = set(map(id, alike[:-2]))
    return [
        version.without_raw() if id(version) in bare else version
        for version in versions
        if id(version) not in gone
    ]
