"""A movie's motion in the form that RELION 3.1's motion correction writes and its polishing reads."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tomofly.formats.star import StarValue, write_star

# RELION's third-order model: {1, x, x^2, y, y^2, xy} times {t, t^2, t^3}
COEFFICIENTS_PER_AXIS = 18


@dataclass(frozen=True)
class MotionRecord:
    """What RELION needs to know of a movie's motion. Shifts are in unbinned pixels, to be applied.

    Attributes:
        shape_yx: size of a frame.
        global_shift_yx_px: (frame, 2), of the frames used, zero for the first.
        binning: pixels of the movie per pixel of the micrograph, on one axis.
        first_frame: the first frame used, counted from 1.
        local_coefficients_yx: (2, 18) or None: for each axis, y first, the terms 1, x, x^2, y, y^2, xy
            times t, t^2, t^3, the power changing fastest. x and y go from -0.5 to 0.5 over the frame, t is 0
            at the first frame used; the model is the shift to be applied on top of the global one.
        patch_centre_yx_px, patch_shift_yx_px: (patch, 2) and (patch, frame, 2), the measured local shifts.
        hot_pixels_yx: (pixel, 2) indices.
    """

    movie_name: str
    shape_yx: tuple[int, int]
    global_shift_yx_px: NDArray[np.floating]
    pixel_size_angstrom: float
    voltage_kv: float
    dose_per_frame: float
    pre_exposure: float = 0.0
    binning: float = 1.0
    first_frame: int = 1
    gain_name: str | None = None
    eer_upsampling: int | None = None
    eer_grouping: int | None = None
    local_coefficients_yx: NDArray[np.floating] | None = None
    patch_centre_yx_px: NDArray[np.floating] | None = None
    patch_shift_yx_px: NDArray[np.floating] | None = None
    hot_pixels_yx: NDArray[np.integer] | None = None


def write_motion_star(path: str | Path, motion: MotionRecord) -> None:
    """Write the motion of one movie; the blocks and labels are those of RELION 3.1.

    Raises ValueError when an array has not the shape that `MotionRecord` says.
    """
    blocks: dict[str, pd.DataFrame | dict[str, StarValue]] = {
        "general": _general(motion),
        "global_shift": _global_shift(motion),
    }
    if motion.local_coefficients_yx is not None:
        blocks["local_motion_model"] = _model(motion.local_coefficients_yx)
    if motion.patch_centre_yx_px is not None and motion.patch_shift_yx_px is not None:
        blocks["local_shift"] = _patches(motion, motion.patch_centre_yx_px, motion.patch_shift_yx_px)
    if motion.hot_pixels_yx is not None and len(motion.hot_pixels_yx):
        y, x = np.asarray(motion.hot_pixels_yx).T
        blocks["hot_pixels"] = pd.DataFrame({"rlnCoordinateX": x, "rlnCoordinateY": y})
    write_star(path, blocks)


def _general(motion: MotionRecord) -> dict[str, StarValue]:
    values: dict[str, StarValue | None] = {
        "rlnImageSizeX": motion.shape_yx[1],
        "rlnImageSizeY": motion.shape_yx[0],
        "rlnImageSizeZ": motion.first_frame - 1 + len(motion.global_shift_yx_px),
        "rlnMicrographMovieName": motion.movie_name,
        "rlnMicrographGainName": motion.gain_name,
        "rlnMicrographBinning": float(motion.binning),
        "rlnMicrographOriginalPixelSize": float(motion.pixel_size_angstrom),
        "rlnMicrographDoseRate": float(motion.dose_per_frame),
        "rlnMicrographPreExposure": float(motion.pre_exposure),
        "rlnVoltage": float(motion.voltage_kv),
        "rlnMicrographStartFrame": motion.first_frame,
        "rlnEERUpsampling": motion.eer_upsampling,
        "rlnEERGrouping": motion.eer_grouping,
        "rlnMotionModelVersion": 0 if motion.local_coefficients_yx is None else 1,
    }
    return {label: value for label, value in values.items() if value is not None}


def _global_shift(motion: MotionRecord) -> pd.DataFrame:
    shift = np.asarray(motion.global_shift_yx_px, np.float64)
    if shift.ndim != 2 or shift.shape[1] != 2:
        raise ValueError(f"global shifts have shape (frame, 2), not {shift.shape}")
    return pd.DataFrame(
        {
            "rlnMicrographFrameNumber": _frame_numbers(motion),
            "rlnMicrographShiftX": shift[:, 1],
            "rlnMicrographShiftY": shift[:, 0],
        }
    )


def _model(coefficients_yx: NDArray[np.floating]) -> pd.DataFrame:
    if coefficients_yx.shape != (2, COEFFICIENTS_PER_AXIS):
        raise ValueError(
            f"local coefficients have shape (2, {COEFFICIENTS_PER_AXIS}), not {coefficients_yx.shape}"
        )
    x_then_y = np.concatenate([coefficients_yx[1], coefficients_yx[0]])
    return pd.DataFrame(
        {"rlnMotionModelCoeffsIdx": np.arange(x_then_y.size), "rlnMotionModelCoeff": x_then_y}
    )


def _patches(
    motion: MotionRecord, centre_yx: NDArray[np.floating], shift_yx: NDArray[np.floating]
) -> pd.DataFrame:
    frames = len(motion.global_shift_yx_px)
    if centre_yx.ndim != 2 or shift_yx.shape != (len(centre_yx), frames, 2):
        raise ValueError(
            f"patch shifts have shape (patch, {frames}, 2) for {len(centre_yx)} centres, not {shift_yx.shape}"
        )
    return pd.DataFrame(
        {
            "rlnMicrographFrameNumber": np.tile(_frame_numbers(motion), len(centre_yx)),
            "rlnCoordinateX": np.repeat(centre_yx[:, 1], frames).astype(np.float64),
            "rlnCoordinateY": np.repeat(centre_yx[:, 0], frames).astype(np.float64),
            "rlnMicrographShiftX": shift_yx[..., 1].reshape(-1).astype(np.float64),
            "rlnMicrographShiftY": shift_yx[..., 0].reshape(-1).astype(np.float64),
        }
    )


def _frame_numbers(motion: MotionRecord) -> NDArray[np.integer]:
    return motion.first_frame + np.arange(len(motion.global_shift_yx_px))
