"""How the specimen moves: stage drift, and the field of movement that the beam itself causes."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tomofly.simulate.microscope import SpaMicroscope

Array = NDArray[np.float64]

# Nodes per axis between which shifts are interpolated linearly: the smoothest field's curvature makes
# an error of some thousandths of its amplitude. Every fourth node goes into the truth.
NODES = 33
TRUTH_STRIDE = 4
# Share of the beam-induced field that goes on through the whole exposure instead of settling.
SLOW_SHARE = 0.35
DRIFT_MEMORY = 0.85


@dataclass(frozen=True)
class Motion:
    """Shifts to apply to bring each frame onto frame 0, on nodes that span the frame, frame pixels.

    A point q of frame t shows what lies at q + shift(t, q) in frame 0.
    """

    node_y_px: Array
    node_x_px: Array
    shift_yx_px: Array  # (frame, node y, node x, 2)

    @property
    def centre_shift_yx_px(self) -> Array:
        """Shift (frame, 2) at the image centre."""
        middle = NODES // 2
        centre: Array = self.shift_yx_px[:, middle, middle]
        return centre

    @property
    def mean_shift_yx_px(self) -> Array:
        """Shift (frame, 2) averaged over the field."""
        # Trapezium weights: the outermost nodes stand for half a cell.
        weight = np.ones(NODES)
        weight[[0, -1]] = 0.5
        area = np.outer(weight, weight)
        mean: Array = np.einsum("fyxc,yx->fc", self.shift_yx_px, area / area.sum())
        return mean

    def at(self, frame: int, y_px: float, x_px: float) -> tuple[float, float]:
        """Shift (y, x) to apply at one point of one frame; beyond the nodes the outermost one holds."""
        i, fy = _cell(self.node_y_px, y_px)
        j, fx = _cell(self.node_x_px, x_px)
        corners = self.shift_yx_px[frame, i : i + 2, j : j + 2]
        dy, dx = np.einsum("i,j,ijc->c", [1 - fy, fy], [1 - fx, fx], corners)
        return float(dy), float(dx)

    def seen_at(self, frame: int, y_px: float, x_px: float) -> tuple[float, float]:
        """Where a point of frame 0 is seen in another frame: q with q + shift(q) = p."""
        y, x = y_px, x_px
        for _ in range(4):  # The field is so smooth that each round gains two digits.
            dy, dx = self.at(frame, y, x)
            y, x = y_px - dy, x_px - dx
        return y, x


def _cell(nodes: Array, position: float) -> tuple[int, float]:
    """Cell index and fraction within it of a position between equally spaced nodes."""
    place = np.clip((position - nodes[0]) / (nodes[1] - nodes[0]), 0, len(nodes) - 1)
    cell = min(int(place), len(nodes) - 2)
    return cell, float(place - cell)


def smooth_field(random: np.random.Generator) -> Array:
    """A random vector field (node y, node x, 2) of low cosines; rms 1 about its mean, zero at the centre."""
    unit = np.linspace(0.0, np.pi, NODES)
    field = np.zeros((NODES, NODES, 2))
    for m, n in ((0, 1), (1, 0), (1, 1), (0, 2), (2, 0), (1, 2), (2, 1), (2, 2)):
        phase_y, phase_x = random.uniform(0, 2 * np.pi, 2)
        wave = np.outer(np.cos(m * unit + phase_y), np.cos(n * unit + phase_x))
        field += wave[..., None] * random.normal(size=2) / (m * m + n * n)
    spread = np.sqrt(np.mean(np.sum((field - field.mean(axis=(0, 1))) ** 2, axis=-1)))
    centred: Array = (field - field[NODES // 2, NODES // 2]) / spread
    return centred


def drift_path(microscope: SpaMicroscope, random: np.random.Generator) -> Array:
    """Stage drift (frame, 2) in Å, zero at frame 0: a slowly turning velocity and a jerk that dies out."""
    kick = random.normal(size=(microscope.frames, 2)) * microscope.drift_rms_angstrom_per_frame / np.sqrt(2)
    velocity = np.empty_like(kick)
    velocity[0] = kick[0]
    for frame in range(1, microscope.frames):
        velocity[frame] = DRIFT_MEMORY * velocity[frame - 1] + np.sqrt(1 - DRIFT_MEMORY**2) * kick[frame]
    path: Array = np.cumsum(velocity, axis=0) - velocity[0]
    direction = random.uniform(0, 2 * np.pi)
    jerk = microscope.early_drift_angstrom * settling(microscope)
    path += np.outer(jerk, [np.sin(direction), np.cos(direction)])
    return path


def settling(microscope: SpaMicroscope) -> Array:
    """Part (frame,) of an early movement that is over when each frame starts, 0 at frame 0."""
    dose = microscope.dose_per_frame_e_per_a2 * np.arange(microscope.frames)
    over: Array = 1.0 - np.exp(-dose / microscope.beam_induced_decay_e_per_a2)
    return over


def draw_motion(microscope: SpaMicroscope, index: int) -> Motion:
    """Movement of one movie: drift plus a field that is strong in the early frames and settles with dose."""
    random = microscope.random("motion", index)
    drift = drift_path(microscope, random)
    slow = np.arange(microscope.frames) / max(1, microscope.frames - 1)
    size = microscope.beam_induced_angstrom
    fast_part = (1 - SLOW_SHARE) * size * settling(microscope)
    local = np.multiply.outer(fast_part, smooth_field(random))
    local += np.multiply.outer(SLOW_SHARE * size * slow, smooth_field(random))
    height, width = microscope.frame_yx_px
    return Motion(
        node_y_px=np.linspace(0, height - 1, NODES),
        node_x_px=np.linspace(0, width - 1, NODES),
        shift_yx_px=(drift[:, None, None] + local) / microscope.frame_pixel_size_angstrom,
    )
