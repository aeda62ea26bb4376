"""Views of tomograms: filtered for the eye, marked as such, and made whatever is known."""

from pathlib import Path

import mrcfile
import numpy as np
import pytest

from tests.stages.tilt_series_bench import SeriesBench, simulated
from tomofly.formats.mrc import read_image
from tomofly.model import Outcome
from tomofly.simulate.tilt_series import SimulatedSeries
from tomofly.stages.tilts import tomogram, tomogram_view


@pytest.fixture(scope="module")
def series() -> SimulatedSeries:
    """Fifteen tilts of unequal sides."""
    return simulated(detector_yx_px=(184, 220), tilt_step_deg=8.0, tilt_range_deg=(-56.0, 56.0))


@pytest.fixture(scope="module")
def with_halves(tmp_path_factory: pytest.TempPathFactory, series: SimulatedSeries) -> SeriesBench:
    """A bench whose tomogram is made."""
    folder = tmp_path_factory.mktemp("view")
    bench = SeriesBench(folder, series, with_halves=True, thickness_angstrom=1500.0)
    bench.run(tomogram.STAGE, halves=True)
    return bench


def _codes(outcome: Outcome) -> list[str]:
    return [flag.code for flag in outcome.flags]


def _low_share(volume: np.ndarray, voxel: float) -> float:
    """Give the part of the power from 300 to 60 Å in all of it, over the middle slice."""
    power = np.abs(np.fft.fft2(volume[len(volume) // 2])) ** 2
    frequency = np.hypot(*np.meshgrid(*(np.fft.fftfreq(n, voxel) for n in power.shape), indexing="ij"))
    low, all_of_it = ((frequency > 1 / 300) & (frequency < 1 / finest) for finest in (60, 20))
    return float(power[low].sum() / power[all_of_it].sum())


@pytest.mark.parametrize("method", ["deconvolution", "halves"])
def test_a_view_has_more_contrast_and_says_what_it_is_for(with_halves: SeriesBench, method: str) -> None:
    outcome = with_halves.run(tomogram_view.STAGE, method, method=method)
    assert outcome.flags == ()
    path = outcome.products["view"]
    assert path.name == "TS_1_view.mrc" and mrcfile.validate(path)
    with mrcfile.open(path) as file:
        assert "FOR VIEWING ONLY" in file.get_labels()[0]
    volume, voxel = read_image(path)
    plain, _ = read_image(with_halves.results["tomogram"].products["tomogram"])
    assert volume.shape == plain.shape and voxel == 10.0
    assert _low_share(volume, 10.0) > 1.15 * _low_share(plain, 10.0)
    assert {"sections", "slices"} < set(outcome.products)


def test_without_halves_or_a_defocus_the_view_is_flagged(tmp_path: Path, series: SimulatedSeries) -> None:
    bench = SeriesBench(tmp_path, series, has_ctf=False)
    bench.run(tomogram.STAGE, binning=2, thickness_angstrom=1600)
    assert _codes(bench.run(tomogram_view.STAGE, method="halves")) == ["no_halves", "no_defocus"]
    assert _codes(bench.run(tomogram_view.STAGE)) == ["no_defocus"]


def test_the_target_stands_in_for_a_defocus_that_was_not_measured(
    tmp_path: Path, series: SimulatedSeries
) -> None:
    bench = SeriesBench(tmp_path, series, has_ctf=False, target_angstrom=35000.0)
    bench.run(tomogram.STAGE, binning=2, thickness_angstrom=1600)
    outcome = bench.run(tomogram_view.STAGE, float16=True)
    assert _codes(outcome) == ["target_defocus"]
    with mrcfile.open(outcome.products["view"]) as file:
        assert file.header.mode == 12


def test_a_preview_is_not_filtered(tmp_path: Path, series: SimulatedSeries) -> None:
    bench = SeriesBench(tmp_path, series, provisional=True, has_ctf=False)
    bench.run(tomogram.STAGE)
    outcome = bench.run(tomogram_view.STAGE)
    assert _codes(outcome) == ["provisional"] and not outcome.products
