"""What lies under the beam: particles in ice, the edge of the carbon film, contamination, gold."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.fft import irfft2, next_fast_len, rfft2
from scipy.spatial.transform import Rotation

from tomofly.simulate import particle
from tomofly.simulate.microscope import SpaMicroscope
from tomofly.simulate.optics import wavelength_angstrom
from tomofly.simulate.truth import DiscTruth, HoleTruth

Image = NDArray[np.float32]

HOLE_RADIUS_ANGSTROM = 6000.0
CARBON_DARKENING = 0.12
CONTAMINATION_DARKENING = (0.25, 0.5)
GOLD_RADIUS_ANGSTROM, GOLD_DARKENING = 50.0, 0.55
# Carbon film of 200 Å: phase noise power in rad² Å², white up to the form factor (see `carbon_power`).
CARBON_ATOMS_PER_A2, CARBON_VOLT_ANGSTROM3, CARBON_STRUCTURE_FACTOR = 20.0, 100.0, 0.4
EDGE_SOFTNESS_ANGSTROM = 12.0
# Neighbours may not touch: centres are this many mean diameters apart at least.
PARTICLE_SPACING = 1.05
BORDER_ANGSTROM = 100.0


@dataclass(frozen=True)
class Area:
    """The simulated area: the frame and a margin from which matter can drift in."""

    frame_yx_px: tuple[int, int]
    margin_px: int
    pixel_size_angstrom: float

    @property
    def shape_yx(self) -> tuple[int, int]:
        """Shape with margins, rounded up to lengths that transform quickly."""
        height, width = (next_fast_len(side + 2 * self.margin_px, real=True) for side in self.frame_yx_px)
        return height, width

    def grid(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Open grids (y, 1) and (1, x) of frame coordinates, negative in the margin."""
        height, width = self.shape_yx
        y = np.arange(height, dtype=float)[:, None] - self.margin_px
        return y, np.arange(width, dtype=float)[None, :] - self.margin_px


@dataclass(frozen=True)
class PlacedParticle:
    """A particle at a place (frame-0 pixels) in an orientation (RELION's rot, tilt, psi)."""

    particle: particle.Structure
    y_px: float
    x_px: float
    euler_deg: tuple[float, float, float]


@dataclass(frozen=True)
class Contents:
    """Where everything is, in pixels of frame 0."""

    particles: tuple[PlacedParticle, ...]
    hole: HoleTruth | None
    discs: tuple[DiscTruth, ...]


def draw_contents(microscope: SpaMicroscope, index: int) -> Contents:
    """Choose what is in the field: the hole's edge, then contamination and gold, then particles between."""
    hole = draw_hole(microscope, microscope.random("carbon", index))
    discs = draw_discs(microscope, microscope.random("contamination", index))
    random = microscope.random("particles", index)
    return Contents(place_particles(microscope, random, hole, discs), hole, discs)


def draw_hole(microscope: SpaMicroscope, random: np.random.Generator) -> HoleTruth | None:
    """The hole's circle with its edge in the field, carbon reaching 10 to 35 % into it; or none."""
    present, angle, depth = random.random(), random.uniform(0, 2 * np.pi), random.uniform(0.1, 0.35)
    if present >= microscope.carbon_edge_fraction:
        return None
    height, width = microscope.frame_yx_px
    toward_y, toward_x = np.sin(angle), np.cos(angle)
    extent = height * abs(toward_y) + width * abs(toward_x)
    radius = HOLE_RADIUS_ANGSTROM / microscope.frame_pixel_size_angstrom
    back = radius - extent * (0.5 - depth)
    return HoleTruth(
        centre_y_px=(height - 1) / 2 - back * toward_y,
        centre_x_px=(width - 1) / 2 - back * toward_x,
        radius_px=radius,
    )


def draw_discs(microscope: SpaMicroscope, random: np.random.Generator) -> tuple[DiscTruth, ...]:
    """Contamination (radius 100 to 300 Å) and gold beads, anywhere in the field."""
    fewest, most = microscope.contamination_count
    present, blobs = random.random(), int(random.integers(fewest, most + 1))
    if present >= microscope.contamination_fraction:
        blobs = 0
    height, width = microscope.frame_yx_px
    sizes = [("contamination", random.uniform(100, 300)) for _ in range(blobs)]
    sizes += [("gold", GOLD_RADIUS_ANGSTROM)] * microscope.gold_beads
    return tuple(
        DiscTruth(
            y_px=float(random.uniform(0, height)),
            x_px=float(random.uniform(0, width)),
            radius_px=float(radius) / microscope.frame_pixel_size_angstrom,
            kind=kind,
        )
        for kind, radius in sizes
    )


def place_particles(
    microscope: SpaMicroscope,
    random: np.random.Generator,
    hole: HoleTruth | None,
    discs: tuple[DiscTruth, ...],
) -> tuple[PlacedParticle, ...]:
    """Random places without overlap, on neither carbon nor contamination, until the field is filled."""
    fewest, most = microscope.particle_count_range
    wanted = int(random.integers(fewest, most + 1))
    pixel = microscope.frame_pixel_size_angstrom
    border = BORDER_ANGSTROM / pixel
    size = np.asarray(microscope.frame_yx_px, dtype=float)
    known = [particle.structure(name) for name in microscope.structures]
    placed: list[PlacedParticle] = []
    taken = np.empty((0, 3))
    inside = 0
    for _ in range(60 * wanted):
        if inside == wanted:
            break
        kind = known[int(random.integers(len(known)))]
        y, x = random.uniform(-border, size - 1 + border)
        radius = kind.diameter_angstrom / 2 / pixel
        apart = np.hypot(taken[:, 0] - y, taken[:, 1] - x) - PARTICLE_SPACING * (taken[:, 2] + radius)
        if np.any(apart < 0) or not _is_clear(float(y), float(x), radius, hole, discs):
            continue
        angles = Rotation.random(rng=random).as_euler("ZYZ", degrees=True)
        placed.append(PlacedParticle(kind, float(y), float(x), (angles[0], angles[1], angles[2])))
        taken = np.append(taken, [[y, x, radius]], axis=0)
        inside += bool(0 <= y <= size[0] - 1 and 0 <= x <= size[1] - 1)
    return tuple(placed)


