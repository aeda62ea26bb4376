"""Files and notes become tilts of series, whatever comes late, twice, wrong or never."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.stages.tilt_files import BEGAN_S, Tilt, found, mdoc_text, note, series
from tomofly.model import Entry, SourceFile
from tomofly.stages.tilts.catalog import TiltCatalog
from tomofly.stages.tilts.rules import ComposeParams

DEFAULTS = ComposeParams()


def taken(files: list[SourceFile], params: ComposeParams = DEFAULTS) -> dict[str, dict[str, Any]]:
    """Give the attributes of the items that a new catalogue makes of files."""
    return {entry.key: dict(entry.attributes) for entry in TiltCatalog(params).take(files)}


def latest(known: dict[str, Entry], entries: list[Entry]) -> dict[str, Entry]:
    return known | {entry.key: entry for entry in entries}


def codes(attributes: dict[str, Any]) -> set[str]:
    return {code for code, _ in attributes["flags"]}


def test_a_series_is_grouped_by_its_mdoc(tmp_path: Path) -> None:
    tilts = series("amelo_run3", 7)
    got = taken([note(tmp_path, "L1_ts_001.mrc.mdoc", mdoc_text(tilts)), *map(found, tilts)])
    assert {a["series"] for a in got.values()} == {"L1_ts_001"}
    third = got[tilts[2].name]
    assert third["tilt_angle_deg"] == pytest.approx(-3 + 0.0013)
    assert (third["order"], third["dose_e_per_a2"], third["accumulated_dose_e_per_a2"]) == (2, 3.1, 6.2)
    assert third["axis_angle_deg"] == 84.1
    assert third["target_defocus_angstrom"] == 40000.0
    assert (third["expected"], third["not_found"], third["found"]) == (7, 0, 7)
    assert third["flags"] == []
    json.dumps(got)


@pytest.mark.parametrize("folder", ["D:\\a\\b\\", "\\\\10.0.0.1\\Store\\\\x\\", "/mnt/raw/", ""])
def test_paths_of_any_system_name_the_same_movies(tmp_path: Path, folder: str) -> None:
    tilts = series("x", 3)
    got = taken([note(tmp_path, "A.mdoc", mdoc_text(tilts, folder=folder)), *map(found, tilts)])
    assert {a["series"] for a in got.values()} == {"A"}


def test_ts_1_is_not_ts_10(tmp_path: Path) -> None:
    one, ten = series("TS_1", 5), series("TS_10", 6)
    by_name = taken([*map(found, one), *map(found, ten)])
    assert {by_name[t.name]["series"] for t in one} == {"TS_1"}
    assert {by_name[t.name]["found"] for t in ten} == {6}
    notes = [note(tmp_path, f"{n}.mdoc", mdoc_text(t)) for n, t in (("TS_1", one), ("TS_10", ten))]
    by_mdoc = taken([*notes, *map(found, one), *map(found, ten)])
    assert {by_mdoc[t.name]["series"] for t in one} == {"TS_1"}
    assert {by_mdoc[t.name]["expected"] for t in one} == {5}


def test_a_late_mdoc_changes_the_tilts_that_it_lists(tmp_path: Path) -> None:
    tilts, stranger = series("run_7_lamella", 5), found("unnamed.tif")
    catalog = TiltCatalog(DEFAULTS)
    first = catalog.take([stranger, *map(found, tilts)])
    assert {e.attributes["series"] for e in first if e.key != "unnamed.tif"} == {"run_7_lamella"}
    later = catalog.take([note(tmp_path, "Position_1.mdoc", mdoc_text(tilts))])
    assert {e.key for e in later} == {t.name for t in tilts}
    assert {e.attributes["series"] for e in later} == {"Position_1"}
    assert all(e.attributes["dose_e_per_a2"] == 3.1 for e in later)


def test_an_mdoc_that_grows_with_its_series_keeps_it_together(tmp_path: Path) -> None:
    tilts = series("TS_01", 5)
    catalog, known = TiltCatalog(DEFAULTS), dict[str, Entry]()
    for n, tilt in enumerate(tilts, start=1):
        known = latest(known, catalog.take([found(tilt)]))
        grown = note(tmp_path, "TS_01.mrc.mdoc", mdoc_text(tilts[:n]), at_s=20.0 * n)
        known = latest(known, catalog.take([grown]))
        assert {e.attributes["series"] for e in known.values()} == {"TS_01"}
        assert {e.attributes["expected"] for e in known.values()} == {n}
        assert {e.attributes["mdoc_changed_at"] for e in known.values()} == {BEGAN_S + 20.0 * n}


def test_a_rewritten_mdoc_changes_what_it_said(tmp_path: Path) -> None:
    tilts = series("TS_01", 4)
    catalog = TiltCatalog(DEFAULTS)
    catalog.take([note(tmp_path, "TS_01.mdoc", mdoc_text(tilts)), *map(found, tilts)])
    bent = [Tilt(t.name, -t.angle, t.at_s) for t in tilts]
    again = catalog.take([note(tmp_path, "TS_01.mdoc", mdoc_text(bent, dose=2.5), at_s=9.0)])
    assert len(again) == 4
    assert {e.attributes["dose_e_per_a2"] for e in again} == {2.5}
    assert "angle_differs" in codes(dict(again[-1].attributes))


def test_an_mdoc_that_is_broken_for_a_while_costs_nothing(tmp_path: Path) -> None:
    tilts = series("TS_01", 4)
    catalog = TiltCatalog(DEFAULTS)
    text = mdoc_text(tilts)
    catalog.take([note(tmp_path, "TS_01.mdoc", text), *map(found, tilts)])
    assert catalog.take([note(tmp_path, "TS_01.mdoc", "", at_s=5.0)]) == []
    assert "empty" in next(iter(catalog.problems.values()))
    half = catalog.take([note(tmp_path, "TS_01.mdoc", text[: len(text) // 2], at_s=6.0)])
    assert all(e.attributes["series"] == "TS_01" for e in half)
    whole = catalog.take([note(tmp_path, "TS_01.mdoc", text, at_s=7.0)])
    assert {e.attributes["expected"] for e in whole} == {4}
    assert not catalog.problems


def test_movies_that_never_come_are_named_and_their_dose_counts(tmp_path: Path) -> None:
    tilts = series("TS_01", 7)
    got = taken([note(tmp_path, "TS_01.mdoc", mdoc_text(tilts)), *(found(t) for t in tilts if t.at_s != 40)])
    assert {a["not_found"] for a in got.values()} == {1}
    assert got[tilts[0].name]["not_found_names"] == [tilts[2].name]
    assert got[tilts[3].name]["accumulated_dose_e_per_a2"] == pytest.approx(9.3)


def test_a_truncated_movie_is_a_tilt_that_will_fail_and_says_so() -> None:
    file = SourceFile(Path("/data/TS_1_000_0.0.tif"), "TS_1_000_0.0", "1:1", 5.0, False, "3 bytes missing")
    attributes = taken([file])["TS_1_000_0.0"]
    assert attributes["series"] == "TS_1"
    assert "not_whole" in codes(attributes)


def test_tilts_come_in_any_order_and_the_order_of_exposure_stands(tmp_path: Path) -> None:
    tilts = series("TS_01", 7)
    got = taken([*map(found, reversed(tilts)), note(tmp_path, "TS_01.mdoc", mdoc_text(tilts))])
    assert [got[t.name]["order"] for t in tilts] == list(range(7))


def test_an_axis_of_zero_is_an_axis(tmp_path: Path) -> None:
    tilts = series("TS_01", 3)
    got = taken([note(tmp_path, "TS_01.mdoc", mdoc_text(tilts, axis="0.0")), *map(found, tilts)])
    assert {a["axis_angle_deg"] for a in got.values()} == {0.0}
    assert got[tilts[0].name]["flags"] == []


def test_an_axis_half_a_turn_off_is_flagged(tmp_path: Path) -> None:
    tilts = series("TS_01", 3)
    files = [note(tmp_path, "TS_01.mdoc", mdoc_text(tilts)), *map(found, tilts)]
    got = taken(files, ComposeParams(axis_angle_deg=-95.9))
    assert {a["axis_angle_deg"] for a in got.values()} == {-95.9}
    assert "axis_opposite" in codes(got[tilts[0].name])
    turned = taken(files, ComposeParams(axis_angle_deg=264.1))  # the same axis, said otherwise
    assert turned[tilts[0].name]["axis_angle_deg"] == pytest.approx(-95.9)
    assert taken(files, ComposeParams(axis_angle_deg=90.0))[tilts[0].name]["flags"] == []


def test_sections_may_be_missing_repeated_or_out_of_order(tmp_path: Path) -> None:
    tilts = series("TS_01", 5)
    text = mdoc_text([tilts[4], tilts[0], tilts[1], tilts[1], tilts[3]]).replace(
        "[ZValue = 2]", "[ZValue = 17]"
    )
    got = taken([note(tmp_path, "TS_01.mdoc", text), *map(found, tilts)])
    assert {a["expected"] for a in got.values()} == {4}
    assert "listed_twice" in codes(got[tilts[1].name])
    assert "not_in_mdoc" in codes(got[tilts[2].name])
    listed = [tilts[n].name for n in (0, 1, 3, 4)]
    assert [got[name]["order"] for name in listed] == sorted(got[name]["order"] for name in listed)


def test_dates_that_cannot_be_read_leave_the_order_to_the_numbers(tmp_path: Path) -> None:
    tilts = series("TS_01", 5)
    text = "\n".join(
        "DateTime = yesterday" if line.startswith("DateTime") else line
        for line in mdoc_text(list(reversed(tilts))).splitlines()
    )
    got = taken([note(tmp_path, "TS_01.mdoc", text + "\n"), *map(found, tilts)])
    assert [got[t.name]["order"] for t in tilts] == [0, 1, 2, 3, 4]
    assert got[tilts[0].name]["order_source"] == "number"
    assert "no_date" in codes(got[tilts[0].name])


def test_a_montage_is_refused_with_its_reason(tmp_path: Path) -> None:
    tilts = series("TS_01", 2)
    text = mdoc_text(tilts).replace("NumSubFrames", "PieceCoordinates = 0 0 0\nNumSubFrames", 1)
    text = text[::-1].replace("semarFbuSmuN", "semarFbuSmuN\n0 0 0083 = setanidrooCeceiP", 1)[::-1]
    catalog = TiltCatalog(DEFAULTS)
    entries = catalog.take([note(tmp_path, "TS_01.mdoc", text), *map(found, tilts)])
    assert {e.attributes["series_source"] for e in entries} == {"pattern"}
    assert "montage" in next(iter(catalog.problems.values()))


def test_an_mdoc_beside_each_movie_gives_the_facts_and_the_name_the_series(tmp_path: Path) -> None:
    tilts = series("s_mmm", 4)
    notes = [
        note(tmp_path, f"{t.name}.mdoc", mdoc_text([t]).replace("ZValue", "FrameSet"))
        for t in reversed(tilts)
    ]
    got = taken([*notes, *map(found, tilts)])
    assert {a["series"] for a in got.values()} == {"s_mmm"}
    assert [got[t.name]["order"] for t in tilts] == [0, 1, 2, 3]
    assert got[tilts[3].name]["accumulated_dose_e_per_a2"] == pytest.approx(9.3)
    assert got[tilts[0].name]["order_source"] == "date"


def test_names_that_mdocs_contradict_make_no_series(tmp_path: Path) -> None:
    first, second = series("run", 3), [Tilt(f"run_{n:03d}_{n}.0.tif", float(n), 100.0 + n) for n in (7, 8)]
    catalog = TiltCatalog(DEFAULTS)
    catalog.take([note(tmp_path, "L1.mdoc", mdoc_text(first)), *map(found, first)])
    entries = catalog.take(list(map(found, second)))
    assert {e.attributes["series"] for e in entries} == {""}
    assert "no_series" in codes(dict(entries[0].attributes))
    entries = catalog.take([note(tmp_path, "L2.mdoc", mdoc_text(second))])
    assert {e.attributes["series"] for e in entries} == {"L2"}
    pattern = ComposeParams(pattern="{series}_{order:03d}_{angle}")
    trusted = taken([note(tmp_path, "L1.mdoc", mdoc_text(first)), *map(found, [*first, *second])], pattern)
    assert trusted[second[0].name]["series"] == "run"


def test_series_of_one_name_in_two_folders_stay_apart(tmp_path: Path) -> None:
    tilts = series("TS_01", 3)
    files = [
        file
        for grid in ("grid1", "grid2")
        for file in (
            note(tmp_path, "TS_01.mdoc", mdoc_text(tilts), folder=grid),
            *(found(t, f"{grid}/frames", root=str(tmp_path)) for t in tilts),
        )
    ]
    got = taken(files)
    assert {a["series"] for a in got.values()} == {"grid1/TS_01", "grid2/TS_01"}
    assert got[f"grid2/frames/{tilts[0].name}"]["series"] == "grid2/TS_01"
    assert {a["found"] for a in got.values()} == {3}


def test_two_mdocs_of_one_name_and_other_movies_are_two_series(tmp_path: Path) -> None:
    one, other = series("a", 3), series("b", 4)
    files = [note(tmp_path, "TS.mrc.mdoc", mdoc_text(other)), note(tmp_path, "TS.mdoc", mdoc_text(one))]
    for ordered in (files, files[::-1]):
        got = taken([*map(found, [*one, *other]), *ordered])
        assert {got[t.name]["series"] for t in one} == {"TS"}
        assert {got[t.name]["series"] for t in other} == {"TS.mrc"}


def test_a_copy_of_an_mdoc_changes_nothing(tmp_path: Path) -> None:
    tilts = series("TS_01", 4)
    files = [note(tmp_path, "TS_01.mdoc", mdoc_text(tilts)), *map(found, tilts)]
    copy = note(tmp_path, "TS_01.mrc.mdoc", mdoc_text(tilts))
    plain, doubled = taken(files), taken([copy, *files])
    assert {a["expected"] for a in doubled.values()} == {4}
    assert [a["series"] for a in doubled.values()] == [a["series"] for a in plain.values()]


def test_a_movie_of_another_suffix_than_the_mdoc_says_is_found_and_flagged(tmp_path: Path) -> None:
    tilts = series("TS_01", 3, suffix=".mrc")
    files = [found(Tilt(t.name.replace(".mrc", ".tif"), t.angle, t.at_s)) for t in tilts]
    got = taken([note(tmp_path, "P.mdoc", mdoc_text(tilts)), *files])
    assert {a["series"] for a in got.values()} == {"P"}
    assert all("mdoc_name_differs" in codes(a) for a in got.values())


def test_grouping_by_mdoc_alone_waits_for_it() -> None:
    got = taken(list(map(found, series("TS_01", 2))), ComposeParams(grouping="mdoc"))
    assert {a["series"] for a in got.values()} == {""}


def test_grouping_by_pattern_keeps_the_facts_of_the_mdoc(tmp_path: Path) -> None:
    tilts = series("TS_01", 3)
    params = ComposeParams(grouping="pattern", pattern="{series}_{order}_{angle}")
    got = taken([note(tmp_path, "other.mdoc", mdoc_text(tilts)), *map(found, tilts)], params)
    assert {a["series"] for a in got.values()} == {"TS_01"}
    assert {a["dose_e_per_a2"] for a in got.values()} == {3.1}


def test_angles_of_the_settings_go_by_the_number_in_the_name() -> None:
    params = ComposeParams(angles_deg=(0, 3, -3), dose_per_tilt_e_per_a2=2.0)
    got = taken([found(f"TS_01_{n:03d}.tif") for n in (3, 1, 2)], params)
    assert [got[f"TS_01_{n:03d}.tif"]["tilt_angle_deg"] for n in (1, 2, 3)] == [0.0, 3.0, -3.0]
    assert got["TS_01_003.tif"]["accumulated_dose_e_per_a2"] == 4.0
    assert got["TS_01_003.tif"]["angle_source"] == "settings"


def test_the_order_of_the_settings_goes_by_the_angle_in_the_name() -> None:
    params = ComposeParams(angles_deg=(0, 3, -3))
    got = taken([found(f"TS_1_[{a}.0].tif", at_s=-a) for a in (-3, 0, 3)], params)
    assert [got[f"TS_1_[{a}.0].tif"]["order"] for a in (0, 3, -3)] == [0, 1, 2]


def test_a_stack_takes_its_angles_from_the_list_beside_it(tmp_path: Path) -> None:
    angles = note(tmp_path, "TS_01.rawtlt", "-3.0\n0.0\n 3.0\n")
    order = note(tmp_path, "TS_01.order", "2\n0\n1\n")
    stack = found("TS_01.st")
    catalog = TiltCatalog(ComposeParams(dose_per_tilt_e_per_a2=3.0))
    (before,) = catalog.take([stack])
    assert before.attributes["series"] == ""
    (entry,) = catalog.take([angles, order])
    assert (entry.attributes["series"], entry.attributes["series_source"]) == ("TS_01", "stack")
    views = entry.attributes["views"]
    assert [v["tilt_angle_deg"] for v in views] == [-3.0, 0.0, 3.0]
    assert [v["accumulated_dose_e_per_a2"] for v in views] == [6.0, 0.0, 3.0]


def test_a_sorted_stack_without_an_order_says_that_the_doses_are_uncertain(tmp_path: Path) -> None:
    got = taken([found("TS_01.mrc"), note(tmp_path, "TS_01.tlt", "-3\n0\n3\n")])
    assert "order_uncertain" in codes(got["TS_01.mrc"])
    given_order = ComposeParams(order=(2, 0, 1))
    got = taken([found("TS_01.mrc"), note(tmp_path, "TS_01.tlt", "-3\n0\n3\n")], given_order)
    assert "order_uncertain" not in codes(got["TS_01.mrc"])


def test_a_stack_takes_angles_and_order_from_its_mdoc(tmp_path: Path) -> None:
    tilts = sorted(series("x", 5), key=lambda t: t.angle)
    text = mdoc_text(tilts).replace("ImageFile = x.mrc", "ImageFile = TS_01.mrc")
    text = "\n".join(line for line in text.splitlines() if not line.startswith("SubFramePath")) + "\n"
    got = taken([note(tmp_path, "TS_01.mrc.mdoc", text), found("TS_01.mrc")])["TS_01.mrc"]
    assert got["series_source"] == "stack"
    assert [v["order"] for v in got["views"]] == [3, 2, 0, 1, 4]
    assert got["axis_angle_deg"] == 84.1


def test_the_stack_of_movies_is_no_tilt(tmp_path: Path) -> None:
    tilts = series("TS_01", 3)
    text = mdoc_text(tilts).replace("ImageFile = x.mrc", "ImageFile = TS_01.mrc")
    got = taken([note(tmp_path, "TS_01.mrc.mdoc", text), found("TS_01.mrc"), *map(found, tilts)])
    assert got["TS_01.mrc"]["series"] == ""
    assert "stack_of_movies" in codes(got["TS_01.mrc"])
    alone = ComposeParams(grouping="stack")
    as_stack = taken([note(tmp_path, "TS_01.mrc.mdoc", text), found("TS_01.mrc")], alone)["TS_01.mrc"]
    assert len(as_stack["views"]) == 3


def test_every_file_is_a_series_where_the_settings_say_so() -> None:
    got = taken([found("a.mrc"), found("b.mrc")], ComposeParams(grouping="stack", angles_deg=(0, 3)))
    assert {a["series"] for a in got.values()} == {"a", "b"}
    assert [v["tilt_angle_deg"] for v in got["a.mrc"]["views"]] == [0.0, 3.0]
    assert "no_angles" in codes(taken([found("a.mrc")], ComposeParams(grouping="stack"))["a.mrc"])


def test_a_list_that_holds_no_numbers_is_reported(tmp_path: Path) -> None:
    catalog = TiltCatalog(DEFAULTS)
    catalog.take([note(tmp_path, "a.rawtlt", "0\nthree\n"), note(tmp_path, "b.tlt", "400\n")])
    assert sorted(Path(path).name for path in catalog.problems) == ["a.rawtlt", "b.tlt"]


def scene(folder: Path) -> list[SourceFile]:
    """Two series of mdocs, one of names, a stack, a stranger, and an mdoc that is no good."""
    one, two, three = series("TS_1", 4), series("run", 3, begin_s=500), series("TS_10", 3, begin_s=900)
    return [
        note(folder, "TS_1.mrc.mdoc", mdoc_text(one), at_s=80),
        note(folder, "L2.mdoc", mdoc_text(two), at_s=600),
        note(folder, "bad.mdoc", "no mdoc at all\n" * 9),
        note(folder, "S.rawtlt", "0\n3\n"),
        *map(found, [*one[:3], *two, *three]),
        found("S.mrc"),
        found("strange.tif"),
    ]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_what_is_known_in_the_end_does_not_depend_on_the_order_of_coming(
    tmp_path: Path, data: st.DataObject
) -> None:
    files = scene(tmp_path)
    shuffled = data.draw(st.permutations(files))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(files)), max_size=3)))
    catalog, known = TiltCatalog(DEFAULTS), dict[str, Entry]()
    for begin, end in zip([0, *cuts], [*cuts, len(files)], strict=True):
        known = latest(known, catalog.take(shuffled[begin:end]))
    assert known == latest({}, TiltCatalog(DEFAULTS).take(files))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_restart_at_any_moment_changes_nothing(tmp_path: Path, data: st.DataObject) -> None:
    files = scene(tmp_path)
    for file in files[:4]:
        os.utime(file.path, (file.acquired_at, file.acquired_at))
    shuffled = data.draw(st.permutations(files))
    cut = data.draw(st.integers(0, len(files)))
    known = latest({}, TiltCatalog(DEFAULTS).take(shuffled[:cut]))
    restarted = TiltCatalog(DEFAULTS)
    restarted.remember(known.values())
    notes = [file for file in shuffled[:cut] if file in files[:4]]
    assert restarted.take(notes) == []  # the watcher announces notes again
    assert latest(known, restarted.take(shuffled[cut:])) == latest({}, TiltCatalog(DEFAULTS).take(files))


def test_what_an_mdoc_told_stands_after_it_is_gone(tmp_path: Path) -> None:
    tilts = series("run", 3)
    mdoc = note(tmp_path, "L1.mdoc", mdoc_text(tilts))
    known = TiltCatalog(DEFAULTS).take([mdoc, *map(found, tilts)])
    mdoc.path.unlink()
    restarted = TiltCatalog(DEFAULTS)
    restarted.remember(known)
    assert restarted.take([found("run_009_9.0.tif")])[0].key == "run_009_9.0.tif"
    assert restarted.take(list(map(found, tilts))) == []


def test_other_settings_change_what_depends_on_them(tmp_path: Path) -> None:
    tilts = series("TS_01", 3)
    files = [note(tmp_path, "TS_01.mdoc", mdoc_text(tilts, dose=0)), *map(found, tilts)]
    known = TiltCatalog(DEFAULTS).take(files)
    assert "dose_unknown" in codes(dict(known[0].attributes))
    renewed = TiltCatalog(ComposeParams(dose_per_tilt_e_per_a2=3.0))
    renewed.remember(known)
    changed = renewed.take(files)
    assert [e.attributes["accumulated_dose_e_per_a2"] for e in changed] == [0.0, 3.0, 6.0]
