"""RELION reads what the stages write, and does the same with it."""

import shutil
import subprocess
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import starfile

from tomofly.formats.star import write_star
from tomofly.model import StageParams
from tomofly.stages import ctf, extract, importing, motion, picks

from .benches import Bench

pytestmark = [
    pytest.mark.relion,
    pytest.mark.skipif(shutil.which("relion_preprocess") is None, reason="RELION is not installed"),
]


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory, movie: Path, shared: dict[str, StageParams]) -> Bench:
    """A simulated movie processed down to its particles; names without spaces, as RELION wants them."""
    bench = Bench(tmp_path_factory.mktemp("relion"), movie, shared, key="movie_00000")
    for stage in (importing.STAGE, motion.STAGE, ctf.STAGE):
        bench.run(stage)
    bench.run(picks.STAGE, diameter_angstrom=(115, 155))
    bench.run(extract.STAGE)
    return bench


def relion(session: Bench, *command: str) -> str:
    done = subprocess.run(command, cwd=session.folder, check=True, capture_output=True, text=True, timeout=60)
    return done.stdout


def test_relion_extracts_the_same_boxes_at_our_coordinates(session: Bench) -> None:
    box = int(session.results["extract"].metrics["box_size_px"])
    ours = starfile.read(session.results["extract"].products["particles"])
    micrographs = ours["particles"][["rlnMicrographName", "rlnOpticsGroup"]].drop_duplicates()
    optics = ours["optics"].drop(columns=["rlnImagePixelSize", "rlnImageSize", "rlnImageDimensionality"])
    write_star(session.folder / "micrographs.star", {"optics": optics, "micrographs": micrographs})
    coordinates = session.results["picks"].products["coordinates"]
    shutil.copy(coordinates, session.folder / "motion" / "movie_00000_DW_picks.star")
    radius = 1.15 * 155 / 2.1 / 2
    relion(
        session, "relion_preprocess", "--i", "micrographs.star", "--coord_dir", "./", "--coord_suffix",
        "_picks.star", "--part_star", "theirs.star", "--part_dir", "Theirs", "--extract", "--extract_size",
        str(box), "--norm", "--bg_radius", f"{radius:.2f}", "--white_dust", "-1", "--black_dust", "-1",
        "--invert_contrast",
    )  # fmt: skip
    theirs = starfile.read(session.folder / "theirs.star")["particles"]
    place = {
        (x, y): number
        for number, (x, y) in enumerate(zip(theirs.rlnCoordinateX, theirs.rlnCoordinateY, strict=True))
    }
    chosen = [place[x, y] for x, y in ours["particles"][["rlnCoordinateX", "rlnCoordinateY"]].to_numpy()]
    their_boxes = mrcfile.read(next((session.folder / "Theirs").rglob("*.mrcs")))[chosen]
    our_boxes = mrcfile.read(session.results["extract"].products["stack"])
    for one, other in zip(our_boxes, their_boxes, strict=True):
        assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.9999
        np.testing.assert_allclose(one.std(), other.std(), rtol=0.02)


def test_relion_reads_the_particles(session: Bench) -> None:
    particles = str(session.results["extract"].products["particles"].relative_to(session.folder))
    relion(
        session, "relion_star_handler", "--i", particles, "--o", "near.star", "--select", "rlnCoordinateX",
        "--minval", "0", "--maxval", "250",
    )  # fmt: skip
    ours = starfile.read(session.results["extract"].products["particles"])["particles"]
    near = starfile.read(session.folder / "near.star")["particles"]
    assert len(near) == (ours.rlnCoordinateX <= 250).sum() > 0
    statistics = relion(session, "relion_image_handler", "--i", particles, "--stats")
    assert statistics.count("stddev") == len(ours)
