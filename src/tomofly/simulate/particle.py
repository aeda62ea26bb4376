"""Pseudo-atomic particles and their projections.

A particle is built of ellipsoidal domains, each filled with a hexagonal bundle of alpha helices: one
Gaussian per residue. Packing and spacing are those of real proteins, so density and the structure
factor's peak near 10 Å come out right without any deposited structure.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numba as nb
import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from tomofly.simulate.microscope import StructureName

Array = NDArray[np.float64]

HELIX_SPACING_ANGSTROM = 9.7
HELIX_RISE_ANGSTROM = 1.5
HELIX_TWIST_DEG = 100.0
HELIX_RADIUS_ANGSTROM = 2.3
RESIDUE_SIGMA_ANGSTROM = 1.3
# Volume of a mean residue (110 Da at 1.35 g/cm³) and the mean inner potential of protein above ice.
RESIDUE_VOLUME_ANGSTROM3 = 135.0
PROTEIN_ABOVE_ICE_VOLT = 3.0


@dataclass(frozen=True)
class Structure:
    """A particle: residue positions (n, 3) as (x, y, z) in Å about the centre of mass."""

    name: str
    residues_xyz_angstrom: Array

    @property
    def diameter_angstrom(self) -> float:
        """Diameter of the sphere about the centre of mass that holds every residue."""
        return 2.0 * float(np.linalg.norm(self.residues_xyz_angstrom, axis=1).max())


def helix_bundle(radii_xyz_angstrom: tuple[float, float, float], axis: Rotation, phase_deg: float) -> Array:
    """Residues (n, 3) of parallel helices that fill an ellipsoid; `axis` turns the bundle, Å."""
    reach = max(radii_xyz_angstrom)
    steps = np.arange(-int(reach / HELIX_SPACING_ANGSTROM) - 1, int(reach / HELIX_SPACING_ANGSTROM) + 2)
    i, j = (grid.ravel() for grid in np.meshgrid(steps, steps))
    centres = HELIX_SPACING_ANGSTROM * np.stack([i + 0.5 * j, j * np.sqrt(0.75)], axis=1)
    along = np.arange(-reach, reach, HELIX_RISE_ANGSTROM)
    turn = np.radians(HELIX_TWIST_DEG * np.arange(along.size) + phase_deg)
    residues = np.empty((len(centres), along.size, 3))
    residues[..., 0] = centres[:, :1] + HELIX_RADIUS_ANGSTROM * np.cos(turn)
    residues[..., 1] = centres[:, 1:] + HELIX_RADIUS_ANGSTROM * np.sin(turn)
    residues[..., 2] = along
    turned: Array = axis.apply(residues.reshape(-1, 3))
    inside = np.sum((turned / np.asarray(radii_xyz_angstrom)) ** 2, axis=1) < 1
    kept: Array = turned[inside]
    return kept


def hollow_shell() -> Array:
    """24 subunits in octahedral symmetry around a cavity, outer diameter about 120 Å, as in ferritin."""
    subunit = helix_bundle((13.5, 26.0, 11.5), Rotation.from_euler("xz", [80.0, 15.0], degrees=True), 20.0)
    subunit += np.array([0.0, 0.0, 48.0])
    # Off every symmetry axis, so that the copies lie side by side.
    placed = Rotation.from_euler("zyx", [35.0, 25.0, 14.0], degrees=True).apply(subunit)
    return np.concatenate([copy.apply(placed) for copy in Rotation.create_group("O")])


def stacked_barrel() -> Array:
    """Four stacked rings of seven domains in D7 symmetry, 150 Å long, as in a proteasome core."""
    inner = helix_bundle((17.0, 16.0, 18.0), Rotation.from_euler("yz", [70.0, 40.0], degrees=True), 0.0)
    outer = helix_bundle((15.0, 17.0, 18.0), Rotation.from_euler("yx", [20.0, 50.0], degrees=True), 70.0)
    domains = np.concatenate([inner + np.array([36.0, 0.0, 16.0]), outer + np.array([34.0, 8.0, 49.0])])
    return np.concatenate([copy.apply(domains) for copy in Rotation.create_group("D7")])


def bent_domains() -> Array:
    """Five unequal domains along a bend, without symmetry, about 150 Å long."""
    places = (
        ((30.0, 24.0, 26.0), (0.0, 0.0, 0.0)),
        ((22.0, 27.0, 20.0), (38.0, 14.0, 8.0)),
        ((24.0, 19.0, 28.0), (-36.0, 16.0, -10.0)),
        ((18.0, 20.0, 17.0), (-62.0, 38.0, 6.0)),
        ((16.0, 16.0, 22.0), (6.0, -34.0, 22.0)),
    )
    turns = Rotation.random(len(places), rng=np.random.default_rng(7))
    return np.concatenate(
        [
            helix_bundle(radii, turn, 50.0 * number) + np.asarray(centre)
            for number, ((radii, centre), turn) in enumerate(zip(places, turns, strict=True))
        ]
    )


_BUILDERS: dict[StructureName, Callable[[], Array]] = {
    "shell": hollow_shell,
    "barrel": stacked_barrel,
    "bent": bent_domains,
}


@cache
def structure(name: StructureName) -> Structure:
    """The named particle, centred on its mass."""
    residues = _BUILDERS[name]()
    return Structure(name, residues - residues.mean(axis=0))


def relion_rotation(rot_deg: float, tilt_deg: float, psi_deg: float) -> Array:
    """Matrix (3, 3) that takes (x, y, z) of the structure to the image's, from RELION's angles."""
    turn = Rotation.from_euler("ZYZ", [rot_deg, tilt_deg, psi_deg], degrees=True)
    matrix: Array = turn.as_matrix().T
    return matrix


def interaction_rad_per_volt_angstrom(voltage_kv: float, wavelength_angstrom: float) -> float:
    """Phase per projected potential of a fast electron (Kirkland 2010, eq. 5.6)."""
    rest_kev = 510.99895
    relative = (rest_kev + voltage_kv) / (2 * rest_kev + voltage_kv)
    return 2 * np.pi / (wavelength_angstrom * voltage_kv * 1e3) * relative


@nb.njit(cache=True, nogil=True)
def add_gaussians(image: NDArray[np.float32], yx_px: Array, sigma_px: float, weight: float) -> None:
    """Add to `image` (y, x) a Gaussian of integral `weight` at each of `yx_px` (n, 2)."""
    reach = int(np.ceil(4.5 * sigma_px))
    height, width = image.shape
    along_y = np.empty(2 * reach + 1)
    along_x = np.empty(2 * reach + 1)
    for atom in range(yx_px.shape[0]):
        y0, x0 = int(np.floor(yx_px[atom, 0] + 0.5)), int(np.floor(yx_px[atom, 1] + 0.5))
        for step in range(-reach, reach + 1):
            dy, dx = y0 + step - yx_px[atom, 0], x0 + step - yx_px[atom, 1]
            along_y[step + reach] = np.exp(-0.5 * (dy / sigma_px) ** 2)
            along_x[step + reach] = np.exp(-0.5 * (dx / sigma_px) ** 2)
        scale = weight / (along_y.sum() * along_x.sum())
        for y in range(max(0, y0 - reach), min(height, y0 + reach + 1)):
            row = scale * along_y[y - y0 + reach]
            for x in range(max(0, x0 - reach), min(width, x0 + reach + 1)):
                image[y, x] += row * along_x[x - x0 + reach]


def add_projection(
    phase: NDArray[np.float32],
    particle: Structure,
    rotation: Array,
    centre_yx_px: tuple[float, float],
    pixel_size_angstrom: float,
    rad_per_volt_angstrom: float,
) -> None:
    """Add the projected phase (radians) of a turned particle to the map `phase` (y, x) at its centre."""
    turned = particle.residues_xyz_angstrom @ rotation.T / pixel_size_angstrom
    yx = np.ascontiguousarray(turned[:, 1::-1]) + np.asarray(centre_yx_px)
    volt_angstrom3 = PROTEIN_ABOVE_ICE_VOLT * RESIDUE_VOLUME_ANGSTROM3
    weight = rad_per_volt_angstrom * volt_angstrom3 / pixel_size_angstrom**2
    add_gaussians(phase, yx, RESIDUE_SIGMA_ANGSTROM / pixel_size_angstrom, weight)
