"""RELION reads what is exported for it, and cuts out the particles where they truly are."""

import gc
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import mrcfile
import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import cdist

from tomofly.formats.star import read_star
from tomofly.model import TomoflyError
from tomofly.services.exports.export import Export, SafeNames
from tomofly.services.session_api import Session
from tomofly.simulate import SpaMicroscope, write_session

# Dask leaves a socket to the garbage collector when it closes, and complains of another cluster's port.
pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
    "ignore:Port 8787:UserWarning",
)

BOX_PX = 96
FOLDER = "Grid é 1"


def relion(folder: Path, program: str, *arguments: str) -> str:
    """Run one of RELION's programs in a folder; the test is skipped where RELION is not installed."""
    path = shutil.which(program)
    if path is None:
        pytest.skip("RELION is not installed (Debian's package relion)")
    done = subprocess.run(
        [path, *arguments], cwd=folder, check=False, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ERROR" not in done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Export]:
    """Two simulated movies of high dose, with blanks and accents in their names, processed and exported."""
    root = tmp_path_factory.mktemp("relion")
    microscope = SpaMicroscope(
        detector_yx_px=(640, 768), frames=6, dose_per_frame_e_per_a2=8.0, seed=11, structures=("shell",),
        contamination_fraction=0.0, carbon_edge_fraction=0.0,
    )  # fmt: skip
    source = root / "microscope" / FOLDER
    write_session(microscope, source, 2)
    for path in [*source.glob("movie_*")]:
        path.rename(path.with_name(path.name.replace("movie_", "Foil Hole.")))
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("TOMOFLY_DATABASE", raising=False)
        session = Session.create(
            "sim", source=root / "microscope" / "*" / "Foil*.mrc", home=root / "home", out=root / "session",
            settings={
                "microscope": {"pixel_size_angstrom": 1.5, "dose_per_frame_e_per_a2": 8.0},
                "gain": {"path": str(source / "gain" / "gain_reference.mrc")},
                "picks": {"diameter_angstrom": 118.0}, "extract": {"box_px": BOX_PX},
                "motion": {"patches": [3, 3]}, "source": {"settle_s": 0.0},
                "resources": {"minimum_free_gb": 0.0, "workers": 1},
            },
        )  # fmt: skip
        summary = session.run()
        assert (summary["done"], summary["failed"]) == (2, 0), summary["failures"]
        check_another_threshold(session, root)
        yield session.export(root / "export", particles=True)
        session.close()
        gc.collect()


def check_another_threshold(session: Session, root: Path) -> None:
    """Scores are kept, so that a threshold moves without running anything."""

    def picked(name: str, threshold: float | None) -> pd.DataFrame:
        done = session.export(root / name, threshold=threshold)
        return pd.concat(
            read_star(path)[""] for path in sorted(done.folder.glob("Micrographs/*_autopick.star"))
        )

    own, candidates = picked("own", None), [*(root / "session" / "picks").rglob("*_candidates.csv")]
    scores = np.concatenate([pd.read_csv(path)["score"] for path in candidates])
    assert len(candidates) == 2
    lowest, middle = float(own["rlnAutopickFigureOfMerit"].min()), float(np.median(scores))
    pd.testing.assert_frame_equal(picked("same", lowest - 1e-4), own, rtol=1e-5)
    assert len(picked("half", middle)) == np.count_nonzero(scores >= middle)
    with pytest.raises(TomoflyError, match=r"picks.keep_threshold=.* were not kept"):
        picked("none", 0.01)


@pytest.mark.slow
@pytest.mark.relion
def test_relion_extracts_where_the_particles_are(exported: Export) -> None:
    check_that_relion_reads_every_table(exported.folder)
    check_that_paths_hold_and_are_safe(exported.folder)
    ours = check_extraction_is_relions(exported.folder)
    check_centred_on_the_truth(exported.folder, ours)


def check_that_relion_reads_every_table(folder: Path) -> None:
    names = relion(
        folder, "relion_star_printtable", "micrographs_ctf.star", "data_micrographs", "rlnMicrographName"
    )
    assert names.split() == [f"Micrographs/Grid_1__Foil_Hole.{n:05d}.mrc" for n in range(2)]
    optics = relion(folder, "relion_star_printtable", "particles.star", "data_optics", "rlnImagePixelSize")
    assert float(optics) == 1.5
    particles = read_star(folder / "particles.star")["particles"]
    printed = relion(folder, "relion_star_printtable", "particles.star", "data_particles", "rlnImageName")
    assert printed.split() == list(particles["rlnImageName"])
    relion(folder, "relion_star_handler", "--i", "corrected_micrographs.star", "--o", "copy.star", "--select",
           "rlnAccumMotionTotal", "--minval", "0")  # fmt: skip


def check_that_paths_hold_and_are_safe(folder: Path) -> None:
    micrographs = read_star(folder / "corrected_micrographs.star")["micrographs"]
    for column in ("rlnMicrographName", "rlnMicrographMetadata"):
        for name in micrographs[column]:
            assert (folder / name).is_file()
            assert name.isascii()
            assert " " not in name
    motion = read_star(folder / micrographs["rlnMicrographMetadata"][0])
    assert (folder / motion["general"]["rlnMicrographMovieName"]).is_file()
    assert (folder / motion["general"]["rlnMicrographGainName"]).is_file()
    provenance = json.loads((folder / "provenance.json").read_text())
    assert [item["key"] for item in provenance["items"]] == [f"{FOLDER}/Foil Hole.{n:05d}" for n in range(2)]


def check_extraction_is_relions(folder: Path) -> pd.DataFrame:
    """RELION cuts the same pixels at our coordinates as we do, and normalises them alike."""
    relion(
        folder, "relion_preprocess", "--i", "micrographs_ctf.star", "--coord_dir", "./", "--coord_suffix",
        "_autopick.star", "--part_star", "Extract/particles.star", "--part_dir", "Extract/", "--extract",
        "--extract_size", str(BOX_PX), "--norm", "--bg_radius", str(118 * 1.15 / 1.5 / 2),
        "--invert_contrast",
    )  # fmt: skip
    ours = read_star(folder / "particles.star")["particles"]
    theirs = read_star(folder / "Extract" / "particles.star")["particles"]
    assert isinstance(ours, pd.DataFrame)
    labels = ["rlnMicrographName", "rlnCoordinateX", "rlnCoordinateY"]
    both = ours.round(3).merge(theirs.round(3), on=labels, suffixes=("", "_relion"))
    assert len(both) == len(ours) > 10
    for _, row in both.iterrows():
        assert (
            np.corrcoef(box(folder, row["rlnImageName"]), box(folder, row["rlnImageName_relion"]))[0, 1]
            > 0.999
        )
    np.testing.assert_allclose(both["rlnDefocusU"], both["rlnDefocusU_relion"], atol=0.01)
    return ours


def box(folder: Path, name: str) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    number, _, path = name.partition("@")
    with mrcfile.open(folder / path) as stack:
        data = np.asarray(stack.data)
    return np.ravel(data[int(number) - 1] if data.ndim == 3 else data)


def check_centred_on_the_truth(folder: Path, particles: pd.DataFrame) -> None:
    offsets = []
    for name, mine in particles.groupby("rlnMicrographName"):
        movie = os.path.realpath(folder / str(name).replace("Micrographs", "Movies"))
        truth = json.loads(Path(movie).with_suffix(".truth.json").read_text())
        centres = np.array([[p["y_px"], p["x_px"]] for p in truth["particles"]])
        found = mine[["rlnCoordinateY", "rlnCoordinateX"]].to_numpy(float)
        nearest = cdist(found, centres).argmin(axis=1)
        offset = found - centres[nearest]
        offsets.append(offset[np.hypot(*offset.T) < 20])
    offset = np.concatenate(offsets)
    assert len(offset) > 0.8 * len(particles)
    assert np.abs(np.median(offset, axis=0)).max() < 1.0
    assert np.median(np.hypot(*offset.T)) < 1.0


def test_names_for_other_programs_are_plain_and_never_shared() -> None:
    names = SafeNames()
    keys = ["a b", "a_b", "a/b", "a__b", "ä", "-x", ".y", "é", "a b"]
    safe = [names.of(key) for key in keys]
    assert safe[0] == safe[-1]
    assert len(set(safe[:-1])) == len(keys) - 1
    assert all(
        name.isascii() and " " not in name and "/" not in name and name[0] not in "-." for name in safe
    )
