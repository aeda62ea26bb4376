"""Pseudo-atomic particles of a ribosome's size, as beads that each stand for a few residues."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from tomofly.simulate.particle import PROTEIN_ABOVE_ICE_VOLT, RESIDUE_VOLUME_ANGSTROM3, helix_bundle
from tomofly.simulate.tilt_microscope import TiltStructureName

Array = NDArray[np.float64]

RESIDUE_VOLT_ANGSTROM3 = PROTEIN_ABOVE_ICE_VOLT * RESIDUE_VOLUME_ANGSTROM3
DOMAIN_RADIUS_ANGSTROM = 20.0
# A small protein of 30 kDa: residues, radius of gyration and beads it is drawn with.
SOLUTE_KDA, SOLUTE_RESIDUES, SOLUTE_GYRATION_ANGSTROM, SOLUTE_BEADS = 30.0, 273, 17.5, 8
SOLUTE_KINDS = 24


@dataclass(frozen=True)
class BeadModel:
    """Beads (bead, 3) as (x, y, z) in Å about the centre of mass, and what each weighs, V Å³ (bead,)."""

    name: str
    xyz_angstrom: Array
    weight_volt_angstrom3: Array

    @property
    def diameter_angstrom(self) -> float:
        """Diameter of the sphere about the centre of mass that holds every bead."""
        return 2.0 * float(np.linalg.norm(self.xyz_angstrom, axis=1).max())


def _fill(radii_angstrom: tuple[float, float, float], seed: int) -> Array:
    """Residues (n, 3) of an ellipsoid packed with small domains, each turned as chance has it."""
    random = np.random.default_rng(seed)
    inner = np.array(radii_angstrom) - 0.8 * DOMAIN_RADIUS_ANGSTROM
    centres: list[Array] = []
    for _ in range(4000):
        trial = random.uniform(-1, 1, 3)
        place = trial * inner
        far = all(np.linalg.norm(place - other) > 1.1 * DOMAIN_RADIUS_ANGSTROM for other in centres)
        if np.sum(trial**2) < 1 and far:
            centres.append(place)
    turns = Rotation.random(len(centres), rng=random)
    radii = DOMAIN_RADIUS_ANGSTROM * random.uniform(0.7, 0.95, (len(centres), 3))
    domains = [
        helix_bundle((size[0], size[1], size[2]), turn, 40.0 * number) + centre
        for number, (centre, turn, size) in enumerate(zip(centres, turns, radii, strict=True))
    ]
    return np.concatenate(domains)


def _two_lobes() -> Array:
    """A large and a small lobe with a cleft between, without symmetry, 250 Å wide, as in a ribosome."""
    large = _fill((95.0, 110.0, 78.0), 11) + np.array([0.0, 0.0, 42.0])
    small = _fill((95.0, 62.0, 45.0), 12) + np.array([8.0, -14.0, -80.0])
    return np.concatenate([large, small])


def _cage() -> Array:
    """24 subunits in octahedral symmetry around a cavity, 250 Å wide."""
    subunit = _fill((46.0, 38.0, 34.0), 13) + np.array([0.0, 0.0, 92.0])
    placed = Rotation.from_euler("zyx", [35.0, 25.0, 14.0], degrees=True).apply(subunit)
    return np.concatenate([copy.apply(placed) for copy in Rotation.create_group("O")])


_BUILDERS: dict[TiltStructureName, Callable[[], Array]] = {"two_lobes": _two_lobes, "cage": _cage}


@cache
def bead_model(name: TiltStructureName, voxel_angstrom: float) -> BeadModel:
    """The named particle, its residues gathered into one bead per occupied voxel."""
    residues = _BUILDERS[name]()
    residues = residues - residues.mean(axis=0)
    cells = np.floor(residues / voxel_angstrom).astype(np.int64)
    _, cell, count = np.unique(cells, axis=0, return_inverse=True, return_counts=True)
    beads = np.zeros((len(count), 3))
    np.add.at(beads, cell.ravel(), residues)
    return BeadModel(name, beads / count[:, None], RESIDUE_VOLT_ANGSTROM3 * count.astype(float))


@cache
def solute_models() -> tuple[BeadModel, ...]:
    """Some small proteins: clouds of a few beads each."""
    random = np.random.default_rng(14)
    spread = SOLUTE_GYRATION_ANGSTROM / np.sqrt(3.0)
    weight = np.full(SOLUTE_BEADS, RESIDUE_VOLT_ANGSTROM3 * SOLUTE_RESIDUES / SOLUTE_BEADS)
    clouds = random.normal(0, spread, (SOLUTE_KINDS, SOLUTE_BEADS, 3))
    return tuple(BeadModel("solute", cloud - cloud.mean(axis=0), weight) for cloud in clouds)
