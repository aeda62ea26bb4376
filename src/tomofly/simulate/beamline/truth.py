"""What is true of a simulated beamline or of a scan, as written beside it; the processing never reads it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from tomofly.simulate.beamline.phantom import Phantom
from tomofly.simulate.beamline.settings import BeamlineConfig
from tomofly.simulate.writing import write_text_whole

TRUTH_SUFFIX = ".truth.json"
"""A scan `name.h5` has its truth in `name.truth.json` in the same folder."""

Volume = NDArray[np.float32]
# Points per voxel and axis when a slice is rendered: edges then take part by their share.
SAMPLES = 3


class AngleRule(BaseModel):
    """How the stage turned: the pattern, and its velocity where it did not stop for each projection."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pattern: str
    start_deg: float
    span_deg: float
    velocity_deg_s: float | None = None


class BeamlineTruth(BaseModel):
    """All that is true of a beamline's run or of a scan.

    A point (x, y, z) in voxels from the rotation axis and the middle row appears at the column
    x cos(angle) - y sin(angle) + centre and the row z + middle, both counted from the middle of the first
    pixel; voxels are as large as pixels. Lists named `..._of_lenses` have one entry per lens, for the
    unbinned detector. `started_at` is POSIX time; the sample's own time is seconds since then. Scans hold
    `angles_deg` and the sample's time `times_s` of each projection, and `columns_px`, the centre at each.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    config: BeamlineConfig
    phantom: Phantom
    started_at: float
    centre_px: float
    centre_of_lenses_px: list[float]
    pixel_of_lenses_um: list[float]
    middle_row_px: int
    angle_rule: AngleRule
    event_begins_s: float | None
    angles_deg: list[float] = []
    times_s: list[float] = []
    columns_px: list[float] = []
    dropped_ids: list[int] = []
    skipped_frames: int = 0

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The truth that `model_dump_json` wrote."""
        return cls.model_validate_json(text)

    def write(self, path: Path) -> None:
        """Write it whole: a reader sees the old text or the new one."""
        write_text_whole(path, self.model_dump_json(indent=1))


def beamline_truth(
    config: BeamlineConfig, phantom: Phantom, started_at: float, rule: AngleRule
) -> BeamlineTruth:
    """The truth of a beamline that starts."""
    lenses = range(len(config.magnifications))
    return BeamlineTruth(
        config=config,
        phantom=phantom,
        started_at=started_at,
        centre_px=config.centre_of_lens(0),
        centre_of_lenses_px=[config.centre_of_lens(lens) for lens in lenses],
        pixel_of_lenses_um=[config.pixel_of_lens(lens) for lens in lenses],
        middle_row_px=config.detector_yx_px[0] // 2,
        angle_rule=rule,
        event_begins_s=phantom.crack.begins_s,
    )


def scan_truth_beside(path: Path) -> BeamlineTruth:
    """The truth of a scan's file. Raises FileNotFoundError where there is none."""
    return BeamlineTruth.from_json(truth_path(path).read_text(encoding="utf-8"))


def truth_path(path: Path) -> Path:
    """Where the truth of a scan's file is."""
    return path.with_name(path.stem + TRUTH_SUFFIX)


def true_slice(
    truth: BeamlineTruth,
    time_s: float,
    axis: str,
    index: int,
    *,
    lens: int = 0,
    binning: int = 1,
    samples: int = SAMPLES,
) -> Volume:
    """Attenuation in 1/µm, float32, of one slice of voxels at one time of the sample.

    `axis` "z": (y, x) at row `index`; "y": (z, x) at y = `index`; "x": (z, y) at x = `index`. Slices are as
    wide as the detector, with the rotation axis at index n // 2 of x and y.
    """
    height, width = (size // binning for size in truth.config.detector_yx_px)
    pixel = truth.pixel_of_lenses_um[lens] * binning
    fine = (np.arange(samples) + 0.5) / samples - 0.5
    across = ((np.arange(width) - width // 2)[:, None] + fine).ravel() * pixel
    middle = ((truth.config.detector_yx_px[0] // 2) - (binning - 1) / 2) / binning
    along = ((np.arange(height) - middle)[:, None] + fine).ravel() * pixel
    beside = np.array((index - width // 2) * pixel)
    points = {
        "z": (across[None, :], across[:, None], np.array((index - middle) * pixel)),
        "y": (across[None, :], beside, along[:, None]),
        "x": (beside, across[None, :], along[:, None]),
    }
    if axis not in points:
        raise ValueError(f"axis {axis!r}: one of x, y, z")
    return _averaged(truth.phantom.attenuation(*points[axis], time_s), samples)


def _averaged(fine: NDArray[np.float64], samples: int) -> Volume:
    rows, columns = fine.shape[0] // samples, fine.shape[1] // samples
    blocks = fine.reshape(rows, samples, columns, samples)
    means: Volume = blocks.mean(axis=(1, 3)).astype(np.float32)
    return means


def true_volume(
    truth: BeamlineTruth, time_s: float, rows: Sequence[int] | None = None, *, samples: int = SAMPLES
) -> Volume:
    """Attenuation (z, y, x) in 1/µm, float32, of the given detector rows, or of all."""
    chosen = range(truth.config.detector_yx_px[0]) if rows is None else rows
    return np.stack([true_slice(truth, time_s, "z", row, samples=samples) for row in chosen])
