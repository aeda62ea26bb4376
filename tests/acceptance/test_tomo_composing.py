"""Tilts become series: whatever comes late, twice, dark, or never. Each file is real, and small."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.tilt_bench import Shot, TiltBench, mdoc_head, mdoc_section, mdoc_text, shots
from tomofly.services.tilts import exclude_tilts, include_tilts, process_now

ANGLES = (0.0, 3.0, -3.0, -6.0, 6.0, 9.0, -9.0)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[TiltBench]:
    made = TiltBench(tmp_path)
    yield made
    made.home.close()


def written(bench: TiltBench, name: str = "TS_1", angles: tuple[float, ...] = ANGLES) -> list[Shot]:
    """A series that is there, with its mdoc, and has been composed."""
    taken = shots(name, angles)
    bench.write(*taken)
    bench.write_mdoc(name, mdoc_text(taken))
    bench.look()
    bench.work()
    bench.pass_time(500)
    return taken


def used(bench: TiltBench, name: str = "TS_1") -> int:
    return sum(tilt.state == "used" for tilt in bench.series(name).tilts)


def test_a_late_tilt_recomposes_its_series_by_itself(bench: TiltBench) -> None:
    taken = shots("TS_1", ANGLES)
    bench.write(*taken[:6])
    bench.write_mdoc("TS_1", mdoc_text(taken))
    bench.look()
    bench.work()
    assert "6 of 7 tilts" in bench.series("TS_1").waits_for and "1 named in the mdoc has not come" in (
        bench.series("TS_1").waits_for
    )
    assert bench.tilts("TS_1")["TS_1_006_-9.0.mrc"].state == "not come"
    bench.pass_time(500)
    assert used(bench) == 6 and bench.times_run("compose", "TS_1") == 1
    bench.write(taken[6])
    bench.look()
    bench.pass_time(500)
    assert used(bench) == 7 and bench.times_run("compose", "TS_1") == 2
    assert bench.tilts("TS_1")[6].pre_exposure_e_per_a2 == 18.0
    assert bench.times_run("tilt_motion", "TS_1_000_0.0") == 1


def test_a_file_that_never_comes_is_waited_for_until_silence_and_its_dose_counts(bench: TiltBench) -> None:
    taken = shots("TS_1", ANGLES)
    bench.write(*taken[:3], *taken[4:])
    bench.write_mdoc("TS_1", mdoc_text(taken))
    bench.look()
    bench.work()
    assert bench.series("TS_1").waits_for.endswith("has not come; goes on at silence of 120 s")
    bench.pass_time(500)
    assert used(bench) == 6
    assert bench.tilts("TS_1")[4].pre_exposure_e_per_a2 == 12.0


def test_process_now_goes_on_with_what_is_there_and_a_later_tilt_is_waited_for_again(
    bench: TiltBench,
) -> None:
    taken = shots("TS_1", ANGLES)
    bench.write(*taken[:4])
    bench.write_mdoc("TS_1", mdoc_text(taken))
    bench.look()
    bench.pass_time(5000)
    waiting = bench.series("TS_1")
    assert waiting.state == "waiting" and "goes on with 5 tilts at least, when asked" in waiting.waits_for
    process_now(bench.home, bench.name, ["TS_1"])
    bench.work()
    assert used(bench) == 4
    bench.write(*taken[4:6])
    bench.look()
    bench.work()
    assert bench.times_run("compose", "TS_1") == 1, "the wish was fulfilled; the rule holds again"
    bench.pass_time(500)
    assert used(bench) == 6


def test_of_tilts_taken_again_the_last_is_used_or_the_best(bench: TiltBench) -> None:
    taken = shots("TS_1", (0.0, 3.0, 3.0, -3.0, -6.0, 6.0))
    taken[2].level = 0.6
    bench.write(*taken)
    bench.write_mdoc("TS_1", mdoc_text(taken))
    bench.finish()
    assert bench.left_out("TS_1") == {1: "taken_again"}
    bench.change(compose={"retaken": "best"})
    bench.finish()
    assert bench.left_out("TS_1") == {2: "taken_again"}
    assert bench.tilts("TS_1")[2].reason == "TS_1_001_3.0 of the same angle is better"


def test_dark_blocked_and_shifted_tilts_are_left_out_before_alignment_with_their_reasons(
    bench: TiltBench,
) -> None:
    taken = shots("TS_1", (*ANGLES, 12.0, -12.0))
    taken[1].level = 0.05
    taken[5].blocked = 0.7
    taken[3].shift_yx = (0, 65)
    bench.write(*taken)
    bench.write_mdoc("TS_1", mdoc_text(taken))
    bench.finish()
    assert bench.left_out("TS_1") == {1: "dark", 5: "blocked", 3: "shifted"}
    reasons = {order: tilt.reason for order, tilt in bench.tilts("TS_1").items()}
    assert "of what its angle lets expect, compose.dark_below=0.3" in reasons[1]
    assert "of it are blocked" in reasons[5] and "of the field" in reasons[3]
    assert "series_alignment" not in {stage for stage, _ in bench.ran}


def test_what_people_leave_out_stays_out_through_every_re_run_and_comes_back_when_they_say(
    bench: TiltBench,
) -> None:
    taken = written(bench)
    exclude_tilts(bench.home, bench.name, "TS_1", ["2", "-9deg"], "drift")
    bench.work()
    assert bench.left_out("TS_1") == {2: "by_hand", 6: "by_hand"}
    assert bench.tilts("TS_1")[2].reason == "Left out by hand: drift"
    bench.change(compose={"dark_below": 0.05}, microscope={"pixel_size_angstrom": 10.1})
    bench.finish()
    bench.write_mdoc("TS_1", mdoc_text(taken).replace("ExposureDose = 3.0", "ExposureDose = 2.5"))
    bench.restart()
    bench.finish()
    assert bench.left_out("TS_1") == {2: "by_hand", 6: "by_hand"}
    assert bench.tilts("TS_1")[3].pre_exposure_e_per_a2 == 7.5
    include_tilts(bench.home, bench.name, "TS_1", ["TS_1_002_-3.0"])
    bench.work()
    assert bench.left_out("TS_1") == {6: "by_hand"}


def test_a_tilt_that_was_found_dark_is_used_when_people_say_so(bench: TiltBench) -> None:
    taken = shots("TS_1", ANGLES)
    taken[4].level = 0.1
    bench.write(*taken)
    bench.write_mdoc("TS_1", mdoc_text(taken))
    bench.finish()
    assert bench.left_out("TS_1") == {4: "dark"}
    include_tilts(bench.home, bench.name, "TS_1", ["4"])
    assert bench.tilts("TS_1")[4].reason == "is taken in when the series is composed again"
    bench.work()
    assert bench.left_out("TS_1") == {} and used(bench) == 7


def test_ts_1_is_not_ts_10(bench: TiltBench) -> None:
    few, many = shots("TS_1", ANGLES[:5]), shots("TS_10", ANGLES)
    bench.write(*few, *many)
    bench.write_mdoc("TS_1", mdoc_text(few))
    bench.write_mdoc("TS_10", mdoc_text(many))
    bench.finish()
    assert {name: len(one.tilts) for name, one in bench.all_series().items()} == {"TS_1": 5, "TS_10": 7}
    exclude_tilts(bench.home, bench.name, "TS_1", ["0"], "test")
    bench.work()
    assert bench.left_out("TS_1") == {0: "by_hand"} and bench.left_out("TS_10") == {}
    assert bench.times_run("compose", "TS_10") == 1


def test_one_failed_tilt_never_blocks_its_series(bench: TiltBench) -> None:
    taken = shots("TS_1", ANGLES)
    bench.write(*taken)
    (bench.microscope / taken[3].name).write_bytes(b"no movie at all " * 100)
    bench.write_mdoc("TS_1", mdoc_text(taken))
    bench.look()
    bench.work()
    bench.pass_time(500)
    assert used(bench) == 6
    failed = bench.tilts("TS_1")[3]
    assert failed.state == "failed" and failed.reason
    assert bench.tilts("TS_1")[4].pre_exposure_e_per_a2 == 12.0, "it was exposed all the same"


def test_a_series_of_two_tilts_and_one_that_is_all_dark_say_why_they_make_nothing(bench: TiltBench) -> None:
    two, dark = shots("A", (0.0, 3.0)), shots("B", ANGLES)
    for shot in dark:
        shot.level = 0.0
    bench.write(*two, *dark)
    bench.write_mdoc("A", mdoc_text(two))
    bench.write_mdoc("B", mdoc_text(dark))
    bench.finish()
    found = bench.all_series()
    assert {name: one.state for name, one in found.items()} == {"A": "failed", "B": "failed"}
    assert "2 of 2 tilts can be used" in found["A"].reason
    assert found["B"].reason.startswith("none of its 7 tilts has a result; import: All pixels of the movie")
    assert {tilt.state for tilt in found["B"].tilts} == {"failed"}


def test_tilts_of_another_size_are_left_out_with_both_sizes_in_the_reason(bench: TiltBench) -> None:
    taken = shots("TS_1", ANGLES)
    taken[2].shape = (140, 132)
    bench.write(*taken)
    bench.write_mdoc("TS_1", mdoc_text(taken))
    bench.finish()
    assert bench.left_out("TS_1") == {2: "other_size"}
    assert bench.tilts("TS_1")[2].reason == "It has 132 x 140 pixels, most have 140 x 132"


def test_a_pixel_size_that_contradicts_the_mdoc_is_flagged(bench: TiltBench) -> None:
    bench.change(microscope={"pixel_size_angstrom": 7.0})
    written(bench)
    codes = dict(bench.series("TS_1").flags)
    assert "The settings' pixel size is 7 Å, the mdoc's 10 Å" in codes["pixel_size_differs"]


def test_an_axis_given_half_a_turn_off_is_flagged_for_what_it_does(bench: TiltBench) -> None:
    bench.change(compose={"axis_angle_deg": 84.1 - 180})
    written(bench)
    assert "inverts the sense of the tilt" in dict(bench.series("TS_1").flags)["axis_opposite"]


def test_an_mdoc_that_names_files_which_do_not_exist_leaves_the_tilts_to_their_names(
    bench: TiltBench,
) -> None:
    taken, named = shots("TS_1", ANGLES), shots("Other", ANGLES)
    bench.write(*taken)
    bench.write_mdoc("TS_1", mdoc_text(named))
    bench.finish()
    one = bench.series("TS_1")
    assert used(bench) == 7 and one.not_come == 7
    assert {"not_in_mdoc"} <= {code for code, _ in one.flags}


def test_an_mdoc_rewritten_while_it_is_read_costs_nothing(bench: TiltBench) -> None:
    taken = shots("TS_1", ANGLES)
    bench.write(*taken)
    whole = mdoc_text(taken)
    for end in (len(mdoc_head()) - 5, 0, len(whole) // 2, len(whole) - 30, len(whole)):
        bench.write_mdoc("TS_1", whole[:end])
        bench.look()
        bench.work()
    bench.finish()
    one = bench.series("TS_1")
    assert used(bench) == 7 and one.order_source == "date"
    assert [tilt.pre_exposure_e_per_a2 for tilt in one.tilts] == [3.0 * n for n in range(7)]


def test_sections_may_lack_their_numbers_or_repeat_them(bench: TiltBench) -> None:
    taken = shots("TS_1", ANGLES)
    bench.write(*taken)
    numbers = (0, 1, 2, 5, 5, 9, 10)
    text = mdoc_head("0.0") + "".join(mdoc_section(s, z) for s, z in zip(taken, numbers, strict=True))
    bench.write_mdoc("TS_1", text.replace("[ZValue = 10]", "[ZValue]"))
    bench.finish()
    assert used(bench) >= 6
    assert bench.series("TS_1").axis_angle_deg == 0.0


def test_the_mdoc_is_kept_with_the_series_also_after_it_is_gone(bench: TiltBench) -> None:
    taken = written(bench)
    copy = bench.folder / "compose" / "TS_1.mdoc"
    assert copy.read_text() == mdoc_text(taken)
    (bench.microscope / "TS_1.mrc.mdoc").unlink()
    exclude_tilts(bench.home, bench.name, "TS_1", ["0"], "test")
    bench.work()
    assert copy.read_text() == mdoc_text(taken) and bench.times_run("compose", "TS_1") == 2
