"""A tilt series as the session has it, brought together from its products for the programs that go on."""

import math
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tomofly.formats.mrc import MrcLayout, read_layout
from tomofly.formats.tilt_record import TiltRecord, TiltSeriesRecord
from tomofly.model import MicroscopeParams, TomoflyError
from tomofly.services.exports.export import Draft
from tomofly.services.home import Home
from tomofly.stages.tilts.files import (
    AlignmentFile,
    CtfFile,
    SeriesFile,
    View,
    read_alignment,
    read_ctf,
    read_series,
)
from tomofly.store import browse
from tomofly.store.browse import BrowsedItem, ItemFilter

USUAL_HEIGHT_ANGSTROM = 3000.0
"""Height of the volume that other programs are told of where the session has made none."""

WORST_RESOLUTION_ANGSTROM = 100.0
"""Written where no resolution could be given: such a tilt must sort last, not first."""

_STAGES = ("compose", "series_alignment")


@dataclass(frozen=True)
class ExportedTilt:
    """A view in the stack of its series, with its item and the place of its image in the item's file."""

    view: View
    item: BrowsedItem
    file_name: str

    @property
    def section(self) -> int:
        """Its section in the file of its item, from 0."""
        return self.view.section or 0


@dataclass(frozen=True)
class ExportedSeries:
    """A series whose alignment stands: what its stages wrote. ``name`` can be read by every program.

    ``ctf`` and ``tomogram`` are None where there is none, or where it is being made again.
    ``full_shape_yx`` is that of the motion-corrected tilts.
    """

    name: str
    item: BrowsedItem
    series: SeriesFile
    alignment: AlignmentFile
    ctf: CtfFile | None
    tilts: tuple[ExportedTilt, ...]
    full_shape_yx: tuple[int, int]
    tomogram: MrcLayout | None

    @property
    def has_doses(self) -> bool:
        """Whether the dose before every tilt is known."""
        return self.series.accumulated_dose is not None


class NotReady(Exception):
    """A series has nothing to export yet; says why."""


def exported_series(home: Home, draft: Draft, item: BrowsedItem) -> ExportedSeries:
    """Bring one series together. Raises NotReady with the reason where its results do not stand."""
    for stage in _STAGES:
        _require_done(item, stage)
    series, alignment = aligned_series(draft, item)
    if series.provisional:
        raise NotReady(f"it is not complete: {item.waiting_for or 'tilts are awaited'}")
    if len(alignment.tilt_angle_deg) != len(series.used):
        raise NotReady("its alignment is being made again")
    name = draft.names.of(item.key)
    tilts = _tilts(home, draft, series, name)
    return ExportedSeries(
        name, item, series, alignment, _ctf(draft, item, len(tilts)), tilts, _full_shape(draft, tilts),
        tomogram_layout(draft, item),
    )  # fmt: skip


def aligned_series(draft: Draft, item: BrowsedItem) -> tuple[SeriesFile, AlignmentFile]:
    """Read what was composed and how it was aligned."""
    series = read_series(draft.scope.folder / item.products["compose", "series"])
    return series, read_alignment(draft.scope.folder / item.products["series_alignment", "alignment"])


def is_done(item: BrowsedItem, stage: str) -> bool:
    """Say whether what a stage has made of an item stands."""
    return stage in item.tasks and item.tasks[stage].state == "done"


def _require_done(item: BrowsedItem, stage: str) -> None:
    task = item.tasks.get(stage)
    what = {"compose": "composed", "series_alignment": "aligned"}[stage]
    if task is None or task.state in ("waiting", "queued", "running"):
        waits = f" ({item.waiting_for})" if item.waiting_for else ""
        raise NotReady(f"it is not {what} yet{waits}")
    if task.state != "done":
        raise NotReady(f"it could not be {what}: {task.reason or task.state}")


def _tilts(home: Home, draft: Draft, series: SeriesFile, name: str) -> tuple[ExportedTilt, ...]:
    items = tilt_items(home, draft, series)
    missing = [v.key for v in series.used if ("tilt_motion", "average") not in items[v.key].products]
    if missing:
        raise NotReady(f"{len(missing)} of its tilts are being made again, such as {missing[0]}")
    return tuple(
        ExportedTilt(view, items[view.key], f"{name}_{view.order:03d}_{view.tilt_angle_deg:.1f}")
        for view in series.used
    )


