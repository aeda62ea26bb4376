"""The detector: what passes through the sample becomes counts, with all that real cameras add."""

from dataclasses import dataclass

import numba as nb
import numpy as np
from numpy.typing import NDArray

from tomofly.simulate.beamline.settings import FULL_SCALE, BeamlineConfig

Image = NDArray[np.float32]
Counts = NDArray[np.uint8] | NDArray[np.uint16] | NDArray[np.float32]

# Normal deviates drawn once; each row of a frame reads them from a random place.
DEVIATES = 1 << 20
# Below this many photons a count is drawn by inversion, above it from a normal law with the right skewness.
FEW_PHOTONS = np.float32(16.0)


@dataclass(frozen=True)
class Exposure:
    """What decides one frame's counts besides the sample. `shutter`: share of the beam it lets through."""

    seconds: float
    binning: int
    shutter: float
    time_s: float
    number: int


class Detector:
    """The camera behind one lens, with its region of interest: maps made once, frames from them.

    `flat` (y, x): photons per pixel and second before drift; `bend` (y, x): departure of a pixel's answer
    from proportional, at the full range, relative.
    """

    def __init__(self, config: BeamlineConfig, lens: int, region: tuple[int, int, int, int]) -> None:
        """`region`: first row, first column, rows and columns in unbinned pixels."""
        self.config = config
        top, left, height, width = region
        self._rows = slice(top, top + height)
        columns = slice(left, left + width)
        self.flat = _flat(config, lens)[self._rows, columns].copy()
        self._bend = _bends(config)[self._rows, columns].copy()
        self._offset = _offsets(config)[self._rows, columns].copy()
        self._deviates = config.random("deviates").standard_normal(DEVIATES, dtype=np.float32)

    def drift(self, time_s: float) -> Image:
        """Factor of each row (y,) on the beam at a time: the current decays and refills, the beam moves."""
        config = self.config
        phase = time_s / config.drift_period_s
        current = config.drift * (0.5 - phase % 1.0)
        height = config.detector_yx_px[0]
        place = np.arange(height)[self._rows] / height - 0.5
        rows: Image = (1 + current + config.drift * np.sin(2 * np.pi * phase) * place).astype(np.float32)
        return rows

    def expose(self, absorption: Image | None, exposure: Exposure) -> Counts:
        """Counts (y, x) of one frame; `absorption` (y, x) unbinned, None where nothing is in the beam."""
        config = self.config
        photons = self._photons(absorption, exposure)
        scale = FULL_SCALE[config.dtype]
        binned = exposure.binning**2
        counts = _CountRules(
            counts_per_photon=config.open_beam_level * scale / config.open_beam_photons,
            full=scale,
            dark=binned * scale * (config.dark_level + config.dark_current * exposure.seconds),
            read_noise=config.read_noise * scale if config.noise else 0.0,
        )
        out = np.empty(photons.shape, dtype=np.float32)
        random = config.random("frame", exposure.number)
        if config.noise:
            draws = random.integers(0, DEVIATES - photons.shape[1], (photons.shape[0], 2))
            _shoot(photons, self._deviates, draws, random)
            _zing(photons, config, exposure, counts.counts_per_photon, random)
        else:
            draws = np.zeros((photons.shape[0], 2), dtype=np.int64)
        bend, offset = _mean_bins(self._bend, exposure.binning), _mean_bins(self._offset, exposure.binning)
        _count(photons, bend, offset, self._deviates, draws[:, 1].copy(), counts.as_array(), out)
        return _as_pixels(out, config.dtype)

    def _photons(self, absorption: Image | None, exposure: Exposure) -> Image:
        """Photons expected (y, x) in the binned pixels."""
        binning = exposure.binning
        shape = self.flat.shape[0] // binning, self.flat.shape[1] // binning
        photons = np.zeros(shape, dtype=np.float32)
        if exposure.shutter > 0:
            rows = self.drift(exposure.time_s) * np.float32(exposure.seconds * exposure.shutter)
            if absorption is None:
                _gather_open(self.flat, rows, binning, photons)
            else:
                _gather(absorption, self.flat, rows, binning, photons)
        return photons


@dataclass(frozen=True)
class _CountRules:
    counts_per_photon: float
    full: float
    dark: float
    read_noise: float

    def as_array(self) -> Image:
        return np.array([self.counts_per_photon, self.full, self.dark, self.read_noise], dtype=np.float32)


