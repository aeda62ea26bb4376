"""Angles of projections to come, as the compact list that is broadcast."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FULL_TURN_DEG = 360.0


@dataclass(frozen=True)
class AngleList:
    """Degrees of the frames `first`, `first + 1`, ...; `period` more frames bring the same angles again.

    A continuous rotation has as period a whole number of turns where the step allows it, else none: then the
    list is good for its own length.
    """

    first: int
    angles_deg: NDArray[np.float32]

    def angle_of(self, number: int) -> float:
        """Give a frame's angle in degrees, NaN outside the list."""
        place = number - self.first
        return float(self.angles_deg[place]) if 0 <= place < len(self.angles_deg) else math.nan


@dataclass(frozen=True)
class Sweep:
    """How the stage turns: from `start_deg` by `step_deg` per frame, `count` frames one way.

    `back_and_forth`: then the same angles the other way round, and so on. `first`: number of the frame taken
    at `start_deg`.
    """

    start_deg: float
    step_deg: float
    count: int
    back_and_forth: bool
    first: int

    @property
    def period(self) -> int:
        """Frames of the list."""
        return 2 * self.count if self.back_and_forth else self.count

    def angles(self, first: int) -> AngleList:
        """Give the list that begins with frame `first`; continuous angles begin within the first turn.

        Angles are float32 as broadcast: within a few turns they are right to 1e-4 degrees.
        """
        place = first - self.first + np.arange(self.period, dtype=np.int64)
        if self.back_and_forth:
            there = place % self.period
            steps = np.where(there < self.count, there, self.period - 1 - there)
            return AngleList(first, (self.start_deg + self.step_deg * steps).astype(np.float32))
        angles = self.start_deg + self.step_deg * place
        turns = np.floor(angles[0] / FULL_TURN_DEG) * FULL_TURN_DEG if first > self.first else 0.0
        return AngleList(first, (angles - turns).astype(np.float32))

    def renewed(self, current: AngleList, number: int) -> AngleList | None:
        """Give a list that reaches on where frame `number` has come near the end of the current one."""
        left = current.first + len(current.angles_deg) - number
        if left > self.period // 4:
            return None
        # Frames that are still on their way must find their angles in the new list as well.
        return self.angles(max(number - self.period // 4, self.first))