def tilt_items(home: Home, draft: Draft, series: SeriesFile) -> dict[str, BrowsedItem]:
    """Give the items of the views of a series by key. Raises NotReady where the session has lost one."""
    keys = tuple(dict.fromkeys(view.key for view in series.views))
    wanted = ItemFilter(draft.scope.workflow.root_kind, (), keys=keys)
    with home.database.read() as connection:
        found = browse.browse_items(connection, draft.scope.session.id, wanted, limit=len(keys))
    items = {item.key: item for item in found}
    gone = [view.key for view in series.used if view.key not in items]
    if gone:
        raise NotReady(f"the session has no tilt {gone[0]} any more")
    return items


def _ctf(draft: Draft, item: BrowsedItem, tilts: int) -> CtfFile | None:
    path = item.products.get(("series_ctf", "ctf"))
    if path is None or not is_done(item, "series_ctf"):
        return None
    ctf = read_ctf(draft.scope.folder / path)
    return ctf if len(ctf.defocus_u_angstrom) == tilts else None


def tomogram_layout(draft: Draft, item: BrowsedItem) -> MrcLayout | None:
    """Read the header of the tomogram of a series; None where there is none, or it is being made again."""
    path = item.products.get(("tomogram", "tomogram"))
    return read_layout(draft.scope.folder / path) if path and is_done(item, "tomogram") else None


def _full_shape(draft: Draft, tilts: Sequence[ExportedTilt]) -> tuple[int, int]:
    """Give the shape (y, x) of the motion-corrected tilts, which is one for a whole series."""
    paths = {draft.scope.folder / tilt.item.products["tilt_motion", "average"] for tilt in tilts}
    shapes = {read_layout(path).shape_yx for path in paths}
    if len(shapes) != 1:
        raise NotReady("its tilts have different sizes")
    return shapes.pop()


def series_record(draft: Draft, exported: ExportedSeries, *, full: bool) -> TiltSeriesRecord:
    """Describe a series in the geometry of the formats, in pixels of its full tilts or of its stack."""
    series, alignment = exported.series, exported.alignment
    shape = exported.full_shape_yx if full else series.shape_yx
    pixel = series.full_pixel_size_angstrom if full else series.pixel_size_angstrom
    microscope = _microscope(draft)
    return TiltSeriesRecord(
        name=exported.name,
        tilts=tuple(
            _tilt(exported, n, series.pixel_size_angstrom / pixel) for n in range(len(exported.tilts))
        ),
        image_size_xy=(shape[1], shape[0]),
        pixel_size_angstrom=pixel,
        tomogram_size_xyz=_volume_xyz(exported, shape, pixel),
        voltage_kv=microscope.voltage_kv,
        spherical_aberration_mm=microscope.spherical_aberration_mm,
        amplitude_contrast=microscope.amplitude_contrast,
        hand=_hand(draft, exported),
        movie_pixel_size_angstrom=microscope.pixel_size_angstrom,
        nominal_axis_angle_deg=series.axis_angle_deg,
        x_tilt_deg=alignment.x_tilt_deg,
        tomogram_binning=1.0 if exported.tomogram is None else _voxel(exported.tomogram, pixel) / pixel,
    )


def _tilt(exported: ExportedSeries, n: int, binning: float) -> TiltRecord:
    tilt, alignment = exported.tilts[n], exported.alignment
    view = tilt.view
    target = view.target_defocus_angstrom
    return TiltRecord(
        movie_name=tilt.file_name,
        tilt_angle_deg=alignment.tilt_angle_deg[n],
        axis_angle_deg=alignment.axis_angle_deg[n],
        shift_yx_px=(alignment.shift_y_px[n] * binning, alignment.shift_x_px[n] * binning),
        nominal_tilt_deg=view.tilt_angle_deg,
        acquisition_order=view.order,
        dose=view.dose_e_per_a2 or 0.0,
        dose_before=view.accumulated_dose_e_per_a2 or 0.0,
        frame_count=_frame_count(tilt),
        motion_angstrom=_motion(tilt.item),
        nominal_defocus_um=None if target is None else target / 1e4,
        excluded=not alignment.aligned[n],
        **_defocus(exported.ctf, n),
    )


