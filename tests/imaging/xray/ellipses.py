"""A phantom of ellipses, one set per detector row, with projections from their formula."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Ellipse:
    """Centre and half axes in pixels from the axis, turned by ``turn_deg`` from x towards y."""

    value: float
    x: float
    y: float
    a: float
    b: float
    turn_deg: float


SCENE = (
    Ellipse(0.010, 2.0, -3.0, 40.0, 31.0, 20.0),
    Ellipse(0.015, 14.0, 6.0, 9.0, 5.0, -35.0),
    Ellipse(-0.008, -17.0, -4.0, 6.0, 12.0, 10.0),
    Ellipse(0.020, -3.0, 17.0, 4.0, 4.0, 0.0),
)


def scene_at(row: int) -> list[Ellipse]:
    """Ellipses whose small ones move with the row, so that rows differ."""
    body, *small = SCENE
    return [body, *(Ellipse(e.value, e.x + 0.1 * row, e.y - 0.07 * row, e.a, e.b, e.turn_deg) for e in small)]


def project(angle_deg: npt.ArrayLike, rows: int, columns: int, centre: float) -> FloatArray:
    """Line integrals (angle, z, s), averaged over the width of a column by four samples."""
    angle = np.deg2rad(np.asarray(angle_deg, float))[:, None, None]
    s = np.arange(columns)[:, None] + (np.arange(4) - 1.5) / 4 - centre
    total = np.zeros((angle.shape[0], rows, columns))
    for row in range(rows):
        for e in scene_at(row):
            turn = np.deg2rad(e.turn_deg)
            # s runs along (cos θ, -sin θ): the half width of the ellipse that way, and where its middle is.
            cosine = np.cos(angle) * np.cos(turn) - np.sin(angle) * np.sin(turn)
            sine = np.cos(angle) * np.sin(turn) + np.sin(angle) * np.cos(turn)
            half2 = (e.a * cosine) ** 2 + (e.b * sine) ** 2
            middle = e.x * np.cos(angle) - e.y * np.sin(angle)
            chord = np.sqrt(np.maximum(0, half2 - (s - middle) ** 2)) * 2 * e.value * e.a * e.b / half2
            total[:, row] += chord.mean(axis=-1)
    return total


def draw(row: int, size: int) -> FloatArray:
    """The slice (y, x) at a row, averaged over 4 × 4 samples per pixel."""
    fine = (np.arange(4 * size) - 1.5) / 4 - size // 2
    y, x = fine[:, None], fine[None, :]
    image = np.zeros((4 * size, 4 * size))
    for e in scene_at(row):
        turn = np.deg2rad(e.turn_deg)
        u = (x - e.x) * np.cos(turn) + (y - e.y) * np.sin(turn)
        v = -(x - e.x) * np.sin(turn) + (y - e.y) * np.cos(turn)
        image += e.value * ((u / e.a) ** 2 + (v / e.b) ** 2 <= 1)
    return image.reshape(size, 4, size, 4).mean(axis=(1, 3))
