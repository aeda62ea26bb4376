"""Defects that other programs have, or had: each by what it is about, so that none of them comes here.

The first part runs sessions of small tilts; the second asks the single parts that are to blame elsewhere.
What whole sessions survive besides is in ``test_tomo_composing``; death in mid-work in ``test_kill_tomo``.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from tests.acceptance.tilt_bench import (
    PIXEL_ANGSTROM,
    Shot,
    TiltBench,
    image_of,
    mdoc_head,
    mdoc_section,
    mdoc_text,
    shots,
)
from tests.formats.tilt_series_records import record
from tests.imaging.tilt_scenes import tilt_scene
from tests.imaging.tilted_blobs import dotted_slab
from tests.stages.tilt_files import dose_symmetric
from tomofly.formats.aretomo import read_aln, write_aln
from tomofly.formats.mdoc import read_mdoc
from tomofly.formats.mdoc_axis import wrapped
from tomofly.formats.mrc import write_image
from tomofly.imaging.slab import find_slab_in_series
from tomofly.imaging.tilt_coarse import align_coarsely
from tomofly.imaging.tilt_geometry import TiltGeometry, nominal_geometry
from tomofly.imaging.tilt_preparation import prepare_tilts
from tomofly.services.progress import session_progress
from tomofly.services.tilts import exclude_tilts
from tomofly.simulate.mdoc_writing import MdocStyle, MdocTilt, mdoc_header
from tomofly.simulate.mdoc_writing import mdoc_section as simulated_section
from tomofly.simulate.tilt_microscope import TiltSeriesConfig

ANGLES = (0.0, 3.0, -3.0, -6.0, 6.0, 9.0, -9.0)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[TiltBench]:
    made = TiltBench(tmp_path)
    yield made
    made.home.close()


def _written(bench: TiltBench, taken: list[Shot], text: str = "", name: str = "TS_1") -> None:
    bench.write(*taken)
    bench.write_mdoc(name, text or mdoc_text(taken))


def _used(bench: TiltBench, name: str = "TS_1") -> int:
    return sum(tilt.state == "used" for tilt in bench.series(name).tilts)


# --- sessions


def test_a_series_with_everything_wrong_at_once_ends_and_lists_what_it_skipped(bench: TiltBench) -> None:
    """Late and incomplete mdoc, files half written, out of order, missing, two at one angle, no counts."""
    taken = shots("TS_1", (*ANGLES, 6.0, 12.0))
    taken[6].level = 0.0
    bench.write(*taken[5:8], *taken[1:3])
    (bench.microscope / taken[3].name).write_bytes(b"")
    bench.look()
    bench.work()
    whole = mdoc_text(taken)
    bench.write_mdoc("TS_1", whole[: len(whole) // 2])
    bench.look()
    bench.work()
    bench.write(*taken[:1], *taken[3:5])
    bench.write_mdoc("TS_1", whole)
    bench.finish()
    states = {order: tilt.state for order, tilt in bench.tilts("TS_1").items()}
    assert states == {
        0: "used", 1: "used", 2: "used", 3: "used", 4: "left out", 5: "used", 6: "failed", 7: "used",
        taken[8].name: "not come",
    }  # fmt: skip
    assert bench.tilts("TS_1")[4].excluded == "taken_again"
    assert "zero" in bench.tilts("TS_1")[6].reason


def test_another_threshold_does_not_resurrect_what_was_left_out_by_hand(bench: TiltBench) -> None:
    taken = shots("TS_1", ANGLES)
    taken[1].level = 0.5
    _written(bench, taken)
    bench.finish()
    exclude_tilts(bench.home, bench.name, "TS_1", ["3"], "ice")
    for dark_below, expected in ((0.9, {1: "dark", 3: "by_hand"}), (0.0, {3: "by_hand"})):
        bench.change(compose={"dark_below": dark_below})
        bench.finish()
        assert bench.left_out("TS_1") == expected


def test_a_poisoned_tilt_stalls_neither_the_queue_nor_the_end_of_the_session(bench: TiltBench) -> None:
    good, bad = shots("TS_1", ANGLES), shots("TS_2", ANGLES)
    _written(bench, good)
    _written(bench, bad, name="TS_2")
    for shot in bad[:5]:
        (bench.microscope / shot.name).write_bytes(b"poison")
    bench.finish()
    found = bench.all_series()
    assert found["TS_1"].state == "done" and _used(bench) == 7
    assert found["TS_2"].state == "failed" and "2 of 2 tilts can be used" in found["TS_2"].reason


def test_after_a_restart_nothing_is_composed_again(bench: TiltBench) -> None:
    _written(bench, shots("TS_1", ANGLES))
    bench.finish()
    angles = (bench.folder / "compose" / "TS_1.rawtlt").read_text()
    bench.ran.clear()
    for _ in range(2):
        bench.restart()
        bench.finish()
    assert bench.ran == []
    assert (bench.folder / "compose" / "TS_1.rawtlt").read_text() == angles
    assert len(angles.split()) == len(ANGLES)


def test_tilts_found_one_by_one_after_crashes_make_what_they_make_at_once(
    bench: TiltBench, tmp_path: Path
) -> None:
    taken = shots("TS_1", ANGLES)
    bench.write_mdoc("TS_1", mdoc_text(taken))
    for shot in reversed(taken):
        bench.write(shot)
        bench.look()
        bench.step(2)
        bench.restart()
    bench.finish()
    other = TiltBench(tmp_path / "other")
    _written(other, taken)
    other.finish()
    files = ("TS_1.st", "TS_1.rawtlt", "TS_1.mdoc")
    for name in files:
        assert (bench.folder / "compose" / name).read_bytes() == (
            other.folder / "compose" / name
        ).read_bytes()
    other.home.close()


def test_the_forty_first_tilt_has_had_its_dose_once_whoever_gives_it(tmp_path: Path) -> None:
    """Elsewhere 3 e⁻/Å² per tilt add up to 4920 where mdoc and user both give them."""
    given = {"compose": {"dose_per_tilt_e_per_a2": 3.0}, "microscope": {"pre_exposure_e_per_a2": 5.0}}
    bench = TiltBench(tmp_path, given)
    taken = shots("TS_1", dose_symmetric(41, 1.0))
    bench.write(*taken[-1:])
    bench.write_mdoc("TS_1", mdoc_text(taken))
    bench.look()
    last = bench.tilts("TS_1")[40]
    assert last.accumulated_dose_e_per_a2 == 120.0 and last.dose_e_per_a2 == 3.0
    assert last.pre_exposure_e_per_a2 == 125.0
    bench.home.close()


def test_the_minimum_is_a_number_of_tilts_and_not_an_index_or_a_percentage(bench: TiltBench) -> None:
    bench.change(compose={"minimum_count": 6})
    taken = shots("TS_1", ANGLES)
    bench.write(*taken[:5])
    bench.write_mdoc("TS_1", mdoc_text(taken))
    bench.look()
    bench.pass_time(5000)
    assert _used(bench) == 0 and "6 tilts at least" in bench.series("TS_1").waits_for
    bench.write(taken[5])
    bench.look()
    bench.pass_time(5000)
    assert _used(bench) == 6


def test_a_useless_mdoc_is_an_alert_until_it_is_mended(bench: TiltBench) -> None:
    """Elsewhere what is wrong with an mdoc was found, and then ignored."""
    taken = shots("TS_1", ANGLES)
    _written(bench, taken, mdoc_text(taken).replace("ZValue", "MontSection"))
    bench.run_conductor()
    (alert,) = session_progress(bench.home, bench.name).alerts
    assert alert["code"] == "note" and "describes 7 montages, not a tilt series" in alert["message"]
    assert alert["message"].count("TS_1.mrc.mdoc") == 1
    assert _used(bench) == 7, "the names of the tilts tell their series"
    bench.write_mdoc("TS_1", mdoc_text(taken))
    bench.run_conductor()
    assert session_progress(bench.home, bench.name).alerts == ()
    assert bench.series("TS_1").order_source == "date"


def test_movies_that_are_no_tilts_are_an_alert_and_not_silently_done(bench: TiltBench) -> None:
    strays = [replace(shot, name=f"FoilHole_{n}.mrc") for n, shot in enumerate(shots("x", ANGLES[:3]))]
    _written(bench, [*shots("TS_1", ANGLES), *strays], mdoc_text(shots("TS_1", ANGLES)))
    bench.run_conductor()
    (alert,) = session_progress(bench.home, bench.name).alerts
    assert "FoilHole_0.mrc: No mdoc lists this file yet" in alert["message"]
    assert alert["message"].endswith("it is in no series, and so are other files")
    assert _used(bench) == 7


def test_a_gap_in_the_sections_and_a_line_with_two_equals_signs_cost_no_tilt(bench: TiltBench) -> None:
    taken = shots("TS_1", ANGLES)
    text = mdoc_head() + "".join(mdoc_section(s, 2 * s.number) for s in taken)
    _written(bench, taken, text.replace("NumSubFrames = 2", "Note = a = b\nNumSubFrames = 2"))
    bench.finish()
    assert _used(bench) == 7 and bench.series("TS_1").not_come == 0


def test_mdocs_of_single_movies_give_angle_and_dose_and_the_name_gives_the_series(bench: TiltBench) -> None:
    taken = shots("TS_1", ANGLES)
    bench.write(*taken)
    for shot in taken:
        text = mdoc_section(shot).replace(f"[ZValue = {shot.number}]", "[FrameSet = 0]")
        (bench.microscope / f"{shot.name}.mdoc").write_text(text)
    bench.finish()
    one = bench.series("TS_1")
    assert _used(bench) == 7 and one.order_source == "date"
    assert [tilt.pre_exposure_e_per_a2 for tilt in one.tilts] == [3.0 * n for n in range(7)]


def test_unc_paths_and_dates_in_another_language_are_read(bench: TiltBench) -> None:
    taken = shots("TS_1", ANGLES)
    text = mdoc_text(taken, folder="\\\\10.0.0.8\\Offload\\new grid\\").replace("-Feb-", "-Févr.-")
    _written(bench, taken, text)
    bench.finish()
    one = bench.series("TS_1")
    assert _used(bench) == 7 and one.not_come == 0 and one.order_source == "date"


def test_a_dose_rate_is_used_only_where_nothing_else_tells_the_dose_and_says_so(bench: TiltBench) -> None:
    taken = shots("TS_1", ANGLES)
    rate = "DoseRate = 300\nExposureTime = 0.5"
    _written(bench, taken, mdoc_text(taken).replace("ExposureDose = 3.0", rate))
    bench.finish()
    assert bench.tilts("TS_1")[0].dose_e_per_a2 == pytest.approx(1.5)
    assert "dose_from_rate" in dict(bench.series("TS_1").flags)


def _stack(bench: TiltBench, taken: list[Shot], listed: list[Shot], name: str = "A") -> None:
    """One file with all tilts, and its mdoc beside it, which names no movies."""
    images = np.stack([image_of(shot).sum(axis=0, dtype=np.int16) for shot in taken])
    write_image(bench.microscope / f"{name}.mrc", images, PIXEL_ANGSTROM)
    lines = mdoc_text(listed).replace("ImageFile = none.mrc", f"ImageFile = {name}.mrc").splitlines()
    kept = [line for line in lines if not line.startswith(("SubFramePath", "NumSubFrames"))]
    bench.write_mdoc(name, "\n".join(kept) + "\n")


def test_sections_that_were_deleted_from_an_mdoc_shift_no_other(bench: TiltBench) -> None:
    taken = shots("A", ANGLES)
    taken[4].level = 0.05
    _stack(bench, taken, [*taken[:2], *taken[3:]])
    bench.finish()
    one = bench.series("A")
    assert [tilt.section for tilt in one.tilts] == [0, 1, 3, 4, 5, 6]
    assert {t.section: t.excluded for t in one.tilts if t.excluded} == {4: "dark"}
    assert [tilt.tilt_angle_deg for tilt in one.tilts] == [0.0, 3.0, -6.0, 6.0, 9.0, -9.0]


def test_a_stack_with_fewer_sections_than_its_mdoc_lists_is_refused_until_it_is_whole(
    bench: TiltBench,
) -> None:
    taken = shots("A", ANGLES)
    _stack(bench, taken[:5], taken)
    bench.finish()
    (failed, *_) = bench.series("A").tilts
    assert "The stack has 5 sections, and its mdoc gives the angles of 7" in failed.reason
    _stack(bench, taken, taken)
    bench.finish()
    assert _used(bench, "A") == 7


def test_a_list_of_angles_of_another_length_than_the_stack_is_refused(bench: TiltBench) -> None:
    taken = shots("A", ANGLES)
    _stack(bench, taken, taken)
    (bench.microscope / "A.mrc.mdoc").unlink()
    (bench.microscope / "A.rawtlt").write_text("".join(f"{angle}\n" for angle in ANGLES[:-1]))
    bench.finish()
    assert "7 sections, and the .rawtlt beside it gives the angles of 6" in bench.series("A").tilts[0].reason


def test_one_section_of_a_stack_is_left_out_by_hand(bench: TiltBench) -> None:
    taken = shots("A", ANGLES)
    _stack(bench, taken, taken)
    bench.finish()
    exclude_tilts(bench.home, bench.name, "A", ["A[2]"], "crack")
    bench.finish()
    assert bench.left_out("A") == {2: "by_hand"} and _used(bench, "A") == 6


# --- parts


def test_a_jump_of_forty_pixels_just_below_zero_is_followed() -> None:
    """Elsewhere the tilt just below 0° became its own reference, and everything beyond it was lost."""
    tilts = np.arange(-9.0, 10.0, 3.0)
    jump = np.where(tilts[:, None] < 0, (0.0, 40.0), (0.0, 0.0))
    scene = tilt_scene((230, 250), tilts, thickness_px=40.0, tracking_px=0.5, extra_shift_yx_px=jump, seed=9)
    prepared = prepare_tilts(scene.images)
    coarse = align_coarsely(prepared.images, nominal_geometry(tilts, 84.0), prepared.has_content)
    found, true = (np.diff(shift[2:4], axis=0) for shift in (coarse.geometry.shift_yx_px, scene.shift_yx_px))
    assert np.abs(found - true).max() < 2.5


@pytest.mark.parametrize("thickness_px", [0.0, 75.0])
def test_the_thickness_of_nothing_is_not_the_largest_that_was_looked_for(thickness_px: float) -> None:
    tilts = np.arange(-60.0, 61.0, 6.0)
    geometry = TiltGeometry(tilts, np.full(len(tilts), 84.0), np.zeros((len(tilts), 2)))
    if thickness_px:
        images = dotted_slab(thickness_px, geometry, (150, 162), dots=11000)
    else:
        images = np.random.default_rng(3).normal(40, 6, (len(tilts), 150, 162)).astype(np.float32)
    slab = find_slab_in_series(images, geometry, 20.0, 175, threads=2)
    assert slab.detectable is bool(thickness_px)
    assert slab.thickness == pytest.approx(thickness_px + 4, rel=0.1) if thickness_px else slab.reason


@pytest.mark.parametrize("style", ["serialem", "pacetomo", "tomo5"])
@pytest.mark.parametrize("axis_deg", [84.0, -96.0, 264.0, 0.0])
def test_the_axis_has_the_same_sense_whichever_program_wrote_it(
    tmp_path: Path, style: MdocStyle, axis_deg: float
) -> None:
    """A point above the specimen's middle must move to the side to which it really moved."""
    config = TiltSeriesConfig(axis_angle_deg=axis_deg, detector_yx_px=(130, 140))
    when = datetime(2025, 3, 4, 5, 6, 7, tzinfo=UTC)
    tilt = MdocTilt(0, 20.0, "a.tif", when, 0.0, 3e4, 10.0)
    path = tmp_path / "a.mdoc"
    path.write_text(mdoc_header(config, style, "a.mrc", when) + simulated_section(config, style, tilt))
    read = read_mdoc(path).axis_angle_deg
    assert read is not None and wrapped(read - axis_deg) == pytest.approx(0.0, abs=0.01)
    above = [[100.0, 0.0, 0.0]]
    seen, true = (nominal_geometry([20.0], angle).project(above) for angle in (read, axis_deg))
    assert np.abs(seen - true).max() < 0.1


def test_alignments_read_by_several_threads_are_not_mixed_up(tmp_path: Path) -> None:
    paths = []
    for number in range(8):
        paths.append(tmp_path / f"{number}.aln")
        series = record(x_tilt_deg=0.0)
        tilts = tuple(replace(tilt, axis_angle_deg=10.0 * number) for tilt in series.tilts)
        write_aln(paths[-1], replace(series, tilts=tilts))
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(read_aln, paths * 5))
    assert [round(float(one.axis_angle_deg[0])) for one in found] == [10 * n for n in range(8)] * 5
