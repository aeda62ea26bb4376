"""Short sums along s that turn ramp-filtered rows into windowed ones.

The ring keeps rows filtered by the plain ramp. Another filter is the ramp times a window, applied while
back-projecting: changing it touches nothing that is kept. The window is a symmetric sum over a few columns;
where it has a kink (Parzen's at frequency 0, those of others at the Nyquist frequency), whose sum would be
long, two sums that decay exponentially are added, which a recursion runs along the row.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

import numpy as np
import numpy.typing as npt

from tomofly.imaging.xray.filters import FilterName, window

Float64Array = npt.NDArray[np.float64]

_SAMPLES = 401
_SHORT = 2  # columns on either side that are tried without decaying sums
_LONG = 6  # and with them
_DECAYS = (0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95)


@dataclass(frozen=True, eq=False)
class WindowTaps:
    """A window as sums: Σ weights[k]·row[s + k - reach] + Σ_j gains[j]·(F_j + B_j)[s].

    F_j[s] = row[s] + decays[j]·F_j[s - 1], and B_j the same from the right. ``error``: root mean square of
    what the filter misses, over that of the windowed ramp.
    """

    weights: npt.NDArray[np.float32]
    decays: npt.NDArray[np.float32]
    gains: npt.NDArray[np.float32]
    error: float

    @property
    def reach(self) -> int:
        """Columns on either side."""
        return len(self.weights) // 2

    def response(self, frequency: Float64Array) -> Float64Array:
        """Give the response at frequencies in cycles per pixel."""
        distance = np.arange(-self.reach, self.reach + 1)
        total: Float64Array = np.cos(2 * np.pi * frequency[:, None] * distance) @ self.weights.astype(float)
        for decay, gain in zip(self.decays.astype(float), self.gains.astype(float), strict=True):
            total += gain * (1 + _decaying(frequency, decay) * (1 + decay) / (1 - decay))
        return total


@lru_cache(maxsize=64)
def window_taps(name: FilterName, *, binning: int = 1, tolerance: float = 1e-3) -> WindowTaps:
    """Fit the fewest sums that give a filter's window to ``tolerance``, weighted by the ramp.

    ``binning``: of the rows they are for; the frequencies of the window remain those of unbinned ones. Where
    six columns and two decaying sums do not suffice, the best of them is given.
    """
    frequency = np.linspace(0, 0.5, _SAMPLES)
    wanted = window(name, frequency / binning)
    fit = _fit(frequency, wanted, 0, ())
    for reach in range(1, _SHORT + 1):
        if fit.error > tolerance:
            fit = _fit(frequency, wanted, reach, ())
    for reach in (_SHORT, _SHORT + 2, _LONG):
        if fit.error > tolerance:
            fit = min((_fit(frequency, wanted, reach, pair) for pair in _pairs()), key=lambda one: one.error)
    return fit


def _pairs() -> list[tuple[float, ...]]:
    pairs = list(combinations(_DECAYS, 2))
    return [*pairs, *((-a, -b) for a, b in pairs)]


def _decaying(frequency: Float64Array, decay: float) -> Float64Array:
    """Give the response of Σ decay^|k|, scaled to 1 at 0."""
    return (1 - decay) ** 2 / (1 - 2 * decay * np.cos(2 * np.pi * frequency) + decay * decay)


def _fit(frequency: Float64Array, wanted: Float64Array, reach: int, decays: tuple[float, ...]) -> WindowTaps:
    parts = [np.cos(2 * np.pi * k * frequency) for k in range(1, reach + 1)]
    parts += [_decaying(frequency, decay) for decay in decays]
    # Parts less their value at 0, on top of 1, hold the response there to 1.
    basis = np.array(parts).reshape(len(parts), len(frequency)).T - 1
    found = np.linalg.lstsq(frequency[:, None] * basis, frequency * (wanted - 1), rcond=1e-9)[0]
    missed = np.sum((frequency * (1 + basis @ found - wanted)) ** 2) / np.sum((frequency * wanted) ** 2)
    along, gains = found[:reach], found[reach:] * (1 - np.array(decays)) / (1 + np.array(decays))
    # Both recursions hold the column itself, which is to count once.
    middle = 1 - found.sum() - gains.sum()
    weights = np.concatenate([along[::-1] / 2, [middle], along / 2])
    return WindowTaps(
        weights.astype(np.float32),
        np.asarray(decays, np.float32),
        gains.astype(np.float32),
        float(missed**0.5),
    )


@lru_cache(maxsize=64)
def plain_taps(name: FilterName, *, tolerance: float = 1e-3) -> WindowTaps:
    """Fit a window by neighbouring columns alone, for where rows cannot be run along.

    Where sixteen columns do not suffice, they are given.
    """
    frequency = np.linspace(0, 0.5, _SAMPLES)
    wanted = window(name, frequency)
    fit = _fit(frequency, wanted, 0, ())
    for reach in (1, 2, 4, 8, 16):
        if fit.error > tolerance:
            fit = _fit(frequency, wanted, reach, ())
    return fit
