"""Stacks of tilts in an export: that which the session aligned, or one of full tilts gathered anew."""

import numpy as np

from tomofly.formats.mrc_stack import gather_stack
from tomofly.services.exports.export import Draft
from tomofly.services.exports.series import ExportedSeries, has_halves, stack_sections

HALVES = ("even", "odd")


def place_stack(draft: Draft, exported: ExportedSeries, name: str, *, aligned_only: bool = False) -> str:
    """Bring the stack of a series into the export; give its name.

    ``aligned_only`` leaves tilts out that could not be aligned, for formats that cannot exclude them.
    """
    return _place(draft, exported, "stack", "average", name, aligned_only)


def place_half_stacks(draft: Draft, exported: ExportedSeries, names: dict[str, str]) -> None:
    """Bring the stacks of even and of odd frames, where there are, under their names."""
    products = exported.item.products
    there = (
        has_halves(exported)
        if draft.options.full_stacks
        else all(("compose", half) in products for half in HALVES)
    )
    for half in HALVES if there else ():
        _place(draft, exported, half, half, names[half], aligned_only=False)


def _place(
    draft: Draft, exported: ExportedSeries, reduced: str, full: str, name: str, aligned_only: bool
) -> str:
    kept = np.flatnonzero(exported.alignment.aligned)
    if not aligned_only:
        kept = np.arange(len(exported.tilts))
    if draft.options.full_stacks:
        sections = [stack_sections(draft, exported, full)[n] for n in kept]
        gather_stack(draft.new_file(name), sections, exported.series.full_pixel_size_angstrom)
        return name
    product = exported.item.products["compose", reduced]
    if len(kept) == len(exported.tilts):
        return draft.place(product, name)
    stack = draft.scope.folder / product
    gather_stack(draft.new_file(name), [(stack, int(n)) for n in kept], exported.series.pixel_size_angstrom)
    return name
