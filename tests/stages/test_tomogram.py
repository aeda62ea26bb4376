"""Tomograms of a simulated series: what is in the files, what was corrected, and what the flags say."""

from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import pytest
from PIL import Image

from tests.stages.tilt_series_bench import SeriesBench, simulated
from tomofly.formats.mrc import read_image
from tomofly.imaging.tomogram_fsc import shell_correlation
from tomofly.model import Flag, Outcome
from tomofly.simulate.tilt_series import SimulatedSeries
from tomofly.simulate.tilt_structures import bead_model
from tomofly.stages.tilts import tomogram
from tomofly.stages.tilts.tomogram_file import read_tomogram_record


@pytest.fixture(scope="module")
def series() -> SimulatedSeries:
    """Fifteen tilts of unequal sides."""
    return simulated(detector_yx_px=(184, 220), tilt_step_deg=8.0, tilt_range_deg=(-56.0, 56.0))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, series: SimulatedSeries) -> Outcome:
    """Its tomogram, as the settings are by themselves."""
    bench = SeriesBench(tmp_path_factory.mktemp("tomogram"), series, thickness_angstrom=1500.0)
    return bench.run(tomogram.STAGE)


def _codes(outcome: Outcome) -> list[str]:
    return [flag.code for flag in outcome.flags]


def test_a_tomogram_has_a_header_that_other_programs_trust(made: Outcome, series: SimulatedSeries) -> None:
    path = made.products["tomogram"]
    assert mrcfile.validate(path)
    with mrcfile.open(path) as volume:
        # The tilt axis runs along the longer side of the images, and along y of the volume.
        assert volume.data.shape == (196, 220, 184) and volume.header.mode == 2
        assert volume.is_volume() and volume.header.mz == 196 and volume.header.ispg == 1
        np.testing.assert_allclose(volume.voxel_size.tolist(), (10.0, 10.0, 10.0), rtol=1e-5)
        np.testing.assert_allclose(volume.header.cella.tolist(), (1840.0, 2200.0, 1960.0), rtol=1e-5)
        assert volume.header.origin.tolist() == (0.0, 0.0, 0.0)
        assert volume.nstart.tolist() == (0, 0, 0)
        labels = volume.get_labels()
    assert labels[0] == "tomofly: tomogram of 15 tilts, all frames"
    assert "CTF-corrected (flip)" in labels[1] and "not CTF" not in labels[1]
    record = read_tomogram_record(made.products["record"])
    assert record.size_zyx == (196, 220, 184) and record.slab_z() == (98 - 75, 98 + 75)
    assert record.defocus_source == "measured"
    assert record.defocus_angstrom == pytest.approx(series.defocus_angstrom[7])
    assert made.flags == () and made.metrics["ctf_corrected"] == 1


def test_films_show_the_slices_of_the_specimen_and_the_tilts(made: Outcome) -> None:
    with Image.open(made.products["slices"]) as film:
        assert (film.format, film.is_animated, film.size) == ("WEBP", True, (201, 240))
        assert 30 <= film.n_frames <= 45
    with Image.open(made.products["tilts"]) as film:
        assert film.n_frames == 15 and film.info["loop"] == 0
        assert film.size == (201, 240)
    assert all(made.products[name].stat().st_size < 1_500_000 for name in ("slices", "tilts", "sections"))


def test_gold_is_erased_where_that_is_asked_for(tmp_path: Path) -> None:
    beaded = simulated(
        detector_yx_px=(184, 220), tilt_step_deg=8.0, tilt_range_deg=(-56.0, 56.0), gold_beads=8
    )
    at_beads = {}
    for erased in (0.0, 100.0):
        bench = SeriesBench(tmp_path / f"{erased:g}", beaded, thickness_angstrom=1500.0)
        outcome = bench.run(tomogram.STAGE, erase_gold_angstrom=erased)
        volume, voxel = read_image(outcome.products["tomogram"])
        places = np.rint(beaded.gold_xyz_angstrom[:, ::-1] / voxel).astype(int) + np.array(volume.shape) // 2
        inside = ((places > 8) & (places < np.array(volume.shape) - 8)).all(axis=1)
        assert inside.sum() >= 2
        at_beads[erased] = np.median(volume[tuple(places[inside].T)]) / np.median(np.abs(volume))
        assert read_tomogram_record(outcome.products["record"]).gold_erased_angstrom == erased
    assert at_beads[0.0] < -10, "gold is dark"
    assert abs(at_beads[100.0]) < 0.3 * abs(at_beads[0.0])


