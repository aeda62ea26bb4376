"""What the stages of a tilt series hand to each other, as files that people can read too."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict

from tomofly.imaging.tilt_geometry import TiltGeometry
from tomofly.imaging.tilt_local import LocalDeformation
from tomofly.imaging.tilt_screening import TiltScreening
from tomofly.imaging.tilt_spectra import TileSpectra, tile_spectra_from


class _Record(BaseModel):
    """A file of plain values; one with other fields is of another version, and refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    def write(self, path: Path) -> None:
        """Write it as JSON."""
        path.write_text(self.model_dump_json(indent=1), encoding="utf-8")


class View(_Record):
    """One exposure of a series. ``excluded`` is a code, with its ``reason``; empty: it is used.

    ``section``: of its file, from 0; None for a file of its own. ``order``: of exposure, from 0.
    ``accumulated``: the dose before it, in e⁻/Å², without what the specimen had before its series.
    """

    key: str
    section: int | None
    tilt_angle_deg: float
    order: int
    dose_e_per_a2: float | None = None
    accumulated_dose_e_per_a2: float | None = None
    target_defocus_angstrom: float | None = None
    excluded: str = ""
    reason: str = ""


class SeriesFile(_Record):
    """A composed series. The stack holds the views that are used, in the order of their angles."""

    name: str
    views: tuple[View, ...]
    axis_angle_deg: float
    axis_source: str
    pixel_size_angstrom: float
    full_pixel_size_angstrom: float
    shape_yx: tuple[int, int]
    full_shape_yx: tuple[int, int]
    provisional: bool = False

    @property
    def used(self) -> tuple[View, ...]:
        """The views in the stack."""
        return tuple(view for view in self.views if not view.excluded)

    @property
    def tilt_angle_deg(self) -> npt.NDArray[np.float64]:
        """Nominal angles of the views in the stack."""
        return np.array([view.tilt_angle_deg for view in self.used])

    @property
    def accumulated_dose(self) -> npt.NDArray[np.float64] | None:
        """Dose before each view in the stack, e⁻/Å²; None where it is not known of all."""
        doses = [view.accumulated_dose_e_per_a2 for view in self.used]
        return None if None in doses else np.array(doses, dtype=np.float64)


class LocalMovement(_Record):
    """Local movement on a grid over the field, in pixels of the stack; rows of y, x running fastest.

    ``y_px``, ``x_px``: the grid's centred places in the specimen. ``shift_y_px``, ``shift_x_px``, per view:
    at each place, what must be applied to the image there on top of the view's shift.
    """

    y_px: tuple[float, ...]
    x_px: tuple[float, ...]
    shift_y_px: tuple[tuple[float, ...], ...]
    shift_x_px: tuple[tuple[float, ...], ...]

    @classmethod
    def of(cls, local: LocalDeformation) -> Self:
        """Give the record of a deformation."""
        _, columns = local.grid_yx
        shift_y, shift_x = np.moveaxis(local.shift_yx_px, -1, 0).round(3).tolist()
        return cls(
            y_px=tuple(map(float, local.centre_zyx_px[::columns, 1])),
            x_px=tuple(map(float, local.centre_zyx_px[:columns, 2])),
            shift_y_px=shift_y,
            shift_x_px=shift_x,
        )

    def deformation(self) -> LocalDeformation:
        """Give the deformation, in pixels of the stack."""
        y, x = np.meshgrid(self.y_px, self.x_px, indexing="ij")
        centre = np.stack([np.zeros(y.size), y.ravel(), x.ravel()], axis=1)
        shift = np.stack([self.shift_y_px, self.shift_x_px], axis=-1)
        return LocalDeformation(centre, shift, (len(self.y_px), len(self.x_px)))


