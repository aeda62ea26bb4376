"""Scan centre, at work: sinograms of a few rows, and opposite projections."""

import numpy as np
import numpy.typing as npt

from tomofly.formats.scan import Scan, ScanRows, open_rows, read_scan
from tomofly.imaging.xray.centre_search import Centre, half_turn, opposite_pairs, search_centre
from tomofly.imaging.xray.rotation_centre import CentreEstimate, agreed_centre, centre_from_pair
from tomofly.imaging.xray.volume import absorbed, sample_rows, transmitted
from tomofly.model import BadInput, Flag, ItemRef, Outcome, StageContext
from tomofly.stages.faults import blamed_on_input
from tomofly.stages.scans.centre import ScanCentreParams
from tomofly.stages.scans.fields import FieldRows
from tomofly.stages.transfer_run import require_source

FloatArray = npt.NDArray[np.float32]

CERTAIN = 0.25
AGREE_PX = 2.0
_PAIRS = 3
_MOST_PROJECTIONS = 720
_MOST_ROWS_OF_A_PAIR = 512


def find_centre(item: ItemRef, params: ScanCentreParams, ctx: StageContext) -> Outcome:
    """Find the axis of one scan, or take that of the settings."""
    source = require_source(item)
    with blamed_on_input("The scan cannot be read", "Write it again"):
        scan = read_scan(source)
        _require_inside(params, scan.shape_yx[1])
        if params.method == "fixed":
            return Outcome(metrics={"centre_px": params.centre_px})
        fields = FieldRows(ctx.inputs["scan"].products["fields"])
        with open_rows(scan) as rows:
            by_pairs = _by_pairs(scan, rows, fields)
            by_sinograms = None
            if params.method != "pairs":
                by_sinograms = _by_sinograms(scan, rows, fields, params, ctx.threads)
    metrics, flags = _metrics(by_sinograms, by_pairs), []
    centre, flag = _chosen(by_sinograms, by_pairs, scan.shape_yx[1])
    if flag is not None:
        flags.append(flag)
    ctx.log.info("%s: the axis is at %.2f px of %d", item.key, centre, scan.shape_yx[1])
    return Outcome(metrics={"centre_px": centre} | metrics, flags=tuple(flags))


def _require_inside(params: ScanCentreParams, width: int) -> None:
    if params.centre_px >= width or (params.method == "fixed" and params.centre_px <= 0):
        raise BadInput(
            f"scan_centre.centre_px={params.centre_px:g} is no column inside the detector of {width} px",
            "Correct that setting",
        )


def _chosen(
    by_sinograms: Centre | None, by_pairs: CentreEstimate | None, width: int
) -> tuple[float, Flag | None]:
    """Take what the sinograms say where they say it clearly, else the pairs, else what there is."""
    if by_sinograms is not None and by_sinograms.certainty >= CERTAIN:
        return by_sinograms.pixel, _dispute(by_sinograms, by_pairs)
    if by_pairs is not None and by_pairs.certain:
        shown = by_sinograms is None
        return by_pairs.centre, None if shown else Flag("centre_of_pairs", "Sinograms do not show the axis")
    best = [one for one in (by_sinograms, by_pairs) if one is not None]
    if not best:
        message = "The angles hold no half turn and no opposite projections: the middle is taken"
        return (width - 1) / 2, Flag("centre_unknown", message)
    centre = best[0].pixel if isinstance(best[0], Centre) else best[0].centre
    return centre, Flag("centre_uncertain", "Nothing shows clearly where the axis is: look at a slice")


def _dispute(by_sinograms: Centre, by_pairs: CentreEstimate | None) -> Flag | None:
    """Say so where opposite projections clearly show another axis."""
    if by_pairs is None or not by_pairs.certain or abs(by_pairs.centre - by_sinograms.pixel) < AGREE_PX:
        return None
    message = f"Opposite projections show the axis at {by_pairs.centre:.1f} px: look at a slice"
    return Flag("centre_disputed", message)


def _metrics(by_sinograms: Centre | None, by_pairs: CentreEstimate | None) -> dict[str, float]:
    known: dict[str, float] = {}
    if by_sinograms is not None:
        known |= {"certainty": by_sinograms.certainty, "spread_px": by_sinograms.spread_px}
    if by_pairs is not None:
        known |= {"pairs_centre_px": by_pairs.centre, "pairs_likeness": by_pairs.likeness}
    return known


def _by_sinograms(
    scan: Scan, rows: ScanRows, fields: FieldRows, params: ScanCentreParams, threads: int
) -> Centre | None:
    """Search the sinograms of some rows; None where the scan has no half turn, or shows nothing."""
    chosen = half_turn(scan.angles_deg)
    if chosen is None:
        return None
    chosen = chosen[:: max(1, len(chosen) // _MOST_PROJECTIONS)]
    height, width = scan.shape_yx
    picked = sample_rows(height, params.rows, _contrast(scan, rows, fields, int(chosen[0])))
    counts = rows.single_rows(picked, chosen)
    sinograms = np.stack(
        [
            absorbed(transmitted(counts[n][:, None], fields.read(row, row + 1)), threads=threads)[:, 0]
            for n, row in enumerate(picked)
        ]
    )
    try:
        return search_centre(
            sinograms,
            guess=params.centre_px or (width - 1) / 2,
            half_width=params.search_px or None,
            threads=threads,
        )
    except ValueError:
        return None


def _contrast(scan: Scan, rows: ScanRows, fields: FieldRows, place: int) -> list[float]:
    """Say how much each row of a projection shows."""
    height = scan.shape_yx[0]
    frame = rows.projections(0, height, slice(place, place + 1))
    absorption = absorbed(transmitted(frame, fields.read(0, height)))[0]
    return [float(value) for value in absorption.std(axis=1)]


def _by_pairs(scan: Scan, rows: ScanRows, fields: FieldRows) -> CentreEstimate | None:
    """Compare opposite projections, some pairs of them; None where there are none."""
    step = float(np.median(np.abs(np.diff(np.sort(np.mod(scan.angles_deg, 360))))))
    pairs = opposite_pairs(scan.angles_deg, max(1.05 * step, 0.01), _PAIRS)
    height = scan.shape_yx[0]
    first = max(0, (height - _MOST_ROWS_OF_A_PAIR) // 2)
    last = min(height, first + _MOST_ROWS_OF_A_PAIR)
    here = fields.read(first, last)

    def projection(place: int) -> FloatArray:
        frame = rows.projections(first, last, slice(place, place + 1))
        one: FloatArray = absorbed(transmitted(frame, here))[0]
        return one

    found = [centre_from_pair(projection(a), projection(b)) for a, b in pairs]
    return agreed_centre(found) if found else None
