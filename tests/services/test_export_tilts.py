"""A bead goes through every exporter of tilt series, and stands in the exported images where the format says.

Each format's equations are written here from its documentation, apart from the code that writes it.
"""

import csv
import json
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import pandas as pd
import pytest
import starfile
from defusedxml import ElementTree as ET

from tests.services.tilt_products import (
    DOSE,
    FULL_PIXEL,
    FULL_YX,
    PIXEL,
    REDUCED_YX,
    SHOTS,
    VOLUME_ZYX,
    Specimen,
    bead_in,
    tilt_session,
)
from tomofly.model import TomoflyError
from tomofly.services.exports.export import Export, ExportOptions, export_session
from tomofly.services.home import Home

ODD_NAMES = ("grid 2/TS é #1", "grid 2/TS é _1")
TAKEN = [shot.order for shot in SHOTS if not shot.excluded and shot.aligned]
UNALIGNED = [shot.order for shot in SHOTS if not shot.aligned]


@pytest.fixture(autouse=True)
def example_stages() -> None:
    """Here the stages are those that are installed."""


@pytest.fixture
def session(home: Home, tmp_path: Path) -> Path:
    specimens = [Specimen(), *(Specimen(name=n, seed=7, bead_xyz=(-40.0, 25.0, -22.0)) for n in ODD_NAMES)]
    return tilt_session(home, tmp_path / "session", specimens)


@pytest.fixture
def alone(home: Home, tmp_path: Path) -> Path:
    return tilt_session(home, tmp_path / "session", [Specimen()])


def exported(home: Home, tmp_path: Path, form: str, **options: object) -> Export:
    made = ExportOptions(form, **options)  # type: ignore[arg-type]
    return export_session(home, "tilts", tmp_path / form, made)


def image_at(folder: Path, name: str) -> np.ndarray:
    """Read an image as RELION names it: a file, or section@stack."""
    section, _, path = name.rpartition("@")
    with mrcfile.open(folder / path) as file:
        data = np.asarray(file.data)
    return data[int(section) - 1] if section else data


def turn(angle_deg: float, first: int, second: int) -> np.ndarray:
    """A right-handed rotation that turns one axis towards another, as 4 x 4."""
    c, s = np.cos(np.deg2rad(angle_deg)), np.sin(np.deg2rad(angle_deg))
    matrix = np.eye(4)
    matrix[first, first] = matrix[second, second] = c
    matrix[first, second], matrix[second, first] = -s, s
    return matrix


def moved(*by: float) -> np.ndarray:
    matrix = np.eye(4)
    matrix[: len(by), 3] = by
    return matrix


# --- RELION 5: T(shift / pixel) · T(image // 2) · Rz · Ry · Rx · T(-tomogram // 2)


EVEN_AND_ODD = pytest.mark.parametrize("volume_zyx", [VOLUME_ZYX, (25, 61, 51)])


@EVEN_AND_ODD
def test_a_picked_bead_through_relion_5(home: Home, tmp_path: Path, volume_zyx: tuple[int, int, int]) -> None:
    tilt_session(home, tmp_path / "session", [Specimen(volume_zyx=volume_zyx)])
    done = exported(home, tmp_path, "relion")
    chosen = starfile.read(done.folder / "optimisation_set.star")
    particles = starfile.read(done.folder / chosen["rlnTomoParticlesFile"])
    assert done.particles == len(particles["particles"]) == 1
    assert particles["optics"].rlnTomoTiltSeriesPixelSize.tolist() == [FULL_PIXEL]
    particle = particles["particles"].iloc[0]
    assert particle.rlnAutopickFigureOfMerit == 9.5
    at = np.array([particle[f"rlnCenteredCoordinate{axis}Angst"] for axis in "XYZ"])
    listed = starfile.read(done.folder / chosen["rlnTomoTomogramsFile"], always_dict=True)["global"]
    tomogram = listed[listed.rlnTomoName == particle.rlnTomoName].iloc[0]
    tilts = starfile.read(done.folder / tomogram.rlnTomoTiltSeriesStarFile)
    for _, row in tilts.iterrows():
        image = image_at(done.folder, row.rlnMicrographName)
        assert bead_in(image) == pytest.approx(relion5_bead(tomogram, row, at), abs=0.02)


