"""Exports of tilt series while the session runs: what is done, what is not and why, again and again."""

import fcntl
import json
import os
import shutil
import subprocess
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import starfile

from tests.services.tilt_products import (
    DOSE,
    FULL_YX,
    SHOTS,
    Shot,
    Specimen,
    bead_in,
    replace_series,
    tilt_session,
)
from tomofly.model import TomoflyError
from tomofly.services.exports.export import Export, ExportOptions, Format, export_session
from tomofly.services.home import Home
from tomofly.services.sessions import EXPORT_MARK

FORMATS: tuple[Format, ...] = ("relion", "relion4", "imod", "aretomo", "warp", "csv", "json")


@pytest.fixture(autouse=True)
def example_stages() -> None:
    """Here the stages are those that are installed."""


def exported(home: Home, folder: Path, form: Format, **options: object) -> Export:
    return export_session(home, "tilts", folder, ExportOptions(form, **options))  # type: ignore[arg-type]


def content(folder: Path) -> dict[str, object]:
    """What an export holds: the bytes of its files, and where its links lead."""
    found: dict[str, object] = {}
    for path in folder.rglob("*"):
        if path.is_symlink():
            found[str(path.relative_to(folder))] = path.readlink()
        elif path.is_file() and path.name != "provenance.json":
            found[str(path.relative_to(folder))] = path.read_bytes()
    return found


def test_series_that_are_not_done_are_left_out_with_the_reason(home: Home, tmp_path: Path) -> None:
    specimens = [
        Specimen(),
        Specimen(name="TS_10", states={"series_alignment": "running"}),
        Specimen(name="TS_2", states={"series_alignment": "failed"}),
        Specimen(name="TS_3", provisional=True),
        Specimen(name="TS_4", states={"compose": "queued"}),
    ]
    tilt_session(home, tmp_path / "session", specimens)
    done = exported(home, tmp_path / "out", "relion")
    assert (done.items, done.left_out) == (1, 4)
    assert done.reasons == {
        "TS_10": "it is not aligned yet",
        "TS_2": "it could not be aligned: it is too thick",
        "TS_3": "it is not complete: tilts are awaited",
        "TS_4": "it is not composed yet",
    }
    assert "TS_2 is left out: it could not be aligned: it is too thick" in done.notes
    assert starfile.read(done.folder / "tilt_series.star").rlnTomoName.tolist() == ["TS_1"]
    told = json.loads((done.folder / "provenance.json").read_text())["items"]
    assert {item["key"]: bool(item["left_out"]) for item in told}["TS_10"]
    assert not (done.folder / "tilts" / "TS_10").exists()
    table = exported(home, tmp_path / "table", "csv")
    assert table.items == 5, "a table has every series, however far it is"


def test_a_series_without_ctf_or_tomogram_goes_where_it_can(home: Home, tmp_path: Path) -> None:
    specimens = [Specimen(), Specimen(name="TS_10", with_ctf=False, with_tomogram=False, with_doses=False)]
    tilt_session(home, tmp_path / "session", specimens)
    done = exported(home, tmp_path / "five", "relion")
    assert starfile.read(done.folder / "tilt_series.star").rlnTomoName.tolist() == ["TS_1", "TS_10"]
    listed = starfile.read(done.folder / "tomograms.star", always_dict=True)["global"]
    assert listed.rlnTomoName.tolist() == ["TS_1"]
    assert "rlnDefocusU" not in starfile.read(done.folder / "tilt_series" / "TS_10.star")
    for said in ("There is no CTF yet: TS_10", "written as 0: TS_10", "(hand) is not certain"):
        assert any(said in note for note in done.notes), done.notes
    four = exported(home, tmp_path / "four", "relion4")
    assert (four.items, list(four.reasons)) == (1, ["TS_10"])
    assert "needs the defocus" in four.reasons["TS_10"]


