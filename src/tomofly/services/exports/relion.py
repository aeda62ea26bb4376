"""Export for RELION 3.1 and later: micrographs with motion and CTF, coordinates, particles.

The layout is that of RELION's own jobs, with all paths relative to the export's folder, where RELION is to
be started: ``corrected_micrographs.star`` as after motion correction, ``micrographs_ctf.star`` as after CTF
estimation, ``coords_suffix_autopick.star`` (3.1) and ``autopick.star`` (4 and later) as after picking, and
``particles.star`` as after extraction.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from tomofly.formats.mrc import read_image, read_layout, write_image
from tomofly.formats.star import read_star, write_star
from tomofly.imaging.extraction import extract_boxes, normalise_relion
from tomofly.imaging.particle_size import diameter_range
from tomofly.model import TomoflyError
from tomofly.services.exports.export import Draft
from tomofly.services.exports.motion import write_motion
from tomofly.services.exports.threshold import candidates_above
from tomofly.stages.extract_run import BACKGROUND_DIAMETERS, LARGEST_BACKGROUND, box_sizes
from tomofly.stages.picks_run import coordinate_table
from tomofly.store.browse import BrowsedItem

HALF_FLOATS = 12
"""The mode of an MRC file of half floats."""

COORDINATES = ("rlnCoordinateX", "rlnCoordinateY")
CTF_COLUMNS = {
    "rlnDefocusU": "defocus_u_angstrom",
    "rlnDefocusV": "defocus_v_angstrom",
    "rlnDefocusAngle": "astigmatism_angle_deg",
    "rlnCtfFigureOfMerit": "fit_quality",
    "rlnCtfMaxResolution": "fit_resolution_angstrom",
    "rlnPhaseShift": "phase_shift_deg",
}
WORST_RESOLUTION_ANGSTROM = 100.0
"""Written where no resolution could be given: such a micrograph must sort last, not first."""


@dataclass
class _Tables:
    """The rows of the STAR files as they come together."""

    optics: dict[float, int] = field(default_factory=dict)
    micrographs: list[dict[str, Any]] = field(default_factory=list)
    ctf: list[dict[str, Any]] = field(default_factory=list)
    picked: list[tuple[str, str]] = field(default_factory=list)
    particles: list[pd.DataFrame] = field(default_factory=list)
    boxes: dict[int, tuple[int, float]] = field(default_factory=dict)
    """Side in pixels and pixel size in Å of the particles of each optics group."""
    widened: int = 0


def write_relion(items: Iterable[BrowsedItem], draft: Draft) -> None:
    """Write the STAR files of all items and what they point to."""
    tables = _Tables()
    for item in items:
        if ("motion", "average") in item.products:
            _add_micrograph(draft, tables, item)
            draft.items += 1
        else:
            draft.left_out += 1
    if draft.left_out:
        draft.notes.append(f"{draft.left_out} items have no micrograph yet and were left out")
    if tables.widened:
        draft.notes.append(
            f"{tables.widened} micrographs are copies of 32 bits: RELION cannot read half floats"
        )
    without_ctf = len(tables.micrographs) - len(tables.ctf)
    if without_ctf:
        draft.notes.append(
            f"{without_ctf} micrographs have no CTF and are in corrected_micrographs.star only"
        )
    if tables.micrographs:
        _write_tables(draft, tables)


def _add_micrograph(draft: Draft, tables: _Tables, item: BrowsedItem) -> None:
    name = draft.names.of(item.key)
    product = _best(item)
    micrograph = _place_micrograph(draft, tables, product, f"Micrographs/{name}.mrc")
    pixel_size = item.metrics["motion", "micrograph_pixel_size_angstrom"]
    group = tables.optics.setdefault(round(pixel_size, 5), len(tables.optics) + 1)
    row: dict[str, Any] = {"rlnMicrographName": micrograph}
    if ("motion", "shifts") in item.products:
        row["rlnMicrographMetadata"], _ = write_motion(draft, item, name)
    row["rlnOpticsGroup"] = group
    row |= _motion_columns(item)
    tables.micrographs.append(row)
    ctf = _ctf_columns(item)
    if ctf:
        tables.ctf.append(row | ctf)
    if ("picks", "coordinates") in item.products:
        _add_picks(draft, tables, item, name, row | ctf)


def _best(item: BrowsedItem) -> str:
    return item.products.get(("motion", "dose_weighted"), item.products["motion", "average"])


def _place_micrograph(draft: Draft, tables: _Tables, product: str, name: str) -> str:
    """Put a micrograph into the export; one of half floats (MRC mode 12) as a copy of 32 bits."""
    source = draft.scope.folder / product
    if not source.is_file() or read_layout(source).mode != HALF_FLOATS:
        return draft.place(product, name)
    image, pixel_size = read_image(source)
    write_image(draft.new_file(name), np.asarray(image, np.float32), pixel_size or 1.0)
    tables.widened += 1
    return name


def _motion_columns(item: BrowsedItem) -> dict[str, float]:
    names = {
        "Total": "total_motion_angstrom",
        "Early": "early_motion_angstrom",
        "Late": "late_motion_angstrom",
    }
    return {f"rlnAccumMotion{n}": item.metrics.get(("motion", metric), 0.0) for n, metric in names.items()}


def _ctf_columns(item: BrowsedItem) -> dict[str, float]:
    measured = {n: item.metrics.get(("ctf", metric)) for n, metric in CTF_COLUMNS.items()}
    if measured["rlnDefocusU"] is None:
        return {}
    missing = {"rlnCtfMaxResolution": WORST_RESOLUTION_ANGSTROM}
    return {n: missing.get(n, 0.0) if value is None else value for n, value in measured.items()}


def _add_picks(draft: Draft, tables: _Tables, item: BrowsedItem, name: str, row: Mapping[str, Any]) -> None:
    picks = _coordinates(draft, item)
    path = f"Micrographs/{name}_autopick.star"
    write_star(draft.folder / path, {"": picks})
    tables.picked.append((str(row["rlnMicrographName"]), path))
    if draft.options.particles and len(picks):
        _add_particles(draft, tables, item, name, picks, row)


def _coordinates(draft: Draft, item: BrowsedItem) -> pd.DataFrame:
    if (threshold := draft.options.threshold) is not None:
        kept = candidates_above(draft, item, "picks", threshold)
        return coordinate_table(kept[["y_px", "x_px"]], kept["score"])
    blocks = read_star(draft.scope.folder / item.products["picks", "coordinates"])
    table = next(iter(blocks.values()))
    if not isinstance(table, pd.DataFrame):
        raise TomoflyError(f"The coordinates of {item.key} hold no table", "Clear the track and export again")
    return table


def _add_particles(
    draft: Draft, tables: _Tables, item: BrowsedItem, name: str, picks: pd.DataFrame, row: Mapping[str, Any]
) -> None:
    """Cut the particles of one micrograph out, with the boxes that the settings of extract describe."""
    params = draft.section("extract")
    diameter = diameter_range(draft.section("picks").diameter_angstrom)[1]
    pixel_size = item.metrics["motion", "micrograph_pixel_size_angstrom"]
    box, binned = box_sizes(params, diameter, pixel_size)
    image, _ = read_image(draft.scope.folder / _best(item))
    yx = picks[["rlnCoordinateY", "rlnCoordinateX"]].to_numpy(np.float64)
    pixels = np.asarray(image, np.float32)
    stack, kept = extract_boxes(pixels, yx, box, invert=params.invert, binned_box_px=binned)
    if not len(stack):
        return
    box_pixel = pixel_size * box / binned
    if params.normalise:
        background = params.background_diameter_angstrom or BACKGROUND_DIAMETERS * diameter
        stack = normalise_relion(stack, min(background / box_pixel, LARGEST_BACKGROUND * binned))
    path = draft.folder / "Particles" / f"{name}.mrcs"
    path.parent.mkdir(exist_ok=True)
    write_image(path, stack, box_pixel)
    particles = picks.iloc[kept].reset_index(drop=True)
    particles["rlnImageName"] = [f"{n:06d}@Particles/{name}.mrcs" for n in range(1, len(stack) + 1)]
    for label in ("rlnMicrographName", "rlnOpticsGroup", *CTF_COLUMNS):
        if label in row:
            particles[label] = row[label]
    tables.particles.append(particles)
    tables.boxes[int(row["rlnOpticsGroup"])] = binned, box_pixel
    draft.particles += len(stack)


def _write_tables(draft: Draft, tables: _Tables) -> None:
    optics = _optics(draft, tables)
    corrected = {"optics": optics, "micrographs": pd.DataFrame(tables.micrographs)}
    write_star(draft.add_file("corrected_micrographs.star"), corrected)
    if tables.ctf:
        with_ctf = {"optics": optics, "micrographs": pd.DataFrame(tables.ctf)}
        write_star(draft.add_file("micrographs_ctf.star"), with_ctf)
    best = {"optics": optics, "micrographs": pd.DataFrame(tables.ctf or tables.micrographs)}
    write_star(draft.add_file("micrographs.star"), best)
    if tables.picked:
        columns = ["rlnMicrographName", "rlnMicrographCoordinates"]
        picked = pd.DataFrame(tables.picked, columns=columns)
        write_star(draft.add_file("autopick.star"), {"coordinate_files": picked})
        draft.add_file("coords_suffix_autopick.star").write_text("micrographs.star\n", encoding="utf-8")
    if tables.particles:
        _write_particles(draft, tables, optics)


def _write_particles(draft: Draft, tables: _Tables, optics: pd.DataFrame) -> None:
    optics = optics[optics["rlnOpticsGroup"].isin(list(tables.boxes))].copy()
    optics["rlnImagePixelSize"] = [tables.boxes[group][1] for group in optics["rlnOpticsGroup"]]
    optics["rlnImageSize"] = [tables.boxes[group][0] for group in optics["rlnOpticsGroup"]]
    optics["rlnImageDimensionality"] = 2
    optics["rlnCtfDataAreCtfPremultiplied"] = 0
    particles = pd.concat(tables.particles, ignore_index=True)
    write_star(draft.add_file("particles.star"), {"optics": optics, "particles": particles})


def _optics(draft: Draft, tables: _Tables) -> pd.DataFrame:
    """One optics group per pixel size: micrographs made with other binning must not be mixed."""
    microscope: Any = draft.settings[draft.scope.workflow["ctf"].track]["microscope"]
    return pd.DataFrame(
        {
            "rlnOpticsGroupName": f"opticsGroup{group}",
            "rlnOpticsGroup": group,
            "rlnMicrographOriginalPixelSize": float(microscope.pixel_size_angstrom),
            "rlnVoltage": float(microscope.voltage_kv),
            "rlnSphericalAberration": float(microscope.spherical_aberration_mm),
            "rlnAmplitudeContrast": float(microscope.amplitude_contrast),
            "rlnMicrographPixelSize": pixel_size,
        }
        for pixel_size, group in tables.optics.items()
    )
