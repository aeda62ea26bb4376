"""From movie to particles in one process: CTF, picks and extraction on what motion has made."""

from pathlib import Path

import mrcfile
import numpy as np
import pytest
import starfile
from PIL import Image

from tomofly.formats.mrc import read_image, write_image
from tomofly.model import BadInput, Result, StageParams
from tomofly.simulate import Truth
from tomofly.stages import ctf, extract, importing, motion, picks

from .benches import MICROSCOPE, Bench

DIAMETER = (115.0, 155.0)


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory, movie: Path, shared: dict[str, StageParams]) -> Bench:
    """A bench on which the simulated movie has passed import and motion."""
    bench = Bench(tmp_path_factory.mktemp("chain"), movie, shared)
    bench.run(importing.STAGE)
    bench.run(motion.STAGE)
    return bench


@pytest.fixture
def aligned(chain: Bench, tmp_path: Path) -> Bench:
    """The same, with a folder of its own for what comes after."""
    return Bench(tmp_path, chain.movie, chain.shared, results=dict(chain.results))


def replace_micrograph(bench: Bench, image: np.ndarray) -> None:
    """Let later stages see another image in place of the micrograph."""
    path = bench.folder / "other.mrc"
    write_image(path, image.astype(np.float32), 2.1)
    bench.results["motion"] = Result("motion", {"average": path}, {"micrograph_pixel_size_angstrom": 2.1})


def test_the_defocus_agrees_with_the_truth_within_its_error(aligned: Bench, truth: Truth) -> None:
    metrics = aligned.run(ctf.STAGE).metrics
    true = (truth.optics.defocus_u_angstrom + truth.optics.defocus_v_angstrom) / 2
    assert abs(metrics["defocus_angstrom"] - true) < 150
    assert metrics["defocus_error_angstrom"] < 150
    assert metrics["defocus_u_angstrom"] >= metrics["defocus_v_angstrom"]
    assert metrics["fit_resolution_angstrom"] < 10


def test_the_profile_is_a_table_and_the_spectrum_an_image(aligned: Bench) -> None:
    outcome = aligned.run(ctf.STAGE)
    table = np.genfromtxt(outcome.products["profile"], delimiter=",", names=True)
    assert np.all(np.diff(table["frequency_per_angstrom"]) > 0)
    assert table["fitted"].max() <= 1.0
    spectrum, _ = read_image(outcome.products["spectrum"])
    assert spectrum.shape == (512, 512)
    for name in ctf.STAGE.previews:
        with Image.open(outcome.products[name]) as picture:
            assert max(picture.size) <= 640


def test_a_phase_shift_is_fitted_only_when_asked(aligned: Bench) -> None:
    assert aligned.run(ctf.STAGE).metrics["phase_shift_deg"] == 0
    fitted = aligned.run(ctf.STAGE, phase_shift_range_deg=(0, 120)).metrics
    assert 0 <= fitted["phase_shift_deg"] < 180


def test_noise_has_no_thon_rings_and_says_so(aligned: Bench) -> None:
    replace_micrograph(aligned, np.random.default_rng(0).normal(10, 1, (530, 570)))
    assert "no_thon_rings" in {flag.code for flag in aligned.run(ctf.STAGE).flags}


@pytest.mark.parametrize("stage", [ctf.STAGE, picks.STAGE])
@pytest.mark.parametrize(("value", "word"), [(np.nan, "NaN"), (3.0, "constant")])
def test_an_image_without_content_is_refused(aligned: Bench, stage: object, value: float, word: str) -> None:
    replace_micrograph(aligned, np.full((530, 570), value))
    with pytest.raises(BadInput, match=word):
        aligned.run(stage)  # type: ignore[arg-type]


def test_particles_are_found_where_they_are(aligned: Bench, truth: Truth) -> None:
    outcome = aligned.run(picks.STAGE, diameter_angstrom=DIAMETER)
    table = starfile.read(outcome.products["coordinates"])
    found = table[["rlnCoordinateY", "rlnCoordinateX"]].to_numpy()
    true = np.array([(p.y_px, p.x_px) for p in truth.particles])
    inside = np.all((true > 30) & (true < np.array(MICROSCOPE.detector_yx_px) - 30), axis=1)
    distance = np.linalg.norm(true[inside][:, None] - found[None], axis=2).min(axis=1)
    assert np.mean(distance < 16) > 0.8
    assert outcome.metrics["particles"] == len(table)


