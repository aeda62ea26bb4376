"""Real input: every mdoc there is, and TS_01 of EMPIAR-10164 from its mdoc to RELION's projection matrices.

The images are stand-ins of the right names and sizes, one frame each. The alignment is that which IMOD found,
as RELION's STAR file of the series has it, imported from an .xf and a .tlt.
"""

import os
import re
from pathlib import Path

import mrcfile
import numpy as np
import pandas as pd
import pytest
import starfile

from tests.acceptance.commands import Done, tomofly
from tomofly.formats.mdoc import read_mdoc

pytestmark = pytest.mark.real_data

IMAGE_XY, PIXEL, DOSE = (3710, 3838), 1.35, 3.0
MDOCS = (
    "TS_01.mrc.mdoc",
    "L1_ts_001.mrc.mdoc",
    "murfey_chrom_07_ts_010.mdoc",
    "teamtomo_frame_set_single.mdoc",
)


@pytest.mark.parametrize("name", MDOCS)
def test_every_mdoc_is_read_whole(real_data: Path, name: str) -> None:
    (path,) = real_data.rglob(name)
    assert {found.name for found in real_data.rglob("*.mdoc")} == set(MDOCS)
    text = path.read_text()
    mdoc = read_mdoc(path)
    assert len(mdoc.tilts) == len(re.findall(r"^\[(?:ZValue|FrameSet) *=", text, re.MULTILINE)) > 0
    angles = [float(angle) for angle in re.findall(r"^TiltAngle *= *(\S+)", text, re.MULTILINE)]
    assert [tilt.tilt_angle_deg for tilt in mdoc.tilts] == angles
    assert all(tilt.frame_name and tilt.date_time for tilt in mdoc.tilts)


@pytest.fixture(scope="module")
def relions(real_data: Path) -> pd.DataFrame:
    """RELION's table of the series, one row for each tilt in the order of exposure."""
    table = starfile.read(real_data / "tomo_empiar10164" / "TS_01_relion.star")
    assert isinstance(table, pd.DataFrame)
    return table