@EVEN_AND_ODD
def test_a_picked_bead_through_relion_4(home: Home, tmp_path: Path, volume_zyx: tuple[int, int, int]) -> None:
    tilt_session(home, tmp_path / "session", [Specimen(volume_zyx=volume_zyx)])
    done = exported(home, tmp_path, "relion4")
    blocks = starfile.read(done.folder / "tomograms.star")
    particle = starfile.read(done.folder / "particles.star", always_dict=True)["particles"].iloc[0]
    at = [*(particle[f"rlnCoordinate{axis}"] for axis in "XYZ"), 1.0]
    for section, row in enumerate(blocks["TS_1"].itertuples(), start=1):
        matrix = np.array([json.loads(getattr(row, f"rlnTomoProj{axis}")) for axis in "XYZW"])
        image = image_at(done.folder, f"{section}@{blocks['global'].rlnTomoTiltSeriesName[0]}")
        assert bead_in(image) == pytest.approx((matrix @ at)[:2], abs=0.02)


@EVEN_AND_ODD
def test_another_threshold_moves_nothing_but_the_number(
    home: Home, tmp_path: Path, volume_zyx: tuple[int, int, int]
) -> None:
    tilt_session(home, tmp_path / "session", [Specimen(volume_zyx=volume_zyx)])
    columns = [f"rlnCenteredCoordinate{axis}Angst" for axis in "XYZ"]

    def particles(threshold: float | None) -> pd.DataFrame:
        options = ExportOptions("relion", threshold=threshold)
        done = export_session(home, "tilts", tmp_path / f"{threshold}", options)
        return starfile.read(done.folder / "particles.star", always_dict=True)["particles"]

    picked, high, low = particles(None), particles(9.0), particles(4.0)
    assert (len(picked), len(high), len(low)) == (1, 1, 2)
    np.testing.assert_allclose(high[columns], picked[columns], atol=1e-3)
    np.testing.assert_allclose(low[columns][:1], picked[columns], atol=1e-3)
    step = np.diff(low[columns].to_numpy(), axis=0)[0]
    np.testing.assert_allclose(step, np.array([3, -2, 1]) * PIXEL, atol=1e-3)
    with pytest.raises(TomoflyError, match=r"tomogram_picks.keep_threshold=3 were not kept"):
        particles(1.0)