def test_the_threshold_selects_among_the_same_candidates(aligned: Bench) -> None:
    few = aligned.run(picks.STAGE, diameter_angstrom=DIAMETER, threshold=9.0)
    kept = few.products["candidates"].read_text()
    count = few.metrics["particles"]
    many = aligned.run(picks.STAGE, diameter_angstrom=DIAMETER, threshold=4.0)
    assert many.products["candidates"].read_text() == kept
    assert many.metrics["particles"] > count


def test_a_threshold_out_of_reach_leaves_no_particles_and_says_so(aligned: Bench) -> None:
    aligned.run(ctf.STAGE)
    outcome = aligned.run(picks.STAGE, diameter_angstrom=DIAMETER, threshold=900)
    assert [flag.code for flag in outcome.flags] == ["no_particles"]
    assert len(starfile.read(outcome.products["coordinates"], always_dict=True)) == 1
    nothing = aligned.run(extract.STAGE)
    assert nothing.products == {}
    assert nothing.metrics["extracted"] == 0


def test_the_exclusion_mask_lies_over_the_micrograph(aligned: Bench) -> None:
    image, _ = read_image(aligned.results["motion"].products["average"])
    image = image.copy()
    image[40:180, 50:200] *= 0.6
    replace_micrograph(aligned, image)
    outcome = aligned.run(picks.STAGE, diameter_angstrom=DIAMETER)
    mask, pixel_size = read_image(outcome.products["exclusion"])
    scale = round((pixel_size or 0) / 2.1)
    assert mask[110 // scale, 125 // scale] == 1
    assert 0.02 < outcome.metrics["excluded_fraction"] < 0.3
    table = starfile.read(outcome.products["coordinates"])
    assert not ((table.rlnCoordinateY.between(50, 170)) & (table.rlnCoordinateX.between(60, 190))).any()
    free = aligned.run(picks.STAGE, diameter_angstrom=DIAMETER, exclusion=False)
    assert free.metrics["excluded_fraction"] == 0


def test_extracted_particles_are_centred_normalised_and_named(aligned: Bench) -> None:
    aligned.run(ctf.STAGE)
    picked = aligned.run(picks.STAGE, diameter_angstrom=DIAMETER)
    outcome = aligned.run(extract.STAGE)
    star = starfile.read(outcome.products["particles"])
    with mrcfile.open(outcome.products["stack"]) as stack:
        boxes = stack.data.copy()
    count, box = len(boxes), boxes.shape[-1]
    assert box == 2 * np.ceil(1.5 * DIAMETER[1] / 2.1 / 2)
    assert count == outcome.metrics["extracted"] == len(star["particles"])
    assert count + outcome.metrics["left_out_at_edge"] == picked.metrics["particles"]
    assert star["particles"].rlnImageName[0] == "000001@extract/grid 1/movie_00000_particles.mrcs"
    assert star["particles"].rlnMicrographName[0] == "motion/grid 1/movie_00000_DW.mrc"
    assert star["optics"].rlnImagePixelSize[0] == pytest.approx(2.1)
    assert star["optics"].rlnImageSize[0] == box
    corners = boxes[:, :8, :8]
    assert abs(corners.mean()) < 0.3
    assert 0.8 < corners.std() < 1.2
    # inverted, particles are brighter than their surroundings
    middle = boxes[:, box // 4 : -box // 4, box // 4 : -box // 4].mean()
    assert middle > corners.mean() + 0.1


def test_boxes_can_be_binned_and_must_fit(aligned: Bench) -> None:
    aligned.run(ctf.STAGE)
    aligned.run(picks.STAGE, diameter_angstrom=DIAMETER)
    outcome = aligned.run(extract.STAGE, box_px=96, binning=2)
    assert outcome.metrics["box_size_px"] == 48
    assert outcome.metrics["box_pixel_size_angstrom"] == pytest.approx(4.2)
    with pytest.raises(BadInput, match="does not fit"):
        aligned.run(extract.STAGE, box_px=1000)


def test_a_micrograph_that_vanished_for_now_is_tried_again(aligned: Bench) -> None:
    gone = {"average": aligned.folder / "gone.mrc"}
    aligned.results["motion"] = Result("motion", gone, {"micrograph_pixel_size_angstrom": 2.1})
    with pytest.raises(FileNotFoundError):
        aligned.run(ctf.STAGE)
