"""Three real micrographs of apoferritin (EMPIAR-10146), through the command line to RELION's doorstep."""

import csv
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.acceptance.commands import Done, tomofly
from tomofly.formats.star import read_star
from tomofly.imaging.matching import match_picks

pytestmark = [pytest.mark.slow, pytest.mark.real_data, pytest.mark.timeout(300)]

PIXEL_ANGSTROM = 1.5
RADIUS_ANGSTROM = 62.5
SETTINGS = (
    "microscope.pixel_size_angstrom=1.5", "microscope.voltage_kv=300", "microscope.amplitude_contrast=0.07",
    "microscope.spherical_aberration_mm=2.7", "picks.diameter_angstrom=125",
)  # fmt: skip


@pytest.fixture(scope="module")
def processed(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Done, Path]:
    folder = tmp_path_factory.mktemp("apoferritin")
    source = real_data / "spa_apoferritin" / "*.mrc"
    chosen = [word for setting in SETTINGS for word in ("--set", setting)]
    done = tomofly(
        folder / "home",
        "run",
        "spa",
        "--source",
        source,
        "--out",
        folder / "out",
        "--once",
        "--json",
        *chosen,
    )
    assert done.status == 0, done.err
    exported = tomofly(folder / "home", "export", "out", "--format", "relion", "--out", folder / "relion")
    assert exported.status == 0, exported.err
    return done, folder / "relion"


def test_all_three_are_done_with_plausible_defocus(processed: tuple[Done, Path]) -> None:
    done, relion = processed
    assert (done.json["items"], done.json["done"], done.json["failed"]) == (3, 3, 0)
    table = read_star(relion / "micrographs_ctf.star")["micrographs"]
    for name in ("rlnDefocusU", "rlnDefocusV"):
        assert np.all((table[name].astype(float) > 15_000) & (table[name].astype(float) < 25_000))


def test_the_exported_coordinates_are_those_that_people_picked(
    processed: tuple[Done, Path], real_data: Path
) -> None:
    scores = []
    for path in sorted((processed[1] / "Micrographs").glob("*_autopick.star")):
        table = next(iter(read_star(path).values()))
        found = table[["rlnCoordinateY", "rlnCoordinateX"]].to_numpy(dtype=float)
        with (
            real_data / "spa_apoferritin" / path.name.replace("_autopick.star", "_picks.csv")
        ).open() as file:
            truth = [(float(row["y_px"]), float(row["x_px"])) for row in csv.DictReader(file)]
        scores.append(match_picks(found, np.array(truth), RADIUS_ANGSTROM / 2 / PIXEL_ANGSTROM).f1)
    assert len(scores) == 3
    assert np.mean(scores) >= 0.90, scores


@pytest.mark.relion
def test_relion_reads_the_export(processed: tuple[Done, Path]) -> None:
    if shutil.which("relion_star_printtable") is None:
        pytest.skip("RELION is not installed (Debian's package relion)")
    done = subprocess.run(
        [
            "relion_star_printtable", "micrographs_ctf.star", "data_micrographs", "rlnMicrographName",
            "rlnDefocusU",
        ],
        cwd=processed[1], check=True, capture_output=True, text=True,
    )  # fmt: skip
    lines = [line.split() for line in done.stdout.splitlines() if line.strip()]
    assert len(lines) == 3
    assert all((processed[1] / name).exists() and float(defocus) > 15_000 for name, defocus in lines)
