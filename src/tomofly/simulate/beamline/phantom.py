"""The sample: a plastic cylinder with grains, a crack that opens and a bubble that grows."""

from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from tomofly.simulate.beamline.settings import BeamlineConfig

Points = NDArray[np.float64]
# Grains that find no free place after this many tries are left out.
TRIES = 200


class _Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Ellipsoid(_Body):
    """An ellipsoid with one axis along z, in µm from where the rotation axis crosses the field's middle row.

    `semi_axes_um`: along its own first and second axis, the first at `azimuth_rad` from x towards y, and
    along z. `attenuation_per_um` is added to what is there already.
    """

    xyz_um: tuple[float, float, float]
    semi_axes_um: tuple[float, float, float]
    azimuth_rad: float
    attenuation_per_um: float


class Crack(_Body):
    """A box of nothing: its plane is vertical and holds the direction `azimuth_rad` from x towards y."""

    xyz_um: tuple[float, float, float]
    half_length_um: float
    half_height_um: float
    azimuth_rad: float
    attenuation_per_um: float
    begins_s: float | None
    opening_um_per_s: float
    largest_um: float

    def width_um(self, time_s: float) -> float:
        """How wide it is open at a time of the sample."""
        if self.begins_s is None or time_s <= self.begins_s:
            return 0.0
        return min(self.opening_um_per_s * (time_s - self.begins_s), self.largest_um)


class Bubble(_Body):
    """A sphere of nothing that grows from the start on."""

    xyz_um: tuple[float, float, float]
    attenuation_per_um: float
    first_radius_um: float
    growth_um_per_s: float
    largest_radius_um: float

    def radius_um(self, time_s: float) -> float:
        """Its radius at a time of the sample."""
        grown = self.first_radius_um + self.growth_um_per_s * max(time_s, 0.0)
        return min(grown, self.largest_radius_um)


class Phantom(_Body):
    """The sample at all times. The cylinder's axis is along z, and its height beyond the field."""

    cylinder_xy_um: tuple[float, float]
    cylinder_radius_um: float
    attenuation_per_um: float
    grains: tuple[Ellipsoid, ...]
    bubble: Bubble | None
    crack: Crack

    def ellipsoids(self, time_s: float) -> tuple[Ellipsoid, ...]:
        """All ellipsoids at a time of the sample."""
        if self.bubble is None:
            return self.grains
        radius = self.bubble.radius_um(time_s)
        bubble = Ellipsoid(
            xyz_um=self.bubble.xyz_um,
            semi_axes_um=(radius, radius, radius),
            azimuth_rad=0.0,
            attenuation_per_um=self.bubble.attenuation_per_um,
        )
        return (*self.grains, bubble)

    def with_event_at(self, time_s: float) -> Self:
        """The same sample whose crack begins to open at another time."""
        return self.model_copy(update={"crack": self.crack.model_copy(update={"begins_s": time_s})})

    def attenuation(self, x_um: Points, y_um: Points, z_um: Points, time_s: float) -> Points:
        """Linear attenuation in 1/µm at points whose coordinates can be broadcast together."""
        x0, y0 = self.cylinder_xy_um
        inside = (x_um - x0) ** 2 + (y_um - y0) ** 2 <= self.cylinder_radius_um**2
        value = np.where(inside, self.attenuation_per_um, 0.0) + np.zeros_like(z_um)
        for body in self.ellipsoids(time_s):
            if np.abs(z_um - body.xyz_um[2]).min() > body.semi_axes_um[2]:
                continue
            value += np.where(_in_ellipsoid(body, x_um, y_um, z_um), body.attenuation_per_um, 0.0)
        crack = self.crack
        along, across = _turned(x_um - crack.xyz_um[0], y_um - crack.xyz_um[1], crack.azimuth_rad)
        open_here = (np.abs(across) < crack.width_um(time_s) / 2) & (np.abs(along) <= crack.half_length_um)
        open_here = open_here & (np.abs(z_um - crack.xyz_um[2]) <= crack.half_height_um)
        return value + np.where(open_here, crack.attenuation_per_um, 0.0)


def _turned(x: Points, y: Points, azimuth: float) -> tuple[Points, Points]:
    """Coordinates along and across a direction `azimuth` from x towards y."""
    return x * np.cos(azimuth) + y * np.sin(azimuth), y * np.cos(azimuth) - x * np.sin(azimuth)