def _flat(config: BeamlineConfig, lens: int) -> Image:
    """Photons per pixel and second (y, x): the beam's profile, polish marks and spots of the scintillator."""
    height, width = config.detector_yx_px
    random = config.random("flat", lens)
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    profile = 1 - config.illumination * (0.9 * (y - 0.1) ** 2 + 0.6 * (x + 0.15) ** 2)
    for _ in range(6):
        wave_y, wave_x, phase = random.uniform(-25, 25), random.uniform(-25, 25), random.uniform(0, 6.28)
        profile += config.illumination * 0.03 * np.sin(wave_y * y + wave_x * x + phase)
    for _ in range(config.spots):
        _add_spot(profile, random)
    flux = config.open_beam_photons / config.exposure_s
    photons: Image = (np.maximum(profile, 0.05) * flux).astype(np.float32)
    return photons


def _add_spot(profile: NDArray[np.float64], random: np.random.Generator) -> None:
    """A dark or a bright disc with soft borders."""
    height, width = profile.shape
    row, column = random.uniform(0, height), random.uniform(0, width)
    radius = random.uniform(0.005, 0.02) * width + 1
    depth = random.uniform(-0.25, 0.1)
    y, x = np.ogrid[:height, :width]
    profile *= 1 + depth * 0.5 * (1 - np.tanh(np.hypot(y - row, x - column) - radius))


def _bends(config: BeamlineConfig) -> Image:
    """Departure (y, x) of each pixel's answer from proportional: flat fields cannot take it away."""
    height, width = config.detector_yx_px
    random = config.random("rings")
    bend = np.zeros((height, width), dtype=np.float32)
    columns = random.choice(width, min(config.ring_columns, width), replace=False)
    bend[:, columns] = random.uniform(-1, 1, columns.size)
    pixels = random.choice(bend.size, min(config.ring_pixels, bend.size), replace=False)
    bend.ravel()[pixels] = random.uniform(-1, 1, pixels.size)
    return bend * np.float32(config.ring_strength)


def _offsets(config: BeamlineConfig) -> Image:
    """Share of the dark level (y, x) of each pixel: columns and pixels differ a little."""
    height, width = config.detector_yx_px
    random = config.random("dark")
    columns = 1 + 0.05 * random.standard_normal(width)
    share = columns + 0.03 * random.standard_normal((height, width))
    return np.maximum(share, 0).astype(np.float32)


def _mean_bins(image: Image, binning: int) -> Image:
    if binning == 1:
        return image
    rows, columns = image.shape[0] // binning, image.shape[1] // binning
    cut = image[: rows * binning, : columns * binning]
    means: Image = cut.reshape(rows, binning, columns, binning).mean(axis=(1, 3), dtype=np.float32)
    return means


@nb.njit(cache=True, nogil=True, fastmath=True, inline="always")
def fast_exp(power: np.float32) -> np.float32:
    """exp(power) to 2e-7 of its value, in a form that compilers turn into vectors; power above -80."""
    scaled = power * np.float32(1.4426950408889634)
    whole = np.int32(np.floor(scaled + np.float32(0.5)))
    r = scaled - np.float32(whole)
    upper = np.float32(0.009618129107) + r * (np.float32(0.001333355815) + r * np.float32(0.000154035304))
    part = np.float32(0.240226506959) + r * (np.float32(0.055504108665) + r * upper)
    value = np.float32(1) + r * (np.float32(0.693147180560) + r * part)
    return value * np.int32((whole + np.int32(127)) << np.int32(23)).view(np.float32)


