"""What is known of a tomogram beside its voxels, for those who filter it, pick in it, or export it."""

from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from tomofly.imaging.tomogram_fsc import central_part

COMPARED_VOXELS = 400
"""Halves are compared within so many voxels about the middle: enough to tell, little to hold."""

FEWEST_SLICES = 16


class TomogramFile(BaseModel):
    """A tomogram; one with other fields is of another version, and refused.

    ``size_zyx`` in voxels; the specimen's origin lies at index n // 2 of each axis, y along the tilt axis,
    and the specimen's middle plane is level there. ``thickness_angstrom``: None where it was not detectable.
    ``ctf_correction``: how tilts were corrected; ``hand``: by which sense of the defocus across them, 0 by
    none. ``defocus_angstrom``: of the least tilted view, measured or the microscope's target.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    size_zyx: tuple[int, int, int]
    voxel_size_angstrom: float
    thickness_angstrom: float | None
    tilts: int
    ctf_correction: Literal["none", "flip", "wiener"] = "none"
    hand: int = 0
    defocus_angstrom: float | None = None
    defocus_source: Literal["measured", "target", ""] = ""
    gold_erased_angstrom: float = 0.0
    provisional: bool = False

    def write(self, path: Path) -> None:
        """Write it as JSON."""
        path.write_text(self.model_dump_json(indent=1), encoding="utf-8")

    def slab_z(self) -> tuple[float, float] | None:
        """Give the heights between which the specimen lies, as indices; None where they are not known."""
        if self.thickness_angstrom is None:
            return None
        half = self.thickness_angstrom / 2 / self.voxel_size_angstrom
        return self.size_zyx[0] // 2 - half, self.size_zyx[0] // 2 + half


def read_tomogram_record(path: Path) -> TomogramFile:
    """Read what is known of a tomogram."""
    return TomogramFile.model_validate_json(path.read_text(encoding="utf-8"))


def compared_part(volume: npt.NDArray[np.float32], record: TomogramFile) -> npt.NDArray[np.float32]:
    """Give the part of a half tomogram that is compared: noise above and below the specimen tells nothing."""
    thickness = record.thickness_angstrom
    depth = volume.shape[0] if thickness is None else round(thickness / record.voxel_size_angstrom)
    return central_part(volume, (max(FEWEST_SLICES, depth), COMPARED_VOXELS, COMPARED_VOXELS))
