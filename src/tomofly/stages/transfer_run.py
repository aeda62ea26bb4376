"""Transfer, at work: find the files that belong together, check that they are whole, link or copy them."""

import os
import shutil
import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tomofly.formats.completeness import probe
from tomofly.formats.epu import additional_files, companion_names
from tomofly.model import BadInput, ItemRef, Outcome, StageContext, TomoflyError
from tomofly.model.content import companion_tag, companion_tags, own_content
from tomofly.stages.transfer import TransferParams
from tomofly.stages.verified_copy import Copied, checksum, copy_verified, reading

MEGABYTE = 1e6


@dataclass(frozen=True)
class Piece:
    """One of the files of an item: the name of its product, where it is, and where it goes.

    ``held``: it is in the session already, as the item's content names it.
    """

    product: str
    source: Path
    target: Path
    held: bool = False


def transfer(item: ItemRef, params: TransferParams, ctx: StageContext) -> Outcome:
    """Link or copy one movie with its additional files.

    Raises BadInput for a truncated movie, TomoflyError (tried again) for a source that is away, unreadable
    or changing, OSError for trouble with the session's own disk.
    """
    held = _held_movie(item, params, ctx)
    source = item.source.absolute() if held and item.source is not None else require_source(item)
    pieces = [held or Piece("movie", source, _target(ctx, source.suffix))]
    for product, path in companions(source, params.additional_suffixes).items():
        pieces.append(Piece(product, path, _target(ctx, f".{product}")))
    if held:
        names = companion_names(source.name, params.additional_suffixes)
        pieces += _held_companions(item, names, ctx, {piece.product for piece in pieces})
    return _bring(pieces, params, ctx)


def _held_movie(item: ItemRef, params: TransferParams, ctx: StageContext) -> Piece | None:
    """Give the movie as an earlier run brought it; where it is to be moved, only when its source is gone."""
    if item.source is None or ctx.placed is None or not item.content:
        return None
    source = item.source.absolute()
    if params.mode == "move" and os.path.lexists(source):
        return None
    target = _target(ctx, source.suffix)
    there = ctx.placed / target.relative_to(ctx.work)
    status = _copied_status(there)
    if status is None or f"{status.st_size}:{status.st_mtime_ns}" != own_content(item.content):
        return None
    return Piece("movie", there, target, held=True)


def _held_companions(item: ItemRef, names: Iterable[str], ctx: StageContext, found: set[str]) -> list[Piece]:
    """Give the files that came with the movie earlier and are no longer beside its source."""
    tags = companion_tags(item.content)
    pieces: dict[str, Piece] = {}
    for name in names:
        target = _target(ctx, Path(name).suffix.lower())
        product = target.suffix[1:]
        there = (ctx.placed or ctx.work) / target.relative_to(ctx.work)
        status = _copied_status(there)
        if status is None or product in found:
            continue
        which, what = companion_tag(name, status.st_size, status.st_mtime_ns)
        if tags.get(which) == what:
            pieces.setdefault(product, Piece(product, there, target, held=True))
    return list(pieces.values())


def _copied_status(path: Path) -> os.stat_result | None:
    """Give what is known of a copy in the session; None where there is none, or a link."""
    try:
        status = path.lstat()
    except OSError:
        return None
    return status if stat.S_ISREG(status.st_mode) else None


def require_source(item: ItemRef) -> Path:
    """Give the item's file when it is there, readable, as it was when it was found, and whole."""
    if item.source is None:
        raise BadInput(f"{item.key} has no source file", "Watch the folder that it is in")
    # Absolute, as a link must be, but with links left in place.
    source = item.source.absolute()
    with reading(source), source.open("rb") as opened:
        status = os.fstat(opened.fileno())
    if item.content and own_content(item.content) != f"{status.st_size}:{status.st_mtime_ns}":
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


def companions(source: Path, suffixes: Sequence[str] = ()) -> dict[str, Path]:
    """Find the files that belong to a movie, by product name (its suffix without the dot)."""
    found: dict[str, Path] = {}
    with reading(source):
        paths = additional_files(source, further=suffixes)
    for path in paths:
        found.setdefault(path.suffix[1:].lower(), path)
    return {product: path for product, path in found.items() if product != "movie"}


def _incomplete(source: Path, size: int, expected: int | None, reason: str) -> str:
    if expected is not None and expected > size:
        return f"{source.name} is truncated: its header says {expected} bytes, the file has {size}"
    if reason.startswith("is "):  # as 'is no HDF5 file'
        return f"{source.name} {reason}"
    return f"{source.name} is not whole: {reason}"


def _target(ctx: StageContext, suffix: str) -> Path:
    """Give the path for a file of the item; a key that keeps the movie's suffix does not get it twice."""
    return ctx.new_file("" if suffix and ctx.key.endswith(suffix) else suffix)


def _bring(pieces: list[Piece], params: TransferParams, ctx: StageContext) -> Outcome:
    """Bring the pieces in; the result is named after the movie alone, and import looks at the others."""
    metrics = {"transferred_bytes": float(_size(pieces))}
    copies: list[Copied] = []
    for piece in pieces:
        if piece.held:
            _keep(piece)
        elif params.mode == "link":
            piece.target.symlink_to(piece.source)
        else:
            copies.append(_copy(piece, params, ctx))
    movie, copy = pieces[0], copies[0] if copies and not pieces[0].held else None
    if copy is not None and copy.size > copy.resumed and copy.seconds > 0:
        metrics["transfer_speed_mb_per_s"] = (copy.size - copy.resumed) / copy.seconds / MEGABYTE
    return Outcome(
        _products(pieces),
        metrics,
        content=_content(movie, copy),
        discard=tuple(copy.source for copy in copies) if params.mode == "move" else (),
    )


def _content(movie: Piece, copy: Copied | None) -> str:
    if copy is not None:
        return f"xxh3:{copy.checksum}"
    if movie.held:
        return f"xxh3:{checksum(movie.target)}"
    with reading(movie.source):
        status = movie.source.stat()
    return f"link:{status.st_size}:{status.st_mtime_ns}"


def _copy(piece: Piece, params: TransferParams, ctx: StageContext) -> Copied:
    partial = ctx.partial / f"{piece.target.name}.partial"
    # Raw data are deleted only after they were verified, whatever the settings say of copies.
    verify = params.verify or params.mode == "move"
    copy = copy_verified(piece.source, piece.target, partial, ctx.log, verify=verify)
    ctx.log.info("%s: %d bytes, xxh3-128 %s", piece.source, copy.size, copy.checksum)
    return copy


def _keep(piece: Piece) -> None:
    """Have a file that is in the session already once more among the products, at no cost where possible."""
    try:
        piece.target.hardlink_to(piece.source)
    except OSError:  # a file system without second names
        shutil.copy2(piece.source, piece.target)


def _products(pieces: list[Piece]) -> dict[str, Path]:
    return {piece.product: piece.target for piece in pieces}


def _size(pieces: list[Piece]) -> int:
    total = 0
    for piece in pieces:
        with reading(piece.source):
            total += piece.source.stat().st_size
    return total
