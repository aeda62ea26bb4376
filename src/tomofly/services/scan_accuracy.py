"""How near the results of X-ray scans are to the truth that a simulated beamline wrote beside them.

Only this module opens those files, and only after the work is done: the processing never reads them.
"""

import json
from collections.abc import Iterable

import numpy as np

from tomofly.services.accuracy import LOOK_FOR_TRUTH, truth_of
from tomofly.store.browse import BrowsedItem

SCAN_KIND = "scan"


def measure_scan_accuracy(items: Iterable[BrowsedItem]) -> dict[str, float] | None:
    """Compare the axes that were found with the true ones; None where there is no truth."""
    errors: list[float] = []
    for number, item in enumerate(items):
        if number >= LOOK_FOR_TRUTH and not errors:
            break
        error = _centre_error(item)
        if error is not None:
            errors.append(error)
    if not errors:
        return None
    return {
        "scans": float(len(errors)),
        "centre_error_px": float(np.median(errors)),
        "worst_centre_error_px": float(np.max(errors)),
    }


def _centre_error(item: BrowsedItem) -> float | None:
    path, found = truth_of(item), item.metrics.get(("scan_centre", "centre_px"))
    if path is None or found is None:
        return None
    truth = json.loads(path.read_text(encoding="utf-8"))
    columns = truth.get("columns_px") or [truth.get("centre_px")]
    true = [float(column) for column in columns if column is not None]
    return abs(found - float(np.mean(true))) if true else None
