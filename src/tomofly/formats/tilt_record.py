"""What the files of other programs need to know of an aligned tilt series, in the project's own geometry."""

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class TiltRecord:
    """One image of a series; names are as they shall stand in the files, None where nothing is known.

    ``shift_yx_px`` is what must be applied to the image; ``dose`` is of this image alone, ``dose_before`` of
    all that came before it (e/Å²); ``acquisition_order`` counts from 0. Underfocus is positive.
    ``motion_angstrom``: total, early and late.
    """

    movie_name: str
    tilt_angle_deg: float
    axis_angle_deg: float
    shift_yx_px: tuple[float, float]
    nominal_tilt_deg: float
    acquisition_order: int
    dose: float
    dose_before: float
    image_name: str | None = None
    even_name: str | None = None
    odd_name: str | None = None
    motion_star: str | None = None
    frame_count: int | None = None
    motion_angstrom: tuple[float, float, float] | None = None
    nominal_defocus_um: float | None = None
    defocus_u_angstrom: float | None = None
    defocus_v_angstrom: float | None = None
    defocus_angle_deg: float | None = None
    phase_shift_deg: float = 0.0
    ctf_resolution_angstrom: float | None = None
    excluded: bool = False


@dataclass(frozen=True)
class TiltSeriesRecord:
    """A series whose tilts stand in the order of their stack. Sizes are in the images' own pixels.

    A point at index (x, y, z) of a tomogram of ``tomogram_size_xyz``, counted from 0, is
    p = index - size // 2 from the specimen's origin, and is seen at index
    image_size // 2 + [Rz(axis) · Ry(tilt) · Rx(x_tilt) · p]_xy - shift, right-handed. ``hand`` is RELION's:
    +1 when defocus grows with depth along the beam, the third row of that, and -1 when it falls.
    """

    name: str
    tilts: tuple[TiltRecord, ...]
    image_size_xy: tuple[int, int]
    pixel_size_angstrom: float
    tomogram_size_xyz: tuple[int, int, int]
    voltage_kv: float
    spherical_aberration_mm: float
    amplitude_contrast: float
    hand: int
    movie_pixel_size_angstrom: float
    nominal_axis_angle_deg: float
    x_tilt_deg: float = 0.0
    stack_name: str | None = None
    tomogram_name: str | None = None
    half_names: tuple[str, str] | None = None
    tomogram_binning: float = 1.0
    optics_group: str = "opticsGroup1"

    def __post_init__(self) -> None:
        if self.hand not in (1, -1):
            raise ValueError(f"hand is 1 or -1, not {self.hand}")
        if not self.tilts:
            raise ValueError(f"{self.name} has no tilts")

    def used(self) -> "TiltSeriesRecord":
        """Give the series without its excluded tilts."""
        return replace(self, tilts=tuple(tilt for tilt in self.tilts if not tilt.excluded))

    def in_order_of_acquisition(self) -> "TiltSeriesRecord":
        """Give the series with its tilts in the order in which they were taken."""
        return replace(self, tilts=tuple(sorted(self.tilts, key=lambda tilt: tilt.acquisition_order)))

    @property
    def tilt_angle_deg(self) -> FloatArray:
        """Refined angles (tilt,), offset included."""
        return np.array([tilt.tilt_angle_deg for tilt in self.tilts])

    @property
    def axis_angle_deg(self) -> FloatArray:
        """Directions of the tilt axis (tilt,), anticlockwise from y."""
        return np.array([tilt.axis_angle_deg for tilt in self.tilts])

    @property
    def shift_xy_px(self) -> FloatArray:
        """Shifts (tilt, 2) to be applied, x first as the files have it."""
        return np.array([tilt.shift_yx_px[::-1] for tilt in self.tilts], dtype=np.float64)

    def rotations(self) -> FloatArray:
        """Give the matrices (tilt, 3, 3) that turn the specimen's (x, y, z) into image x, y and depth."""
        return rotations(self.tilt_angle_deg, self.axis_angle_deg, self.x_tilt_deg)

    @property
    def image_centre_xy(self) -> FloatArray:
        """Index of the images' origin."""
        return np.array([size // 2 for size in self.image_size_xy], dtype=np.float64)

    @property
    def tomogram_centre_xyz(self) -> FloatArray:
        """Index of the tomogram's origin."""
        return np.array([size // 2 for size in self.tomogram_size_xyz], dtype=np.float64)


def rotations(tilt_deg: npt.ArrayLike, axis_deg: npt.ArrayLike, x_tilt_deg: npt.ArrayLike) -> FloatArray:
    """Give Rz(axis) · Ry(tilt) · Rx(x tilt), right-handed, as (tilt, 3, 3); angles per tilt or for all."""
    tilt, axis, x_tilt = np.broadcast_arrays(
        *(np.deg2rad(np.asarray(a, np.float64)) for a in (tilt_deg, axis_deg, x_tilt_deg))
    )
    zero, one = np.zeros(tilt.shape), np.ones(tilt.shape)
    (ct, st), (ca, sa), (cx, sx) = ((np.cos(a), np.sin(a)) for a in (tilt, axis, x_tilt))
    about_z = [[ca, -sa, zero], [sa, ca, zero], [zero, zero, one]]
    about_y = [[ct, zero, st], [zero, one, zero], [-st, zero, ct]]
    about_x = [[one, zero, zero], [zero, cx, -sx], [zero, sx, cx]]
    of_z, of_y, of_x = (
        np.moveaxis(np.array(matrix), (0, 1), (-2, -1)) for matrix in (about_z, about_y, about_x)
    )
    return np.asarray(of_z @ of_y @ of_x)


def mean_of_known(values: list[float | None]) -> float | None:
    """Give the mean of the values that are known, None when none is."""
    known = [value for value in values if value is not None and math.isfinite(value)]
    return sum(known) / len(known) if known else None