@pytest.fixture(scope="module")
def exported(real_data: Path, relions: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The series composed from its mdoc, aligned by the imported alignment, and exported for RELION."""
    root = tmp_path_factory.mktemp("empiar")
    _write_stand_ins(root / "frames", [Path(name).name for name in relions.rlnMicrographMovieName])
    mdoc = real_data / "tomo_empiar10164" / "TS_01.mrc.mdoc"
    (root / "frames" / mdoc.name).write_bytes(mdoc.read_bytes())
    _write_imod(root / "imod", relions)
    settings = (
        f"microscope.pixel_size_angstrom={PIXEL}", f"compose.dose_per_tilt_e_per_a2={DOSE}",
        "series_alignment.method=imported", f"series_alignment.import_folder={root / 'imod'}",
        "series_alignment.level=false", "tilt_motion.even_odd=false", "tilt_motion.float16=true",
        "compose.provisional_every=0", "tomogram.binning=8", "tomogram.thickness_angstrom=600",
        "tomogram_picks.enabled=false", "tomogram_view.enabled=false",
        "tilt_image.ctf_resolution_range_angstrom=60,20", "source.settle_s=0", "source.poll_s=0.2",
        "resources.minimum_free_gb=0",
    )  # fmt: skip
    chosen = [word for setting in settings for word in ("--set", setting)]
    where = ["--source", root / "frames" / "*.mrc", "--out", root / "session"]
    ran = tomofly(root / "home", "run", "tomo", *where, "--once", "--json", *chosen, timeout=1500)
    assert ran.status == 0, ran.err
    assert ran.json["failed"] == 0, ran.json["failures"]
    (name,) = [row["name"] for row in _succeeded(tomofly(root / "home", "session", "list", "--json")).json]
    _succeeded(tomofly(root / "home", "export", name, "--format", "relion", "--out", root / "relion"))
    return root / "relion"


def _succeeded(done: Done) -> Done:
    assert done.status == 0, done.err
    return done


def _write_stand_ins(folder: Path, names: list[str]) -> None:
    """One image of noise under all the names: by links, so that it takes the room of one."""
    folder.mkdir()
    counts = np.random.default_rng(1).poisson(20.0, IMAGE_XY[::-1]).astype(np.int8)
    with mrcfile.new(folder / names[0]) as file:
        file.set_data(counts)
        file.voxel_size = PIXEL
    for name in names[1:]:
        os.link(folder / names[0], folder / name)


def _write_imod(folder: Path, relions: pd.DataFrame) -> None:
    """Write RELION's alignment as IMOD has it, with all its digits, in the order of the angles.

    Shifts as RELION applies them, from the middle n // 2 of image and volume; IMOD's is half a pixel before.
    """
    folder.mkdir()
    table = relions.sort_values("rlnTomoNominalStageTiltAngle")
    assert (table.rlnTomoXTilt == 0).all()
    angle, tilt = np.deg2rad(table.rlnTomoZRot), np.deg2rad(table.rlnTomoYTilt)
    to_axis = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]]).transpose(2, 0, 1)
    relion_shift = table[["rlnTomoXShiftAngst", "rlnTomoYShiftAngst"]].to_numpy() / PIXEL
    half = np.array([0.5, 0.5])
    seen = np.stack([half[0] * np.cos(tilt) + 0.5 * np.sin(tilt), np.full(len(tilt), half[1])], axis=1)
    moved = -np.einsum("tij,tj->ti", to_axis, relion_shift + half) + seen
    np.savetxt(folder / "TS_01.xf", np.concatenate([to_axis.reshape(-1, 4), moved], axis=1), fmt="%.12f")
    np.savetxt(folder / "TS_01.tlt", table.rlnTomoYTilt, fmt="%.12f")


@pytest.fixture(scope="module")
def ours(exported: Path) -> pd.DataFrame:
    """Our table of the series."""
    listed = starfile.read(exported / "tilt_series.star", always_dict=True)["global"]
    assert listed.rlnTomoTiltSeriesPixelSize.tolist() == [PIXEL]
    table = starfile.read(exported / listed.rlnTomoTiltSeriesStarFile[0])
    assert isinstance(table, pd.DataFrame)
    return table


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_order_and_doses_are_relions(exported: Path, ours: pd.DataFrame, relions: pd.DataFrame) -> None:
    names = [os.path.realpath(exported / name) for name in ours.rlnMicrographMovieName]
    assert [Path(name).name for name in names] == [Path(name).name for name in relions.rlnMicrographMovieName]
    assert ours.rlnTomoTiltMovieIndex.tolist() == relions.rlnTomoTiltMovieIndex.tolist()
    np.testing.assert_array_equal(ours.rlnMicrographPreExposure, relions.rlnMicrographPreExposure)
    nominal = "rlnTomoNominalStageTiltAngle"
    np.testing.assert_allclose(ours[nominal], relions[nominal], atol=1e-6)
    np.testing.assert_allclose(ours.rlnTomoNominalDefocus, relions.rlnTomoNominalDefocus)
    with mrcfile.open(exported / ours.rlnMicrographName[0], header_only=True) as image:
        assert (int(image.header.nx), int(image.header.ny)) == IMAGE_XY


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_projection_matrices_are_relions(ours: pd.DataFrame, relions: pd.DataFrame, real_data: Path) -> None:
    """Elementwise to 1e-4 (to 1e-5 in fact), with angles, sines and cosines of single precision.

    So this file was computed: with these, its rotations come back to all of their printed digits, 1e-12. From
    those of exact arithmetic they are off by 1e-7, which the 2000 pixels to the volume's middle make up to
    3.4e-4 pixels in the last column, and 1e-5 at the volume's middle itself.
    """
    one = starfile.read(real_data / "tomo_empiar10164" / "TS_01_global.star", always_dict=True)["global"]
    tomogram = [int(one[f"rlnTomoSize{axis}"][0]) for axis in "XYZ"]
    theirs = np.array(
        [
            [np.fromstring(text.strip("[]"), sep=",") for text in relions[f"rlnTomoProj{row}"]]
            for row in "XYZW"
        ]
    ).transpose(1, 0, 2)
    single = np.array([_matrix(row, tomogram, np.float32) for _, row in ours.iterrows()])
    exact = np.array([_matrix(row, tomogram, np.float64) for _, row in ours.iterrows()])
    print(
        f"largest difference: {np.abs(single - theirs).max():.1e}, exact {np.abs(exact - theirs).max():.1e}"
    )
    np.testing.assert_allclose(single, theirs, rtol=0, atol=1e-5)
    np.testing.assert_allclose(single[:, :, :3], theirs[:, :, :3], rtol=0, atol=1e-9)
    np.testing.assert_allclose(exact[:, :, :3], theirs[:, :, :3], rtol=0, atol=1e-6)
    middle = [*(size // 2 for size in tomogram), 1]
    np.testing.assert_allclose(exact @ middle, theirs @ middle, rtol=0, atol=1e-5)
    np.testing.assert_allclose(exact, theirs, rtol=0, atol=4e-4)


def _matrix(row: pd.Series, tomogram: list[int], precision: type) -> np.ndarray:
    """T(shift) · T(image // 2) · Rz(ZRot) · Ry(YTilt) · Rx(XTilt) · T(-tomogram // 2), as RELION 5 has it."""
    shift = np.array([row.rlnTomoXShiftAngst, row.rlnTomoYShiftAngst]) / PIXEL
    turned = (
        _turn(row.rlnTomoZRot, 0, 1, precision)
        @ _turn(row.rlnTomoYTilt, 2, 0, precision)
        @ _turn(row.rlnTomoXTilt, 1, 2, precision)
    )
    after, before = np.eye(4), np.eye(4)
    after[:2, 3] = shift + [size // 2 for size in IMAGE_XY]
    before[:3, 3] = [-(size // 2) for size in tomogram]
    return np.asarray(after @ turned @ before)


def _turn(angle_deg: float, first: int, second: int, precision: type) -> np.ndarray:
    """A right-handed rotation of one axis towards another, of an angle and with sines of some precision."""
    angle = np.float64(precision(angle_deg) * precision(np.pi / 180))
    matrix = np.eye(4)
    matrix[first, first] = matrix[second, second] = precision(np.cos(angle))
    matrix[second, first] = precision(np.sin(angle))
    matrix[first, second] = -matrix[second, first]
    return matrix
