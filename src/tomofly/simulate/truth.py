"""What is true of a simulated movie, as written beside it; the processing never reads it."""

from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

TRUTH_SUFFIX = ".truth.json"
"""A movie `name.mrc` has its truth in `name.truth.json` in the same folder."""


class _Fact(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class OpticsTruth(_Fact):
    """The contrast transfer function.

    `defocus_u_angstrom` >= `defocus_v_angstrom`, underfocus positive. The angle is that of the axis of
    `defocus_u`, from +x (increasing column) towards +y (increasing row), in [0, 180) degrees: the
    convention of RELION and CTFFIND for images whose first row is y = 0.
    """

    defocus_u_angstrom: float
    defocus_v_angstrom: float
    astigmatism_angle_deg: float
    phase_shift_deg: float
    voltage_kv: float
    spherical_aberration_mm: float
    amplitude_contrast: float
    envelope_b_factor_angstrom2: float


class ParticleTruth(_Fact):
    """One particle whose centre is in the field.

    Positions are frame pixels with (0, 0) at the centre of the first pixel: `y_px`, `x_px` in frame 0
    (so in every micrograph aligned onto frame 0), `middle_y_px`, `middle_x_px` as seen in frame
    `frames // 2`. Angles are RELION's rot, tilt, psi: an atom at r (x, y, z) of the structure lies in
    the image at transpose(Rz(rot) Ry(tilt) Rz(psi)) r from the centre.
    """

    y_px: float
    x_px: float
    middle_y_px: float
    middle_x_px: float
    structure: str
    diameter_angstrom: float
    rot_deg: float
    tilt_deg: float
    psi_deg: float
    defocus_u_angstrom: float
    defocus_v_angstrom: float


class HoleTruth(_Fact):
    """The hole of the support film: carbon is wherever the distance from the centre exceeds the radius."""

    centre_y_px: float
    centre_x_px: float
    radius_px: float


class DiscTruth(_Fact):
    """A disc that encloses a blob of contamination or a gold bead."""

    y_px: float
    x_px: float
    radius_px: float
    kind: str


class CameraTruth(_Fact):
    """Pixels that do not count as they should: lists of (y, x) in frame pixels."""

    hot_yx_px: list[tuple[int, int]]
    dead_yx_px: list[tuple[int, int]]
    gain_file: str = ""


class Truth(_Fact):
    """All that is true of one movie.

    Shifts are (y, x) in frame pixels and are what must be applied to a frame to bring it onto frame 0:
    `shift_yx_px[frame]` at the image centre, `mean_shift_yx_px[frame]` on average over the field, and
    `local_shift_yx_px[frame][i][j]`, the total at (`grid_y_px[i]`, `grid_x_px[j]`) of that frame.
    """

    key: str
    file: str = ""
    seed: int
    index: int
    frames: int
    frame_yx_px: tuple[int, int]
    pixel_size_angstrom: float
    dose_per_frame_e_per_a2: float
    total_dose_e_per_a2: float
    optics: OpticsTruth
    shift_yx_px: list[tuple[float, float]]
    mean_shift_yx_px: list[tuple[float, float]]
    grid_y_px: list[float]
    grid_x_px: list[float]
    local_shift_yx_px: list[list[list[tuple[float, float]]]]
    particles: list[ParticleTruth]
    carbon: HoleTruth | None
    discs: list[DiscTruth]
    camera: CameraTruth

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The truth that `model_dump_json` wrote."""
        return cls.model_validate_json(text)


def truth_beside(movie: Path) -> Truth:
    """The truth written beside a simulated movie. Raises FileNotFoundError where there is none."""
    return Truth.from_json(movie.with_name(movie.stem + TRUTH_SUFFIX).read_text(encoding="utf-8"))


def exclusion_mask(truth: Truth, margin_px: float = 0.0) -> NDArray[np.bool_]:
    """Where nothing should be picked, (y, x) bool: carbon, contamination, gold, grown by a margin."""
    y, x = np.ogrid[: truth.frame_yx_px[0], : truth.frame_yx_px[1]]
    mask = np.zeros(truth.frame_yx_px, dtype=bool)
    if truth.carbon is not None:
        hole = truth.carbon
        mask |= np.hypot(y - hole.centre_y_px, x - hole.centre_x_px) > hole.radius_px - margin_px
    for disc in truth.discs:
        mask |= np.hypot(y - disc.y_px, x - disc.x_px) < disc.radius_px + margin_px
    return mask
