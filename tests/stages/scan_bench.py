"""Scans of discs, written as beamlines write them, and the stages of an X-ray session run on them."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from tests.imaging.xray.discs import SCENE, project, slice_of
from tomofly.model import ItemRef, MapStage, Outcome, Result, StageContext
from tomofly.stages.scans import centre, scan, volume

ROWS, WIDTH, CENTRE = 21, 113, 58.3
DEGREES = np.arange(0, 180, 1.5)
PIXEL_UM = 2.5
LIGHT, DARK = 40000.0, 200.0


def transmissions(degrees: npt.NDArray[np.float64], rows: int = ROWS) -> npt.NDArray[np.float32]:
    """Transmission (angle, y, x): the lower half of the specimen lacks its first disc."""
    angles = np.deg2rad(degrees)
    upper, lower = (np.exp(-project(discs, angles, WIDTH, CENTRE)) for discs in (SCENE, SCENE[1:]))
    both = [upper if row < rows // 2 else lower for row in range(rows)]
    return np.stack(both, axis=1).astype(np.float32)


def truth(row: int, rows: int = ROWS) -> npt.NDArray[np.float32]:
    """The slice that a row of the detector shows, in 1/µm."""
    return slice_of(SCENE if row < rows // 2 else SCENE[1:], WIDTH) / np.float32(PIXEL_UM)


def write_scan(path: Path, *, drift: float = 0.0, noise: float = 30.0, **changes: Any) -> None:
    """Write a Data Exchange scan; ``changes`` replace datasets by name, None leaves them out."""
    rng = np.random.default_rng(7)
    structure = 1 + 0.1 * np.sin(np.arange(WIDTH) / 5)[None] * np.ones((ROWS, 1))
    lamp = np.linspace(1, 1 + drift, len(DEGREES))
    clean = DARK + LIGHT * structure * lamp[:, None, None] * transmissions(DEGREES)
    flats = (
        np.concatenate([np.full(3, 1.0), np.full(3, 1 + drift)])[:, None, None] * (LIGHT * structure) + DARK
    )
    went = [b"/exchange/data_white"] * 3 + [b"/exchange/data"] * len(DEGREES) + [b"/exchange/data_white"] * 3
    datasets: dict[str, Any] = {
        "data": np.round(clean + rng.normal(0, noise, clean.shape)).astype(np.uint16),
        "data_white": np.round(flats).astype(np.uint16),
        "data_dark": np.full((2, ROWS, WIDTH), DARK, np.uint16),
        "theta": DEGREES,
    }
    with h5py.File(path, "w") as file:
        for name, value in (datasets | changes).items():
            if value is not None:
                file[f"exchange/{name}"] = value
        file["measurement/instrument/detection_system/objective/resolution"] = PIXEL_UM
        file["defaults/HDF5FrameLocation"] = went
        file["defaults/NDArrayUniqueId"] = np.arange(len(went))


@dataclass
class ScanBench:
    """Runs the stages one after another on one scan, in a folder of its own."""

    folder: Path
    source: Path
    results: dict[str, Result] = field(default_factory=dict)

    def run(self, stage: MapStage, **params: Any) -> Outcome:
        """Run a stage with some parameters, and keep its result for those that need it."""
        work = self.folder / stage.name
        work.mkdir(parents=True, exist_ok=True)
        context = StageContext(
            stage=stage.name, key="day 1/scan_001", work=work, partial=work, shared={},
            inputs={name: self.results[name] for name in stage.needs},
            log=logging.getLogger("test"), threads=2,
        )  # fmt: skip
        item = ItemRef("day 1/scan_001", "scan", self.source)
        outcome = stage.run(item, stage.params.model_validate(params), context)
        self.results[stage.name] = Result(stage.name, outcome.products, outcome.metrics, outcome.flags)
        return outcome

    def run_all(self, **params: Mapping[str, Any]) -> Outcome:
        """Run all three stages; ``params`` by stage."""
        for stage in (scan.STAGE, centre.STAGE):
            self.run(stage, **params.get(stage.name, {}))
        return self.run(volume.STAGE, **{"threads": 2, **params.get("volume", {})})


def codes(outcome: Outcome) -> set[str]:
    """The flags of an outcome."""
    return {flag.code for flag in outcome.flags}
