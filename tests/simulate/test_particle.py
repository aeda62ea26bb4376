"""Pseudo-atomic particles and their projections."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from tomofly.simulate import particle
from tomofly.simulate.microscope import StructureName

NAMES: tuple[StructureName, ...] = ("shell", "barrel", "bent")
Angle = st.floats(-180, 180)


def project(
    name: StructureName, rotation: NDArray[np.float64], centre: tuple[float, float], pixel: float = 2.0
) -> NDArray[np.float32]:
    phase = np.zeros((130, 150), np.float32)
    particle.add_projection(phase, particle.structure(name), rotation, centre, pixel, 6.5e-4)
    return phase


@pytest.mark.parametrize("name", NAMES)
def test_particles_are_centred_and_of_the_announced_size(name: StructureName) -> None:
    made = particle.structure(name)
    assert np.allclose(made.residues_xyz_angstrom.mean(axis=0), 0, atol=1e-9)
    assert 110 < made.diameter_angstrom < 165
    # 110 Da a residue: each weighs what a particle of its size weighs.
    assert 150e3 < 110 * len(made.residues_xyz_angstrom) < 800e3


def test_the_shell_is_hollow_and_octahedral() -> None:
    residues = particle.structure("shell").residues_xyz_angstrom
    radius = np.linalg.norm(residues, axis=1)
    assert radius.min() > 30
    turned = Rotation.from_euler("z", 90, degrees=True).apply(residues)
    # A fourfold turn brings each residue onto another one.
    nearest = np.linalg.norm(turned[:40, None] - residues[None], axis=2).min(axis=1)
    assert nearest.max() < 1e-6


def test_the_barrel_is_longer_than_wide() -> None:
    residues = particle.structure("barrel").residues_xyz_angstrom
    assert np.ptp(residues[:, 2]) > 1.15 * np.ptp(residues[:, 0])


@settings(max_examples=25, deadline=None)
@given(Angle, st.floats(0, 180), Angle, st.floats(55, 75), st.floats(60, 90), st.sampled_from(NAMES))
def test_a_projection_has_its_centre_of_mass_where_it_was_put(
    rot: float, tilt: float, psi: float, y: float, x: float, name: StructureName
) -> None:
    image = project(name, particle.relion_rotation(rot, tilt, psi), (y, x))
    rows, columns = np.indices(image.shape)
    total = image.sum(dtype=float)
    assert (rows * image).sum(dtype=float) / total == pytest.approx(y, abs=0.01)
    assert (columns * image).sum(dtype=float) / total == pytest.approx(x, abs=0.01)


def test_projected_phase_does_not_depend_on_orientation_or_sampling() -> None:
    whole = [
        project("bent", particle.relion_rotation(*angles), (64.3, 71.8), pixel).sum(dtype=float) * pixel**2
        for angles, pixel in (((0, 0, 0), 2.0), ((31, 77, -50), 2.0), ((31, 77, -50), 1.6))
    ]
    assert np.allclose(whole, whole[0], rtol=1e-4)


@given(Angle, st.floats(0, 180), Angle)
def test_angles_follow_relion(rot: float, tilt: float, psi: float) -> None:
    # RELION's matrix written out element by element (Heymann, Chagoyen and Belnap 2005).
    (ca, cb, cg), (sa, sb, sg) = np.cos(np.radians([rot, tilt, psi])), np.sin(np.radians([rot, tilt, psi]))
    expected = [
        [cg * cb * ca - sg * sa, cg * cb * sa + sg * ca, -cg * sb],
        [-sg * cb * ca - cg * sa, -sg * cb * sa + cg * ca, sg * sb],
        [sb * ca, sb * sa, cb],
    ]
    assert np.allclose(particle.relion_rotation(rot, tilt, psi), expected, atol=1e-12)


def test_psi_turns_the_image_in_its_plane() -> None:
    # Atoms turn by -psi from +x towards +y; a quarter turn maps (y, x) offsets exactly.
    centre = (64.0, 64.0)
    upright = project("bent", particle.relion_rotation(20, 60, 0), centre)[:129, :129]
    turned = project("bent", particle.relion_rotation(20, 60, 90), centre)[:129, :129]
    assert np.allclose(np.rot90(upright), turned, atol=1e-5)


def test_interaction_constant_of_300_kv_electrons() -> None:
    # 6.526e-4 rad/(V Å) (Kirkland 2010).
    assert particle.interaction_rad_per_volt_angstrom(300.0, 0.0196875) == pytest.approx(6.526e-4, rel=2e-3)