def relion5_bead(tomogram: pd.Series, row: pd.Series, bead_angstrom: np.ndarray) -> np.ndarray:
    pixel = tomogram.rlnTomoTiltSeriesPixelSize
    size = np.array([tomogram[f"rlnTomoSize{axis}"] for axis in "XYZ"])
    shift = np.array([row.rlnTomoXShiftAngst, row.rlnTomoYShiftAngst]) / pixel
    image = np.array(FULL_YX[::-1]) // 2
    rotation = turn(row.rlnTomoZRot, 0, 1) @ turn(row.rlnTomoYTilt, 2, 0) @ turn(row.rlnTomoXTilt, 1, 2)
    matrix = moved(*(shift + image)) @ rotation @ moved(*(-(size // 2)))
    # centred coordinates of particles are from half the size
    return np.asarray((matrix @ [*(bead_angstrom / pixel + size / 2), 1.0])[:2])


def test_bead_through_relion_5(home: Home, session: Path, tmp_path: Path) -> None:
    done = exported(home, tmp_path, "relion")
    assert (done.items, done.left_out) == (3, 0)
    tomograms = starfile.read(done.folder / "tomograms.star")
    assert tomograms.rlnTomoName.is_unique
    for _, tomogram in tomograms.iterrows():
        truth = Specimen() if tomogram.rlnTomoName == "TS_1" else Specimen(bead_xyz=(-40.0, 25.0, -22.0))
        tilts = starfile.read(done.folder / tomogram.rlnTomoTiltSeriesStarFile)
        assert tilts.rlnTomoTiltMovieIndex.tolist() == [order + 1 for order in sorted(TAKEN)]
        np.testing.assert_allclose(tilts.rlnMicrographPreExposure, DOSE * np.array(sorted(TAKEN)))
        for _, row in tilts.iterrows():
            expected = relion5_bead(tomogram, row, np.array(truth.bead_xyz) * FULL_PIXEL)
            for label in ("rlnMicrographName", "rlnMicrographNameEven", "rlnMicrographNameOdd"):
                assert bead_in(image_at(done.folder, row[label])) == pytest.approx(expected, abs=0.02)
            assert row.rlnDefocusU == 40000 + 100 * (row.rlnTomoTiltMovieIndex - 1)
            assert (done.folder / row.rlnMicrographMetadata).is_file()
            assert (done.folder / row.rlnMicrographMovieName).read_bytes() == b"movie"


def test_the_bead_in_the_tomogram_is_where_relion_takes_it_from(
    home: Home, alone: Path, tmp_path: Path
) -> None:
    done = exported(home, tmp_path, "relion")
    (row,) = starfile.read(done.folder / "tomograms.star", always_dict=True)["global"].itertuples()
    names = (row.rlnTomoReconstructedTomogram, row.rlnTomoReconstructedTomogramHalf1,
             row.rlnTomoReconstructedTomogramHalf2)  # fmt: skip
    binned = np.array(Specimen().bead_xyz) / row.rlnTomoTomogramBinning
    for name in names:
        with mrcfile.open(done.folder / name) as file:
            volume = np.asarray(file.data)
        assert volume.shape == VOLUME_ZYX
        assert bead_in(volume.sum(axis=0)) == pytest.approx([binned[0] + 25, binned[1] + 30], abs=0.05)
        assert bead_in(volume.sum(axis=1))[1] == pytest.approx(binned[2] + 12, abs=0.05)
    sizes = [row.rlnTomoSizeX, row.rlnTomoSizeY, row.rlnTomoSizeZ]
    assert sizes == [n * PIXEL / FULL_PIXEL for n in VOLUME_ZYX[::-1]]
    assert (row.rlnTomoHand, row.rlnTomoTiltSeriesPixelSize, row.rlnMicrographOriginalPixelSize) == (
        -1,
        2.5,
        1.25,
    )


# --- RELION 4: a matrix from the tomogram's indices to those of a section


@pytest.mark.parametrize("full", [False, True])
def test_bead_through_relion_4(home: Home, session: Path, tmp_path: Path, full: bool) -> None:
    done = exported(home, tmp_path, "relion4", full_stacks=full)
    blocks = starfile.read(done.folder / "tomograms.star")
    pixel = FULL_PIXEL if full else PIXEL
    for _, tomogram in blocks["global"].iterrows():
        bead = Specimen().bead_xyz if tomogram.rlnTomoName == "TS_1" else (-40.0, 25.0, -22.0)
        size = np.array([tomogram[f"rlnTomoSize{axis}"] for axis in "XYZ"])
        position = np.array(bead) * FULL_PIXEL / pixel + size // 2
        tilts = blocks[tomogram.rlnTomoName]
        assert tomogram.rlnTomoFrameCount == len(tilts) == len(TAKEN)
        np.testing.assert_allclose(tilts.rlnMicrographPreExposure, DOSE * np.array(TAKEN))
        for section, row in enumerate(tilts.itertuples(), start=1):
            matrix = np.array([json.loads(getattr(row, f"rlnTomoProj{axis}")) for axis in "XYZW"])
            image = image_at(done.folder, f"{section}@{tomogram.rlnTomoTiltSeriesName}")
            assert bead_in(image) == pytest.approx((matrix @ [*position, 1])[:2], abs=0.02)


# --- IMOD: newstack's transform about the middles, tilt's projection, trimvol -rx


@pytest.mark.parametrize("full", [False, True])
def test_bead_through_imod(home: Home, alone: Path, tmp_path: Path, full: bool) -> None:
    folder = exported(home, tmp_path, "imod", full_stacks=full).folder / "TS_1"
    lines = {end: np.loadtxt(folder / f"TS_1.{end}") for end in ("xf", "tlt", "xtilt", "rawtlt")}
    commands = (folder / "newst.com").read_text(), (folder / "tilt.com").read_text()
    words = dict(line.split(maxsplit=1) for text in commands for line in text.splitlines() if " " in line)
    width, height = (int(n) for n in words["SizeToOutputInXandY"].split(","))
    thickness = int(words["THICKNESS"])
    pixel = FULL_PIXEL if full else PIXEL
    stack = image_at(folder, words["InputFile"])
    bead = np.array(Specimen().bead_xyz) * FULL_PIXEL / pixel
    x, y, up = bead + np.array([width, height, thickness]) // 2 + 1  # pixels from 1, after trimvol -rx
    down = thickness + 1 - up
    xx, yy, zz = x - (width / 2 + 0.5), y - (height / 2 + 0.5), down - (thickness / 2 + 0.5)
    np.testing.assert_allclose(lines["rawtlt"], [shot.angle for shot in SHOTS if not shot.excluded])
    for n, (transform, tilt, x_tilt) in enumerate(
        zip(lines["xf"], lines["tlt"], lines["xtilt"], strict=True)
    ):
        beta, alpha = -np.deg2rad(tilt), -np.deg2rad(x_tilt)
        along = xx * np.cos(beta) + yy * np.sin(alpha) * np.sin(beta) + zz * np.cos(alpha) * np.sin(beta)
        aligned = np.array([along, yy * np.cos(alpha) - zz * np.sin(alpha)])
        raw = np.linalg.solve(transform[:4].reshape(2, 2), aligned - transform[4:])
        seen = raw + np.array(stack.shape[:0:-1]) / 2 + 0.5 - 1
        assert bead_in(stack[n]) == pytest.approx(seen, abs=0.02)
    section = [n for n, shot in enumerate(s for s in SHOTS if not s.excluded) if not shot.aligned]
    assert words["EXCLUDELIST2"] == ",".join(str(n + 1) for n in section)


def test_imod_has_the_stacks_of_even_and_odd_frames_too(home: Home, alone: Path, tmp_path: Path) -> None:
    folder = exported(home, tmp_path, "imod").folder / "TS_1"
    for name in ("TS_1.st", "TS_1_even.st", "TS_1_odd.st"):
        assert image_at(folder, name).shape == (8, *REDUCED_YX)
        assert (folder / name).is_symlink()


# --- AreTomo: Rz(ROT)·Ry(TILT), the origin at (TX, TY) from the middle; no rotation about x


@pytest.mark.parametrize("full", [False, True])
def test_bead_through_aretomo(home: Home, alone: Path, tmp_path: Path, full: bool) -> None:
    done = exported(home, tmp_path, "aretomo", full_stacks=full)
    stack = image_at(done.folder, "TS_1.mrc")
    lines = (done.folder / "TS_1.aln").read_text().splitlines()
    table = np.array([line.split() for line in lines if line[0] != "#"], dtype=float)
    with (done.folder / "volumes.csv").open() as file:
        (volume,) = csv.DictReader(file)
    x_tilt = float(volume["turned_about_x [deg]"])
    assert x_tilt == 4.4 and any("cannot turn a volume about x" in note for note in done.notes)
    bead = np.array([*Specimen().bead_xyz, 0.0]) * FULL_PIXEL / float(volume["pixel_size [Å]"])
    bead = turn(x_tilt, 1, 2) @ bead  # where AreTomo's volume has it
    for section, rot, _, tx, ty, *_, tilt in table:
        seen = (turn(rot, 0, 1) @ turn(tilt, 2, 0) @ bead)[:2] + [tx, ty] + np.array(stack.shape[:0:-1]) // 2
        assert bead_in(stack[int(section)]) == pytest.approx(seen, abs=0.02)
    used = [shot for shot in SHOTS if not shot.excluded]
    assert sorted(table[:, 0]) == [n for n, shot in enumerate(used) if shot.aligned]
    assert [line.split()[4] for line in lines if "DarkFrame" in line] == ["5"]
    assert np.loadtxt(done.folder / "TS_1.rawtlt").tolist() == [shot.angle for shot in used]


# --- Warp: Rz(AxisAngle) · Ry(-(Angles + LevelAngleY)) · Rx(LevelAngleX) · p + AxisOffset, in Å


WARP_COLUMNS = ("Angles", "AxisAngle", "AxisOffsetX", "AxisOffsetY", "UseTilt", "MoviePath", "Dose")


def warp_sees(root: Any, points_angstrom: np.ndarray) -> np.ndarray:
    """Where each tilt shows points (point, 3), from the middle of the image: (tilt, point, 2) in Å."""
    columns = ([float(word) for word in (root.findtext(name) or "").split()] for name in WARP_COLUMNS[:4])
    level_x, level_y = (float(root.attrib[f"LevelAngle{axis}"]) for axis in "XY")
    seen = []
    for angle, axis, x, y in zip(*columns, strict=True):
        rotation = turn(axis, 0, 1) @ turn(-angle - level_y, 2, 0) @ turn(level_x, 1, 2)
        seen.append(points_angstrom @ rotation[:2, :3].T + [x, y])
    return np.array(seen)


def test_bead_through_warp(home: Home, session: Path, tmp_path: Path) -> None:
    done = exported(home, tmp_path, "warp")
    assert done.items == 3
    for path in sorted((done.folder / "warp_tiltseries").glob("*.xml")):
        truth = Specimen() if path.stem == "TS_1" else Specimen(bead_xyz=(-40.0, 25.0, -22.0))
        root = ET.parse(path).getroot()
        column = {name: (root.findtext(name) or "").split() for name in WARP_COLUMNS}
        seen = warp_sees(root, np.array([truth.bead_xyz]) * FULL_PIXEL)[:, 0]
        for at, name in zip(seen, column["MoviePath"], strict=True):
            movie = (done.folder / "tomostar" / name).resolve()
            for folder in ("average", "average/even", "average/odd"):
                image = image_at(movie.parent, f"{folder}/{movie.name}")
                expected = at / FULL_PIXEL + np.array(FULL_YX[::-1]) / 2
                assert bead_in(image) == pytest.approx(expected, abs=0.02)
        orders = [round(float(dose) / DOSE) for dose in column["Dose"]]
        used = [s for s in SHOTS if not s.excluded]
        assert list(zip(column["UseTilt"], orders, strict=True)) == [(str(s.aligned), s.order) for s in used]
        tomostar = starfile.read(done.folder / "tomostar" / f"{path.stem}.tomostar")
        assert tomostar.wrpMovieName.tolist() == column["MoviePath"]
        assert root.attrib["AreAnglesInverted"] == "True"


@pytest.mark.real_data
def test_the_equation_that_warp_is_held_to_is_warps_own(real_data: Path) -> None:
    """Against the positions that Warp computed itself, which hold its local movements of a few Å as well."""
    folder = real_data / "warp_geometry"
    tables = starfile.read(folder / "TS_1.star")
    mappings = tables["mappings"].sort_values(["tiltID", "pointID"])
    shape = (mappings.tiltID.max(), mappings.pointID.max(), 2)
    theirs = mappings[["centeredCoordinateXAngst", "centeredCoordinateYAngst"]].to_numpy().reshape(shape)
    ours = warp_sees(ET.parse(folder / "TS_1.xml").getroot(), tables["points"].to_numpy(float))
    assert np.sqrt(((ours - theirs) ** 2).mean()) < 4.0
    assert np.abs(theirs).max() > 500.0


# --- tables


def test_bead_through_the_tables(home: Home, alone: Path, tmp_path: Path) -> None:
    """By the equation that the JSON itself states."""
    done = exported(home, tmp_path, "json")
    told = json.loads((done.folder / "series.json").read_text())
    assert "Rz(axis_angle) Ry(tilt_angle) Rx(x_tilt) p" in told["geometry"]
    (series,) = told["items"]
    tilts = series["tilts"]
    assert [tilt["order"] for tilt in tilts] == list(range(10))
    assert {t["excluded"]: t["order"] for t in tilts if t["excluded"]} == {
        "dark": 4, "by_hand": 3, "not_aligned": UNALIGNED[0],
    }  # fmt: skip
    bead = [*(np.array(Specimen().bead_xyz) * FULL_PIXEL), 0]
    for tilt in tilts:
        assert tilt["accumulated_dose"] == pytest.approx(DOSE * tilt["order"])
        if "tilt_angle" in tilt:
            rotation = (
                turn(tilt["axis_angle"], 0, 1) @ turn(tilt["tilt_angle"], 2, 0) @ turn(tilt["x_tilt"], 1, 2)
            )
            at = (rotation @ bead)[:2] - [tilt["shift_x"], tilt["shift_y"]]
            image = image_at(alone, tilt["image"])
            assert bead_in(image) == pytest.approx(at / FULL_PIXEL + np.array(FULL_YX[::-1]) // 2, abs=0.02)


def test_csv_has_a_line_for_each_series_and_each_tilt(home: Home, session: Path, tmp_path: Path) -> None:
    done = exported(home, tmp_path, "csv")
    with (done.folder / "series.csv").open() as file:
        series = list(csv.DictReader(file))
    with (done.folder / "tilts.csv").open() as file:
        tilts = list(csv.DictReader(file))
    assert sorted(line["key"] for line in series) == sorted(["TS_1", *ODD_NAMES])
    assert {(line["tilts"], line["x_tilt_deg [deg]"]) for line in series} == {("8.0", "4.4")}
    assert len(tilts) == 3 * len(SHOTS)
    with (done.folder / "particles.csv").open() as file:
        pick = next(line for line in csv.DictReader(file) if line["series"] == "TS_1")
    at = [float(pick[f"{axis} [Å]"]) for axis in "xyz"]
    assert at == pytest.approx(np.array(Specimen().bead_xyz) * FULL_PIXEL, abs=1e-3)
    first = next(line for line in tilts if line["series"] == "TS_1" and line["order"] == "8")
    assert float(first["defocus_u [Å]"]) == 40800
    assert first["residual [Å]"] == "", "a number that is none is an empty cell"
    assert float(first["tilt_motion.total_motion_angstrom [Å]"]) == 2.0
