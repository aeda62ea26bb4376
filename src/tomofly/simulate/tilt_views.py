"""From where each tilt sees the specimen: angles, shifts, focus, dose, and how the beam bends the slab."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from tomofly.simulate.tilt_microscope import TiltSeriesConfig
from tomofly.simulate.truth import OpticsTruth

Array = NDArray[np.float64]

# Waves of the displacement field: half periods over the field along x and y.
WAVES = ((0, 1), (1, 0), (1, 1), (0, 2), (2, 0), (1, 2), (2, 1))


@dataclass(frozen=True)
class Deformation:
    """How far the beam has moved each part of the slab: a smooth field that settles with the dose.

    Cosines with `waves_per_angstrom` (wave, 2) along x and y, `phases` (wave, 2) and `amplitude_angstrom`
    (wave, 3) of the displacement (x, y, z) at the end of the series; nothing moves at the origin.
    """

    waves_per_angstrom: Array
    phases: Array
    amplitude_angstrom: Array
    settling_dose_e_per_a2: float
    total_dose_e_per_a2: float

    def displacement_angstrom(self, xyz_angstrom: Array, dose_e_per_a2: float) -> Array:
        """Displacement (point, 3) of points (point, 3) after a dose, both as centred (x, y, z)."""
        grown = np.expm1(-dose_e_per_a2 / self.settling_dose_e_per_a2)
        share = float(grown / np.expm1(-self.total_dose_e_per_a2 / self.settling_dose_e_per_a2))
        if share == 0 or not self.amplitude_angstrom.any():
            return np.zeros_like(xyz_angstrom)
        return share * (self._field(xyz_angstrom) - self._field(np.zeros((1, 3))))

    def _field(self, xyz_angstrom: Array) -> Array:
        total = np.zeros_like(xyz_angstrom)
        for (along_x, along_y), (phase_x, phase_y), size in zip(
            self.waves_per_angstrom, self.phases, self.amplitude_angstrom, strict=True
        ):
            wave = np.cos(along_x * xyz_angstrom[:, 0] + phase_x)
            wave *= np.cos(along_y * xyz_angstrom[:, 1] + phase_y)
            total += wave[:, None] * size
        return total


@dataclass(frozen=True)
class Views:
    """The tilts of a series in the order taken.

    A point p (x, y, z) of the specimen appears at (x, y) = R p - shift from the image's centre, index
    n // 2, where R = Rz(axis) Ry(tilt) Rx(x_tilt), right-handed; its third row gives the depth, and
    the defocus there is the tilt's plus `hand` x depth. `shift_yx_angstrom` (tilt, 2) is what must be
    applied to an image to centre it; doses (tilt,) are those received before each tilt.
    """

    nominal_tilt_deg: Array
    tilt_angle_deg: Array
    axis_angle_deg: Array
    x_tilt_deg: float
    shift_yx_angstrom: Array
    dose_before_e_per_a2: Array
    optics: tuple[OpticsTruth, ...]
    hand: int
    deformation: Deformation

    def __len__(self) -> int:
        return len(self.nominal_tilt_deg)

    @property
    def rotations(self) -> Array:
        """Matrices (tilt, 3, 3) from the specimen's (x, y, z) to the image's x, y and the depth."""
        tilts = len(self)
        angles = np.column_stack([np.full(tilts, self.x_tilt_deg), self.tilt_angle_deg, self.axis_angle_deg])
        matrices: Array = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
        return matrices

    def place(self, tilt: int, xyz_angstrom: Array, dose_e_per_a2: float) -> Array:
        """Where points (point, 3) appear in one tilt after a dose: (x, y, depth) from the centre, Å."""
        moved = xyz_angstrom + self.deformation.displacement_angstrom(xyz_angstrom, dose_e_per_a2)
        seen = moved @ self.rotations[tilt].T
        seen[:, :2] -= self.shift_yx_angstrom[tilt, ::-1]
        return np.asarray(seen)


def draw_views(config: TiltSeriesConfig, series: int) -> Views:
    """Choose everything about the tilts of one series that is not in the specimen."""
    nominal = config.nominal_tilts_deg
    tilts = len(nominal)
    error = config.random("stage angle", series).normal(0, config.tilt_angle_error_deg, tilts)
    return Views(
        nominal_tilt_deg=nominal,
        tilt_angle_deg=config.sense * nominal + config.pre_tilt_deg + error,
        axis_angle_deg=np.full(tilts, config.axis_angle_deg),
        x_tilt_deg=config.x_tilt_deg,
        shift_yx_angstrom=_draw_shifts(config, config.random("tracking", series), nominal),
        dose_before_e_per_a2=config.dose_per_tilt_e_per_a2 * np.arange(tilts, dtype=float),
        optics=_draw_optics(config, config.random("optics", series), tilts),
        hand=config.hand,
        deformation=_draw_deformation(config, config.random("deformation", series), tilts),
    )


def _draw_shifts(config: TiltSeriesConfig, random: np.random.Generator, nominal: Array) -> Array:
    """Tracking errors (tilt, 2): a slow swing with the angle, jitter, and a jump between branches."""
    phase = random.uniform(0, 2 * np.pi, 2)
    swing = np.sin(np.radians(1.5 * nominal)[:, None] + phase) - np.sin(phase)
    shifts = random.normal(size=2) * swing + 0.35 * random.normal(size=(len(nominal), 2))
    farthest = float(np.linalg.norm(shifts, axis=1).max())
    shifts *= config.tracking_error_angstrom / farthest
    direction = random.uniform(0, 2 * np.pi)
    jump = config.branch_jump_angstrom * np.array([np.sin(direction), np.cos(direction)])
    below = nominal < config.start_deg
    return np.asarray(shifts + below[:, None] * jump)


def _draw_optics(
    config: TiltSeriesConfig, random: np.random.Generator, tilts: int
) -> tuple[OpticsTruth, ...]:
    """Focus of each tilt at the tilt axis; the astigmatism is the lens's, the same for all."""
    angle = float(random.uniform(0, 180))
    means = config.defocus_angstrom + config.defocus_spread_angstrom * random.normal(size=tilts)
    half = config.astigmatism_angstrom / 2
    return tuple(
        OpticsTruth(
            defocus_u_angstrom=float(mean) + half,
            defocus_v_angstrom=float(mean) - half,
            astigmatism_angle_deg=angle,
            phase_shift_deg=config.phase_shift_deg,
            voltage_kv=config.voltage_kv,
            spherical_aberration_mm=config.spherical_aberration_mm,
            amplitude_contrast=config.amplitude_contrast,
            envelope_b_factor_angstrom2=config.envelope_b_factor_angstrom2,
        )
        for mean in means
    )


def _draw_deformation(config: TiltSeriesConfig, random: np.random.Generator, tilts: int) -> Deformation:
    """A random field whose rms over the field of view at the end is the one asked for."""
    height, width = config.field_yx_angstrom
    waves = np.pi * np.array(WAVES, dtype=float) / np.array([width, height])
    phases = random.uniform(0, 2 * np.pi, (len(WAVES), 2))
    sizes = random.normal(size=(len(WAVES), 3)) / np.square(WAVES).sum(axis=1, keepdims=True)
    total = config.dose_per_tilt_e_per_a2 * tilts
    raw = Deformation(waves, phases, sizes, config.deformation_dose_e_per_a2, total)
    grid = np.stack(np.meshgrid(np.linspace(-width, width, 21), np.linspace(-height, height, 21)), axis=-1)
    points = np.column_stack([grid.reshape(-1, 2) / 2, np.zeros(grid[..., 0].size)])
    rms = np.sqrt(np.mean(np.sum(raw.displacement_angstrom(points, total) ** 2, axis=1)))
    scaled = sizes * config.deformation_angstrom / rms
    return Deformation(waves, phases, scaled, config.deformation_dose_e_per_a2, total)
