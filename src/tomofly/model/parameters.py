"""Parameters: each is said once, with its unit, range, default and help."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class StageParams(BaseModel):
    """Base of every section of the settings: unknown names are refused, values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


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
