"""Micrographs with known particles, made by a physics of their own for the tests of picking.

Atoms are thrown into a shell or a ball, projected, passed through a weak-phase CTF and counted with Poisson
noise. Nothing here is shared with the code under test.
"""

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.spatial.transform import Rotation

Kind = Literal["shell", "ball", "lobes"]
INTERACTION_RAD_PER_VOLT_ANGSTROM = 6.53e-4  # at 300 kV
WAVELENGTH_ANGSTROM = 0.0197  # at 300 kV
PROTEIN_OVER_ICE_VOLT = 2.0
AMPLITUDE_CONTRAST = 0.07


@dataclass(frozen=True)
class Scene:
    """What the simulated specimen and microscope look like."""

    shape: tuple[int, int] = (820, 760)
    pixel_angstrom: float = 2.5
    diameter_angstrom: float = 125.0
    kind: Kind = "shell"
    count: int = 60
    spacing: float = 1.1  # smallest centre distance, in diameters
    defocus_angstrom: float = 18000.0
    dose: float = 40.0
    gradient: float = 0.05  # of the ice, over the width
    contamination: int = 0
    carbon: bool = False
    seed: int = 0
    diameters: tuple[float, ...] = field(default=())


@lru_cache(maxsize=12)
def expose(scene: Scene) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.bool_]]:
    """Counts (y, x), the true centres (n, 2) yx in pixels, and where the bad areas are (y, x)."""
    rng = np.random.default_rng(scene.seed)
    bad, dark = _bad_areas(scene, rng)
    centres = _centres(scene, rng, bad)
    phase = np.zeros(scene.shape)
    for index, centre in enumerate(centres):
        diameter = (
            scene.diameters[index % len(scene.diameters)] if scene.diameters else scene.diameter_angstrom
        )
        _add_particle(phase, centre, _atoms(scene.kind, diameter, rng), diameter, scene)
    if scene.carbon:
        phase += 0.08 * gaussian_filter(rng.standard_normal(scene.shape), 1.0) * (dark["carbon"] > 0)
    yy, xx = np.mgrid[: scene.shape[0], : scene.shape[1]] / max(scene.shape)
    ice = 1.0 + scene.gradient * (xx - 0.4 * yy) - dark["carbon"] - dark["contamination"]
    expected = scene.dose * scene.pixel_angstrom**2 * ice * (1.0 + _image_of_phase(phase, scene))
    image = rng.poisson(np.maximum(expected, 0.0)).astype(np.float32)
    image.flags.writeable = False  # one scene serves several tests
    return image, centres, bad


def _bad_areas(
    scene: Scene, rng: np.random.Generator
) -> tuple[NDArray[np.bool_], dict[str, NDArray[np.float64]]]:
    yy, xx = np.mgrid[: scene.shape[0], : scene.shape[1]]
    blobs = np.zeros(scene.shape)
    radius_px = scene.diameter_angstrom / scene.pixel_angstrom * 0.5
    for _ in range(scene.contamination):
        cy, cx = rng.uniform(0, scene.shape[0]), rng.uniform(0, scene.shape[1])
        size = radius_px * rng.uniform(1.6, 3.5)
        inside = 1.0 - ((yy - cy) ** 2 + (xx - cx) ** 2) / size**2
        blobs = np.maximum(blobs, 0.5 * np.sqrt(np.clip(inside, 0.0, 1.0)))
    carbon = np.zeros(scene.shape)
    if scene.carbon:
        carbon[xx + 0.3 * yy > 0.95 * scene.shape[1]] = 0.12
    return (blobs > 0.0) | (carbon > 0.0), {"contamination": blobs, "carbon": carbon}


def _centres(scene: Scene, rng: np.random.Generator, bad: NDArray[np.bool_]) -> NDArray[np.float64]:
    radius = scene.diameter_angstrom / scene.pixel_angstrom / 2
    apart = 2 * radius * scene.spacing
    found: list[NDArray[np.float64]] = []
    for _ in range(400 * scene.count):
        if len(found) == scene.count:
            break
        centre = rng.uniform([radius, radius], np.array(scene.shape) - radius)
        if bad[int(centre[0]), int(centre[1])]:
            continue
        if not found or np.hypot(*(np.array(found) - centre).T).min() > apart:
            found.append(centre)
    return np.array(found).reshape(-1, 2)


def _atoms(kind: Kind, diameter: float, rng: np.random.Generator) -> NDArray[np.float64]:
    """Positions (n, 3) in angstrom of about one pseudo-atom per 8 angstrom cube."""
    radius = diameter / 2
    trial = rng.uniform(-radius, radius, (int((diameter / 8) ** 3), 3))
    distance = np.linalg.norm(trial, axis=1)
    if kind == "shell":
        return trial[(distance < radius) & (distance > 0.65 * radius)]
    if kind == "ball":
        return trial[distance < 0.95 * radius]
    turn = Rotation.random(random_state=int(rng.integers(1 << 31))).as_matrix()
    lobes = np.array([[0.45, 0, 0], [-0.45, 0.2, 0], [0.0, -0.45, 0.3]]) @ turn * radius
    return trial[(np.linalg.norm(trial[:, None] - lobes[None], axis=2) < 0.55 * radius).any(axis=1)]


def _add_particle(
    phase: NDArray[np.float64],
    centre: NDArray[np.float64],
    atoms: NDArray[np.float64],
    diameter: float,
    scene: Scene,
) -> None:
    """Add the projected phase (radian) of one particle; each atom stands for 8 cubic voxels of 8 angstrom."""
    pixel = scene.pixel_angstrom
    half = int(np.ceil(0.75 * diameter / pixel)) + 4
    whole = np.round(centre).astype(int)
    edges = (np.arange(2 * half + 2) - half - 0.5) * pixel
    offset = (centre - whole) * pixel
    patch, _, _ = np.histogram2d(atoms[:, 0] + offset[0], atoms[:, 1] + offset[1], bins=(edges, edges))
    volts = PROTEIN_OVER_ICE_VOLT * 8.0**3 / pixel**2
    patch = gaussian_filter(patch * volts * INTERACTION_RAD_PER_VOLT_ANGSTROM, 4.0 / pixel)
    y0, x0 = whole - half
    ys, xs = slice(max(y0, 0), y0 + 2 * half + 1), slice(max(x0, 0), x0 + 2 * half + 1)
    target = phase[ys, xs]
    target += patch[ys.start - y0 :, xs.start - x0 :][: target.shape[0], : target.shape[1]]


def _image_of_phase(phase: NDArray[np.float64], scene: Scene) -> NDArray[np.float64]:
    ky = np.fft.fftfreq(scene.shape[0], scene.pixel_angstrom)[:, None]
    kx = np.fft.rfftfreq(scene.shape[1], scene.pixel_angstrom)[None]
    k2 = ky**2 + kx**2
    chi = np.pi * WAVELENGTH_ANGSTROM * scene.defocus_angstrom * k2 + np.arcsin(AMPLITUDE_CONTRAST)
    transfer = -2.0 * np.sin(chi) * np.exp(-k2 * 80.0 / 4)
    return np.fft.irfft2(np.fft.rfft2(phase) * transfer, s=scene.shape)