@nb.njit(cache=True, nogil=True, fastmath=True)
def _gather(absorption: Image, flat: Image, rows: Image, binning: int, out: Image) -> None:
    """Photons behind the sample, added up over the binned pixels."""
    passed = np.empty(out.shape[1] * binning, np.float32)
    for y in range(out.shape[0] * binning):
        factor = rows[y]
        for x in range(passed.size):
            power = -min(max(absorption[y, x], np.float32(-4)), np.float32(80))
            passed[x] = factor * flat[y, x] * fast_exp(power)
        line = out[y // binning]
        if binning == 1:
            for x in range(line.size):
                line[x] = passed[x]
        else:
            for x in range(passed.size):
                line[x // binning] += passed[x]


@nb.njit(cache=True, nogil=True, fastmath=True)
def _gather_open(flat: Image, rows: Image, binning: int, out: Image) -> None:
    """Photons of the open beam, added up over the binned pixels."""
    for y in range(out.shape[0] * binning):
        for x in range(out.shape[1] * binning):
            out[y // binning, x // binning] += rows[y] * flat[y, x]


@nb.njit(cache=True, nogil=True, fastmath=True)
def _shoot(photons: Image, deviates: Image, draws: NDArray[np.int64], random: np.random.Generator) -> None:
    """Replace expected photons by Poisson counts, in place.

    Many: normal with the Cornish-Fisher term for a Poisson law's skewness (Cornish and Fisher 1938).
    """
    for y in range(photons.shape[0]):
        line, normal = photons[y], deviates[draws[y, 0] : draws[y, 0] + photons.shape[1]]
        lowest = np.float32(1e30)
        for x in range(line.size):
            lowest = min(lowest, line[x])
        if lowest < FEW_PHOTONS:
            _shoot_few(line, normal, random)
            continue
        for x in range(line.size):
            z = normal[x]
            drawn = line[x] + np.sqrt(line[x]) * z + (z * z - np.float32(1)) * np.float32(1 / 6)
            line[x] = max(np.float32(0), np.floor(drawn + np.float32(0.5)))


@nb.njit(cache=True, nogil=True)
def _shoot_few(line: Image, normal: Image, random: np.random.Generator) -> None:
    """The same for a row where pixels expect few photons, or none."""
    for x in range(line.size):
        rate = line[x]
        if rate <= 0:
            continue
        if rate < FEW_PHOTONS:
            left, term, count = random.random(), np.exp(-np.float64(rate)), 0
            while left > term and count < 200:
                left -= term
                count += 1
                term *= rate / count
            line[x] = count
        else:
            z = normal[x]
            drawn = rate + np.sqrt(rate) * z + (z * z - np.float32(1)) * np.float32(1 / 6)
            line[x] = max(np.float32(0), np.floor(drawn + np.float32(0.5)))


def _zing(
    photons: Image,
    config: BeamlineConfig,
    exposure: Exposure,
    counts_per_photon: float,
    random: np.random.Generator,
) -> None:
    """Direct hits of scattered photons: single pixels, bright, also with the shutter closed."""
    share = photons.size * exposure.binning**2 / 1024**2
    hits = int(random.poisson(config.zingers_per_s * exposure.seconds * share))
    if hits:
        pixels = random.integers(0, photons.size, hits)
        level = random.uniform(0.2, 1.2, hits) * FULL_SCALE[config.dtype] / counts_per_photon
        photons.ravel()[pixels] += level.astype(np.float32)


@nb.njit(cache=True, nogil=True, fastmath=True)
def _count(
    photons: Image,
    bend: Image,
    offset: Image,
    deviates: Image,
    draws: NDArray[np.int64],
    rules: Image,
    out: Image,
) -> None:
    """Counts before they are cut and rounded; `rules`: counts per photon, full range, dark, read noise."""
    gain, inverse_full, dark, noise = rules[0], np.float32(1) / rules[1], rules[2], rules[3]
    for y in range(out.shape[0]):
        normal = deviates[draws[y] : draws[y] + out.shape[1]]
        for x in range(out.shape[1]):
            signal = photons[y, x] * gain
            signal *= np.float32(1) + bend[y, x] * signal * inverse_full
            out[y, x] = signal + dark * offset[y, x] + noise * normal[x]


def _as_pixels(counts: Image, dtype: str) -> Counts:
    """Round and cut to the camera's range; float32 stays as it is."""
    if dtype == "float32":
        return counts
    rounded = np.empty(counts.shape, dtype=dtype)
    _round(counts, np.float32(FULL_SCALE[dtype]), rounded)
    return rounded


@nb.njit(cache=True, nogil=True, fastmath=True)
def _round(counts: Image, full: np.float32, out: NDArray[np.generic]) -> None:
    for y in range(out.shape[0]):
        for x in range(out.shape[1]):
            out[y, x] = min(max(counts[y, x] + np.float32(0.5), np.float32(0)), full)
