"""Deleting sources that were moved: noted before the result is committed, done after, finished at a start.

Between the commit and the deletion the conductor may die; the note tells the next one what is left to do.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import structlog

from tomofly.formats.on_disk import written_whole
from tomofly.model import Spent

FOLDER = ".moves"

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Move:
    """A result that stands for its sources: its files (absolute path, bytes), and what may go for them."""

    task_id: int
    wanted: str
    products: tuple[tuple[str, int], ...]
    spent: tuple[Spent, ...]

    @property
    def is_there(self) -> bool:
        """Whether every file of the result is in its place, whole."""
        try:
            return all(Path(path).lstat().st_size == size for path, size in self.products)
        except OSError:
            return False


class Moves:
    """The notes of one session."""

    def __init__(self, folder: Path) -> None:
        self._notes = folder / FOLDER

    def note(self, move: Move) -> None:
        """Write down what is to be deleted as soon as the result is committed."""
        note = self._path(move)
        note.parent.mkdir(parents=True, exist_ok=True)
        spent = [{**asdict(one), "path": str(one.path)} for one in move.spent]
        with written_whole(note) as part:
            part.write_text(json.dumps({**asdict(move), "spent": spent}), encoding="utf-8")

    def finish(self, move: Move) -> None:
        """Delete the sources of a committed result; what could not be deleted stays noted."""
        if not move.is_there:
            log.error("a moved file is not in its place: its source stays", products=move.products)
            return
        settled = [delete_spent(one) for one in move.spent]
        if all(settled):
            self.forget(move)

    def forget(self, move: Move) -> None:
        """Remove a note."""
        self._path(move).unlink(missing_ok=True)

    def noted(self) -> Iterator[Move]:
        """Give what was noted; a note that was cut off is of a result that is not committed."""
        for note in sorted(self._notes.glob("*.json")):
            try:
                found = json.loads(note.read_text(encoding="utf-8"))
                spent = tuple(Spent(**{**one, "path": Path(one["path"])}) for one in found["spent"])
                products = tuple((path, size) for path, size in found["products"])
                yield Move(found["task_id"], found["wanted"], products, spent)
            except (OSError, ValueError, KeyError, TypeError) as error:
                log.warning("a note of a move cannot be read", note=str(note), error=str(error))

    def _path(self, move: Move) -> Path:
        return self._notes / f"{move.task_id}-{move.wanted}.json"


def delete_spent(spent: Spent) -> bool:
    """Delete a source unless it has become another file since it was copied; say whether that is settled."""
    try:
        if not spent.is_unchanged(spent.path.stat()):
            log.warning("a source has changed since it was copied, and stays", path=str(spent.path))
            return True
        spent.path.unlink()
    except FileNotFoundError:
        return True
    except OSError as error:
        log.warning("a source that was moved could not be deleted", path=str(spent.path), error=str(error))
        return False
    return True


def moves_of(products: Sequence[Path], task_id: int, wanted: str, spent: Sequence[Spent]) -> Move:
    """Describe a result whose files are in place."""
    return Move(task_id, wanted, tuple((str(path), path.lstat().st_size) for path in products), tuple(spent))
