"""The geometry of a tilt series: where a point of the specimen appears in each image.

Coordinates are centred: the origin lies at index ``n // 2`` of every axis of the volume and of the images
(the centre of the FFT), so that Fourier cropping leaves it in place. A point (x, y, z) of the specimen is
seen in image i at

    (u, v) = Rz(axis_i) · [Ry(tilt_i) · Rx(x_tilt) · (x, y, z)]_xy − shift_i

with right-handed rotations: tilted by +θ, x appears at x·cos θ + z·sin θ. The tilt axis stands at
``axis_angle_deg``, anticlockwise from the image's y axis. This is IMOD's geometry, whose ``.xf`` is
Rz(−axis), and that of RELION 5 (X tilt, Y tilt, Z rotation). Mastronarde (1997), Zivanov et al. (2022).
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class TiltGeometry:
    """The views of a tilt series.

    ``tilt_angle_deg`` (tilt,): angles of the specimen, offset included. ``axis_angle_deg`` (tilt,): of the
    tilt axis in each image. ``shift_yx_px`` (tilt, 2): what must be applied to each image to bring the
    specimen's origin to its centre. ``x_tilt_deg``: rotation about x that levels the specimen.
    """

    tilt_angle_deg: FloatArray
    axis_angle_deg: FloatArray
    shift_yx_px: FloatArray
    x_tilt_deg: float = 0.0

    def __len__(self) -> int:
        return len(self.tilt_angle_deg)

    def rotations(self) -> FloatArray:
        """Give the matrices (tilt, 3, 3) that turn specimen (x, y, z) into image (u, v) and depth w."""
        tilt, axis = np.deg2rad(self.tilt_angle_deg), np.deg2rad(self.axis_angle_deg)
        x_tilt = np.full(len(self), np.deg2rad(self.x_tilt_deg))
        return _about_z(axis) @ _about_y(tilt) @ _about_x(x_tilt)

    def project(self, points_zyx: npt.ArrayLike) -> FloatArray:
        """Give where centred points (point, 3) in pixels appear: centred (tilt, point, 2) as (y, x)."""
        turned = self._turned(points_zyx)
        return np.asarray(turned[..., 1::-1] - self.shift_yx_px[:, None, :])

    def depth(self, points_zyx: npt.ArrayLike) -> FloatArray:
        """Give the height of points along the beam in each view (tilt, point), in pixels."""
        return np.asarray(self._turned(points_zyx)[..., 2])

    def _turned(self, points_zyx: npt.ArrayLike) -> FloatArray:
        points_xyz = np.atleast_2d(np.asarray(points_zyx, dtype=np.float64))[:, ::-1]
        return np.asarray(np.einsum("tij,pj->tpi", self.rotations(), points_xyz))

    def binned(self, factor: float) -> "TiltGeometry":
        """Give the same geometry for images whose pixels are ``factor`` times as large."""
        return replace(self, shift_yx_px=self.shift_yx_px / factor)

    def subset(self, chosen: npt.ArrayLike) -> "TiltGeometry":
        """Give the geometry of some of the views, by index or mask."""
        pick = np.asarray(chosen)
        return replace(
            self,
            tilt_angle_deg=self.tilt_angle_deg[pick],
            axis_angle_deg=self.axis_angle_deg[pick],
            shift_yx_px=self.shift_yx_px[pick],
        )


def nominal_geometry(tilt_angle_deg: npt.ArrayLike, axis_angle_deg: float) -> TiltGeometry:
    """Give the geometry that the microscope reports: one axis, nothing shifted."""
    tilts = np.asarray(tilt_angle_deg, dtype=np.float64)
    return TiltGeometry(tilts, np.full(len(tilts), float(axis_angle_deg)), np.zeros((len(tilts), 2)))


def _about_x(angle: FloatArray) -> FloatArray:
    return _rotation(angle, 1, 2)


def _about_y(angle: FloatArray) -> FloatArray:
    return _rotation(angle, 2, 0)


def _about_z(angle: FloatArray) -> FloatArray:
    return _rotation(angle, 0, 1)


def _rotation(angle: FloatArray, first: int, second: int) -> FloatArray:
    """Give right-handed rotations (angle, 3, 3) that turn axis ``first`` towards axis ``second``."""
    matrix = np.tile(np.eye(3), (len(angle), 1, 1))
    matrix[:, first, first] = matrix[:, second, second] = np.cos(angle)
    matrix[:, first, second] = -np.sin(angle)
    matrix[:, second, first] = np.sin(angle)
    return matrix
