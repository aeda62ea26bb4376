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

    Where movies are only linked, no copy is made. A copy that cannot be made is told of, and the reference
    is read from where it is.
    """
    return {track: _with_own_gain(folder, mine) for track, mine in settings.items()}


def own_gain(folder: Path, gain: GainParams) -> Path:
    """Say where the session's copy of a gain reference lies; its content is part of the name."""
    return folder / FOLDER / f"{gain.checksum[:12]}-{Path(gain.path).name}"


def only_copy(folder: Path, settings: Settings) -> Path | None:
    """Give the session's copy of its gain reference where the original is gone; None where it is not."""
    gain = _named_gain(settings)
    if gain is None or Path(gain.path).exists():
        return None
    own = own_gain(folder, gain)
    return own if own.is_file() else None


def hand_over(copy: Path, folder: Path, settings: Settings) -> None:
    """Bring a session's copy of the gain reference into the folder of another with these settings."""
    gain = _named_gain(settings)
    if gain is not None:
        _bring(copy, own_gain(folder, gain), gain.checksum)


def _with_own_gain(folder: Path, settings: Settings) -> Settings:
    gain = _named_gain(settings)
    if gain is None:
        return settings
    own = own_gain(folder, gain)
    linked = getattr(settings.sections.get("transfer"), "mode", "link") == "link"
    if Path(gain.path) == own:
        return settings
    if not own.is_file() and (linked or not _bring(Path(gain.path), own, gain.checksum)):
        return settings
    here = gain.model_copy(update={"path": str(own)})
    return Settings(settings.kind, {**settings.sections, "gain": here})


def _named_gain(settings: Settings) -> GainParams | None:
    gain = settings.sections.get("gain")
    return gain if isinstance(gain, GainParams) and gain.path and gain.checksum else None


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
