"""A simulated instrument out of options and of ``--set name=value``, for all that simulates."""

import json
from collections.abc import Mapping, Sequence
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from tomofly.model import TomoflyError

Model = TypeVar("Model", bound=BaseModel)


def make_instrument(
    kind: type[Model], what: str, values: Mapping[str, object], assignments: Sequence[str]
) -> Model:
    """Make ``kind``, called ``what`` in errors, of values and of assignments name=value.

    Raises TomoflyError with what is legal.
    """
    everything = dict(values)
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise TomoflyError(f"'{assignment}' is no setting of the {what}", "Write it as name=value")
        try:
            everything[name.strip()] = json.loads(text)
        except json.JSONDecodeError:
            everything[name.strip()] = text
    try:
        return kind.model_validate(everything)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or f"The {what}"
        if first["type"] == "extra_forbidden":
            legal = ", ".join(kind.model_fields)
            raise TomoflyError(f"The {what} has no setting '{where}'", f"Names are: {legal}") from None
        raise TomoflyError(f"{where} cannot be {first['input']!r}: {first['msg']}") from None
