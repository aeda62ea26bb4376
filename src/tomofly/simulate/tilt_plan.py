"""What a tilt-series session is going to write, and in which order."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property

from tomofly.simulate.tilt_faults import Fault, FaultKind, with_faults
from tomofly.simulate.tilt_microscope import TiltSeriesConfig
from tomofly.simulate.tilt_movie import TiltCamera, tilt_camera
from tomofly.simulate.tilt_names import TiltLayout, movie_name, series_key, stack_name
from tomofly.simulate.writing import FileFormat

# The stage stops at most this far from where it was sent.
READOUT_ERROR_DEG = 0.01
# A stack holds sums that were corrected for motion and gain before.
STACKED = {
    "frames": 1,
    "drift_angstrom_per_tilt": 0.0,
    "dtype": "uint16",
    "gain_variation": 0.0,
    "hot_pixel_fraction": 0.0,
    "dead_pixel_fraction": 0.0,
}


@dataclass(frozen=True)
class PlannedSeries:
    """One series: its number from 1, its name, its own microscope, and what goes wrong with it."""

    number: int
    key: str
    config: TiltSeriesConfig
    faults: tuple[Fault, ...]

    @cached_property
    def camera(self) -> TiltCamera:
        """The specimen under the camera, made when the first tilt is taken."""
        return tilt_camera(self.config, self.number - 1)

    @cached_property
    def reported_deg(self) -> list[float]:
        """Angles that the stage reads out, in the order taken, also of tilts that an end cuts off."""
        nominal = self.config.nominal_tilts_deg
        random = self.config.random("readout", self.number - 1)
        error = random.uniform(-READOUT_ERROR_DEG, READOUT_ERROR_DEG, len(nominal))
        return [float(angle) for angle in nominal + error]

    @property
    def taken(self) -> int:
        """Number of tilts before the series ends or is interrupted."""
        ends = [fault.tilt + 1 for fault in self.faults if fault.kind == "interrupted"]
        return min([len(self.config.nominal_tilts_deg), *ends])

    def has(self, kind: FaultKind, tilt: int = 0) -> bool:
        """Whether a fault is wanted for a tilt."""
        return any(fault.kind == kind and fault.tilt == tilt for fault in self.faults)

    def delay_s(self, tilt: int) -> float:
        """How long after its turn a movie comes."""
        return sum(fault.seconds for fault in self.faults if fault.kind == "late" and fault.tilt == tilt)

    def faults_of(self, tilt: int) -> list[str]:
        """Kinds of all that goes wrong with a tilt; a tilt that is re-taken is the earlier one."""
        dark = ["dark"] if tilt in self.config.dark_tilts else []
        blocked = ["blocked"] if tilt in self.config.blocked_tilts else []
        others = {fault.kind for fault in self.faults if fault.tilt == tilt and fault.kind != "no-mdoc"}
        never = ["never taken"] if tilt >= self.taken else []
        return [*dark, *blocked, *sorted(others - {"dark", "blocked"}), *never]


@dataclass(frozen=True)
class Shot:
    """One exposure of the session: tilt number `tilt` of a series, when, and the name of its file."""

    series: PlannedSeries
    tilt: int
    acquired: datetime
    file: str


def plan_series(
    config: TiltSeriesConfig, layout: TiltLayout, name: str, numbers: Iterable[int], faults: Iterable[Fault]
) -> list[PlannedSeries]:
    """The series of a session. Raises ValueError for faults in series or tilts that are not there."""
    wanted, known = list(faults), list(numbers)
    if layout == "stack":
        config = config.model_copy(update=STACKED)
    absent = [fault.series for fault in wanted if fault.series not in known]
    if absent:
        raise ValueError(f"there is no series {absent[0]}; they are numbered {known[0]} to {known[-1]}")
    series = []
    for number in known:
        own = [fault for fault in wanted if fault.series == number]
        key = series_key(layout, name, number)
        series.append(PlannedSeries(number, key, with_faults(config, own), tuple(own)))
    return series


def plan_shots(
    series: list[PlannedSeries], layout: TiltLayout, file_format: FileFormat, began: datetime, pace_s: float
) -> list[Shot]:
    """All exposures in the order taken: series by series, or with PACEtomo angle by angle."""
    order = [(one, tilt) for one in series for tilt in range(one.taken)]
    if layout == "pacetomo":
        order.sort(key=lambda pair: pair[1])
    shots = []
    for count, (one, tilt) in enumerate(order):
        acquired = began + timedelta(seconds=count * max(1.0, pace_s))
        angle = one.reported_deg[tilt]
        file = movie_name(layout, file_format, one.key, tilt, angle, count, acquired)
        shots.append(Shot(one, tilt, acquired, stack_name(one.key) if layout == "stack" else file))
    return shots


def files_of(shots: Iterable[Shot], series: PlannedSeries) -> Iterator[str]:
    """Names of the files of one series, one per tilt, and "" for those never taken."""
    names = {shot.tilt: shot.file for shot in shots if shot.series is series}
    return (names.get(tilt, "") for tilt in range(len(series.config.nominal_tilts_deg)))
