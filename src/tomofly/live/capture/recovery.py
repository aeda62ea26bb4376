"""What a killed program left of its captures: made whole, or removed, and told."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import structlog

from tomofly.formats.data_exchange.writing import copy_unfinished, publish
from tomofly.live.capture.names import PART, SUFFIX, Claim, final_path
from tomofly.live.capture.request import Ending
from tomofly.live.capture.space import SpaceGuard
from tomofly.model.errors import BadInput

log = structlog.get_logger(__name__)

_COPY = ".h5.recovering"


@dataclass(frozen=True)
class Recovered:
    """What became of one part: `path` of the whole file, or None where there was nothing to keep."""

    part: Path
    path: Path | None
    frames: int


def unfinished_parts(folder: Path) -> list[Path]:
    """The parts in a folder: those of killed programs, and those that others are writing."""
    return sorted(folder.glob(f"*{PART}"))


def recover(parts: Iterable[Path], space: SpaceGuard) -> list[Recovered]:
    """Make whole files of the parts that nobody writes any more; remove those without a frame.

    A part for whose copy there is no room is left for the next start.
    """
    return [done for part in parts if (done := _recover_one(part, space))]


def _recover_one(part: Path, space: SpaceGuard) -> Recovered | None:
    try:
        claim = Claim(part, new=False)
    except OSError as error:
        log.info("a capture is left to the program that writes it", file=part.name, reason=str(error))
        return None
    try:
        return _make_whole(part, space)
    finally:
        claim.release()


def _make_whole(part: Path, space: SpaceGuard) -> Recovered | None:
    stem = part.name.removesuffix(PART)
    copy = part.with_name(stem + _COPY)
    copy.unlink(missing_ok=True)  # of a recovery that was killed itself
    try:
        space.require(part.stat().st_size)
        frames = copy_unfinished(part, copy, {"recovered": 1, "ended": Ending.RECOVERED.value})
    except BadInput as error:
        log.warning("a killed capture waits for room to be recovered", file=part.name, reason=str(error))
        return None
    except FileNotFoundError:
        return None  # another program was faster
    except (OSError, KeyError, RuntimeError, ValueError) as error:
        log.warning("a killed capture is removed, as nothing can be read of it", file=part.name,
                    reason=str(error))  # fmt: skip
        frames = 0
    if not frames:
        copy.unlink(missing_ok=True)
        part.unlink()
        log.warning("a killed capture is removed, as it has no frame", file=part.name)
        return Recovered(part, None, 0)
    path = part.with_name(stem + SUFFIX)
    if path.exists():
        path = final_path(part.parent, f"{stem}_recovered", None)
    publish(copy, path)
    part.unlink()
    log.warning("a killed capture is recovered", file=path.name, frames=frames)
    return Recovered(part, path, frames)