def _is_clear(
    y: float, x: float, radius: float, hole: HoleTruth | None, discs: tuple[DiscTruth, ...]
) -> bool:
    """Whether a disc touches neither carbon nor any contamination."""
    if hole is not None and np.hypot(y - hole.centre_y_px, x - hole.centre_x_px) > hole.radius_px - radius:
        return False
    return all(np.hypot(y - d.y_px, x - d.x_px) > d.radius_px + radius for d in discs)


def protein_phase(contents: Contents, area: Area, voltage_kv: float) -> Image:
    """Projected phase (y, x) of all particles, radians above the ice."""
    per_volt = particle.interaction_rad_per_volt_angstrom(voltage_kv, wavelength_angstrom(voltage_kv))
    phase = np.zeros(area.shape_yx, dtype=np.float32)
    for placed in contents.particles:
        centre = (placed.y_px + area.margin_px, placed.x_px + area.margin_px)
        rotation = particle.relion_rotation(*placed.euler_deg)
        particle.add_projection(phase, placed.particle, rotation, centre, area.pixel_size_angstrom, per_volt)
    return phase


def carbon_power(k_per_angstrom: NDArray[np.float64], voltage_kv: float) -> NDArray[np.float64]:
    """Power (rad² Å²) of the phase of amorphous carbon."""
    per_volt = particle.interaction_rad_per_volt_angstrom(voltage_kv, wavelength_angstrom(voltage_kv))
    white = CARBON_ATOMS_PER_A2 * CARBON_STRUCTURE_FACTOR * (CARBON_VOLT_ANGSTROM3 * per_volt) ** 2
    return white * np.exp(-4.0 * k_per_angstrom**2)


def _amorphous(area: Area, random: np.random.Generator, voltage_kv: float) -> Image:
    """A map (y, x) of amorphous phase noise with carbon's power, radians."""
    height, width = area.shape_yx
    spectrum = rfft2(random.standard_normal((height, width), dtype=np.float32))
    ky = np.fft.fftfreq(height, area.pixel_size_angstrom)[:, None]
    kx = np.fft.rfftfreq(width, area.pixel_size_angstrom)[None, :]
    power = carbon_power(np.hypot(ky, kx), voltage_kv)
    spectrum *= (np.sqrt(power) / area.pixel_size_angstrom).astype(np.float32)
    noise: Image = irfft2(spectrum, s=(height, width), overwrite_x=True)
    return noise


def _step(signed_distance_px: NDArray[np.float64], softness_px: float) -> Image:
    """0 outside, 1 inside of a soft edge, from the distance to the edge (positive inside)."""
    step: Image = np.clip(0.5 + signed_distance_px / (2 * softness_px), 0, 1).astype(np.float32)
    return step


def _blob(area: Area, disc: DiscTruth, random: np.random.Generator) -> tuple[tuple[slice, slice], Image]:
    """Part of the area (y, x slices) that holds a disc, and the coverage there by an irregular blob in it.

    Gold is round.
    """
    softness = EDGE_SOFTNESS_ANGSTROM / area.pixel_size_angstrom
    reach = disc.radius_px + softness + 1
    starts = [max(0, int(at + area.margin_px - reach)) for at in (disc.y_px, disc.x_px)]
    ends = [max(0, int(at + area.margin_px + reach) + 1) for at in (disc.y_px, disc.x_px)]
    part = slice(starts[0], ends[0]), slice(starts[1], ends[1])
    y, x = area.grid()
    dy, dx = y[part[0]] - disc.y_px, x[:, part[1]] - disc.x_px
    outline = np.array(0.76 if disc.kind == "contamination" else 1.0)
    if disc.kind == "contamination":
        angle = np.arctan2(dy, dx)
        for n in (2, 3, 5):
            wave = np.cos(n * angle + random.uniform(0, 2 * np.pi))
            outline = outline + random.uniform(0, 0.08) * wave
    return part, _step(disc.radius_px * outline - np.hypot(dy, dx), softness)


def solid_matter(
    contents: Contents, area: Area, voltage_kv: float, random: np.random.Generator
) -> tuple[Image, Image]:
    """Phase (radians) and transmission (1: clear) of carbon, contamination and gold, each (y, x)."""
    phase = np.zeros(area.shape_yx, dtype=np.float32)
    transmission = np.ones(area.shape_yx, dtype=np.float32)
    if contents.hole is None and not contents.discs:
        return phase, transmission
    noise = _amorphous(area, random, voltage_kv)
    if contents.hole is not None:
        y, x = area.grid()
        outside = np.hypot(y - contents.hole.centre_y_px, x - contents.hole.centre_x_px)
        film = _step(outside - contents.hole.radius_px, EDGE_SOFTNESS_ANGSTROM / area.pixel_size_angstrom)
        phase += film * noise
        transmission -= np.float32(CARBON_DARKENING) * film
    for disc in contents.discs:
        part, cover = _blob(area, disc, random)
        darkening = GOLD_DARKENING if disc.kind == "gold" else random.uniform(*CONTAMINATION_DARKENING)
        phase[part] += np.float32(1.5) * cover * noise[part]
        transmission[part] *= 1 - np.float32(darkening) * cover
    return phase, transmission
