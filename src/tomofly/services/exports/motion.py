"""The motion of movies for RELION's polishing: with the movies and the gain, under paths that hold."""

from pathlib import Path
from typing import Any

from tomofly.flow.gain_copy import own_gain
from tomofly.formats.mrc import write_image
from tomofly.formats.star import StarBlock, read_star, write_star
from tomofly.imaging.gain import orient_gain
from tomofly.model import GainParams
from tomofly.services.exports.export import Draft
from tomofly.stages.gain_reference import clockwise_turns, flip_code, recorded_gain
from tomofly.store.browse import BrowsedItem

GAIN_NAME = "Movies/gain.mrc"


def write_motion(draft: Draft, item: BrowsedItem, name: str, stage: str = "motion") -> tuple[str, str]:
    """Write the motion that a stage measured of an item, and bring its movie.

    Both are named by ``name``: gives the file below ``Motion``, and that below ``Movies``, "" where the
    session has no movie.
    """
    blocks: dict[str, StarBlock] = dict(read_star(draft.scope.folder / item.products[stage, "shifts"]))
    general: dict[str, Any] = dict(blocks["general"])
    movie = _place_movie(draft, item, name)
    if movie:
        general["rlnMicrographMovieName"] = movie
    gain = draft.settings[draft.scope.workflow[stage].track]["gain"]
    if "rlnMicrographGainName" in general and isinstance(gain, GainParams) and gain.path:
        general["rlnMicrographGainName"] = write_gain(draft, gain, stage)
    metadata = draft.new_file(f"Motion/{name}.star")
    write_star(metadata, {**blocks, "general": general})
    return f"Motion/{name}.star", movie


def _place_movie(draft: Draft, item: BrowsedItem, name: str) -> str:
    movie = item.products.get(("transfer", "movie"))
    return draft.place(movie, f"Movies/{name}{Path(movie).suffix}") if movie is not None else ""


def write_gain(draft: Draft, gain: GainParams, stage: str = "motion") -> str:
    """Write the gain reference as the movies need it: turned as the settings say, and to be multiplied."""
    own = own_gain(draft.scope.folder, gain)
    path = own if own.is_file() else Path(gain.path)
    if not path.is_file():
        draft.note(f"The gain reference {path} is gone: bring it back before polishing")
        return path.name
    if not (draft.folder / GAIN_NAME).exists():
        factor = recorded_gain(gain.model_copy(update={"path": str(path)}))
        assert factor is not None  # noqa: S101 - it has a path
        microscope: Any = draft.settings[draft.scope.workflow[stage].track]["microscope"]
        oriented = orient_gain(factor, clockwise_turns(gain), flip_code(gain))
        write_image(draft.new_file(GAIN_NAME), oriented, float(microscope.pixel_size_angstrom))
        draft.note(f"{GAIN_NAME} is turned as the settings say and to be multiplied: turn it no more")
    return GAIN_NAME