def _in_ellipsoid(body: Ellipsoid, x: Points, y: Points, z: Points) -> NDArray[np.bool_]:
    along, across = _turned(x - body.xyz_um[0], y - body.xyz_um[1], body.azimuth_rad)
    a, b, c = body.semi_axes_um
    within: NDArray[np.bool_] = (along / a) ** 2 + (across / b) ** 2 + ((z - body.xyz_um[2]) / c) ** 2 <= 1
    return within


def make_phantom(config: BeamlineConfig) -> Phantom:
    """The sample of this beamline. Grains keep clear of each other, the crack and the bubble's full size."""
    width = config.width_um
    radius = config.radius * width
    matrix = config.absorption / (2 * radius)
    # Off the axis by a few percent, as samples are glued.
    middle = (0.02 * width, -0.035 * width)
    bubble = _bubble(config, matrix, middle) if config.bubble else None
    crack = Crack(
        xyz_um=(middle[0] - 0.25 * radius, middle[1] + 0.1 * radius, -0.05 * config.height_um),
        half_length_um=0.45 * radius,
        half_height_um=0.32 * config.height_um,
        azimuth_rad=0.6,
        attenuation_per_um=-matrix,
        begins_s=config.event_after_s,
        opening_um_per_s=config.crack_opening * width / config.crack_seconds,
        largest_um=config.crack_opening * width,
    )
    empty = Phantom(
        cylinder_xy_um=middle, cylinder_radius_um=radius, attenuation_per_um=matrix, grains=(),
        bubble=bubble, crack=crack,
    )  # fmt: skip
    return empty.model_copy(update={"grains": _grains(config, empty)})


def _bubble(config: BeamlineConfig, matrix: float, middle: tuple[float, float]) -> Bubble:
    width = config.width_um
    away = 0.45 * config.radius * width
    return Bubble(
        xyz_um=(middle[0] + 0.8 * away, middle[1] - 0.6 * away, 0.08 * config.height_um),
        attenuation_per_um=-matrix,
        first_radius_um=0.03 * width,
        growth_um_per_s=config.bubble_growth * width,
        largest_radius_um=min(0.08 * width, 0.4 * config.radius * width),
    )


def _grains(config: BeamlineConfig, empty: Phantom) -> tuple[Ellipsoid, ...]:
    """Ellipsoids at free places; their attenuation is between nothing and three times the cylinder's."""
    random = config.random("grains")
    taken = [(np.array(empty.bubble.xyz_um), empty.bubble.largest_radius_um)] if empty.bubble else []
    grains: list[Ellipsoid] = []
    for _ in range(config.grains):
        semi = random.uniform(0.02, 0.055, 3) * config.radius * 2.5 * config.width_um
        place = _free_place(config, empty, taken, float(semi.max()), random)
        share = random.choice([-0.6, -0.3, 0.5, 1.0, 2.0])
        azimuth = float(random.uniform(0, np.pi))
        if place is None:
            continue
        taken.append((place, float(semi.max())))
        x, y, z = map(float, place)
        grains.append(
            Ellipsoid(
                xyz_um=(x, y, z),
                semi_axes_um=(float(semi[0]), float(semi[1]), float(semi[2])),
                azimuth_rad=azimuth,
                attenuation_per_um=float(share) * empty.attenuation_per_um,
            )
        )
    return tuple(grains)


def _free_place(
    config: BeamlineConfig,
    empty: Phantom,
    taken: list[tuple[Points, float]],
    reach: float,
    random: np.random.Generator,
) -> Points | None:
    """A centre (x, y, z) whose sphere of radius `reach` touches nothing else; None where none is found."""
    for _ in range(TRIES):
        distance = (empty.cylinder_radius_um - reach) * np.sqrt(random.uniform())
        turn = random.uniform(0, 2 * np.pi)
        x = empty.cylinder_xy_um[0] + distance * np.cos(turn)
        y = empty.cylinder_xy_um[1] + distance * np.sin(turn)
        place = np.array([x, y, random.uniform(-0.55, 0.55) * config.height_um])
        free = all(np.linalg.norm(place - other) > reach + size for other, size in taken)
        if free and not _near_crack(empty.crack, place, reach):
            return place
    return None


def _near_crack(crack: Crack, place: Points, reach: float) -> bool:
    """Whether a sphere comes near the crack at its widest."""
    away = place - np.array(crack.xyz_um)
    along, across = _turned(away[0], away[1], crack.azimuth_rad)
    return bool(
        abs(along) < crack.half_length_um + reach
        and abs(across) < crack.largest_um / 2 + reach
        and abs(away[2]) < crack.half_height_um + reach
    )