def test_a_series_of_one_file_is_exported_by_its_sections(home: Home, tmp_path: Path) -> None:
    truth = Specimen(in_one_file=True)
    tilt_session(home, tmp_path / "session", [truth])
    done = exported(home, tmp_path / "out", "relion")
    tilts = starfile.read(done.folder / "tilt_series" / "TS_1.star")
    for name, index in zip(tilts.rlnMicrographName, tilts.rlnTomoTiltMovieIndex, strict=True):
        section, _, path = name.partition("@")
        n = next(n for n, shot in enumerate(SHOTS) if shot.order == index - 1)
        assert int(section) == n + 1
        with mrcfile.open(done.folder / path) as file:
            at = bead_in(np.asarray(file.data)[n])
        assert at == pytest.approx(truth.seen_xy(n) + np.array(FULL_YX[::-1]) // 2, abs=0.02)
    assert exported(home, tmp_path / "warp", "warp").reasons["TS_1"].startswith("Warp needs a file for each")
    assert exported(home, tmp_path / "imod", "imod", full_stacks=True).items == 1


@pytest.mark.parametrize("form", FORMATS)
def test_an_export_may_be_repeated(home: Home, tmp_path: Path, form: Format) -> None:
    tilt_session(home, tmp_path / "session", [Specimen(), Specimen(name="TS_10", seed=5)])
    first = exported(home, tmp_path / "out", form)
    before = content(first.folder)
    (first.folder / "MotionCorr").mkdir()
    (first.folder / "MotionCorr" / "job.star").write_text("work of RELION")
    again = exported(home, tmp_path / "out", form)
    assert (again.items, again.files) == (first.items, first.files)
    after = content(first.folder)
    assert after.pop("MotionCorr/job.star") == b"work of RELION", "what others put there stays"
    assert after == before
    links = [path for path in first.folder.rglob("*") if path.is_symlink()]
    assert all(path.exists() and not str(path.readlink()).startswith("/") for path in links)


def test_an_export_grows_with_the_session_and_forgets_what_is_gone(home: Home, tmp_path: Path) -> None:
    session = tilt_session(home, tmp_path / "session", [Specimen(), Specimen(name="TS_2", provisional=True)])
    assert exported(home, tmp_path / "out", "relion").items == 1
    replace_series(home, session, Specimen(name="TS_2"))
    done = exported(home, tmp_path / "out", "relion")
    assert sorted(path.name for path in (done.folder / "tilt_series").iterdir()) == ["TS_1.star", "TS_2.star"]
    only = exported(home, tmp_path / "out", "relion", filters=("key=TS_2",))
    assert [path.name for path in (only.folder / "tilts").iterdir()] == ["TS_2"]
    assert not (only.folder / "tilt_series" / "TS_1.star").exists()


def test_a_tilt_more_or_less_keeps_order_and_dose(home: Home, tmp_path: Path) -> None:
    session = tilt_session(home, tmp_path / "session", [Specimen()])
    replace_series(home, session, Specimen(shots=(*SHOTS[:-1], Shot(60.0, 7, excluded="by_hand"))))
    done = exported(home, tmp_path / "out", "relion")
    tilts = starfile.read(done.folder / "tilt_series" / "TS_1.star")
    assert tilts.rlnTomoTiltMovieIndex.tolist() == [1, 2, 6, 7, 9, 10]
    np.testing.assert_allclose(tilts.rlnMicrographPreExposure, DOSE * np.array([0, 1, 5, 6, 8, 9]))


def test_copies_hold_without_the_session(home: Home, tmp_path: Path) -> None:
    session = tilt_session(home, tmp_path / "session", [Specimen()])
    done = exported(home, tmp_path / "out", "relion", copy_files=True)
    shutil.rmtree(session)
    name = starfile.read(done.folder / "tilt_series" / "TS_1.star").rlnMicrographName[0]
    assert not (done.folder / name).is_symlink()
    with mrcfile.open(done.folder / name) as file:
        assert file.data.shape == FULL_YX


def test_filters_are_those_of_series(home: Home, tmp_path: Path) -> None:
    tilt_session(home, tmp_path / "session", [Specimen(), Specimen(name="TS_10")])
    for expression, keys in {"key=TS_1": 1, "key~TS_1": 2, "tilts > 7": 2, "x_tilt_deg > 5": 0}.items():
        assert exported(home, tmp_path / "out", "imod", filters=(expression,)).items == keys
    with pytest.raises(TomoflyError, match="no metric"):
        exported(home, tmp_path / "out", "imod", filters=("size > 3",))


def test_an_export_that_fails_leaves_the_one_before(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tilt_session(home, tmp_path / "session", [Specimen()])
    before = content(exported(home, tmp_path / "out", "relion").folder)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tomofly.services.exports.relion5.write_tilt_series", full)
    with pytest.raises(OSError, match="No space left"):
        exported(home, tmp_path / "out", "relion")
    assert content(tmp_path / "out") == before
    assert not [*(tmp_path / "out").glob(".part-*")]


def test_a_product_that_goes_while_it_is_exported_costs_its_series_alone(home: Home, tmp_path: Path) -> None:
    session = tilt_session(home, tmp_path / "session", [Specimen(), Specimen(name="TS_2")])
    (session / "tilt_motion" / "TS_2_000_0.0.mrc").unlink()
    for form in FORMATS[:3]:
        done = exported(home, tmp_path / form, form, full_stacks=True)
        assert (done.items, list(done.reasons)) == (1, ["TS_2"])
        assert not [path for path in done.folder.rglob("*") if "TS_2" in path.name and not path.is_dir()]


def test_two_exports_do_not_write_the_same_folder(home: Home, tmp_path: Path) -> None:
    tilt_session(home, tmp_path / "session", [Specimen()])
    folder = exported(home, tmp_path / "out", "csv").folder
    with (folder / EXPORT_MARK).open() as mark:
        fcntl.flock(mark, fcntl.LOCK_EX)
        with pytest.raises(TomoflyError, match="Another export"):
            exported(home, tmp_path / "out", "csv")


def test_a_mark_that_names_files_elsewhere_removes_none_of_them(home: Home, tmp_path: Path) -> None:
    tilt_session(home, tmp_path / "session", [Specimen()])
    (tmp_path / "thesis.tex").write_text("years of work")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / EXPORT_MARK).write_text(f"Written\n../thesis.tex\n{tmp_path}/thesis.tex\n")
    exported(home, tmp_path / "out", "csv")
    assert (tmp_path / "thesis.tex").exists()


def test_formats_of_series_are_refused_for_other_sessions(home: Home) -> None:
    from tomofly.services.sessions import create_session

    create_session(home, "single", kind="spa", assignments=["microscope.pixel_size_angstrom=1"])
    with pytest.raises(TomoflyError, match="no export format 'imod'"):
        export_session(home, "single", None, ExportOptions("imod"))


@pytest.mark.relion
def test_relion_reads_the_tables(home: Home, tmp_path: Path) -> None:
    """Of whichever version: those before 4 do not know tomography, but read its tables."""
    program = shutil.which("relion_star_printtable")
    if program is None:
        pytest.skip("RELION is not installed (Debian's package relion)")
    tilt_session(home, tmp_path / "session", [Specimen(), Specimen(name="a b/c", seed=5)])
    for form, star, block, label, lines in (
        ("relion", "tilt_series/TS_1.star", "data_TS_1", "rlnMicrographName", 7),
        ("relion", "tilt_series/a_b__c.star", "data_a_b__c", "rlnDefocusU", 7),
        ("relion", "tomograms.star", "data_global", "rlnVoltage", 2),
        ("relion4", "tomograms.star", "data_a_b__c", "rlnMicrographPreExposure", 7),
    ):
        folder = exported(home, tmp_path / form, form).folder  # type: ignore[arg-type]
        done = subprocess.run(
            [program, star, block, label], cwd=folder, check=True, capture_output=True, text=True, timeout=60,
            env={**os.environ, "LC_ALL": "C"},
        )  # fmt: skip
        printed = done.stdout.split()
        tables = starfile.read(folder / star, always_dict=True)
        assert len(printed) == lines
        ours = tables[block.removeprefix("data_")][label].tolist()
        assert [word if isinstance(ours[0], str) else float(word) for word in printed] == ours
