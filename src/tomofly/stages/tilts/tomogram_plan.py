"""What a reconstruction works on: which tilts, where they were taken from, how large a volume, which CTF."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tomofly.imaging.fourier import evenly_cropped_shape
from tomofly.imaging.tilt_geometry import TiltGeometry
from tomofly.model import Flag, Result, StageContext
from tomofly.stages.tilts.ctf import SeriesCtfParams
from tomofly.stages.tilts.files import (
    AlignmentFile,
    CtfFile,
    SeriesFile,
    read_alignment,
    read_ctf,
    read_series,
)
from tomofly.stages.tilts.tomogram import TomogramParams

FloatArray = npt.NDArray[np.float64]

PROVISIONAL_BINNING = 2.0
"""A preview is made while tilts still come: it must cost little."""

DEFAULT_HEIGHT_ANGSTROM = 3000.0
ROOM = 1.3
LEAST_ROOM_ANGSTROM = 400.0
"""Room around the specimen, as a factor and at least so much, so that its surfaces can be seen."""

LIKELY_ENOUGH = 0.75
"""A gradient of the wrong sense is off by twice what none is, which costs about four times as much signal: a
sense is better than none where it is right in more than three of four cases."""


@dataclass(frozen=True)
class Correction:
    """The CTF of the views in the plan (tilt,), and the sense of the defocus across them, 0 for none."""

    ctf: CtfFile
    views: npt.NDArray[np.intp]
    hand: int

    def defocus(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Give U, V in Å and the angle in degrees, each (tilt,)."""
        ctf = self.ctf
        values = (ctf.defocus_u_angstrom, ctf.defocus_v_angstrom, ctf.astigmatism_angle_deg)
        u, v, angle = (np.array(each, dtype=np.float64)[self.views] for each in values)
        return u, v, angle


@dataclass(frozen=True)
class TomogramPlan:
    """The record, where the views are, the CTF to correct for, and the volume (z, y, x) that is wanted."""

    series: SeriesFile
    alignment: AlignmentFile
    geometry: TiltGeometry
    views: npt.NDArray[np.intp]
    pixel_size_angstrom: float
    binning: float
    shape_zyx: tuple[int, int, int]
    correction: Correction | None
    flags: tuple[Flag, ...]


def plan_tomogram(params: TomogramParams, ctx: StageContext) -> TomogramPlan:
    """Plan the tomogram of one series; a provisional one is coarse, and not corrected for the CTF."""
    series = read_series(ctx.inputs["compose"].products["series"])
    alignment = read_alignment(ctx.inputs["series_alignment"].products["alignment"])
    binning = max(params.binning, PROVISIONAL_BINNING if series.provisional else 1.0)
    kept, shape = evenly_cropped_shape(series.shape_yx, binning)
    binning = kept[1] / shape[1]
    views = np.flatnonzero(alignment.aligned)
    geometry = alignment.geometry().subset(views).binned(binning)
    pixel = series.pixel_size_angstrom * binning
    height = params.thickness_angstrom or _height(alignment)
    turned = abs(np.sin(np.deg2rad(float(np.median(geometry.axis_angle_deg))))) > np.sqrt(0.5)
    # Along the volume's y runs the tilt axis: an image whose axis lies across is seen on its side.
    rows, columns = (shape[1], shape[0]) if turned else shape
    correction, flags = _correction(series, views, params, ctx)
    return TomogramPlan(
        series, alignment, geometry, views, pixel, binning, (2 * round(height / pixel / 2), rows, columns),
        correction, flags,
    )  # fmt: skip


def _height(alignment: AlignmentFile) -> float:
    """Give the height of the volume: the specimen with room around it, or the usual where none was seen."""
    if alignment.thickness_angstrom is None:
        return DEFAULT_HEIGHT_ANGSTROM
    return max(ROOM * alignment.thickness_angstrom, alignment.thickness_angstrom + LEAST_ROOM_ANGSTROM)


def _correction(
    series: SeriesFile, views: npt.NDArray[np.intp], params: TomogramParams, ctx: StageContext
) -> tuple[Correction | None, tuple[Flag, ...]]:
    """Say what to correct the views for; where that is asked for and cannot be done, a flag."""
    if params.ctf_correction == "none" or series.provisional:
        return None, ()
    fitted = ctx.inputs["series_ctf"]
    ctf = read_ctf(fitted.products["ctf"]) if "ctf" in fitted.products else None
    reason = _why_not(fitted, ctf, views)
    if ctf is None or reason:
        return None, (Flag("not_ctf_corrected", f"The tomogram is not corrected for the CTF: {reason}"),)
    hand, flags = _hand(ctf, fitted, ctx)
    return Correction(ctf, views, hand), flags


def _why_not(fitted: Result, ctf: CtfFile | None, views: npt.NDArray[np.intp]) -> str:
    """Say why there is nothing to correct for; an empty text: there is."""
    if any(flag.code == "no_thon_rings" for flag in fitted.flags):
        return "no tilt shows Thon rings"
    known = None if ctf is None else np.isfinite(sum(Correction(ctf, views, 0).defocus()))
    if known is None or not known.any():
        return "; ".join(flag.message for flag in fitted.flags) or "none was measured"
    return "" if known.all() else "the defocus of some tilts is not known"


def _hand(ctf: CtfFile, fitted: Result, ctx: StageContext) -> tuple[int, tuple[Flag, ...]]:
    """Give the sense of the defocus across the tilts: given, measured, likelier, or none."""
    settings = ctx.shared["series_ctf"]
    given = isinstance(settings, SeriesCtfParams) and settings.hand != 0
    if given or ctf.hand_verdict != "undecided":
        return ctf.hand, ()
    certainty = fitted.metrics.get("hand_certainty", 0.5)
    if certainty > LIKELY_ENOUGH:
        message = f"The sense of the defocus across the tilts is not certain ({certainty:.0%}); the likelier"
        return ctf.hand, (Flag("likelier_hand", f"{message} was corrected for (series_ctf.hand sets it)"),)
    message = "The sense of the defocus across the tilts is not known (series_ctf.hand sets it)"
    return 0, (Flag("no_defocus_gradient", f"{message}: corrected for the defocus at the axis"),)


def target_defocus(series: SeriesFile) -> float | None:
    """Give the microscope's target, where all that is known of it agrees and is underfocus."""
    targets = {view.target_defocus_angstrom for view in series.used} - {None}
    target = next(iter(targets)) if len(targets) == 1 else None
    return target if target is not None and target > 0 else None
