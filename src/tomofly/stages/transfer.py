"""Bringing a movie, and the files that belong to it, from where it was recorded into the session."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tomofly.formats.completeness import probe
from tomofly.formats.epu import additional_files
from tomofly.model import (
    BadInput,
    ItemRef,
    MapStage,
    Metric,
    Outcome,
    Resources,
    StageContext,
    StageParams,
    TomoflyError,
    parameter,
)
from tomofly.stages.verified_copy import Copied, copy_verified, reading

MEGABYTE = 1e6


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


@dataclass(frozen=True)
class Piece:
    """One of the files of an item: the name of its product, where it is, and where it goes."""

    product: str
    source: Path
    target: Path


def transfer(item: ItemRef, params: TransferParams, ctx: StageContext) -> Outcome:
    """Link or copy one movie with its additional files.

    Raises BadInput for a truncated movie, TomoflyError (tried again) for a source that is away, unreadable
    or changing, OSError for trouble with the session's own disk.
    """
    source = require_source(item)
    pieces = [Piece("movie", source, _target(ctx, source.suffix))]
    for product, path in companions(source, params.additional_suffixes).items():
        pieces.append(Piece(product, path, _target(ctx, f".{product}")))
    if params.mode == "link":
        return _link(pieces)
    return _copy(pieces, params, ctx)


def require_source(item: ItemRef) -> Path:
    """Give the item's file when it is there, readable, as it was when it was found, and whole."""
    if item.source is None:
        raise BadInput(f"{item.key} has no source file", "Watch the folder that it is in")
    # Absolute, as a link must be, but with links left in place.
    source = item.source.absolute()
    with reading(source), source.open("rb") as opened:
        status = os.fstat(opened.fileno())
    if item.content and item.content != f"{status.st_size}:{status.st_mtime_ns}":
        raise TomoflyError(
            f"{source} has changed since it was found", "It is taken again as soon as it is whole"
        )
    evidence = probe(source)
    if evidence.whole is False:
        raise BadInput(
            _incomplete(source, status.st_size, evidence.expected_bytes, evidence.reason),
            "Bring the whole file under the same name and it is taken again",
        )
    return source


def companions(source: Path, suffixes: Iterable[str] = ()) -> dict[str, Path]:
    """Find the files that belong to a movie, by product name (its suffix without the dot)."""
    found: dict[str, Path] = {}
    with reading(source):
        paths = additional_files(source)
        for suffix in (f".{suffix.lstrip('.')}" for suffix in suffixes):
            named = (source.with_name(source.stem + suffix), source.with_name(source.name + suffix))
            paths += [path for path in named if path.is_file() and path != source]
    for path in paths:
        found.setdefault(path.suffix[1:].lower(), path)
    return {product: path for product, path in found.items() if product != "movie"}


def _incomplete(source: Path, size: int, expected: int | None, reason: str) -> str:
    if expected is not None and expected > size:
        return f"{source.name} is truncated: its header says {expected} bytes, the file has {size}"
    return f"{source.name} is not whole: {reason}"


def _target(ctx: StageContext, suffix: str) -> Path:
    """Give the path for a file of the item; a key that keeps the movie's suffix does not get it twice."""
    return ctx.new_file("" if suffix and ctx.key.endswith(suffix) else suffix)


def _link(pieces: list[Piece]) -> Outcome:
    for piece in pieces:
        piece.target.symlink_to(piece.source)
    return Outcome(_products(pieces), {"transferred_bytes": float(_size(pieces))})


def _copy(pieces: list[Piece], params: TransferParams, ctx: StageContext) -> Outcome:
    moving = params.mode == "move"
    copies: list[Copied] = []
    for piece in pieces:
        partial = ctx.partial / f"{piece.target.name}.partial"
        # Raw data are deleted only after they were verified, whatever the settings say of copies.
        verify = params.verify or moving
        copies.append(copy_verified(piece.source, piece.target, partial, ctx.log, verify=verify))
    movie = copies[0]
    metrics = {"transferred_bytes": float(sum(copy.size for copy in copies))}
    if movie.size > movie.resumed and movie.seconds > 0:
        metrics["transfer_speed_mb_per_s"] = (movie.size - movie.resumed) / movie.seconds / MEGABYTE
    ctx.log.info("%s: %d bytes, xxh3-128 %s", pieces[0].source, movie.size, movie.checksum)
    return Outcome(
        _products(pieces),
        metrics,
        content=f"xxh3:{movie.checksum}",
        discard=tuple(copy.source for copy in copies) if moving else (),
    )


def _products(pieces: list[Piece]) -> dict[str, Path]:
    return {piece.product: piece.target for piece in pieces}


def _size(pieces: list[Piece]) -> int:
    total = 0
    for piece in pieces:
        with reading(piece.source):
            total += piece.source.stat().st_size
    return total


STAGE = MapStage(
    name="transfer",
    version="1",
    summary="Link, copy or move each movie, with its metadata, into the session",
    session_kinds=("spa",),
    track="transfer",
    consumes="movie",
    produces="movie",
    params=TransferParams,
    run=transfer,
    metrics=(
        Metric("transferred_bytes", "B", "Size of the movie and the files that came with it"),
        Metric("transfer_speed_mb_per_s", "MB/s", "Speed at which the movie was copied", "high"),
    ),
    resources=Resources(cores=1, memory_gb=0.1, slot="transfer"),
    retries=5,
)
