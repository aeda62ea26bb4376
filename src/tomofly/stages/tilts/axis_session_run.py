"""The tilt axes of a session's series, and the one that is said of them."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from tomofly.model import Member, Outcome, StageContext
from tomofly.stages.tilts.axis_file import axis_name
from tomofly.stages.tilts.axis_session import SessionAxisParams

FloatArray = npt.NDArray[np.float64]

LEAST_SERIES = 3
"""With fewer series a median is that of an outlier too easily."""

LARGEST_ERROR_DEG = 1.0

STEP_DEG = 1.0
"""What is said is rounded to this: every new word has all series aligned again, and an expectation that is
half a degree off costs nothing, as the axis is searched over several degrees."""

MOST_AXES = 8
"""Of so many nominal axes something is said: a session keeps a short text, and has one or two of them."""

Seen = tuple[str, float]


def gather_axes(members: Sequence[Member], _params: SessionAxisParams, ctx: StageContext) -> Outcome:
    """Add what series show of their axes, and say the medians."""
    seen: dict[str, Seen] = {}
    if ctx.checkpoint is not None:
        stored = json.loads(ctx.checkpoint.read_text(encoding="utf-8"))
        seen = {key: (name, axis) for key, (name, axis) in stored.items()}
    for member in members:
        found = _seen(member.result.metrics)
        if found is None:
            seen.pop(member.item.key, None)
        else:
            seen[member.item.key] = found
    path = ctx.new_file("_checkpoint.json")
    path.write_text(json.dumps(dict(sorted(seen.items()))), encoding="utf-8")
    return Outcome({"checkpoint": path}, _metrics(seen), content=said_of(seen))


def _seen(metrics: Mapping[str, float]) -> Seen | None:
    """Give the name of the nominal axis and the axis found, None where the series does not tell it."""
    if not metrics.get("first_axis_error_deg", np.inf) <= LARGEST_ERROR_DEG:
        return None
    return axis_name(metrics.get("nominal_axis_deg")), metrics["first_axis_deg"]


def said_of(seen: Mapping[str, Seen]) -> str:
    """Give the rounded median of each nominal axis that enough series share; empty where there is none."""
    words = {}
    commonest = Counter(name for name, _ in sorted(seen.values())).most_common(MOST_AXES)
    for name, count in sorted(commonest):
        if count >= LEAST_SERIES:
            middle, _ = median_axis(np.array([axis for other, axis in seen.values() if other == name]))
            words[name] = round(middle / STEP_DEG) * STEP_DEG
    return json.dumps(words) if words else ""


def median_axis(axes_deg: FloatArray) -> tuple[float, float]:
    """Give the median of axes, which are the same after half a turn, and the median distance from it."""
    double = np.deg2rad(2 * axes_deg)
    middle = np.rad2deg(np.arctan2(np.sin(double).sum(), np.cos(double).sum())) / 2
    off = (axes_deg - middle + 90.0) % 180.0 - 90.0
    # The turn nearest to the axes as they were given: half a turn more is another hand.
    whole = 180.0 * round(float(np.median(axes_deg - middle - off)) / 180.0)
    median = float(np.median(off))
    return float(middle + whole + median), float(np.median(np.abs(off - median)))


def _metrics(seen: Mapping[str, Seen]) -> dict[str, float]:
    if not seen:
        return {"session_axis_series": 0.0}
    commonest, count = Counter(name for name, _ in seen.values()).most_common(1)[0]
    middle, spread = median_axis(np.array([axis for name, axis in seen.values() if name == commonest]))
    return {
        "session_axis_deg": middle,
        "session_axis_spread_deg": spread,
        "session_axis_series": float(count),
    }
