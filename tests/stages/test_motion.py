"""Frames are aligned and added up; what was decided instead of what was asked is flagged."""

from pathlib import Path

import numpy as np
import pytest
import starfile
from PIL import Image

from tests.formats.eer_writer import random_frames, write_eer
from tomofly.formats.mrc import read_image, write_image
from tomofly.formats.tiff_chain import read_pages
from tomofly.model import BadInput, GainParams, MicroscopeParams, Result, StageParams
from tomofly.simulate import Truth
from tomofly.simulate.writing import write_movie
from tomofly.stages.importing import STAGE as IMPORT
from tomofly.stages.motion import STAGE

from .benches import MICROSCOPE, Bench


@pytest.fixture
def imported(bench: Bench) -> Bench:
    """A bench with the simulated movie imported."""
    bench.run(IMPORT)
    return bench


def test_the_shifts_follow_the_truth(imported: Bench, truth: Truth) -> None:
    outcome = imported.run(STAGE)
    table = starfile.read(outcome.products["shifts"])["global_shift"]
    measured = table[["rlnMicrographShiftY", "rlnMicrographShiftX"]].to_numpy()
    difference = measured - np.array(truth.mean_shift_yx_px)
    difference -= difference.mean(axis=0)
    assert np.sqrt(np.mean(difference**2)) < 0.25


def test_every_metric_is_given_where_the_dose_is_known(imported: Bench) -> None:
    outcome = imported.run(STAGE)
    assert set(outcome.metrics) == {metric.name for metric in STAGE.metrics}
    assert outcome.metrics["dose_used_e_per_a2"] == pytest.approx(32)
    early_and_late = outcome.metrics["early_motion_angstrom"] + outcome.metrics["late_motion_angstrom"]
    assert early_and_late == pytest.approx(outcome.metrics["total_motion_angstrom"])


def test_all_products_are_written_when_asked(imported: Bench) -> None:
    outcome = imported.run(STAGE, even_odd=True)
    assert {path.name for path in outcome.products.values()} == {
        f"movie_00000{suffix}"
        for suffix in (
            ".mrc", "_DW.mrc", "_EVN.mrc", "_ODD.mrc", ".star", ".webp", "_drift.webp",
        )
    }  # fmt: skip
    even, odd, average = (read_image(outcome.products[name])[0] for name in ("even", "odd", "average"))
    np.testing.assert_allclose((even + odd) / 2, average, rtol=1e-3)


def test_the_micrograph_keeps_shape_pixel_size_and_brightness(imported: Bench) -> None:
    outcome = imported.run(STAGE)
    for name in ("average", "dose_weighted"):
        image, pixel_size = read_image(outcome.products[name])
        assert image.shape == MICROSCOPE.detector_yx_px
        assert pixel_size == pytest.approx(MICROSCOPE.pixel_size_angstrom)
        expected = imported.results["import"].metrics["mean_counts"]
        assert image.mean() == pytest.approx(expected, rel=0.02)


def test_binning_is_said_in_header_and_metrics(imported: Bench) -> None:
    outcome = imported.run(STAGE, binning=2.0, patches=(1, 1), dose_weighting=False, float16=True)
    image, pixel_size = read_image(outcome.products["average"])
    assert image.shape == (320, 288)
    assert pixel_size == pytest.approx(4.2)
    assert outcome.metrics["micrograph_pixel_size_angstrom"] == pytest.approx(4.2)
    assert "dose_weighted" not in outcome.products
    general = starfile.read(outcome.products["shifts"])["general"]
    assert general["rlnMicrographBinning"] == pytest.approx(2)
    assert general["rlnMicrographOriginalPixelSize"] == pytest.approx(2.1)


def test_a_range_of_frames_is_used_and_earlier_dose_counts(imported: Bench) -> None:
    outcome = imported.run(STAGE, first_frame=3, last_frame=7, patches=(1, 1))
    assert outcome.metrics["frames_used"] == 5
    star = starfile.read(outcome.products["shifts"])
    assert star["general"]["rlnMicrographStartFrame"] == 3
    assert list(star["global_shift"]["rlnMicrographFrameNumber"]) == [3, 4, 5, 6, 7]
    assert outcome.metrics["early_motion_angstrom"] == 0


def test_fewer_frames_than_asked_for_are_flagged_and_none_refused(imported: Bench) -> None:
    outcome = imported.run(STAGE, last_frame=12, patches=(1, 1))
    assert [flag.code for flag in outcome.flags] == ["fewer_frames"]
    assert outcome.metrics["frames_used"] == 8
    with pytest.raises(BadInput, match=r"8 frames, none from motion\.first_frame=9"):
        imported.run(STAGE, first_frame=9)


def test_without_a_dose_nothing_is_weighted_and_that_is_flagged(imported: Bench) -> None:
    imported.results["import"] = Result("import")
    outcome = imported.run(STAGE, patches=(1, 1))
    assert [flag.code for flag in outcome.flags] == ["not_dose_weighted"]
    assert "dose_weighted" not in outcome.products
    assert "early_motion_angstrom" not in outcome.metrics


