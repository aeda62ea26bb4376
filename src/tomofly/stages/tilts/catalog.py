"""The catalogue of tilts: from movies, stacks and mdoc files, in any order of coming, to tilts of series."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tomofly.formats.errors import BadFile
from tomofly.model import Entry, SourceFile
from tomofly.stages.tilts.attributes import SeriesView, describe_stack, describe_tilts, describe_unknown
from tomofly.stages.tilts.claims import Claim, Shelf, listed_names
from tomofly.stages.tilts.notes import NOTE_SUFFIXES, SeriesNote, read_note
from tomofly.stages.tilts.rules import ComposeParams


@dataclass(frozen=True)
class _Remembered:
    """What an earlier process knew of an item, and the mdoc from which it knew it."""

    attributes: Mapping[str, Any]
    mdoc: Path | None


class TiltCatalog:
    """Makes a tilt of every movie, and a series of every stack. What it gives depends on the files and notes
    alone, not on the order in which they came.

    The attributes of a tilt are described in ``attributes``.
    """

    def __init__(self, params: ComposeParams) -> None:
        folder = params.notes_folder.rstrip("/")
        below = f"{folder}/**/" if folder else ""
        self.notes = tuple(f"{below}*{suffix}" for suffix in NOTE_SUFFIXES)
        self._params = params
        self._shelf = Shelf(params)
        self._claims: dict[str, Claim] = {}
        self._members: dict[str, set[str]] = defaultdict(set)
        self._given: dict[str, Entry] = {}
        self._remembered: dict[str, _Remembered] = {}
        self._problems: dict[str, str] = {}
        self._strays: set[str] = set()

    @property
    def note_problems(self) -> Mapping[str, str]:
        """Give the notes that are of no use, by path, and why."""
        return self._problems

    @property
    def problems(self) -> Mapping[str, str]:
        """Give the notes that are of no use, and one file of those that belong to no series yet, and why."""
        return {**self._problems, **self._stray()}

    def _stray(self) -> dict[str, str]:
        if not self._strays:
            return {}
        key = min(self._strays)
        file = self._shelf.files[key]
        flags = describe_unknown(file, self._claims[key], self._params)["flags"]
        why = next(message for code, message in flags if code == "no_series")
        others = ", and so are other files" if len(self._strays) > 1 else ""
        return {str(file.path): f"{why}: it is in no series{others}"}

    def take(self, files: Sequence[SourceFile]) -> list[Entry]:
        """Take in what was found; give the items that are new or of which something else is known now."""
        touched: set[str] = set()
        noted: set[str] = set()
        for file in files:
            if file.path.suffix.lower() in NOTE_SUFFIXES:
                series, keys = self._take_note(file)
                touched |= keys
                noted |= series
            else:
                touched |= self._shelf.add_file(file)
        return self._renewed(self._reclaim(touched) | noted)

    def remember(self, entries: Iterable[Entry]) -> None:
        """Take over the items that were registered before, and read again the notes they were known from."""
        notes: dict[Path, str] = {}
        for entry in entries:
            mdoc = entry.attributes.get("mdoc")
            path = Path(mdoc) if mdoc else None
            self._given[entry.key] = entry
            self._remembered[entry.key] = _Remembered(entry.attributes, path)
            self._shelf.add_file(SourceFile(entry.source, entry.key, entry.content, entry.acquired_at or 0.0))
            for name in (mdoc, *entry.attributes.get("lists", ())):
                if name:
                    notes[Path(name)] = str(entry.attributes.get("mdoc_key") or Path(name).name)
        for path, key in notes.items():
            if path.is_file():
                self._take_note(SourceFile(path, key, "", path.stat().st_mtime_ns / 1e9))
        self._reclaim(self._shelf.files)

    def _take_note(self, file: SourceFile) -> tuple[set[str], set[str]]:
        """Read a note; give the series and the files that it may concern. One of no use changes nothing."""
        try:
            note = read_note(file)
        except BadFile as error:
            self._problems[str(file.path)] = f"{error.what}. {error.do}."
            return set(), set()
        self._problems.pop(str(file.path), None)
        if not isinstance(note, SeriesNote):
            return set(), self._shelf.add_list(note)
        old = self._shelf.notes.get(note.path)
        series = {self._shelf.key_of(old)} if old is not None else set()
        touched = self._shelf.add_note(note)
        return series | {self._shelf.key_of(note)}, touched

    def _reclaim(self, keys: Iterable[str]) -> set[str]:
        """Say anew to which series files belong; give the series that have other members or facts now."""
        concerned = set()
        for key in keys:
            before = self._claims.get(key)
            claim = self._claim(self._shelf.files[key])
            self._claims[key] = claim
            (self._strays.discard if claim.series or claim.of_movies else self._strays.add)(key)
            if before is not None:
                self._members[_place(before, key)].discard(key)
                concerned.add(_place(before, key))
            self._members[_place(claim, key)].add(key)
            concerned.add(_place(claim, key))
        return concerned

    def _claim(self, file: SourceFile) -> Claim:
        """Say to which series a file belongs; where its mdoc is no longer there, as it was known before."""
        claim, before = self._shelf.claim(file), self._remembered.get(file.key)
        if before is None or before.mdoc is None:
            return claim
        if before.mdoc in self._shelf.notes or claim.note is not None:
            self._remembered.pop(file.key)
            return claim
        series, source = before.attributes.get("series", ""), before.attributes.get("series_source", "")
        return Claim(series, source)

    def _renewed(self, concerned: Iterable[str]) -> list[Entry]:
        """Describe the members of these series; give the entries that differ from what was given before."""
        entries = []
        for place in concerned:
            for key, attributes in self._describe(place).items():
                file = self._shelf.files[key]
                known = self._remembered.get(key)
                frozen = known is not None and known.mdoc is not None
                said = known.attributes if known is not None and frozen else attributes
                entry = Entry(key, file.path, file.content, file.acquired_at, said)
                if self._given.get(key) != entry:
                    self._given[key] = entry
                    entries.append(entry)
        return sorted(entries, key=lambda e: (e.acquired_at or 0.0, e.key))

    def _describe(self, place: str) -> dict[str, dict[str, Any]]:
        """Give the attributes of the files of a series, or of one that belongs to none."""
        keys = self._members.get(place, set())
        files = {key: self._shelf.files[key] for key in sorted(keys)}
        claims = {key: self._claims[key] for key in files}
        if not files:
            return {}
        if any(claim.source == "stack" for claim in claims.values()):
            return {key: describe_stack(files[key], claims[key], self._params) for key in files}
        if not next(iter(claims.values())).series:
            return {key: describe_unknown(files[key], claims[key], self._params) for key in files}
        notes = self._shelf.series_notes(place)
        listed = listed_names(notes)
        owners = {name: self._shelf.owner(note, tilt) for name, (note, tilt) in listed.items()}
        view = SeriesView(place, files, claims, notes, {n: t for n, (_, t) in listed.items()}, owners)
        return describe_tilts(view, self._params)


def _place(claim: Claim, key: str) -> str:
    """Name where a file is kept: its series, or a place of its own, which no series can be named as."""
    return claim.series or f"\0{key}"
