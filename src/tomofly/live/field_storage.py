"""Dark and flat versions on the disk, for the next start."""

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import structlog

from tomofly.formats.on_disk import written_whole
from tomofly.live.field_runs import FieldVersion
from tomofly.live.frames import FrameKind

log = structlog.get_logger(__name__)

# Valid from before any frame: numbers begin anew with the program.
FROM_THE_START = -(2**62)
_UNREADABLE = (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, zipfile.BadZipFile)
_FACTS = ("count", "noise", "lens", "exposure_s", "taken_at", "saturated", "dtype")


def save_version(folder: Path, version: FieldVersion) -> Path:
    """Save a version as the newest of its kind, lens, exposure and size; it appears only when whole."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{_name(version)}.npz"
    facts = {"kind": int(version.kind), **{name: getattr(version, name) for name in _FACTS}}
    arrays: dict[str, Any] = {"mean": version.mean}
    if version.raw is not None and version.angles_deg is not None:
        arrays |= {"raw": version.raw, "angles_deg": version.angles_deg}
    # Opened here, as numpy adds its own suffix to names.
    with written_whole(path) as part, part.open("wb") as file:
        np.savez(file, allow_pickle=False, facts=np.array(json.dumps(facts)), **arrays)
    return path


def load_versions(folder: Path) -> list[FieldVersion]:
    """All saved versions, valid from the start, oldest first; an unreadable one is left out and told."""
    versions = []
    for path in sorted(folder.glob("*.npz")):
        try:
            versions.append(_load(path))
        except _UNREADABLE as error:
            log.warning("a saved dark or flat cannot be read", file=path.name, error=str(error))
    return sorted(versions, key=lambda version: version.taken_at)


def _load(path: Path) -> FieldVersion:
    # Opened here, as numpy leaves a file open of which it can make nothing.
    with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
        facts = json.loads(str(stored["facts"]))
        mean = stored["mean"]
        if mean.ndim != 2 or mean.dtype != np.float32:
            raise ValueError(f"its mean is {mean.dtype} with the shape {mean.shape}")
        return FieldVersion(
            kind=FrameKind(facts.pop("kind")),
            mean=mean,
            valid_from=FROM_THE_START,
            raw=stored.get("raw"),
            angles_deg=stored.get("angles_deg"),
            **facts,
        )


def _name(version: FieldVersion) -> str:
    rows, columns = version.mean.shape
    lens = "any" if version.lens is None else str(version.lens)
    exposure = "any" if version.exposure_s is None else f"{version.exposure_s:.9g}"
    dtype = "" if version.dtype is None else f"-{version.dtype}"
    return f"{version.kind.name.lower()}-lens-{lens}-exposure-{exposure}-{columns}x{rows}{dtype}"
