"""A slab of ice with particles, small proteins, a vesicle and gold: all of it points in three dimensions."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from tomofly.simulate.tilt_microscope import TiltSeriesConfig, TiltStructureName
from tomofly.simulate.tilt_structures import SOLUTE_KDA, SOLUTE_KINDS, BeadModel, bead_model, solute_models

Array = NDArray[np.float64]

# Neighbours may not touch: centres are this many diameters apart at least.
SPACING = 1.02
DALTON_PER_ANGSTROM3_OF_MG_PER_ML = 6.022e-4
LEAFLET_ANGSTROM = 18.0
# A lipid's head fills 65 Å² of its leaflet; 10 Å of it stand 3 V above ice.
LIPID_AREA_ANGSTROM2, LIPID_VOLT_ANGSTROM = 65.0, 30.0
MOST_LIPIDS = 120_000


@dataclass(frozen=True)
class Placed:
    """Copies of bead models: `xyz_angstrom` (copy, 3), `turn` (copy, 3, 3) and `model` (copy,).

    Model m has the beads `first_bead[m]` to `first_bead[m + 1]` of `bead_xyz_angstrom` (bead, 3), with
    weights `bead_weight` (bead,) in V Å³.
    """

    xyz_angstrom: Array
    turn: NDArray[np.float32]
    model: NDArray[np.int32]
    bead_xyz_angstrom: NDArray[np.float32]
    bead_weight: NDArray[np.float32]
    first_bead: NDArray[np.int64]


@dataclass(frozen=True)
class Specimen:
    """What is in the slab, in centred specimen coordinates (x, y, z), Å.

    `rotations` (particle, 3, 3) take a structure's (x, y, z) to the specimen's.
    """

    particle_xyz_angstrom: Array
    particle_rotations: Array
    particle_structures: tuple[TiltStructureName, ...]
    gold_xyz_angstrom: Array
    vesicle_radius_angstrom: float | None
    half_extent_xy_angstrom: tuple[float, float]
    matter: Placed


def draw_specimen(
    config: TiltSeriesConfig, series: int, reach_xy_angstrom: tuple[float, float], voxel_angstrom: float
) -> Specimen:
    """Fill the slab out to ±`reach_xy_angstrom` at random; beads stand for voxels of the given size.

    Particles do not depend on the voxel.
    """
    particles = _draw_particles(config, config.random("particles", series), reach_xy_angstrom)
    turns = Rotation.random(len(particles), rng=config.random("orientations", series)).as_matrix()
    chosen = config.random("structures", series).integers(len(config.structures), size=len(particles))
    return Specimen(
        particle_xyz_angstrom=particles,
        particle_rotations=turns.reshape(-1, 3, 3),
        particle_structures=tuple(config.structures[kind] for kind in chosen),
        gold_xyz_angstrom=_draw_gold(config, config.random("gold", series)),
        vesicle_radius_angstrom=config.vesicle_radius_angstrom,
        half_extent_xy_angstrom=reach_xy_angstrom,
        matter=_all_matter(config, series, reach_xy_angstrom, (particles, turns, chosen), voxel_angstrom),
    )


def _draw_particles(
    config: TiltSeriesConfig, random: np.random.Generator, reach_xy_angstrom: tuple[float, float]
) -> Array:
    """Centres (particle, 3) without overlap, inside the slab and off the vesicle's membrane."""
    diameter = max(bead_model(name, 6.0).diameter_angstrom for name in config.structures)
    area_um2 = 4 * reach_xy_angstrom[0] * reach_xy_angstrom[1] * 1e-8
    wanted = round(config.particles_per_um2 * area_um2)
    half_z = max(0.0, config.thickness_angstrom / 2 - diameter / 2)
    limits = np.array([*reach_xy_angstrom, half_z])
    kept = np.empty((0, 3))
    for _ in range(20):
        trial = random.uniform(-limits, limits, (max(1, wanted - len(kept)), 3))
        if config.vesicle_radius_angstrom is not None:
            gap = np.abs(np.linalg.norm(trial, axis=1) - config.vesicle_radius_angstrom)
            trial = trial[gap > diameter / 2 + LEAFLET_ANGSTROM]
        kept = _without_overlap(np.concatenate([kept, trial]), SPACING * diameter)
        if len(kept) >= wanted:
            break
    return kept[:wanted]


