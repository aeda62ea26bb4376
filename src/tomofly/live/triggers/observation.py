"""What triggers look at: the pictures and numbers of one output."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

FloatImage = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Observation:
    """Pictures (rows, columns) by their source, metrics by name, and the frames that they are made of."""

    images: Mapping[str, FloatImage]
    metrics: Mapping[str, float] = field(default_factory=dict)
    first_frame: int = 0
    last_frame: int = 0
    at: float = 0.0


@dataclass(frozen=True, eq=False)
class Measured:
    """A value, NaN where there is none, and the pixels (rows, columns) that it counted, if it did."""

    value: float
    mask: Mask | None = None