class AlignmentFile(_Record):
    """An alignment, per view in the stack; shifts in pixels of the stack, to be applied.

    ``shift_error_px``: standard errors of the shifts; ``residual_angstrom``: median distance of patches or
    beads from where the geometry has them; NaN where not measured. ``local``: movement on top of the
    geometry, which ``imaging.tilt_local.straightened`` takes out of images; None: there is none to take out.
    """

    method: str
    tilt_angle_deg: tuple[float, ...]
    axis_angle_deg: tuple[float, ...]
    shift_y_px: tuple[float, ...]
    shift_x_px: tuple[float, ...]
    shift_error_px: tuple[float, ...]
    residual_angstrom: tuple[float, ...]
    aligned: tuple[bool, ...]
    x_tilt_deg: float
    tilt_offset_deg: float
    pixel_size_angstrom: float
    thickness_angstrom: float | None = None
    local: LocalMovement | None = None

    def geometry(self) -> TiltGeometry:
        """Give the geometry, in pixels of the stack."""
        shifts = np.stack([self.shift_y_px, self.shift_x_px], axis=1)
        return TiltGeometry(
            np.array(self.tilt_angle_deg), np.array(self.axis_angle_deg), shifts, self.x_tilt_deg
        )


class CtfFile(_Record):
    """The CTF per view in the stack, underfocus positive, at the tilt axis; NaN where it is not known.

    ``hand``: 1 where the defocus grows with height, -1 where it falls, the likelier where ``hand_verdict`` is
    "undecided", 0 if nothing is known. ``hand_certainty``: probability of that hand, 0.5 to 1;
    ``hand_evidence`` of each view: difference of log likelihoods, above 0 for 1.
    ``defocus_gradient``: rise of the defocus across the tilt axis, towards (cos, sin) of its angle in (x, y),
    per distance in the image. ``view_flags``: what is to be known of each view.
    """

    defocus_u_angstrom: tuple[float, ...]
    defocus_v_angstrom: tuple[float, ...]
    astigmatism_angle_deg: tuple[float, ...]
    defocus_error_angstrom: tuple[float, ...]
    fit_resolution_angstrom: tuple[float, ...]
    hand: int
    hand_verdict: str
    hand_certainty: float = float("nan")
    hand_evidence: tuple[float, ...] = ()
    defocus_gradient_angstrom_per_um: tuple[float, ...] = ()
    view_flags: tuple[tuple[str, ...], ...] = ()


def read_series(path: Path) -> SeriesFile:
    """Read a composed series."""
    return SeriesFile.model_validate_json(path.read_text(encoding="utf-8"))


def read_alignment(path: Path) -> AlignmentFile:
    """Read an alignment."""
    return AlignmentFile.model_validate_json(path.read_text(encoding="utf-8"))


def read_ctf(path: Path) -> CtfFile:
    """Read the CTF of a series."""
    return CtfFile.model_validate_json(path.read_text(encoding="utf-8"))


class ScreenedTilt(_Record):
    """What an image shows before any alignment; ``shape_yx`` of the reduced image."""

    mean: float
    spread: float
    blocked_fraction: float
    sharpness: float
    shape_yx: tuple[int, int]


class _Screening(_Record):
    sections: tuple[ScreenedTilt, ...]


def write_screening(path: Path, screened: Sequence[TiltScreening], shape_yx: tuple[int, int]) -> None:
    """Write what the sections of a tilt's file show."""
    sections = tuple(
        ScreenedTilt(
            mean=s.mean, spread=s.spread, blocked_fraction=s.blocked_fraction, sharpness=s.sharpness,
            shape_yx=shape_yx,
        )
        for s in screened
    )  # fmt: skip
    _Screening(sections=sections).write(path)


def read_screening(path: Path) -> tuple[ScreenedTilt, ...]:
    """Read what the sections of a tilt's file show."""
    return _Screening.model_validate_json(path.read_text(encoding="utf-8")).sections


def write_spectra(path: Path, spectra: Sequence[TileSpectra]) -> None:
    """Write the tile spectra of some images into one file."""
    arrays: dict[str, Any] = {}
    for number, tilt in enumerate(spectra):
        arrays |= {f"{number}.{name}": values for name, values in tilt.arrays().items()}
    np.savez(path, allow_pickle=False, **arrays)


def read_spectra(path: Path) -> list[TileSpectra]:
    """Read the tile spectra of the images of a file, in their order."""
    with np.load(path, allow_pickle=False) as stored:
        count = len({name.partition(".")[0] for name in stored.files})
        found: list[dict[str, Any]] = [{} for _ in range(count)]
        for name in stored.files:
            number, _, field = name.partition(".")
            found[int(number)][field] = stored[name]
    return [tile_spectra_from(arrays) for arrays in found]