def single(bench: Bench, image: np.ndarray, shared: dict[str, StageParams]) -> Bench:
    """A bench with a file of one image, imported."""
    path = bench.folder / "single.mrc"
    write_image(path, image, 2.1)
    alone = Bench(bench.folder, path, shared)
    alone.run(IMPORT)
    return alone


def test_a_single_frame_is_taken_as_it_is(bench: Bench) -> None:
    image = np.random.default_rng(2).poisson(900, (272, 304)).astype(np.uint16)
    shared: dict[str, StageParams] = {
        "microscope": MicroscopeParams(pixel_size_angstrom=2.1),
        "gain": GainParams(),
    }
    outcome = single(bench, image, shared).run(STAGE)
    assert [flag.code for flag in outcome.flags] == ["single_frame"]
    average, _ = read_image(outcome.products["average"])
    np.testing.assert_allclose(average, image, rtol=1e-5)
    assert set(outcome.products) == {"average", "shifts", "preview"}


def test_a_single_frame_is_multiplied_with_the_gain(
    bench: Bench, movie: Path, shared: dict[str, StageParams]
) -> None:
    gain_path = shared["gain"].path  # type: ignore[attr-defined]
    gain, _ = read_image(gain_path)
    image = np.random.default_rng(2).poisson(900, MICROSCOPE.detector_yx_px).astype(np.uint16)
    outcome = single(bench, image, shared).run(STAGE)
    average, _ = read_image(outcome.products["average"])
    good = gain > 0
    factor = gain / gain[good].mean()
    np.testing.assert_allclose(average[good], (image * factor)[good], rtol=1e-4)


def test_frames_that_hold_nothing_are_named(imported: Bench, movie: Path) -> None:
    frames, _ = read_image(movie)
    frames[5] = 0
    path = imported.folder / "blank.mrc"
    write_image(path, frames, 2.1)
    imported.results["transfer"] = Result("transfer", {"movie": path})
    with pytest.raises(BadInput, match="frame 5"):
        imported.run(STAGE, defect_sigma=0)


def test_a_damaged_page_is_named(bench: Bench) -> None:
    path = bench.folder / "movie.tiff"
    frames = np.random.default_rng(4).poisson(2, (6, 140, 150)).astype(np.uint8)
    write_movie(path, frames, pixel_size_angstrom=2.1, compression="lzw")
    page = read_pages(path)[3]
    raw = bytearray(path.read_bytes())
    raw[page.offsets[0] + 20 : page.offsets[0] + 60] = b"\xff" * 40
    path.write_bytes(raw)
    shared: dict[str, StageParams] = {
        "microscope": MicroscopeParams(pixel_size_angstrom=2.1),
        "gain": GainParams(),
    }
    damaged = Bench(bench.folder, path, shared)
    damaged.run(IMPORT)
    with pytest.raises(BadInput, match="page 4"):
        damaged.run(STAGE)


def test_events_become_fractions_with_their_dose_and_a_gain_for_finer_pixels(tmp_path: Path) -> None:
    coded, _ = random_frames(10, (140, 156), 9000)
    write_eer(tmp_path / "movie.eer", coded, (140, 156))
    write_image(tmp_path / "gain.mrc", np.full((140, 156), 1.3, np.float32), 1.0)
    shared: dict[str, StageParams] = {
        "microscope": MicroscopeParams(pixel_size_angstrom=0.75, dose_per_frame_e_per_a2=0.5),
        "gain": GainParams(path=str(tmp_path / "gain.mrc"), divide=True),
    }
    events = Bench(tmp_path, tmp_path / "movie.eer", shared)
    assert events.run(IMPORT).metrics["total_dose_e_per_a2"] == 5.0
    outcome = events.run(STAGE, eer_fractions=5, eer_upsampling=2, patches=(1, 1))
    image, pixel_size = read_image(outcome.products["average"])
    assert image.shape == (280, 312)
    assert pixel_size == pytest.approx(0.375)
    assert outcome.metrics["frames_used"] == 5
    assert outcome.metrics["dose_used_e_per_a2"] == pytest.approx(5.0)
    general = starfile.read(outcome.products["shifts"])["general"]
    assert general["rlnEERGrouping"] == 2
    assert general["rlnEERUpsampling"] == 2
    assert general["rlnMicrographDoseRate"] == pytest.approx(1.0)


def test_the_same_movie_gives_the_same_bytes(imported: Bench) -> None:
    first = imported.run(STAGE).products
    before = {name: path.read_bytes() for name, path in first.items()}
    again = imported.run(STAGE).products
    assert {name: path.read_bytes() for name, path in again.items()} == before


def test_previews_are_small_pictures(imported: Bench) -> None:
    outcome = imported.run(STAGE)
    with Image.open(outcome.products["preview"]) as preview:
        assert preview.size == (461, 512)
    with Image.open(outcome.products["drift"]) as drift:
        assert drift.format == "WEBP"
