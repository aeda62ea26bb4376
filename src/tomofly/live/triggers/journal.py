"""The journal of all decisions: a line for each, and a picture for those that matter."""

import json
import math
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from tomofly.live.triggers.observation import FloatImage, Mask
from tomofly.live.triggers.settings import Region

LARGEST_BYTES = 50_000_000
"""A journal larger than this goes on in a new file; the one before is kept."""

COUNTED_COLOUR = (255, 140, 0)


class Journal:
    """`decisions.jsonl` in a folder, and pictures beside it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()

    @property
    def path(self) -> Path:
        """The file of the lines."""
        return self._folder / "decisions.jsonl"

    def write(self, trigger: str, verdict: str, at: float, **more: Any) -> None:
        """Add a line: time (UTC), trigger, verdict, and what else is known."""
        when = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
        known = {"time": when, "trigger": trigger, "verdict": verdict, **more}
        line = json.dumps({name: _plain(value) for name, value in known.items()}, ensure_ascii=False)
        with self._lock:
            self._folder.mkdir(parents=True, exist_ok=True)
            if self.path.exists() and self.path.stat().st_size > LARGEST_BYTES:
                self.path.replace(self.path.with_suffix(".before.jsonl"))
            with self.path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")

    def picture(
        self, trigger: str, at: float, image: FloatImage, region: Region | None, mask: Mask | None
    ) -> Path:
        """Save the picture (rows, columns) that made a decision, with what was looked at and counted."""
        stamp = datetime.fromtimestamp(at, UTC).strftime("%Y%m%dT%H%M%S_%f")
        path = self._folder / f"{trigger}_{stamp}.png"
        self._folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(decision_picture(image, region, mask)).save(path)
        return path


def decision_picture(image: FloatImage, region: Region | None, mask: Mask | None) -> npt.NDArray[np.uint8]:
    """Draw a picture (rows, columns, 3): grey from 1st to 99th percentile, counted pixels coloured."""
    finite = np.nan_to_num(image, nan=0.0, posinf=0.0, neginf=0.0)
    low, high = np.percentile(finite, [1, 99])
    grey = np.clip((finite - low) / max(high - low, 1e-30), 0, 1)
    drawn = np.repeat((255 * grey).astype(np.uint8)[..., None], 3, axis=2)
    top, left, bottom, right = region or (0, 0, *image.shape)
    inside = drawn[top:bottom, left:right]
    if mask is not None and mask.shape == inside.shape[:2]:
        inside[mask] = (0.5 * inside[mask] + 0.5 * np.array(COUNTED_COLOUR)).astype(np.uint8)
    if region is not None:
        inside[[0, -1], :] = inside[:, [0, -1]] = COUNTED_COLOUR
    return drawn


def _plain(value: Any) -> Any:
    """Give a value as JSON can hold it: no NaN."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value
