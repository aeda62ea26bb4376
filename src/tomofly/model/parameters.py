"""Parameters: each is said once, with its unit, range, default and help."""

from types import NoneType, UnionType
from typing import Any, Literal, Self, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator


class StageParams(BaseModel):
    """Base of every section of the settings: unknown names are refused, values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _read_typed(cls: type[Self], value: Any, info: ValidationInfo) -> Any:
        """Take a value as it is typed on a command line for the list, number or choice that it means."""
        if not isinstance(value, str) or info.field_name is None:
            return value
        return _meant(value.strip(), cls.model_fields[info.field_name].annotation)


def _meant(text: str, annotation: Any) -> Any:
    """Read text as a field means it: ``5,5`` for a tuple, ``90`` for a choice of numbers, ``none``."""
    origin = get_origin(annotation)
    kinds = get_args(annotation) if origin in (Union, UnionType) else (annotation,)
    if NoneType in kinds and text.lower() == "none":
        return None
    for kind in kinds:
        if get_origin(kind) is Literal:
            return next((choice for choice in get_args(kind) if str(choice) == text), text)
    lists = [kind for kind in kinds if get_origin(kind) in (tuple, list)]
    of_any_length = any(get_origin(kind) is list or Ellipsis in get_args(kind) for kind in lists)
    if lists and (of_any_length or "," in text or text[:1] in ("(", "[")):
        return [part.strip().strip("'\"") for part in text.strip("()[]").split(",") if part.strip()]
    return text


class SwitchableParams(StageParams):
    """Base of the parameters of a stage that can be left out of a session."""

    enabled: bool = Field(
        True, description="Run this stage", json_schema_extra={"affects_result": False, "unit": ""}
    )


def parameter(
    default: Any,
    help: str,  # noqa: A002 - the word that users read
    *,
    unit: str = "",
    ge: float | None = None,
    gt: float | None = None,
    le: float | None = None,
    lt: float | None = None,
    advanced: bool = False,
    affects_result: bool = True,
) -> Any:
    """Declare one parameter; ``affects_result=False`` keeps it out of the fingerprint of results."""
    extra: dict[str, Any] = {"unit": unit, "advanced": advanced, "affects_result": affects_result}
    return Field(default, description=help, ge=ge, gt=gt, le=le, lt=lt, json_schema_extra=extra)


def result_parameters(params: StageParams, names: tuple[str, ...] | None = None) -> dict[str, Any]:
    """Give the values that results depend on, as JSON; ``names`` narrows them to those a stage reads."""
    dumped = params.model_dump(mode="json")
    kept = {}
    for name, info in type(params).model_fields.items():
        extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
        if extra.get("affects_result", True) and (names is None or name in names):
            kept[name] = dumped[name]
    return kept