def test_the_sirt_like_filter_is_softer_than_the_exact_one(
    tmp_path: Path, series: SimulatedSeries, made: Outcome
) -> None:
    bench = SeriesBench(tmp_path, series, thickness_angstrom=1500.0)
    outcome = bench.run(tomogram.STAGE, filtering="sirt-like", iterations=5)
    with mrcfile.open(outcome.products["tomogram"]) as volume:
        assert "sirt-like" in volume.get_labels()[1]
        soft = volume.data[98].copy()
    sharp = read_image(made.products["tomogram"])[0][98]

    def fine_share(image: np.ndarray) -> float:
        power = np.abs(np.fft.rfft2(image)) ** 2
        y, x = np.fft.fftfreq(image.shape[0])[:, None], np.fft.rfftfreq(image.shape[1])
        return float(power[np.hypot(y, x) > 0.25].sum() / power.sum())

    assert fine_share(soft) < 0.95 * fine_share(sharp)


def test_halves_are_half_as_good_and_tell_the_resolution(tmp_path: Path, series: SimulatedSeries) -> None:
    bench = SeriesBench(tmp_path, series, with_halves=True, thickness_angstrom=1500.0)
    outcome = bench.run(tomogram.STAGE, halves=True, float16=True, binning=1.6)
    assert "no_halves" not in _codes(outcome)
    even, odd, whole = (read_image(outcome.products[name])[0] for name in ("even", "odd", "tomogram"))
    assert np.corrcoef((even + odd).ravel() / 2, whole.ravel())[0, 1] > 0.98
    voxel = outcome.metrics["voxel_size_angstrom"]
    assert voxel == pytest.approx(16.0, rel=0.02)
    assert 2 * voxel <= outcome.metrics["half_resolution_angstrom"] < 100
    with mrcfile.open(outcome.products["even"]) as volume:
        assert volume.header.mode == 12
        assert volume.get_labels()[0].endswith("even frames")


def test_halves_that_are_not_there_are_flagged(tmp_path: Path, series: SimulatedSeries) -> None:
    bench = SeriesBench(tmp_path, series, thickness_angstrom=1500.0)
    outcome = bench.run(tomogram.STAGE, halves=True, binning=2)
    assert _codes(outcome) == ["no_halves"] and "half_resolution_angstrom" not in outcome.metrics


def test_a_preview_is_coarse_plain_and_quick(tmp_path: Path, series: SimulatedSeries) -> None:
    bench = SeriesBench(tmp_path, series, provisional=True, with_halves=True, has_ctf=False)
    outcome = bench.run(tomogram.STAGE, halves=True, method="sirt")
    assert set(outcome.products) == {"tomogram", "record", "sections"}
    assert _codes(outcome) == ["provisional"]
    assert outcome.metrics["voxel_size_angstrom"] == pytest.approx(20.0)
    assert read_tomogram_record(outcome.products["record"]).provisional


@pytest.mark.parametrize(
    ("flag", "more", "words"),
    [
        (
            Flag("no_spectra", "Some tilts have no power spectrum: no CTF"),
            {"has_ctf": False},
            "no power spec",
        ),
        (Flag("ctf_not_fitted", "The CTF cannot be fitted: odd"), {"defocus_known": False}, "fitted: odd"),
        (None, {"has_ctf": False}, "none was measured"),
    ],
)
def test_without_a_ctf_the_tomogram_is_made_and_says_so(
    tmp_path: Path, series: SimulatedSeries, flag: Flag | None, more: dict[str, Any], words: str
) -> None:
    flags = () if flag is None else (flag,)
    bench = SeriesBench(tmp_path, series, ctf_flags=flags, target_angstrom=36000.0, **more)
    outcome = bench.run(tomogram.STAGE, binning=2, thickness_angstrom=1600)
    assert _codes(outcome) == ["not_ctf_corrected"] and words in outcome.flags[0].message
    assert outcome.metrics["ctf_corrected"] == 0
    record = read_tomogram_record(outcome.products["record"])
    assert (record.ctf_correction, record.defocus_angstrom, record.defocus_source) == (
        "none", 36000.0, "target",
    )  # fmt: skip


