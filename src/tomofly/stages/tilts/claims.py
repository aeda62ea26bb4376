"""To which series a file belongs, by what is known so far: its mdoc, its name, or as a series of its own."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tomofly.model import SourceFile
from tomofly.stages.tilts.names import TiltName, read_name, stem
from tomofly.stages.tilts.notes import ANGLE_SUFFIXES, ORDER_SUFFIX, Listed, ListNote, SeriesNote
from tomofly.stages.tilts.rules import ComposeParams

SeriesSource = Literal["mdoc", "pattern", "stack", ""]


@dataclass(frozen=True)
class Claim:
    """What is known of a file. ``series`` is the key of its series, "" while that is not known.

    ``note`` is the mdoc that lists it as ``listed``, or the mdoc of the whole stack.
    """

    series: str
    source: SeriesSource
    name: TiltName | None = None
    note: SeriesNote | None = None
    listed: Listed | None = None
    angles: ListNote | None = None
    order: ListNote | None = None
    of_movies: str = ""


class Shelf:
    """The files and notes of a session so far, and what they say of each other."""

    def __init__(self, params: ComposeParams) -> None:
        self._params = params
        self.files: dict[str, SourceFile] = {}
        self.notes: dict[Path, SeriesNote] = {}
        self._lists: dict[Path, ListNote] = {}
        self._keys_by_stem: dict[str, set[str]] = defaultdict(set)
        self._notes_by_stem: dict[str, set[Path]] = defaultdict(set)
        self._notes_by_series: dict[str, set[Path]] = defaultdict(set)
        self._lists_by_stem: dict[str, set[Path]] = defaultdict(set)
        self._untrusted: dict[str, set[str]] = defaultdict(set)

    def add_file(self, file: SourceFile) -> set[str]:
        """Take in a file; give the keys of those of which something else may be known now."""
        self.files[file.key] = file
        named_alike = self._keys_by_stem[stem(file.path.name)]
        named_alike.add(file.key)
        return set(named_alike) | self._distrust(file)

    def add_note(self, note: SeriesNote) -> set[str]:
        """Take in an mdoc in place of what it said before; give the keys of files that it may concern."""
        touched = self._drop_note(note.path)
        self.notes[note.path] = note
        self._notes_by_series[note.series].add(note.path)
        for name in _names(note):
            self._notes_by_stem[stem(name)].add(note.path)
            touched |= self._keys_by_stem.get(stem(name), set())
        for other in self._named_as(note):
            touched |= {key for name in _names(other) for key in self._keys_by_stem.get(stem(name), set())}
        touched |= self._keys_by_stem.get(note.series, set())
        touched |= self._keys_by_stem.get(stem(note.image_file or ""), set())
        for key in sorted(touched):
            touched |= self._distrust(self.files[key])
        return touched

    def add_list(self, note: ListNote) -> set[str]:
        """Take in a list of angles, or of the order; give the keys of files that it may concern."""
        self._lists[note.path] = note
        self._lists_by_stem[note.stem].add(note.path)
        return set(self._keys_by_stem.get(note.stem, set()))

    def claim(self, file: SourceFile) -> Claim:
        """Say to which series a file belongs."""
        grouping, name = self._params.grouping, self._read(file)
        if grouping == "stack":
            return self._stack(file)
        found = self._listing(file)
        note, listed = found or (None, None)
        if grouping != "pattern" and note is not None and not note.of_one_frame:
            return Claim(self.key_of(note), "mdoc", name, note, listed)
        if grouping == "auto" and note is None and (of_series := self._as_stack(file)):
            return of_series
        if grouping != "mdoc" and name is not None:
            return Claim(self._named_series(file, name), "pattern", name, note, listed)
        return Claim("", "", name, note, listed)

    def key_of(self, note: SeriesNote) -> str:
        """Give the key of an mdoc's series: its name, with a suffix where another mdoc has the name alone.

        Mdocs of one name that list a movie in common are copies of each other, and of one series.
        """
        movies = set(_names(note))
        strangers = [other for other in self._named_as(note) if movies.isdisjoint(_names(other))]
        if any(len(other.path.name) < len(note.path.name) for other in strangers if other.has_movies):
            return note.full_key
        return note.key

    def _named_as(self, note: SeriesNote) -> list[SeriesNote]:
        alike = [self.notes[path] for path in self._notes_by_series.get(note.series, set())]
        return [other for other in alike if other.path != note.path and other.key == note.key]

    def series_notes(self, series: str) -> list[SeriesNote]:
        """Give the mdocs of a series, the one that lists most first."""
        paths = self._notes_by_series.get(stem(series.rpartition("/")[2]), set())
        notes = [self.notes[path] for path in paths]
        mine = [n for n in notes if self.key_of(n) == series and n.has_movies and not n.of_one_frame]
        return sorted(mine, key=lambda n: (-len(n.tilts), -n.changed_at, str(n.path)))

    def owner(self, note: SeriesNote, listed: Listed) -> str | None:
        """Give the key of the file that an mdoc means: of its name, or of another suffix; the nearest."""
        assert listed.name is not None  # noqa: S101
        alike = [self.files[key] for key in self._keys_by_stem.get(stem(listed.name), set())]
        if not alike:
            return None
        best = min(alike, key=lambda f: (f.path.name != listed.name, -_nearness(f.path, note.path), f.key))
        return best.key

    def _listing(self, file: SourceFile) -> tuple[SeriesNote, Listed] | None:
        """Give the mdoc that lists a file, and as what: of several the nearest, then the longest."""
        found = []
        for path in self._notes_by_stem.get(stem(file.path.name), set()):
            note = self.notes[path]
            alike = [t for t in note.tilts if t.name and stem(t.name) == stem(file.path.name)]
            listed = next((t for t in alike if t.name == file.path.name), alike[-1])
            if self.owner(note, listed) == file.key:
                found.append((note, listed))
        return min(
            found,
            key=lambda f: (
                f[0].of_one_frame, -_nearness(file.path, f[0].path), -len(f[0].tilts), -f[0].changed_at,
                str(f[0].path),
            ),
            default=None,
        )  # fmt: skip

    def _as_stack(self, file: SourceFile) -> Claim | None:
        """Take a file as a whole series where there are angles for its sections, or its movies are meant."""
        note = self._stack_note(file)
        if note is not None and note.has_movies:
            return Claim("", "", note=note, of_movies=self.key_of(note))
        if note is not None or self._list_beside(file, ANGLE_SUFFIXES) is not None:
            return self._stack(file)
        return None

    def _stack(self, file: SourceFile) -> Claim:
        folder, series = file.key.rpartition("/")[0], stem(file.path.name)
        alike = [key for key in self._keys_by_stem[series] if key.rpartition("/")[0] == folder]
        if len(alike) > 1:
            series = file.path.name
        return Claim(
            series=f"{folder}/{series}" if folder else series,
            source="stack",
            note=self._stack_note(file),
            angles=self._list_beside(file, ANGLE_SUFFIXES),
            order=self._list_beside(file, (ORDER_SUFFIX,)),
        )

    def _stack_note(self, file: SourceFile) -> SeriesNote | None:
        """Give the mdoc of a stack: of its name, and naming no other image."""
        notes = [self.notes[path] for path in self._notes_by_series.get(stem(file.path.name), set())]
        mine = [
            n for n in notes
            if not n.of_one_frame and (n.image_file is None or stem(n.image_file) == stem(file.path.name))
        ]  # fmt: skip
        return min(mine, key=lambda n: (-_nearness(file.path, n.path), str(n.path)), default=None)

    def _list_beside(self, file: SourceFile, suffixes: tuple[str, ...]) -> ListNote | None:
        paths = self._lists_by_stem.get(stem(file.path.name), set())
        mine = [self._lists[path] for path in paths if path.suffix.lower() in suffixes]
        return min(
            mine,
            key=lambda n: (
                suffixes.index(n.path.suffix.lower()), -_nearness(file.path, n.path), str(n.path)
            ),
            default=None,
        )  # fmt: skip

    def _read(self, file: SourceFile) -> TiltName | None:
        return read_name(file.path.name, self._params.pattern, numbered=bool(self._params.angles_deg))

    def _named_series(self, file: SourceFile, name: TiltName) -> str:
        """Give the series that a name tells; "" where mdocs have shown that such names tell another thing."""
        if self._params.grouping == "auto":
            if not self._params.pattern and self._untrusted.get(name.series):
                return ""
            notes = [self.notes[path] for path in self._notes_by_series.get(name.series, set())]
            near = min(notes, key=lambda n: (-_nearness(file.path, n.path), str(n.path)), default=None)
            if near is not None and not near.of_one_frame:
                return self.key_of(near)
        folder = file.key.rpartition("/")[0]
        return f"{folder}/{name.series}" if folder else name.series

    def _distrust(self, file: SourceFile) -> set[str]:
        """Note where the name of a listed file tells another series than its mdoc; give who is concerned."""
        name, found = self._read(file), self._listing(file)
        if name is None:
            return set()
        doubts, before = self._untrusted[name.series], bool(self._untrusted[name.series])
        listed_elsewhere = found is not None and not found[0].of_one_frame and found[0].series != name.series
        (doubts.add if listed_elsewhere else doubts.discard)(file.key)
        if bool(doubts) == before:
            return set()
        return {key for key, other in self.files.items() if _series(self._read(other)) == name.series}

    def _drop_note(self, path: Path) -> set[str]:
        """Forget what an mdoc said; give the keys of files that it concerned."""
        old = self.notes.pop(path, None)
        if old is None:
            return set()
        touched = set(self._keys_by_stem.get(old.series, set()))
        self._notes_by_series[old.series].discard(path)
        for name in _names(old):
            self._notes_by_stem[stem(name)].discard(path)
            touched |= self._keys_by_stem.get(stem(name), set())
        return touched


def _names(note: SeriesNote) -> Iterator[str]:
    return (tilt.name for tilt in note.tilts if tilt.name)


def _series(name: TiltName | None) -> str | None:
    return None if name is None else name.series


def _nearness(first: Path, second: Path) -> int:
    """Count the folders that two files have in common."""
    shared = 0
    for a, b in zip(first.parent.parts, second.parent.parts, strict=False):
        if a != b:
            break
        shared += 1
    return shared


def listed_names(notes: Iterable[SeriesNote]) -> dict[str, tuple[SeriesNote, Listed]]:
    """Give each movie that the mdocs of one series list, as the first of them has it."""
    found: dict[str, tuple[SeriesNote, Listed]] = {}
    for note in notes:
        for listed in note.tilts:
            if listed.name:
                found.setdefault(listed.name, (note, listed))
    return found
