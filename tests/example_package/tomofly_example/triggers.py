"""An example of a trigger measure that another package brings."""

import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from tomofly.live.triggers.observation import Measured

Image = npt.NDArray[np.float32]


def bright_pixels(options: Mapping[str, Any]) -> Callable[[Image], Measured]:
    """Count pixels above ``options["above"]``; misbehave as ``options["fault"]`` says, when it is seen."""
    above, fault = float(options["above"]), options.get("fault", "")
    if fault == "hang at the start":
        time.sleep(3600)

    def measure(image: Image) -> Measured:
        mask = image > above
        if mask.any() and fault == "hang":
            time.sleep(3600)
        if mask.any() and fault == "die":
            os._exit(1)
        if mask.any() and fault == "raise":
            raise RuntimeError("the measure is wrong")
        if mask.any() and fault == "look up":
            return options["nothing"]
        return Measured(float(mask.sum()), mask)

    return measure
