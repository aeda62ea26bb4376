"""Bringing a movie, and the files that belong to it, from where it was recorded into the session."""

from typing import Literal

from pydantic import field_validator

from tomofly.model import MapStage, Metric, Resources, StageParams, parameter
from tomofly.model.loading import LoadedOnCall


class TransferParams(StageParams):
    """How movies come into the session. Results do not depend on it."""

    mode: Literal["link", "copy", "move"] = parameter(
        "link",
        "Link to the movies where they are, copy them, or copy and then delete them at the source",
        affects_result=False,
    )
    verify: bool = parameter(
        True, "Read each copy again and compare checksums; always done before a source is deleted",
        affects_result=False,
    )  # fmt: skip
    additional_suffixes: tuple[str, ...] = parameter(
        (), "Suffixes of further files with a movie's name that come with it, beside XML and mdoc",
        advanced=True, affects_result=False,
    )  # fmt: skip

    @field_validator("additional_suffixes")
    @classmethod
    def _with_dots(cls, suffixes: tuple[str, ...]) -> tuple[str, ...]:
        names = [suffix.strip().lstrip(".") for suffix in suffixes]
        if not all(names) or any("/" in name for name in names):
            raise ValueError("a suffix is written like .star")
        return tuple(dict.fromkeys(f".{name}" for name in names))


STAGE = MapStage(
    name="transfer",
    version="1",
    summary="Link, copy or move each movie, with its metadata, into the session",
    session_kinds=("spa", "tomo"),
    track="transfer",
    consumes="movie",
    produces="movie",
    params=TransferParams,
    run=LoadedOnCall("tomofly.stages.transfer_run", "transfer"),
    metrics=(
        Metric("transferred_bytes", "B", "Size of the movie and the files that came with it"),
        Metric("transfer_speed_mb_per_s", "MB/s", "Speed at which the movie was copied", "high"),
    ),
    resources=Resources(cores=1, memory_gb=0.1, slot="transfer"),
    retries=5,
)
