"""What the stages of a series have found of each tilt, from the files that they left."""

from dataclasses import dataclass, replace
from pathlib import Path

from tomofly.stages.tilts.composition import section_name
from tomofly.stages.tilts.files import SeriesFile, View, read_alignment, read_ctf, read_series
from tomofly.store.browse import BrowsedItem


@dataclass(frozen=True)
class TiltResult:
    """What was found of a tilt when its series was composed last; None where nothing was."""

    excluded: str
    reason: str
    provisional: bool
    axis_angle_deg: float | None
    shift_y_angstrom: float | None = None
    shift_x_angstrom: float | None = None
    shift_error_angstrom: float | None = None
    residual_angstrom: float | None = None
    defocus_angstrom: float | None = None


def tilt_results(folder: Path, series: BrowsedItem) -> dict[str, TiltResult]:
    """Give what is known of each tilt of a series, by the name of its view; empty while nothing was made.

    Alignment and CTF are told when they belong to the tilts that are used now. A file that is replaced just
    now tells nothing.
    """
    try:
        composed = _product(folder, series, "compose", "series")
        if composed is None:
            return {}
        record = read_series(composed)
        found = {_name(view): _of_view(view, record) for view in record.views}
        _add_alignment(found, record, _product(folder, series, "series_alignment", "alignment"))
        _add_ctf(found, record, _product(folder, series, "series_ctf", "ctf"))
    except FileNotFoundError:
        return {}
    return found


def _product(folder: Path, series: BrowsedItem, stage: str, product: str) -> Path | None:
    """Give a file of a stage whose result stands."""
    path = series.products.get((stage, product))
    task = series.tasks.get(stage)
    return folder / path if path and task is not None and task.state == "done" else None


def _name(view: View) -> str:
    return view.key if view.section is None else section_name(view.key, view.section)


def _of_view(view: View, record: SeriesFile) -> TiltResult:
    axis = None if record.axis_source == "unknown" else record.axis_angle_deg
    return TiltResult(view.excluded, view.reason, record.provisional, axis)


def _add_alignment(found: dict[str, TiltResult], record: SeriesFile, path: Path | None) -> None:
    alignment = None if path is None else read_alignment(path)
    if alignment is None or len(alignment.shift_y_px) != len(record.used):
        return
    size = alignment.pixel_size_angstrom
    for place, view in enumerate(record.used):
        found[_name(view)] = replace(
            found[_name(view)],
            axis_angle_deg=alignment.axis_angle_deg[place],
            shift_y_angstrom=alignment.shift_y_px[place] * size,
            shift_x_angstrom=alignment.shift_x_px[place] * size,
            shift_error_angstrom=_finite(alignment.shift_error_px[place] * size),
            residual_angstrom=_finite(alignment.residual_angstrom[place]),
        )


def _add_ctf(found: dict[str, TiltResult], record: SeriesFile, path: Path | None) -> None:
    ctf = None if path is None else read_ctf(path)
    if ctf is None or len(ctf.defocus_u_angstrom) != len(record.used):
        return
    for place, view in enumerate(record.used):
        mean = (ctf.defocus_u_angstrom[place] + ctf.defocus_v_angstrom[place]) / 2
        found[_name(view)] = replace(found[_name(view)], defocus_angstrom=_finite(mean))


def _finite(value: float) -> float | None:
    """JSON knows no infinity and no NaN."""
    return value if abs(value) < float("inf") else None
