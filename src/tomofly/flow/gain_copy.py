"""The gain reference travels with the movies: a verified copy in the session, which the stages read."""

import hashlib
import logging
from collections.abc import Mapping
from pathlib import Path

import structlog

from tomofly.model import GainParams, Settings, TomoflyError
from tomofly.stages.verified_copy import copy_verified

FOLDER = "gain"

log = structlog.get_logger(__name__)


def with_own_gain(folder: Path, settings: Mapping[str, Settings]) -> dict[str, Settings]:
    """Have settings name the session's copy of the gain reference, made now where there is none.

    Where movies are only linked, so is their gain reference. A copy that cannot be made is told of, and
    the reference is read from where it is.
    """
    return {track: _with_own_gain(folder, mine) for track, mine in settings.items()}


def own_gain(folder: Path, gain: GainParams) -> Path:
    """Say where the session's copy of a gain reference lies; its content is part of the name."""
    return folder / FOLDER / f"{gain.checksum[:12]}-{Path(gain.path).name}"


def _with_own_gain(folder: Path, settings: Settings) -> Settings:
    gain = settings.sections.get("gain")
    mode = getattr(settings.sections.get("transfer"), "mode", "link")
    if not isinstance(gain, GainParams) or not gain.path or not gain.checksum or mode == "link":
        return settings
    own = own_gain(folder, gain)
    if Path(gain.path) == own or (not own.is_file() and not _bring(Path(gain.path), own, gain.checksum)):
        return settings
    here = gain.model_copy(update={"path": str(own)})
    return Settings(settings.kind, {**settings.sections, "gain": here})


def _bring(source: Path, own: Path, checksum: str) -> bool:
    """Copy a gain reference; say whether it is there now, with the content that the settings name."""
    partial = own.with_name(f".{own.name}.partial")
    arrived = own.with_name(f".{own.name}.arrived")
    try:
        own.parent.mkdir(parents=True, exist_ok=True)
        copy_verified(source, arrived, partial, logging.getLogger(__name__))
        with arrived.open("rb") as opened:
            found = hashlib.file_digest(opened, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
        if found == checksum:
            arrived.replace(own)
            return True
        arrived.unlink()
        log.warning("the gain reference has changed since the settings were saved", path=str(source))
    except (OSError, TomoflyError) as error:
        log.warning("the gain reference could not be copied", path=str(source), error=str(error))
    return False
