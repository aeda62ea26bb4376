"""A tilt-series session that appears on disk: pace, names, mdoc files, stacks, faults, truth."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from tomofly.cli.simulate_commands import app
from tomofly.formats.mdoc import read_mdoc
from tomofly.simulate.particle import relion_rotation
from tomofly.simulate.spa import GAIN_FILE
from tomofly.simulate.tilt_faults import FAULT_KINDS, Fault, parse_fault
from tomofly.simulate.tilt_microscope import TiltSeriesConfig
from tomofly.simulate.tilt_movie import tilt_camera
from tomofly.simulate.tilt_plan import Shot
from tomofly.simulate.tilt_truth import series_truth_beside
from tomofly.simulate.tilt_writing import write_tilt_session

TINY = TiltSeriesConfig(
    seed=5, detector_yx_px=(66, 94), pixel_size_angstrom=12, frames=3, tilt_angles_deg=(0, 3, -3, 6, -6),
    particles_per_um2=100, solute_mg_per_ml=2, thickness_angstrom=600,
)  # fmt: skip
STARTED = datetime(2025, 3, 4, 5, 6, 7, tzinfo=UTC)


class Session:
    """Writes a session in a time that only waiting moves, and notes what came when."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.now, self.came = folder, 100.0, dict[str, float]()
        self.on_written: Callable[[Path], None] = lambda path: None

    def wait(self, seconds: float) -> None:
        self.now += seconds

    def write(self, config: TiltSeriesConfig = TINY, series: int = 1, **more: Any) -> "Session":
        def note(path: Path, shot: Shot) -> None:
            self.came[f"{shot.series.key}/{shot.tilt}"] = self.now - 100
            self.on_written(path)

        write_tilt_session(
            config, self.folder, series, started=STARTED, wait=self.wait, clock=lambda: self.now,
            on_written=note, **more,
        )  # fmt: skip
        return self

    @property
    def names(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return Session(tmp_path)


def test_a_series_is_movies_an_mdoc_and_the_truth(session: Session) -> None:
    session.write(series=2)
    movies = [f"TS_1_{n:03d}_{a}.mrc" for n, a in enumerate(("0.0", "3.0", "-3.0", "6.0", "-6.0"))]
    assert set(session.names) > {*movies, "TS_1.mrc.mdoc", "TS_1.truth.json", "TS_2.mrc.mdoc"}
    assert len(session.names) == 2 * 7
    written = mrcfile.read(session.folder / movies[3])
    assert np.array_equal(written, tilt_camera(TINY, 0).movie(3))
    assert written.dtype == np.uint16


def test_the_mdoc_says_what_was_done_in_the_packages_own_reading(session: Session) -> None:
    session.write(pace_s=20)
    mdoc = read_mdoc(session.folder / "TS_1.mrc.mdoc")
    truth = series_truth_beside(session.folder, "TS_1")
    assert [tilt.frame_name for tilt in mdoc.tilts] == [tilt.file for tilt in truth.tilts]
    angles = [tilt.tilt_angle_deg for tilt in mdoc.tilts]
    assert angles == pytest.approx([0, 3, -3, 6, -6], abs=0.0101)
    assert angles == pytest.approx([tilt.reported_tilt_deg for tilt in truth.tilts], abs=1e-4)
    assert [tilt.exposure_dose for tilt in mdoc.tilts] == [3.0] * 5
    assert [tilt.prior_dose for tilt in mdoc.tilts] == [0, 3, 6, 9, 12]
    assert [tilt.num_sub_frames for tilt in mdoc.tilts] == [3] * 5
    seconds = [(tilt.date_time - mdoc.tilts[0].date_time).seconds for tilt in mdoc.tilts if tilt.date_time]
    assert seconds == [0, 20, 40, 60, 80]
    assert mdoc.tilts[0].date_time == STARTED.replace(tzinfo=None)


@pytest.mark.parametrize("layout", ["serialem", "pacetomo", "tomo5"])
@pytest.mark.parametrize(("axis", "ours"), [(94, 94), (-86, -86), (264, -96), (0, 0), (85.3, 85.3)])
def test_each_program_gives_the_axis_so_that_it_is_read_as_what_it_is(
    session: Session, layout: str, axis: float, ours: float
) -> None:
    config = TINY.model_copy(update={"axis_angle_deg": axis - 8.0, "axis_error_deg": 8.0})
    session.write(config, layout=layout)
    mdoc = read_mdoc(next(session.folder.glob("*.mdoc")))
    assert mdoc.axis_angle_deg == pytest.approx(ours)


def test_the_mdoc_grows_by_a_tilt_at_a_time(session: Session) -> None:
    sections = []
    mdoc = session.folder / "TS_1.mrc.mdoc"
    session.on_written = lambda path: sections.append(len(read_mdoc(mdoc).tilts) if mdoc.exists() else 0)
    session.write()
    assert sections == [0, 1, 2, 3, 4]
    assert len(read_mdoc(mdoc).tilts) == 5


def test_tilts_keep_the_pace_and_a_late_one_comes_by_itself(session: Session) -> None:
    session.write(pace_s=20, series=2, faults=(Fault("late", 1, 2, seconds=70),))
    on_time = [f"TS_{series}/{tilt}" for series in (1, 2) for tilt in range(5)]
    for turn, name in enumerate(on_time):
        assert session.came[name] == pytest.approx(20 * turn + (70 if name == "TS_1/2" else 0), abs=0.5)
    assert list(session.came).index("TS_1/2") == 5
    assert len(read_mdoc(session.folder / "TS_1.mrc.mdoc").tilts) == 5


def test_a_series_can_be_interrupted_and_the_next_one_follows(session: Session) -> None:
    session.write(series=2, faults=(Fault("interrupted", 1, 1),))
    assert len(list(session.folder.glob("TS_1_*.mrc"))) == 2
    assert len(list(session.folder.glob("TS_2_*.mrc"))) == 5
    assert len(read_mdoc(session.folder / "TS_1.mrc.mdoc").tilts) == 2
    assert series_truth_beside(session.folder, "TS_1").tilts[4].faults == ["never taken"]


def test_a_tilt_that_is_taken_again_has_its_own_file_dose_and_place(session: Session) -> None:
    session.write(faults=(Fault("retaken", 1, 1), Fault("blocked", 1, 1)))
    mdoc = read_mdoc(session.folder / "TS_1.mrc.mdoc")
    angles = [round(tilt.tilt_angle_deg or 0.0) for tilt in mdoc.tilts]
    assert angles == [0, 3, 3, -3, 6, -6]
    tilts = series_truth_beside(session.folder, "TS_1").tilts
    assert tilts[1].faults == ["blocked", "retaken"]
    assert tilts[2].faults == []
    assert tilts[2].dose_before_e_per_a2 == 6
    assert tilts[1].shift_yx_px != tilts[2].shift_yx_px


def test_a_movie_may_never_come_and_an_mdoc_may_name_one_that_is_not_there(session: Session) -> None:
    session.write(faults=(Fault("missing", 1, 2), Fault("misnamed", 1, 3)))
    named = {tilt.frame_name for tilt in read_mdoc(session.folder / "TS_1.mrc.mdoc").tilts}
    there = {path.name for path in session.folder.glob("*_*_*.mrc")}
    assert named - there == {"TS_1_002_-3.0.mrc", "TS_1_003_6.0_renamed.mrc"}
    assert there - named == {"TS_1_003_6.0.mrc"}


def test_dark_tilts_of_one_series_leave_the_others_lit(session: Session) -> None:
    session.write(series=2, faults=(Fault("dark", 1, 3),))
    dark, lit = (mrcfile.read(next(session.folder.glob(f"TS_{n}_003_*.mrc"))) for n in (1, 2))
    assert dark.mean() < 0.03 * lit.mean()


def test_names_alone_tell_the_series_where_there_is_no_mdoc(session: Session) -> None:
    session.write(layout="names", series=1, first=10)
    session.write(series=1, faults=(Fault("no-mdoc", 1),))
    assert not list(session.folder.glob("*.mdoc"))
    assert len(list(session.folder.glob("TS_10_*.mrc"))) == len(list(session.folder.glob("TS_1_*.mrc"))) == 5


def test_pacetomo_goes_through_all_series_at_each_angle(session: Session) -> None:
    session.write(layout="pacetomo", series=2, file_format="tiff")
    assert list(session.came)[:4] == ["TS_ts_001/0", "TS_ts_002/0", "TS_ts_001/1", "TS_ts_002/1"]
    mdoc = read_mdoc(session.folder / "TS_ts_002.mrc.mdoc")
    assert [(tilt.frame_name or "")[:8] for tilt in mdoc.tilts] == [f"TS_{n:04d}_" for n in (2, 4, 6, 8, 10)]
    assert {tilt.exposure_dose for tilt in mdoc.tilts} == {0.0}
    assert all((session.folder / (tilt.frame_name or "")).is_file() for tilt in mdoc.tilts)


def test_tomography_5_names_number_from_one_and_carry_the_time(session: Session) -> None:
    session.write(layout="tomo5", file_format="tiff", pace_s=20)
    name = next(name for name in session.names if name.startswith("TS_1_003_-3.0"))
    assert name.endswith("_20250304_050647_Fractions.tiff")
    assert len(tifffile.imread(session.folder / name)) == 3
    assert (session.folder / "TS_1.mdoc").is_file()


def images_in(stack: Path) -> int:
    with mrcfile.open(stack, header_only=True) as mrc:
        return int(mrc.header.nz)


def test_a_stack_grows_and_its_angles_come_with_its_last_image(session: Session) -> None:
    images, angles = [], session.folder / "TS_1.rawtlt"
    session.on_written = lambda path: images.append((images_in(path), angles.exists()))
    session.write(layout="stack")
    assert images == [(1, False), (2, False), (3, False), (4, False), (5, True)]
    assert mrcfile.read(session.folder / "TS_1.st").shape == (5, 66, 94)
    assert [float(line) for line in angles.read_text().split()] == pytest.approx([0, 3, -3, 6, -6], abs=0.02)


def test_the_gain_reference_comes_only_where_pixels_differ(session: Session) -> None:
    session.write()
    assert not (session.folder / GAIN_FILE).exists()
    session.write(TINY.model_copy(update={"gain_variation": 0.05}), first=2)
    assert mrcfile.read(session.folder / GAIN_FILE).std() == pytest.approx(0.05, rel=0.2)
    assert series_truth_beside(session.folder, "TS_2").gain_file == str(GAIN_FILE)


def test_the_truth_holds_what_makes_the_series_again(session: Session) -> None:
    session.write(series=2)
    truth = series_truth_beside(session.folder, "TS_2")
    camera = tilt_camera(truth.microscope, truth.series)
    file = session.folder / truth.tilts[2].file
    assert np.array_equal(mrcfile.read(file), camera.movie(2))
    first = truth.particles[0]
    turn = relion_rotation(first.rot_deg, first.tilt_deg, first.psi_deg)
    assert turn == pytest.approx(camera.specimen.particle_rotations[0], abs=1e-5)
    assert first.xyz_angstrom == pytest.approx(camera.specimen.particle_xyz_angstrom[0], abs=1e-3)


def test_a_session_that_is_told_to_stop_writes_no_further_tilt(session: Session) -> None:
    stop = threading.Event()
    session.on_written = lambda path: stop.set()
    session.write(series=9, stop=stop)
    assert len(list(session.folder.glob("TS_*_*.mrc"))) == 1


def test_counts_that_a_byte_cannot_hold_get_more() -> None:
    assert TINY.frame_dtype == "uint16"
    assert tilt_camera(TINY, 0).movie(0).max() > 127
    assert TiltSeriesConfig(detector_yx_px=(4096, 4096), pixel_size_angstrom=2).frame_dtype == "int8"
    assert TINY.model_copy(update={"dtype": "uint8"}).frame_dtype == "uint8"


def test_frames_of_a_movie_drift_as_the_truth_says() -> None:
    config = TINY.model_copy(
        update={
            "dose_per_tilt_e_per_a2": 60.0,
            "drift_angstrom_per_tilt": 60.0,
            "frames": 2,
            "dtype": "uint16",
        }
    )
    camera = tilt_camera(config.model_copy(update={"detector_yx_px": (166, 194)}), 0)
    first, last = (frame.astype(float) for frame in camera.movie(0))
    shift = camera.frame_shifts_yx_px(0)[1]
    spectrum = np.fft.fft2(first - first.mean()) * np.conj(np.fft.fft2(last - last.mean()))
    peak = np.unravel_index(np.fft.ifft2(spectrum).real.argmax(), first.shape)
    found = [
        place - size if place > size / 2 else place for place, size in zip(peak, first.shape, strict=True)
    ]
    assert np.linalg.norm(shift) > 2
    assert found == pytest.approx(shift, abs=0.8)


def test_movies_on_fine_pixels_show_the_same_specimen_in_the_same_place() -> None:
    """Below 2.3 Å matter is projected on coarser pixels than those counted."""
    fine = TiltSeriesConfig(
        detector_yx_px=(384, 512), pixel_size_angstrom=2, tilt_angles_deg=(20,), thickness_angstrom=400,
        dose_per_tilt_e_per_a2=200, frames=1, dtype="uint16", drift_angstrom_per_tilt=0,
        illumination_variation=0, particles_per_um2=500,
    )  # fmt: skip
    coarse = fine.model_copy(update={"detector_yx_px": (192, 256), "pixel_size_angstrom": 4.0})
    first = tilt_camera(fine, 0).movie(0)[0].astype(float).reshape(192, 2, 256, 2).sum(axis=(1, 3))
    second = tilt_camera(coarse, 0).movie(0)[0].astype(float)
    spectrum = np.fft.fft2(first - first.mean()) * np.conj(np.fft.fft2(second - second.mean()))
    peak = np.unravel_index(np.fft.ifft2(spectrum).real.argmax(), first.shape)
    assert peak in {(0, 0), (191, 255), (0, 255), (191, 0)}
    assert np.corrcoef(first.ravel(), second.ravel())[0, 1] > 0.3


@pytest.mark.parametrize(
    "text", ["dark", "dark:1", "dark:0:1", "late:1:2", "bright:1:2", "dark:a:1", "dark:1:-2"]
)
def test_a_fault_that_makes_no_sense_is_refused_with_what_does(text: str) -> None:
    with pytest.raises(ValueError, match="is no fault"):
        parse_fault(text)


def test_faults_are_read_and_must_be_of_this_run(session: Session) -> None:
    assert parse_fault("late:2:7:40") == Fault("late", 2, 7, 40.0)
    assert parse_fault("no-mdoc:3") == Fault("no-mdoc", 3)
    assert all(parse_fault(f"{kind}:1:1:5").kind == kind for kind in FAULT_KINDS)
    with pytest.raises(ValueError, match="there is no series 3; they are numbered 1 to 2"):
        session.write(series=2, faults=(Fault("dark", 3, 0),))
    with pytest.raises(ValueError, match="series 1 has no tilt 9, the last is 4"):
        session.write(faults=(Fault("dark", 1, 9),))


def test_the_command_writes_a_session_and_will_not_mix_it_with_another(tmp_path: Path) -> None:
    command = ["tomo", "--out", str(tmp_path), "--detector", "66x94", "--frames", "2", "--fault", "dark:1:1"]
    options = ["--set", "tilt_angles_deg=[0, 30, -30]", "--set", "solute_mg_per_ml=0", "--writing", "whole"]
    done = CliRunner().invoke(app, [*command, *options])
    assert done.exit_code == 0, done.output
    assert len(list(tmp_path.glob("TS_1_*.mrc"))) == 3
    assert "dark" in series_truth_beside(tmp_path, "TS_1").tilts[1].faults
    again = CliRunner().invoke(app, [*command, *options])
    assert again.exit_code != 0
    assert "--start 2" in getattr(again.exception, "hint", str(again.exception.__dict__))
