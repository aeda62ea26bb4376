"""The numbers that people look at first, of all that the stages measure, and how to say them briefly."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tomofly.store.browse import BrowsedItem


@dataclass(frozen=True)
class Highlight:
    """A metric that tells much. With a ``label`` it is shown also where there is room for few words."""

    stage: str
    metric: str
    label: str = ""
    unit: str = ""


HIGHLIGHTS = (
    Highlight("motion", "total_motion_angstrom", "motion", "Å"),
    Highlight("motion", "early_motion_angstrom"),
    Highlight("ctf", "defocus_angstrom", "defocus", "Å"),
    Highlight("ctf", "astigmatism_angstrom"),
    Highlight("ctf", "fit_resolution_angstrom", "rings to", "Å"),
    Highlight("ctf", "ice_ring"),
    Highlight("picks", "particles", "particles"),
    Highlight("compose", "tilts", "tilts"),
    Highlight("compose", "excluded_tilts"),
    Highlight("series_alignment", "axis_angle_deg", "axis", "°"),
    Highlight("series_alignment", "tilt_offset_deg"),
    Highlight("series_alignment", "residual_angstrom"),
    Highlight("series_alignment", "thickness_nm", "thickness", "nm"),
    Highlight("series_ctf", "defocus_at_zero_angstrom", "defocus", "Å"),
    Highlight("series_ctf", "resolution_low_tilt_angstrom", "rings to", "Å"),
    Highlight("tomogram_picks", "particles", "particles"),
    Highlight("scan", "projections", "projections"),
    Highlight("scan", "transmission_min", "darkest"),
    Highlight("scan", "flux_drift"),
    Highlight("scan_centre", "centre_px", "centre", "px"),
    Highlight("scan_centre", "certainty"),
    Highlight("volume", "slices", "slices"),
    Highlight("volume", "sharpness"),
    Highlight("volume", "noise"),
    Highlight("volume", "rings"),
)
"""In the order of the work. Stages that are not here are shown by their first metrics."""

FEW = 5


def told_briefly(item: BrowsedItem) -> list[str]:
    """Give the numbers of an item that people look at first, with their labels and units."""
    known = [(h, item.metrics.get((h.stage, h.metric))) for h in HIGHLIGHTS if h.label]
    told = [f"{h.label} {_with_unit(value, h.unit)}" for h, value in known if value is not None]
    return told or [f"{name} {rounded(value)}" for (_, name), value in list(item.metrics.items())[:3]]


def rounded(value: float) -> str:
    """Write a number with as many digits as matter at a glance."""
    return f"{value:.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def _with_unit(value: float, unit: str) -> str:
    return f"{rounded(value)}{'' if unit == '°' else ' '}{unit}".rstrip()


def telling_metrics(names: Sequence[str]) -> list[str]:
    """Choose from metrics named ``stage.metric``; all of them where nobody knows which tell most."""
    highlights = [f"{h.stage}.{h.metric}" for h in HIGHLIGHTS]
    return [name for name in highlights if name in names] or list(names)


def telling_columns(rows: Sequence[Mapping[str, Any]], metrics: Sequence[str]) -> list[str]:
    """Choose the columns of a table that people look at first; ``metrics`` are the columns of metrics."""
    told = [name for name in metrics if any(row[name] is not None for row in rows)]
    # Where two stages share a name, the stage stands before it.
    names = [name for h in HIGHLIGHTS for name in (h.metric, f"{h.stage}.{h.metric}")]
    highlights = [name for name in names if name in told]
    flags = ["flags"] if any(row["flags"] for row in rows) else []
    return ["key", "state", *(dict.fromkeys(highlights) or told[:FEW]), *flags]


def with_brief_state(row: Mapping[str, Any]) -> dict[str, Any]:
    """Say in the state of a line what it waits for, as far as the first clause tells it."""
    what = row["waiting_for"].partition(";")[0]
    return {**row, "state": f"{row['state']}: {what}" if what and row["state"] == "waiting" else row["state"]}
