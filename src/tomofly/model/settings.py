"""Settings: one validated model per session kind, made of the parameter models of its stages."""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self, TypeVar

from pydantic import ValidationError

from tomofly.model.errors import TomoflyError
from tomofly.model.parameters import StageParams

Schema = Mapping[str, type[StageParams]]
Section = TypeVar("Section", bound=StageParams)


@dataclass(frozen=True)
class Settings:
    """The validated settings of a session: one section per stage, and the shared ones."""

    kind: str
    sections: Mapping[str, StageParams]

    @classmethod
    def validate(cls, kind: str, schema: Schema, document: Mapping[str, Any]) -> Self:
        """Check a document of sections against the schema.

        Raises TomoflyError naming the section and the parameter, the value, and what is legal.
        """
        for name in document:
            if name not in schema:
                raise TomoflyError(f"There is no section '{name}' in the settings", _nearest(name, schema))
        sections = {name: _section(name, model, document.get(name, {})) for name, model in schema.items()}
        return cls(kind, sections)

    def __getitem__(self, section: str) -> StageParams:
        return self.sections[section]

    def section(self, name: str, kind: type[Section]) -> Section:
        """Give a section by its type. Raises TypeError where it has another."""
        return section_of(self.sections, name, kind)

    def document(self) -> dict[str, Any]:
        """Give all values as JSON."""
        return {name: section.model_dump(mode="json") for name, section in self.sections.items()}

    def changed(self, assignments: Iterable[str]) -> Self:
        """Apply ``section.name=value`` assignments, each checked. Raises TomoflyError."""
        document = self.document()
        for assignment in assignments:
            section, name, value = _parse(assignment)
            if section not in document:
                raise TomoflyError(f"There is no section '{section}'", _nearest(section, self.sections))
            if name not in document[section]:
                raise TomoflyError(
                    f"There is no parameter '{section}.{name}'", _nearest(name, document[section])
                )
            document[section][name] = value
        return self.validate(self.kind, {n: type(s) for n, s in self.sections.items()}, document)


def section_of(sections: Mapping[str, StageParams], name: str, kind: type[Section]) -> Section:
    """Give a section by its type. Raises TypeError where it has another."""
    section = sections[name]
    if not isinstance(section, kind):
        raise TypeError(f"the section '{name}' is a {type(section).__name__}, no {kind.__name__}")
    return section


def _parse(assignment: str) -> tuple[str, str, str]:
    left, equals, text = assignment.partition("=")
    section, dot, name = left.strip().partition(".")
    if not (equals and dot and name):
        raise TomoflyError(f"'{assignment}' is no setting", "Write it as section.name=value")
    return section, name, text.strip()


def _section(name: str, model: type[StageParams], values: Any) -> StageParams:
    if not isinstance(values, Mapping):
        raise TomoflyError(f"Section '{name}' must hold names and values, not {values!r}")
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join([name, *(str(part) for part in first["loc"])])
        if first["type"] == "extra_forbidden":
            raise TomoflyError(
                f"There is no parameter '{where}'", _nearest(str(first["loc"][-1]), model.model_fields)
            ) from None
        raise TomoflyError(f"{where} cannot be {first['input']!r}: {first['msg']}") from None


def _nearest(name: str, legal: Iterable[str]) -> str:
    names = sorted(legal)
    close = difflib.get_close_matches(name, names, n=1)
    return f"Did you mean '{close[0]}'?" if close else "Legal are: " + ", ".join(names)
