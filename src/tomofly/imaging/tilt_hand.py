"""The sense in which defocus changes across a tilted field, and how sure the data are of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
Verdict = Literal["right", "inverted", "undecided"]

# Below this tilt the two senses hardly differ.
LEAST_TILT_DEG = 20.0
LEAST_CERTAINTY = 0.99
# From this many tilts on, their agreement with each other says how far their sum can be trusted.
FEWEST_TILTS_TO_COMPARE = 4


@dataclass(frozen=True)
class HandEvidence:
    """Which sign makes `defocus = defocus at the axis + hand · depth` true.

    `verdict`: "right" for +1, "inverted" for -1; "undecided" where the data do not tell. `certainty`: the
    probability, 0.5 to 1, of the likelier sense, both being as likely beforehand.
    `log_likelihood_difference`: of +1 over -1, summed over the tilts from 20° up; `by_tilt` (tilt,) its
    parts, 0 at lower tilts. `deviations`: the sum over its standard error, from the scatter among tilts
    (NaN where too few tilts compare).
    """

    verdict: Verdict
    certainty: float
    log_likelihood_difference: float
    deviations: float
    by_tilt: FloatArray

    @property
    def likelier(self) -> int:
        """+1 or -1, also where it is undecided."""
        return 1 if self.log_likelihood_difference >= 0 else -1


def judge_hand(gain_right: FloatArray, gain_inverted: FloatArray, tilt_angle_deg: FloatArray) -> HandEvidence:
    """Compare the tilts' log likelihoods (tilt,) under both senses.

    The certainty is that of the likelihoods, or, where the tilts contradict each other, the lesser one that
    their scatter allows.
    """
    high = np.abs(tilt_angle_deg) >= LEAST_TILT_DEG
    by_tilt = np.where(high, gain_right - gain_inverted, 0.0)
    total = float(by_tilt.sum())
    count = int(high.sum())
    deviations = float("nan")
    strength = abs(total)
    if count >= FEWEST_TILTS_TO_COMPARE:
        deviations = total / max(float(np.sqrt(count) * by_tilt[high].std(ddof=1)), 1e-9)
        strength = min(strength, 0.5 * deviations**2)
    certainty = float(1.0 / (1.0 + np.exp(-strength)))
    verdict: Verdict = "undecided"
    if certainty >= LEAST_CERTAINTY:
        verdict = "right" if total > 0 else "inverted"
    return HandEvidence(verdict, certainty, total, deviations, by_tilt)