def test_rings_that_are_not_there_are_not_corrected_for(tmp_path: Path, series: SimulatedSeries) -> None:
    nothing = (Flag("no_thon_rings", "No tilt shows Thon rings: the defocus means nothing"),)
    bench = SeriesBench(tmp_path, series, ctf_flags=nothing, thickness_angstrom=1500.0)
    outcome = bench.run(tomogram.STAGE, binning=2)
    assert _codes(outcome) == ["not_ctf_corrected"]
    asked = bench.run(tomogram.STAGE, binning=2, ctf_correction="none")
    assert _codes(asked) == []


@pytest.mark.parametrize(
    ("certainty", "setting", "codes", "hand"),
    [(0.9, 0, ["likelier_hand"], 1), (0.6, 0, ["no_defocus_gradient"], 0), (0.6, 1, [], 1)],
)
def test_an_undecided_hand_is_flagged_unless_it_is_set(
    tmp_path: Path, series: SimulatedSeries, certainty: float, setting: int, codes: list[str], hand: int
) -> None:
    bench = SeriesBench(
        tmp_path, series, verdict="undecided", certainty=certainty, hand_setting=setting,
        thickness_angstrom=1500.0,
    )  # fmt: skip
    outcome = bench.run(tomogram.STAGE, binning=2)
    assert _codes(outcome) == codes
    assert read_tomogram_record(outcome.products["record"]).hand == hand


def _density(series: SimulatedSeries, shape: tuple[int, ...], voxel: float) -> np.ndarray:
    """Where the particles' residues are, as they were put there, negative as their contrast."""
    volume = np.zeros(shape)
    for place, turn, name in zip(
        series.particle_xyz_angstrom, series.particle_rotations, series.particle_structures, strict=True
    ):
        model = bead_model(name, voxel)
        beads = (model.xyz_angstrom @ turn.T + place)[:, ::-1] / voxel + np.array(shape) // 2
        nearest = np.rint(beads).astype(int)
        inside = ((nearest >= 0) & (nearest < shape)).all(axis=1)
        np.add.at(volume, tuple(nearest[inside].T), -model.weight_volt_angstrom3[inside])
    return volume.astype(np.float32)


def test_strips_bring_the_tomogram_nearer_to_the_truth_where_the_focus_changes(tmp_path: Path) -> None:
    # A narrow field of 0.4 µm across the axis: seen at 60°, the focus changes by 0.7 µm from end to end.
    series = simulated(
        detector_yx_px=(72, 800), pixel_size_angstrom=5.0, axis_angle_deg=4.0, thickness_angstrom=400.0,
        structures=("two_lobes",), particles_per_um2=500, defocus_angstrom=18000.0, astigmatism_angstrom=0.0,
        damage=False, counting=False, ice_noise=0.0, solute_mg_per_ml=0.0, illumination_variation=0.0,
        tracking_error_angstrom=40.0,
    )  # fmt: skip
    unknown = {"verdict": "undecided", "certainty": 0.5}
    cases: dict[str, tuple[dict[str, Any], str]] = {
        "strips": ({}, "flip"),
        "one focus": (unknown, "flip"),
        "wrong hand": ({"hand": -1}, "flip"),
        "nothing": ({}, "none"),
    }
    agreed = {}
    for name, (known, method) in cases.items():
        bench = SeriesBench(tmp_path / name, series, thickness_angstrom=400.0, **known)
        outcome = bench.run(
            tomogram.STAGE, ctf_correction=method, dose_weighting=False, thickness_angstrom=480
        )
        volume, _ = read_image(outcome.products["tomogram"])
        agreed[name] = _agreement_at_the_end(series, volume)
    assert agreed["strips"] > agreed["one focus"] + 0.02
    assert agreed["one focus"] > agreed["wrong hand"] + 0.04
    assert agreed["one focus"] > agreed["nothing"] + 0.3


def _agreement_at_the_end(series: SimulatedSeries, volume: np.ndarray) -> float:
    """Mean FSC with the truth from 20 to 10 Å, where only steep tilts have measured, far from the axis."""
    truth = _density(series, volume.shape, 5.0)
    end = np.s_[:, :, -260:]
    frequency, correlation = shell_correlation(volume[end], truth[end], tilt_range_deg=(42, 59))
    return float(correlation[(frequency / 5.0 > 1 / 20) & (frequency / 5.0 < 1 / 10)].mean())
