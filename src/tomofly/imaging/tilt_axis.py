"""Direction of the tilt axis, level of the specimen and its thickness, where a slab explains the images best.

The likelihood of a slab holds what common lines hold (images agree along the axis alone once they differ in
tilt), what the cosine stretch holds (only about a level specimen is it right), and how soon with the tilt
images of a thick specimen part. Each is maximised in turn, with the shifts following.
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from tomofly.imaging.tilt_geometry import TiltGeometry
from tomofly.imaging.tilt_refinement import SlabState, attainable_likelihood, refine_shifts

FloatArray = npt.NDArray[np.float64]
FloatImages = npt.NDArray[np.float32]

# The model takes frequencies for independent and matter for even: the real errors are some three times those
# that its curvature promises, found on simulated series; this much of its logarithm is believed.
_BELIEF = 0.1
# Expectations before the images are looked at, degrees: lamellae lie within twenty degrees, and few
# specimens slope along the axis.
_OFFSET_SIGMA_DEG, _X_TILT_SIGMA_DEG = 15.0, 4.0
NAMES = ("axis", "thickness", "offset", "x_tilt")
# Steps of the first sweep (degrees; a logarithm), how they shrink, and how far a climb goes.
_FIRST_STEP = {"axis": 1.5, "thickness": 0.25, "offset": 4.0, "x_tilt": 2.0}
_SHRINK = 2.0
_FARTHEST_STEPS = 4


@dataclass(frozen=True)
class LevelSearch:
    """The best state, with axis, tilt offset, thickness (logarithm) and x-tilt, and their uncertainties.

    ``value`` and ``sigma`` by name: "axis", "offset", "x_tilt" in degrees, "thickness" as a logarithm;
    changes to the state at the start, but "axis", which is the whole turn from the expected one.
    ``shift_slope`` by name: how the shifts (tilt, 2) follow the quantity.
    """

    state: SlabState
    value: dict[str, float]
    sigma: dict[str, float]
    shift_slope: dict[str, FloatArray | float]


def turned(geometry: TiltGeometry, axis_deg: float, offset_deg: float, x_tilt_deg: float) -> TiltGeometry:
    """Give the geometry with its axis, tilts and x-tilt changed by these angles."""
    return replace(
        geometry,
        axis_angle_deg=geometry.axis_angle_deg + axis_deg,
        tilt_angle_deg=geometry.tilt_angle_deg + offset_deg,
        x_tilt_deg=geometry.x_tilt_deg + x_tilt_deg,
    )


def _changed(state: SlabState, name: str, by: float) -> SlabState:
    if name == "thickness":
        return replace(state, thickness_px=state.thickness_px * float(np.exp(by)))
    change = {"axis": (by, 0.0, 0.0), "offset": (0.0, by, 0.0), "x_tilt": (0.0, 0.0, by)}[name]
    return replace(state, geometry=turned(state.geometry, *change))


@dataclass(frozen=True)
class _Target:
    """What is maximised: the believed part of the likelihood, and the expectations."""

    images: FloatImages
    highest: float
    prior_sigma: dict[str, float]
    threads: int
    rounds: int = 1

    def at(self, state: SlabState, value: dict[str, float]) -> tuple[float, SlabState]:
        done = refine_shifts(
            self.images,
            state,
            highest=self.highest,
            rounds=self.rounds,
            follow_noise=False,
            threads=self.threads,
        )
        expected = sum((value[name] / sigma) ** 2 for name, sigma in self.prior_sigma.items())
        likelihood = attainable_likelihood(done.fit, self.highest)
        return _BELIEF * likelihood - 0.5 * expected, done.state


def search_thickness(
    images: FloatImages, state: SlabState, candidates_px: npt.ArrayLike, *, highest: float, threads: int = 1
) -> SlabState:
    """Give the state with the best of some thicknesses, the shifts refined for each."""
    target = _Target(images, highest, {}, threads, rounds=2)
    tried = [
        target.at(replace(state, thickness_px=float(thickness)), {})
        for thickness in np.atleast_1d(np.asarray(candidates_px, dtype=np.float64))
    ]
    return max(tried, key=lambda one: one[0])[1]


def scan_axis(
    images: FloatImages,
    state: SlabState,
    prior_sigma_deg: float,
    reach_deg: float,
    *,
    highest: float,
    threads: int = 1,
) -> tuple[SlabState, float]:
    """Try axes every few degrees within ``reach_deg``; give the best state and its turn from the start."""
    target = _Target(images, highest, {"axis": prior_sigma_deg}, threads, rounds=2)
    steps = np.linspace(-reach_deg, reach_deg, 2 * int(np.ceil(reach_deg / 3.0)) + 1)
    tried = [(*target.at(_changed(state, "axis", float(by)), {"axis": float(by)}), float(by)) for by in steps]
    _, best, by = max(tried, key=lambda one: one[0])
    return best, by


def search_level(
    images: FloatImages,
    state: SlabState,
    axis_turn_deg: float,
    axis_sigma_deg: float,
    *,
    highest: tuple[float, ...],
    names: tuple[str, ...] = NAMES,
    threads: int = 1,
) -> LevelSearch:
    """Maximise over axis, thickness, offset and x-tilt in turn, by parabolas of ever smaller steps.

    ``axis_turn_deg``: how far the axis of ``state`` already lies from the expected one, which is uncertain by
    ``axis_sigma_deg``. ``highest``: the highest frequency (cycles per pixel) of every sweep.
    """
    prior = {"axis": axis_sigma_deg, "offset": _OFFSET_SIGMA_DEG, "x_tilt": _X_TILT_SIGMA_DEG}
    value = dict.fromkeys(NAMES, 0.0) | {"axis": axis_turn_deg}
    step, climbed = dict(_FIRST_STEP), dict.fromkeys(names, _UNCLIMBED)
    for frequency in highest:
        target = _Target(images, frequency, prior, threads)
        state = refine_shifts(images, state, highest=frequency, rounds=2, threads=threads).state
        for name in names:
            state, value, climbed[name] = _climb(target, state, value, name, step[name])
            step[name] /= _SHRINK
    sigma = {name: climbed[name].sigma for name in names}
    return LevelSearch(state, value, sigma, {name: climbed[name].shift_slope for name in names})


@dataclass(frozen=True)
class _Climb:
    """What a parabola says of the error of a quantity, and how the shifts follow the quantity."""

    sigma: float
    shift_slope: FloatArray | float


_UNCLIMBED = _Climb(np.nan, np.nan)


def _climb(
    target: _Target, state: SlabState, value: dict[str, float], name: str, step: float
) -> tuple[SlabState, dict[str, float], _Climb]:
    """Go to the top of the parabola through three values, after going on as long as it rises.

    All values are tried from the same shifts: a tilt whose shift has not settled is then as wrong in each.
    """

    def at(by: float) -> tuple[float, SlabState]:
        return target.at(_changed(state, name, by), value | {name: value[name] + by})

    tried = {place: at(place * step) for place in (-1, 0, 1)}
    for _ in range(_FARTHEST_STEPS):
        top = max(tried, key=lambda place: tried[place][0])
        if top - 1 in tried and top + 1 in tried:
            break
        beyond = top + (1 if top + 1 not in tried else -1)
        tried[beyond] = at(beyond * step)
    found = {place * step: one for place, one in tried.items()}
    climb = _UNCLIMBED
    if top - 1 in tried and top + 1 in tried:
        peak, climb = _parabola([tried[top + k] for k in (-1, 0, 1)], step)
        found[top * step + peak] = at(top * step + peak)
    chosen = max(found, key=lambda by: found[by][0])
    return found[chosen][1], value | {name: value[name] + chosen}, climb


def _parabola(tried: list[tuple[float, SlabState]], step: float) -> tuple[float, _Climb]:
    """Give the top relative to the middle of three, and the errors."""
    low, middle, high = (one[0] for one in tried)
    bend = max((2 * middle - low - high) / step**2, 1e-12)
    slope = (tried[2][1].geometry.shift_yx_px - tried[0][1].geometry.shift_yx_px) / (2 * step)
    peak = float(np.clip((high - low) / (2 * step * bend), -step, step))
    return peak, _Climb(float(1 / np.sqrt(bend)), slope)