def _without_overlap(points: Array, distance: float) -> Array:
    """Drop each point (point, 3) that comes too close to an earlier one that was kept."""
    keep = np.ones(len(points), dtype=bool)
    if len(points) == 0:
        return points
    for first, second in sorted(cKDTree(points).query_pairs(distance)):
        if keep[first]:
            keep[second] = False
    return points[keep]


def _draw_gold(config: TiltSeriesConfig, random: np.random.Generator) -> Array:
    """Beads (bead, 3) that lie on either surface, where the untilted view sees them."""
    height, width = config.field_yx_angstrom
    xy = random.uniform(-0.47, 0.47, (config.gold_beads, 2)) * np.array([width, height])
    # The field is that of the camera, whose axes stand at an angle to the specimen's.
    axis = np.radians(config.axis_angle_deg)
    turned = xy @ np.array([[np.cos(axis), -np.sin(axis)], [np.sin(axis), np.cos(axis)]])
    surface = (config.thickness_angstrom + config.gold_diameter_angstrom) / 2
    side = np.where(np.arange(config.gold_beads) % 2, -surface, surface)
    return np.column_stack([turned, side]) if config.gold_beads else np.empty((0, 3))


def _all_matter(
    config: TiltSeriesConfig,
    series: int,
    reach_xy_angstrom: tuple[float, float],
    particles: tuple[Array, Array, NDArray[np.int64]],
    voxel_angstrom: float,
) -> Placed:
    """Gather particles, small proteins and lipids as copies of a few bead models."""
    centres, turns, chosen = particles
    solutes = _draw_solutes(config, config.random("solutes", series), reach_xy_angstrom)
    lipids = _draw_lipids(config, config.random("vesicle", series))
    area = _lipid_area(config)
    lipid = BeadModel("lipid", np.zeros((1, 3)), np.array([LIPID_VOLT_ANGSTROM * area]))
    models = [*(bead_model(name, voxel_angstrom) for name in config.structures), *solute_models(), lipid]
    kinds = len(config.structures)
    solute_kind = kinds + np.arange(len(solutes)) % SOLUTE_KINDS
    unturned = np.broadcast_to(np.eye(3), (len(solutes) + len(lipids), 3, 3))
    return Placed(
        xyz_angstrom=np.concatenate([centres, solutes, lipids]),
        turn=np.concatenate([turns.reshape(-1, 3, 3), unturned]).astype(np.float32),
        model=np.concatenate([chosen, solute_kind, np.full(len(lipids), len(models) - 1)]).astype(np.int32),
        bead_xyz_angstrom=np.concatenate([model.xyz_angstrom for model in models]).astype(np.float32),
        bead_weight=np.concatenate([model.weight_volt_angstrom3 for model in models]).astype(np.float32),
        first_bead=np.cumsum([0, *(len(model.xyz_angstrom) for model in models)]),
    )


def _draw_solutes(
    config: TiltSeriesConfig, random: np.random.Generator, reach_xy_angstrom: tuple[float, float]
) -> Array:
    """Centres (protein, 3) of small proteins, anywhere in the slab."""
    per_angstrom3 = config.solute_mg_per_ml * DALTON_PER_ANGSTROM3_OF_MG_PER_ML / (SOLUTE_KDA * 1e3)
    limits = np.array([*reach_xy_angstrom, config.thickness_angstrom / 2])
    count = round(per_angstrom3 * float(np.prod(2 * limits)))
    return random.uniform(-limits, limits, (count, 3))


def _lipid_area(config: TiltSeriesConfig) -> float:
    """Area (Å²) that one bead of a membrane stands for; a large vesicle has coarser ones."""
    radius = config.vesicle_radius_angstrom or 0.0
    return max(LIPID_AREA_ANGSTROM2, 8 * np.pi * radius**2 / MOST_LIPIDS)


def _draw_lipids(config: TiltSeriesConfig, random: np.random.Generator) -> Array:
    """Beads (bead, 3) of both leaflets of the vesicle, as far as they lie within the slab."""
    if config.vesicle_radius_angstrom is None:
        return np.empty((0, 3))
    leaflets = []
    for radius in config.vesicle_radius_angstrom + np.array([-LEAFLET_ANGSTROM, LEAFLET_ANGSTROM]):
        direction = random.normal(size=(round(4 * np.pi * radius**2 / _lipid_area(config)), 3))
        leaflets.append(radius * direction / np.linalg.norm(direction, axis=1, keepdims=True))
    lipids = np.concatenate(leaflets)
    inside: Array = lipids[np.abs(lipids[:, 2]) < config.thickness_angstrom / 2]
    return inside