def _frame_count(tilt: ExportedTilt) -> int | None:
    if tilt.view.section is not None:
        return 1
    count = tilt.item.metrics.get(("tilt_motion", "frames_used"))
    return None if count is None else round(count)


def _motion(item: BrowsedItem) -> tuple[float, float, float] | None:
    named = [
        item.metrics.get(("tilt_motion", f"{part}_motion_angstrom")) for part in ("total", "early", "late")
    ]
    total, early, late = named
    return None if total is None else (total, early or 0.0, late or 0.0)


def _defocus(ctf: CtfFile | None, n: int) -> dict[str, Any]:
    """Give the fields of a tilt's CTF, none where its defocus is not known."""
    if ctf is None or not math.isfinite(ctf.defocus_u_angstrom[n] + ctf.defocus_v_angstrom[n]):
        return {}
    resolution = ctf.fit_resolution_angstrom[n]
    return {
        "defocus_u_angstrom": ctf.defocus_u_angstrom[n],
        "defocus_v_angstrom": ctf.defocus_v_angstrom[n],
        "defocus_angle_deg": ctf.astigmatism_angle_deg[n],
        "ctf_resolution_angstrom": resolution if math.isfinite(resolution) else WORST_RESOLUTION_ANGSTROM,
    }


def _hand(draft: Draft, exported: ExportedSeries) -> int:
    return (exported.ctf.hand if exported.ctf else int(draft.section("series_ctf").hand)) or 1


def is_hand_known(draft: Draft, exported: ExportedSeries) -> bool:
    """Say whether the spectra, or the settings, tell the sense of the defocus across the tilts."""
    measured = exported.ctf is not None and exported.ctf.hand_verdict != "undecided"
    return measured or draft.section("series_ctf").hand != 0


def _voxel(tomogram: MrcLayout, otherwise: float) -> float:
    return tomogram.pixel_size_angstrom or otherwise


def _volume_xyz(exported: ExportedSeries, shape: tuple[int, int], pixel: float) -> tuple[int, int, int]:
    """Give the size of the tomogram in pixels of the images, its middle where the tomogram has its own."""
    tomogram = exported.tomogram
    if tomogram is None:
        axis = np.deg2rad(float(np.median(exported.alignment.axis_angle_deg)))
        across = abs(np.sin(axis)) > np.sqrt(0.5)  # along the volume's y runs the tilt axis
        rows, columns = (shape[1], shape[0]) if across else shape
        return columns, rows, _even(USUAL_HEIGHT_ANGSTROM / pixel)
    ratio = _voxel(tomogram, pixel) / pixel
    rows, columns = tomogram.shape_yx
    if abs(ratio - 1.0) < 1e-5:
        return columns, rows, tomogram.sections
    x, y, z = (_even(2 * (size // 2) * ratio) for size in (columns, rows, tomogram.sections))
    return x, y, z


def _even(size: float) -> int:
    return 2 * max(1, round(size / 2))


def _microscope(draft: Draft) -> MicroscopeParams:
    section = draft.settings[draft.scope.workflow["tilt_motion"].track]["microscope"]
    if not isinstance(section, MicroscopeParams):
        raise TomoflyError("The session's settings have no section 'microscope'")
    return section


def tomogram_products(exported: ExportedSeries) -> dict[str, str]:
    """Give the volumes that the session has of a series: tomogram, even, odd, by name."""
    if exported.tomogram is None:
        return {}
    products = exported.item.products
    names = ("tomogram", "even", "odd")
    return {name: products["tomogram", name] for name in names if ("tomogram", name) in products}


def stack_sections(draft: Draft, exported: ExportedSeries, product: str) -> list[tuple[Path, int]]:
    """Give the file and section of each full tilt of a series, or of its even or odd sums."""
    return [
        (draft.scope.folder / tilt.item.products["tilt_motion", product], tilt.section)
        for tilt in exported.tilts
    ]


def has_halves(exported: ExportedSeries) -> bool:
    """Say whether all tilts have sums of even and of odd frames."""
    return all(
        ("tilt_motion", half) in tilt.item.products for tilt in exported.tilts for half in ("even", "odd")
    )


def optics_group(groups: MutableMapping[float, str], pixel_size_angstrom: float) -> str:
    """Give the optics group of a pixel size: series of another must not be mixed with it."""
    return groups.setdefault(round(pixel_size_angstrom, 5), f"opticsGroup{len(groups) + 1}")
