"""The CTF stage of tilt series: what it measures, writes and draws, and how it goes on without."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.stages.tilt_series_bench import SeriesBench, simulated
from tomofly.imaging.tilt_spectra import TileSpectra, tile_spectra
from tomofly.model import Outcome, Result
from tomofly.simulate.tilt_series import SimulatedSeries
from tomofly.stages.previews import TiltRings, draw_tilt_rings
from tomofly.stages.tilts import ctf, tomogram
from tomofly.stages.tilts.files import read_ctf, write_spectra

RANGE = (40.0, 8.5)
TILTS = 9


@pytest.fixture(scope="module")
def series() -> SimulatedSeries:
    return simulated(
        detector_yx_px=(324, 288), pixel_size_angstrom=4.0, tilt_range_deg=(-48.0, 48.0), tilt_step_deg=12.0,
        hand=-1, defocus_angstrom=28000.0, structures=("two_lobes",), seed=5,
    )  # fmt: skip


@pytest.fixture(scope="module")
def spectra(series: SimulatedSeries) -> list[TileSpectra]:
    return [_spectra_of(image) for image in series.images]


def _spectra_of(image: np.ndarray) -> TileSpectra:
    return tile_spectra(image, pixel_size_angstrom=4.0, resolution_range_angstrom=RANGE)


def _run(bench: SeriesBench, spectra: list[TileSpectra], **params: Any) -> Outcome:
    """Run the stage on spectra that composing has put beside the stack."""
    path = bench.folder / "spectra.npz"
    write_spectra(path, spectra)
    composed = bench.results["compose"]
    bench.results["compose"] = Result("compose", composed.products | {"spectra": path})
    return bench.run(ctf.STAGE, **params)


def _codes(outcome: Outcome) -> set[str]:
    return {flag.code for flag in outcome.flags}


@pytest.fixture(scope="module")
def fitted(
    tmp_path_factory: pytest.TempPathFactory, series: SimulatedSeries, spectra: list[TileSpectra]
) -> Outcome:
    return _run(SeriesBench(tmp_path_factory.mktemp("ctf"), series), spectra)


def test_each_tilts_defocus_and_the_hand_are_those_of_the_microscope(
    fitted: Outcome, series: SimulatedSeries
) -> None:
    record = read_ctf(fitted.products["ctf"])
    mean = 0.5 * (np.array(record.defocus_u_angstrom) + record.defocus_v_angstrom)
    assert np.median(np.abs(mean - series.defocus_angstrom)) < 150
    assert np.all(np.array(record.defocus_u_angstrom) >= record.defocus_v_angstrom)
    assert record.hand == -1 and record.hand_verdict == "inverted" and record.hand_certainty > 0.99
    assert len(record.hand_evidence) == len(record.view_flags) == TILTS
    assert sum(record.hand_evidence) < 0


def test_defocus_gradient_has_the_sense_of_the_hand(fitted: Outcome, series: SimulatedSeries) -> None:
    gradient = np.array(read_ctf(fitted.products["ctf"]).defocus_gradient_angstrom_per_um)
    # Tilted by a right-handed turn about y, what lies towards +x comes to lie lower.
    expected = 1e4 * np.tan(np.deg2rad(series.tilt_angle_deg))
    np.testing.assert_allclose(gradient, expected, atol=1.0)


def test_metrics_of_the_series_agree_with_its_file(fitted: Outcome) -> None:
    record, metrics = read_ctf(fitted.products["ctf"]), fitted.metrics
    middle = TILTS // 2
    mean = 0.5 * (record.defocus_u_angstrom[middle] + record.defocus_v_angstrom[middle])
    assert metrics["defocus_at_zero_angstrom"] == pytest.approx(mean)
    assert metrics["hand"] == -1 and metrics["hand_certainty"] == record.hand_certainty
    assert metrics["depth_scale"] == pytest.approx(1.0, abs=0.25)
    assert 8.0 < metrics["resolution_low_tilt_angstrom"] < 20
    assert {metric.name for metric in ctf.STAGE.metrics} == set(metrics)
    assert fitted.flags == ()


def test_rings_and_defocus_are_drawn(fitted: Outcome) -> None:
    for name in ctf.STAGE.previews:
        with Image.open(fitted.products[name]) as picture:
            assert picture.format == "WEBP" and picture.width == 640


def test_a_hand_that_contradicts_the_spectra_is_kept_and_told(
    tmp_path: Path, series: SimulatedSeries, spectra: list[TileSpectra]
) -> None:
    outcome = _run(SeriesBench(tmp_path, series), spectra, hand=1)
    assert "hand_contradicts_given" in _codes(outcome)
    assert read_ctf(outcome.products["ctf"]).hand == 1 and outcome.metrics["hand"] == 1


def test_noise_is_said_to_be_without_rings_and_its_hand_to_be_unknown(
    tmp_path: Path, series: SimulatedSeries
) -> None:
    rng = np.random.default_rng(8)
    noise = [_spectra_of(rng.poisson(40, (324, 288)).astype(np.float32)) for _ in range(TILTS)]
    outcome = _run(SeriesBench(tmp_path, series), noise)
    assert "no_thon_rings" in _codes(outcome)
    assert outcome.metrics["hand"] == 0 and outcome.metrics["tilts_without_rings"] > 0


def test_a_series_that_cannot_be_fitted_gets_its_tomogram_all_the_same(
    tmp_path: Path, series: SimulatedSeries, spectra: list[TileSpectra]
) -> None:
    bench = SeriesBench(tmp_path, series)
    outcome = _run(bench, spectra, resolution_range_angstrom=(4.0, 3.0))
    assert _codes(outcome) == {"ctf_not_fitted"}
    record = read_ctf(outcome.products["ctf"])
    assert np.isnan(record.defocus_u_angstrom).all() and len(record.fit_resolution_angstrom) == TILTS
    assert record.hand == 0 and record.hand_verdict == "undecided"
    made = bench.run(tomogram.STAGE)
    assert "not_ctf_corrected" in _codes(made) and made.products["tomogram"].exists()


def test_a_series_without_spectra_goes_on_with_unknown_values(
    tmp_path: Path, series: SimulatedSeries
) -> None:
    outcome = SeriesBench(tmp_path, series).run(ctf.STAGE)
    assert _codes(outcome) == {"no_spectra"}
    assert np.isnan(read_ctf(outcome.products["ctf"]).defocus_v_angstrom).all()


def test_a_provisional_series_has_no_ctf_yet(tmp_path: Path, series: SimulatedSeries) -> None:
    outcome = SeriesBench(tmp_path, series, provisional=True).run(ctf.STAGE)
    assert _codes(outcome) == {"provisional"} and not outcome.products


@pytest.mark.parametrize("count", [1, 2])
def test_a_short_series_is_fitted_too(
    tmp_path: Path, series: SimulatedSeries, spectra: list[TileSpectra], count: int
) -> None:
    chosen = np.arange(4, 4 + count)
    outcome = _run(SeriesBench(tmp_path, series.subset(chosen)), [spectra[i] for i in chosen])
    mean = outcome.metrics["defocus_at_zero_angstrom"]
    assert mean == pytest.approx(series.defocus_angstrom[4], abs=400)
    assert "hand_undecided" in _codes(outcome)


def test_rings_of_a_single_tilt_without_a_fit_can_be_drawn(tmp_path: Path) -> None:
    frequency = np.sqrt(np.linspace(1 / 1600, 1 / 100, 64))
    rings = TiltRings(0.0, frequency, np.zeros(64), np.ones(64), float("nan"))
    draw_tilt_rings([rings], tmp_path / "rings.webp")
    with Image.open(tmp_path / "rings.webp") as picture:
        assert picture.size == (640, 346)
