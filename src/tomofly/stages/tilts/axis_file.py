"""The file of a first look, and what a session says of its tilt axes."""

import json
from pathlib import Path
from typing import Self

import numpy as np
from pydantic import BaseModel, ConfigDict

from tomofly.imaging.tilt_axis_search import AxisSearch
from tomofly.imaging.tilt_geometry import TiltGeometry


class AxisFile(BaseModel):
    """A first look, per view in the stack; shifts in pixels of the stack, to be applied."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    tilt_angle_deg: tuple[float, ...]
    axis_angle_deg: float
    axis_error_deg: float
    shift_y_px: tuple[float, ...]
    shift_x_px: tuple[float, ...]
    followed: tuple[bool, ...]
    thickness_px: float
    flags: tuple[str, ...]

    @classmethod
    def of(cls, found: AxisSearch) -> Self:
        """Give the file of a search."""
        geometry = found.geometry
        return cls(
            tilt_angle_deg=tuple(map(float, geometry.tilt_angle_deg)),
            axis_angle_deg=found.axis_angle_deg,
            axis_error_deg=found.axis_uncertainty_deg,
            shift_y_px=tuple(map(float, geometry.shift_yx_px[:, 0])),
            shift_x_px=tuple(map(float, geometry.shift_yx_px[:, 1])),
            followed=tuple(map(bool, found.used)),
            thickness_px=found.thickness_px,
            flags=found.flags,
        )

    def search(self) -> AxisSearch:
        """Give the search that this is the file of."""
        tilts = np.array(self.tilt_angle_deg)
        geometry = TiltGeometry(
            tilts,
            np.full(len(tilts), self.axis_angle_deg),
            np.stack([self.shift_y_px, self.shift_x_px], axis=1),
        )
        return AxisSearch(
            geometry, np.array(self.followed), self.thickness_px, self.axis_error_deg, self.flags
        )

    def write(self, path: Path) -> None:
        """Write it as JSON."""
        path.write_text(self.model_dump_json(indent=1), encoding="utf-8")


def read_axis(path: Path) -> AxisFile:
    """Read a first look."""
    return AxisFile.model_validate_json(path.read_text(encoding="utf-8"))


def session_axis(said: str, nominal_axis_deg: float | None) -> float | None:
    """Give the axis that a session has shown for series of a nominal one (None: unknown), if it says any."""
    known: dict[str, float] = json.loads(said) if said else {}
    return known.get(axis_name(nominal_axis_deg))


def axis_name(nominal_axis_deg: float | None) -> str:
    """Name the series that share a nominal axis: those of one microscope and magnification."""
    return "unknown" if nominal_axis_deg is None else f"{nominal_axis_deg:.1f}"
