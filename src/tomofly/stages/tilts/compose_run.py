"""The images of a series in one stack, in the order of their angles, and the record of all its exposures."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tomofly.formats.imod import write_angles
from tomofly.formats.mrc import write_image
from tomofly.imaging.tilt_screening import gross_shift
from tomofly.imaging.tilt_spectra import TileSpectra
from tomofly.model import Flag, Member, Outcome, StageContext
from tomofly.stages.tilts.attributes import pixel_size_flag
from tomofly.stages.tilts.composition import (
    Composed,
    Measured,
    View,
    compose_views,
    decided_of,
    require_enough,
    views_of,
)
from tomofly.stages.tilts.files import SeriesFile, read_screening, read_spectra, write_spectra
from tomofly.stages.tilts.files import View as Listed
from tomofly.stages.tilts.image_run import HALVES, read_sections
from tomofly.stages.tilts.rules import ComposeParams

FloatImage = npt.NDArray[np.float32]

SURE_PEAK_SIGMA = 6.0
"""A gross shift whose correlation peak is lower tells nothing."""

MOST_FLAGS_PER_CODE = 3


def compose_series(members: Sequence[Member], params: ComposeParams, ctx: StageContext) -> Outcome:
    """Compose one series of its tilts. Raises BadInput where too few of them are left."""
    by_name = {view.name: (member, view) for member in members for view in _views(member)}
    views = _with_shifts([view for _, view in by_name.values()], by_name)
    decided = decided_of((member.item.key, member.item.attributes) for member in members)
    left_out = {**dict.fromkeys(params.left_out, ""), **decided.left_out}
    composed = compose_views(views, params, left_out=left_out, kept=decided.kept)
    require_enough(composed, params)
    chosen = [by_name[view.name] for view in composed.used]
    stack = np.stack([_image(member, view, "image") for member, view in chosen])
    series = _record(composed, members, stack, params, ctx)
    products = {
        "series": ctx.new_file(".json"),
        "stack": ctx.new_file(".st"),
        "angles": ctx.new_file(".rawtlt"),
    }
    series.write(products["series"])
    write_image(products["stack"], stack, series.pixel_size_angstrom, labels=["tomofly: tilt series"])
    write_angles(products["angles"], series.tilt_angle_deg)
    products |= _halves(chosen, series.pixel_size_angstrom, ctx)
    products |= _spectra(chosen, ctx)
    kept, lost = _mdoc(members, ctx)
    products |= kept
    flags = (*composed.flags, *lost, *_notes(members), *_axis_flags(composed, params), *_pixel_flags(members))
    ctx.log.info("%s: %d tilts, %d left out", ctx.key, len(series.used), len(composed.excluded))
    return Outcome(products, _metrics(series, composed), flags)


def _views(member: Member) -> list[View]:
    """Give the views of an item, with what their images show."""
    screened = read_screening(member.result.products["screening"])
    measured = [
        Measured(
            mean=tilt.mean,
            spread=tilt.spread,
            blocked_fraction=tilt.blocked_fraction,
            quality=tilt.mean * tilt.sharpness,
            shape_yx=tilt.shape_yx,
        )
        for tilt in screened
    ]
    return views_of(member.item.key, member.item.attributes, measured)


def _with_shifts(views: Sequence[View], by_name: Mapping[str, tuple[Member, View]]) -> list[View]:
    """Measure how far each view is off its neighbours: the smaller of two, as the other may be at fault."""
    ordered = sorted(
        (v for v in views if v.tilt_angle_deg is not None), key=lambda v: v.tilt_angle_deg or 0.0
    )
    steps = [_step(by_name, a, b) for a, b in pairwise(ordered)]
    found: dict[str, float] = {}
    for index, view in enumerate(ordered):
        beside = [step for step in steps[max(0, index - 1) : index + 1] if step is not None]
        if beside:
            found[view.name] = min(beside)
    return [
        replace(view, measured=replace(view.measured, shift_fraction=found.get(view.name))) for view in views
    ]


def _step(by_name: Mapping[str, tuple[Member, View]], first: View, second: View) -> float | None:
    """Give the shift between two views as a part of the field; None where it is not known."""
    if first.measured.shape_yx != second.measured.shape_yx:
        return None
    images = [_image(*by_name[view.name], "image") for view in (first, second)]
    if not all(np.isfinite(image).all() and image.std() > 0 for image in images):
        return None
    y, x, peak_sigma = gross_shift(images[0], images[1])
    return float(np.hypot(y, x)) if peak_sigma >= SURE_PEAK_SIGMA else None


def _image(member: Member, view: View, product: str) -> FloatImage:
    """Read the reduced image (y, x) of a view."""
    image: FloatImage = read_sections(member.result.products[product])[view.section or 0]
    return image


def _record(
    composed: Composed, members: Sequence[Member], stack: FloatImage, params: ComposeParams, ctx: StageContext
) -> SeriesFile:
    metrics = members[0].result.metrics
    targets = {m.item.key: m.item.attributes.get("target_defocus_angstrom") for m in members}
    axis = composed.axis_angle_deg
    size, full = metrics["tilt_pixel_size_angstrom"], metrics["full_pixel_size_angstrom"]
    rows, columns = stack.shape[1:]
    views = tuple(
        Listed(
            key=each.view.key,
            section=each.view.section,
            tilt_angle_deg=each.view.tilt_angle_deg or 0.0,
            order=each.view.order,
            dose_e_per_a2=each.view.dose_e_per_a2,
            accumulated_dose_e_per_a2=each.view.accumulated_dose_e_per_a2,
            target_defocus_angstrom=targets[each.view.key],
            excluded=each.excluded,
            reason=each.reason,
        )
        for each in sorted(composed.views, key=lambda c: (c.view.tilt_angle_deg or 0.0, c.view.order))
    )
    return SeriesFile(
        name=ctx.key,
        views=views,
        axis_angle_deg=axis or 0.0,
        axis_source="settings"
        if params.axis_angle_deg is not None
        else "unknown"
        if axis is None
        else "mdoc",
        pixel_size_angstrom=size,
        full_pixel_size_angstrom=full,
        shape_yx=(rows, columns),
        full_shape_yx=(round(rows * size / full), round(columns * size / full)),
        provisional=ctx.provisional,
    )


def _halves(chosen: Sequence[tuple[Member, View]], pixel_size: float, ctx: StageContext) -> dict[str, Path]:
    """Write the stacks of even and of odd frames, where all tilts have them."""
    products = {}
    for half in HALVES:
        if all(half in member.result.products for member, _ in chosen):
            products[half] = ctx.new_file(f"_{half}.st")
            write_image(products[half], np.stack([_image(m, v, half) for m, v in chosen]), pixel_size)
    return products


def _spectra(chosen: Sequence[tuple[Member, View]], ctx: StageContext) -> dict[str, Path]:
    """Write the tile spectra of all tilts together, where all have some."""
    if not all("spectra" in member.result.products for member, _ in chosen):
        return {}
    found: list[TileSpectra] = [
        read_spectra(member.result.products["spectra"])[view.section or 0] for member, view in chosen
    ]
    path = ctx.new_file("_spectra.npz")
    write_spectra(path, found)
    return {"spectra": path}


def _mdoc(members: Sequence[Member], ctx: StageContext) -> tuple[dict[str, Path], list[Flag]]:
    """Keep a copy of the mdoc of the series; where that is gone, the copy that was made earlier.

    The mdoc beside a single movie comes with that movie.
    """
    counts = Counter(str(m.item.attributes["mdoc"]) for m in members if m.item.attributes.get("mdoc"))
    if not counts:
        return {}, []
    source, listed = min(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    if listed == 1 and not members[0].item.attributes.get("views"):
        return {}, []
    copy = ctx.new_file(".mdoc")
    earlier = (ctx.placed or ctx.work) / copy.relative_to(ctx.work)
    for path in (Path(source), earlier):
        try:
            copy.write_bytes(path.read_bytes())
        except OSError as error:
            ctx.log.warning("%s cannot be copied: %s", path, error.strerror)
        else:
            return {"mdoc": copy}, []
    copy.unlink(missing_ok=True)
    return {}, [Flag("mdoc_gone", f"{source} is gone, and there is no copy of it in the session")]


def _notes(members: Sequence[Member]) -> Iterator[Flag]:
    """Pass on what is noted of the tilts, a few of each kind."""
    by_code: dict[str, list[str]] = {}
    for member in members:
        for code, message in member.item.attributes.get("flags") or ():
            by_code.setdefault(code, []).append(f"{Path(member.item.key).name}: {message}")
    for code, messages in sorted(by_code.items()):
        more = len(messages) - MOST_FLAGS_PER_CODE
        text = "; ".join(messages[:MOST_FLAGS_PER_CODE]) + (f"; and {more} more" if more > 0 else "")
        yield Flag(code, text)


def _axis_flags(composed: Composed, params: ComposeParams) -> list[Flag]:
    if composed.axis_angle_deg is None or params.axis_angle_deg is None:
        return []
    return [
        Flag("axis_from_settings", f"The tilt axis of {params.axis_angle_deg:g}° is that of the settings")
    ]


def _pixel_flags(members: Sequence[Member]) -> list[Flag]:
    """Say where the mdoc has another pixel size than the settings: one of the two is wrong."""
    own = members[0].result.metrics["full_pixel_size_angstrom"]
    found = [pixel_size_flag(member.item.attributes, own) for member in members]
    return [flag for flag in found if flag is not None][:1]


def _metrics(series: SeriesFile, composed: Composed) -> dict[str, float]:
    angles = series.tilt_angle_deg
    known = {
        "tilts": float(len(angles)),
        "excluded_tilts": float(len(composed.excluded)),
        "lowest_tilt_deg": float(angles.min()),
        "highest_tilt_deg": float(angles.max()),
        "provisional": float(series.provisional),
    }
    ends = [
        (v.accumulated_dose_e_per_a2 or 0.0) + v.dose_e_per_a2
        for v in series.views
        if v.dose_e_per_a2 is not None and v.accumulated_dose_e_per_a2 is not None
    ]
    return known | ({"total_dose_e_per_a2": max(ends)} if ends else {})
