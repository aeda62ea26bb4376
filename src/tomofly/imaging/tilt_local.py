"""Local movement of the specimen under the beam: a smooth displacement that grows with the exposures.

Patches that were followed through a series leave residuals. What moves the specimen moves it in three
dimensions and little by little; so the residuals are fitted by one displacement field, of low order over the
field of view and over the order of the exposures, which each tilt sees from its side. How strong it may be is
chosen by what it predicts of patches that it has not seen; where it predicts nothing, there is none.
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from numpy.polynomial import legendre
from scipy.ndimage import map_coordinates

from tomofly.imaging.side_by_side import for_each
from tomofly.imaging.tilt_geometry import TiltGeometry

FloatArray = npt.NDArray[np.float64]

LEAST_PATCHES = 9
_LEAST_TILTS = 9
# Powers of x and y in the displacement, and of the order of exposure.
_DEGREE, _TURNS = 3, 3
# Standard deviations of a coefficient of first degree that are tried, pixels.
_STRENGTHS_PX = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
_FOLDS = 6
# The part of the variance of unseen patches that a model has to explain to be taken.
_LEAST_GAIN = 0.08
_NODES = 7
# Places per side of an image at which movement is worked out.
_CELLS = 24


@dataclass(frozen=True)
class LocalDeformation:
    """Smooth movement on top of the global alignment.

    ``centre_zyx_px`` (patch, 3): centred positions in the specimen, pixels of the given images;
    ``shift_yx_px`` (tilt, patch, 2): what must be applied to the image there, on top of the global shift.
    Positions are those of a grid, rows of y with x running fastest, ``grid_yx`` of them.
    """

    centre_zyx_px: FloatArray
    shift_yx_px: FloatArray
    grid_yx: tuple[int, int] = (_NODES, _NODES)

    def subset(self, chosen: npt.ArrayLike) -> "LocalDeformation":
        """Give that of some of the tilts, by index or mask."""
        return replace(self, shift_yx_px=self.shift_yx_px[np.asarray(chosen)])


@dataclass(frozen=True)
class LocalFit:
    """The deformation, or None, and the part of the variance of unseen patches that it explains."""

    deformation: LocalDeformation | None
    gain: float


def fit_deformation(
    residual_yx_px: FloatArray,
    weight: FloatArray,
    point_zyx_px: FloatArray,
    geometry: TiltGeometry,
    exposure_order: npt.ArrayLike,
    half_field_yx_px: tuple[float, float],
) -> LocalFit:
    """Fit residuals (patch, tilt, 2), seen less expected, of patches at points (patch, 3).

    ``weight`` (patch, tilt): inverse variances, 0 where unseen. ``exposure_order`` (tilt,): order, or dose,
    of the exposures. ``half_field_yx_px``: half the size of the field in the specimen's plane. There is no
    deformation in the answer where there are too few patches or where it predicts too little.
    """
    if np.count_nonzero((weight > 0).any(axis=1)) < LEAST_PATCHES or len(geometry) < _LEAST_TILTS:
        return LocalFit(None, 0.0)
    basis = _Basis.over(geometry, exposure_order, half_field_yx_px)
    pieces = [
        _piece(basis.seen_at(point[None])[0], residual, each, basis.view)
        for point, residual, each in zip(point_zyx_px, residual_yx_px, weight, strict=True)
    ]
    strength, gain = _best_strength(pieces, basis.degrees)
    if gain < _LEAST_GAIN:
        return LocalFit(None, gain)
    found = _solution(pieces, basis.degrees, strength)
    places = _grid(half_field_yx_px)
    moved = basis.seen_at(places) @ found[: basis.unknowns]
    tilts = len(geometry)
    shift = -(moved.reshape(len(places), tilts, 2) - found[basis.unknowns :].reshape(1, tilts, 2))
    return LocalFit(LocalDeformation(places, shift.transpose(1, 0, 2)), gain)


@dataclass(frozen=True)
class _Basis:
    """Views (tilt, 2, 3), the course of each power (turn, tilt), and the degree of each coefficient."""

    view: FloatArray
    course: FloatArray
    powers: tuple[tuple[int, int], ...]
    half_field_yx: tuple[float, float]

    @classmethod
    def over(
        cls, geometry: TiltGeometry, exposure_order: npt.ArrayLike, half_field_yx: tuple[float, float]
    ) -> "_Basis":
        order = np.argsort(np.argsort(np.asarray(exposure_order, dtype=np.float64), kind="stable"))
        part = 2.0 * order / (len(geometry) - 1) - 1.0
        course = np.stack([legendre.Legendre.basis(turn)(part) for turn in range(1, _TURNS + 1)])
        powers = tuple((i, n - i) for n in range(1, _DEGREE + 1) for i in range(n + 1))
        return cls(geometry.rotations()[:, 1::-1, :], course, powers, half_field_yx)

    @property
    def unknowns(self) -> int:
        """The number of coefficients of the displacement."""
        return 3 * len(self.powers) * len(self.course)

    @property
    def degrees(self) -> FloatArray:
        """How fine each coefficient is, over the field and over the exposures."""
        space = np.array([i + j for i, j in self.powers])
        time = np.arange(1, len(self.course) + 1)
        return np.tile((space[:, None] * time[None, :]).ravel(), (3, 1)).T.ravel().astype(np.float64)

    def seen_at(self, points_zyx: FloatArray) -> FloatArray:
        """Give how each coefficient moves points in the images: (point, tilt · 2, coefficient)."""
        y, x = (points_zyx[:, 1 + k] / self.half_field_yx[k] for k in (0, 1))
        space = np.stack([y**i * x**j for i, j in self.powers], axis=1)
        seen = np.einsum("ps,mt,tij->ptismj", space, self.course, self.view, optimize=True)
        return np.asarray(seen.reshape(len(points_zyx), 2 * len(self.view), -1))


@dataclass(frozen=True)
class _Piece:
    """What one patch says: normal matrix, right side, and the weighted square of its residuals."""

    matrix: FloatArray
    side: FloatArray
    square: float


def _piece(seen: FloatArray, residual: FloatArray, weight: FloatArray, view: FloatArray) -> _Piece:
    """Give the equations of one patch, its own place taken out, for the coefficients and the shifts."""
    root = np.repeat(np.sqrt(weight), 2)
    place = np.linalg.qr(view.reshape(-1, 3) * root[:, None])[0]
    design = np.concatenate([seen, -np.eye(len(root))], axis=1) * root[:, None]
    target = np.where(np.repeat(weight > 0, 2), residual.ravel(), 0.0) * root
    design = design - place @ (place.T @ design)
    target = target - place @ (place.T @ target)
    return _Piece(design.T @ design, design.T @ target, float(target @ target))


def _solution(pieces: list[_Piece], degrees: FloatArray, strength: float) -> FloatArray:
    """Solve for coefficients of a given expected size and for free shifts (held where nothing tells them)."""
    matrix = np.sum([piece.matrix for piece in pieces], axis=0)
    side = np.sum([piece.side for piece in pieces], axis=0)
    held = np.full(len(side), 1e-6 * np.trace(matrix) / len(matrix))
    held[: len(degrees)] = (degrees / max(strength, 1e-6)) ** 2
    return np.asarray(np.linalg.solve(matrix + np.diag(held), side))


def _best_strength(pieces: list[_Piece], degrees: FloatArray) -> tuple[float, float]:
    """Try strengths on patches left out in turn; give the best, and what it explains of their variance."""
    without = _unseen_square(pieces, degrees, 0.0)
    tried = [(_unseen_square(pieces, degrees, strength), strength) for strength in _STRENGTHS_PX]
    best, strength = min(tried)
    return strength, 1.0 - best / max(without, 1e-30)


def _unseen_square(pieces: list[_Piece], degrees: FloatArray, strength: float) -> float:
    total = 0.0
    for fold in range(_FOLDS):
        known = [piece for number, piece in enumerate(pieces) if number % _FOLDS != fold]
        found = _solution(known, degrees, strength)
        for piece in pieces[fold::_FOLDS]:
            total += piece.square - 2 * float(piece.side @ found) + float(found @ piece.matrix @ found)
    return total


def _grid(half_field_yx: tuple[float, float]) -> FloatArray:
    y, x = (np.linspace(-half, half, _NODES) for half in half_field_yx)
    rows, columns = np.meshgrid(y, x, indexing="ij")
    return np.stack([np.zeros(rows.size), rows.ravel(), columns.ravel()], axis=1)


def straightened(
    images: npt.NDArray[np.float32], geometry: TiltGeometry, local: LocalDeformation, *, threads: int = 1
) -> npt.NDArray[np.float32]:
    """Undo local movement in images (tilt, y, x): what is left is seen where the geometry alone has it.

    Movement is taken for that of the specimen's middle, at height 0. Values are interpolated by cubic
    splines; beyond an image's edge stands its mean.
    """
    straight = np.empty_like(images)
    rows, columns = (_cells(size) for size in images.shape[1:])

    def straighten(tilt: int) -> None:
        shift = _shift_in_image(geometry.subset([tilt]), local, local.shift_yx_px[tilt], (rows, columns))
        place = [_zoomed(part, images.shape[1:], (rows, columns)) for part in shift]
        y, x = np.indices(images.shape[1:], dtype=np.float32)
        straight[tilt] = map_coordinates(
            images[tilt], [y - place[0], x - place[1]], order=3, mode="constant", cval=images[tilt].mean()
        )

    for_each(straighten, len(images), threads)
    return straight


def _cells(size: int) -> FloatArray:
    """Give centred coordinates, some dozen over a side, its ends among them."""
    return np.linspace(-(size // 2), size - 1 - size // 2, _CELLS)


def _shift_in_image(
    view: TiltGeometry, local: LocalDeformation, shift: FloatArray, cells: tuple[FloatArray, FloatArray]
) -> FloatArray:
    """Give the shift (2, y, x) at places of one image: that of the specimen's middle seen there."""
    v, u = np.meshgrid(*cells, indexing="ij")
    seen = np.stack([v.ravel(), u.ravel()], axis=1) + view.shift_yx_px[0]
    plane = np.linalg.solve(view.rotations()[0][1::-1, 1::-1], seen.T)
    rows, columns = local.grid_yx
    centre = local.centre_zyx_px
    index = [
        np.interp(plane[0], centre[::columns, 1], np.arange(rows)),
        np.interp(plane[1], centre[:columns, 2], np.arange(columns)),
    ]
    found = [map_coordinates(part.reshape(rows, columns), index, order=3, mode="nearest") for part in shift.T]
    return np.stack([each.reshape(v.shape) for each in found])


def _zoomed(
    values: FloatArray, shape: tuple[int, ...], cells: tuple[FloatArray, FloatArray]
) -> npt.NDArray[np.float32]:
    """Interpolate values on cells to every pixel of an image of a shape (y, x)."""
    index = [
        np.linspace(0, len(cell) - 1, size, dtype=np.float32) for cell, size in zip(cells, shape, strict=True)
    ]
    y, x = np.meshgrid(*index, indexing="ij")
    return np.asarray(map_coordinates(values.astype(np.float32), [y, x], order=3, mode="nearest"))
