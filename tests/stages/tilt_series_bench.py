"""A simulated tilt series as the stages before the tomogram hand it over, with the true geometry."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tests.stages.benches import require_lawful
from tomofly.formats.mrc import write_image
from tomofly.model import (
    Flag,
    ItemRef,
    MapStage,
    MicroscopeParams,
    Outcome,
    Result,
    StageContext,
    StageParams,
)
from tomofly.simulate.tilt_microscope import TiltSeriesConfig
from tomofly.simulate.tilt_series import SimulatedSeries, simulate_tilt_series
from tomofly.stages.tilts.alignment import SeriesAlignmentParams
from tomofly.stages.tilts.ctf import SeriesCtfParams
from tomofly.stages.tilts.files import AlignmentFile, CtfFile, SeriesFile, View


@dataclass
class SeriesBench:
    """Runs stages on one series whose alignment and CTF are the simulation's own."""

    folder: Path
    series: SimulatedSeries
    provisional: bool = False
    verdict: str = "right"
    certainty: float = 0.999
    ctf_flags: tuple[Flag, ...] = ()
    has_ctf: bool = True
    defocus_known: bool = True
    with_halves: bool = False
    target_angstrom: float | None = None
    hand: int | None = None
    hand_setting: int = 0
    thickness_angstrom: float | None = None
    results: dict[str, Result] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.results |= {
            "compose": self._composed(),
            "series_alignment": self._aligned(),
            "series_ctf": self._fitted(),
        }

    def run(self, stage: MapStage, folder: str = "", **params: Any) -> Outcome:
        """Run a stage with some parameters, and keep its result for those that need it."""
        work = self.folder / (folder or stage.name)
        work.mkdir(parents=True, exist_ok=True)
        context = StageContext(
            stage=stage.name,
            key="TS_1",
            work=work,
            partial=self.folder,
            shared={name: self._shared()[name] for name in stage.reads},
            inputs={name: self.results[name] for name in stage.needs},
            log=logging.getLogger("test"),
            threads=2,
        )
        outcome = stage.run(
            ItemRef("TS_1", "tilt series", None, ""), stage.params.model_validate(params), context
        )
        require_lawful(stage, outcome, work)
        self.results[stage.name] = Result(stage.name, outcome.products, outcome.metrics, outcome.flags)
        return outcome

    def _shared(self) -> Mapping[str, StageParams]:
        config = self.series.config
        microscope = MicroscopeParams(
            voltage_kv=config.voltage_kv,
            spherical_aberration_mm=config.spherical_aberration_mm,
            amplitude_contrast=config.amplitude_contrast,
        )
        return {
            "microscope": microscope,
            "series_alignment": SeriesAlignmentParams(method="nominal"),
            "series_ctf": SeriesCtfParams.model_validate({"hand": self.hand_setting}),
        }

    def _composed(self) -> Result:
        series, size = self.series, self.series.pixel_size_angstrom
        rows, columns = series.images.shape[1:]
        order = np.argsort(np.argsort(series.dose_before_e_per_a2, kind="stable"))
        views = tuple(
            View(
                key=f"TS_1_{order[i]:03d}", section=None, tilt_angle_deg=float(series.nominal_tilt_deg[i]),
                order=int(order[i]), dose_e_per_a2=series.config.dose_per_tilt_e_per_a2,
                accumulated_dose_e_per_a2=float(series.dose_before_e_per_a2[i]),
                target_defocus_angstrom=self.target_angstrom,
            )
            for i in range(len(series))
        )  # fmt: skip
        record = SeriesFile(
            name="TS_1", views=views, axis_angle_deg=series.nominal_axis_deg, axis_source="mdoc",
            pixel_size_angstrom=size, full_pixel_size_angstrom=size, shape_yx=(rows, columns),
            full_shape_yx=(rows, columns), provisional=self.provisional,
        )  # fmt: skip
        self.folder.mkdir(parents=True, exist_ok=True)
        products = {"series": self.folder / "TS_1.json", "stack": self.folder / "TS_1.st"}
        record.write(products["series"])
        write_image(products["stack"], series.images, size)
        if self.with_halves:
            even = np.random.default_rng(5).binomial(series.images.astype(np.int64), 0.5).astype(np.float32)
            for name, images in (("even", even), ("odd", series.images - even)):
                products[name] = self.folder / f"TS_1_{name}.st"
                write_image(products[name], images, size)
        return Result("compose", products)

    def _aligned(self) -> Result:
        series = self.series
        count = len(series)
        record = AlignmentFile(
            method="true", tilt_angle_deg=tuple(map(float, series.tilt_angle_deg)),
            axis_angle_deg=tuple(map(float, series.axis_angle_deg)),
            shift_y_px=tuple(map(float, series.shift_yx_px[:, 0])),
            shift_x_px=tuple(map(float, series.shift_yx_px[:, 1])),
            shift_error_px=(0.1,) * count, residual_angstrom=(1.0,) * count, aligned=(True,) * count,
            x_tilt_deg=series.x_tilt_deg, tilt_offset_deg=series.pre_tilt_deg,
            pixel_size_angstrom=series.pixel_size_angstrom, thickness_angstrom=self.thickness_angstrom,
        )  # fmt: skip
        path = self.folder / "TS_1_alignment.json"
        record.write(path)
        return Result("series_alignment", {"alignment": path})

    def _fitted(self) -> Result:
        if not self.has_ctf:
            return Result("series_ctf", flags=self.ctf_flags)
        series = self.series
        truth = series.defocus_angstrom if self.defocus_known else series.defocus_angstrom * np.nan
        defocus = tuple(map(float, truth))
        astigmatism = series.config.astigmatism_angstrom / 2
        record = CtfFile(
            defocus_u_angstrom=tuple(d + astigmatism for d in defocus),
            defocus_v_angstrom=tuple(d - astigmatism for d in defocus),
            astigmatism_angle_deg=(0.0,) * len(defocus), defocus_error_angstrom=(50.0,) * len(defocus),
            fit_resolution_angstrom=(12.0,) * len(defocus), hand=self.hand or series.hand,
            hand_verdict=self.verdict,
        )  # fmt: skip
        path = self.folder / "TS_1_ctf.json"
        record.write(path)
        return Result("series_ctf", {"ctf": path}, {"hand_certainty": self.certainty}, self.ctf_flags)


def simulated(**config: Any) -> SimulatedSeries:
    """Take a series with a microscope that is otherwise the usual one, its tilts in the order of angles."""
    return simulate_tilt_series(TiltSeriesConfig.model_validate(config), threads=2).by_angle()
