"""Which files are watched, and what their items are called."""

import glob
import os
from pathlib import Path

import pytest

from tests.flow.watching import Watched, keys, movie_bytes, source, write
from tomofly.model import SourceParams


@pytest.fixture
def movie(tmp_path: Path) -> bytes:
    return movie_bytes(tmp_path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder that is watched."""
    made = tmp_path / "data"
    made.mkdir()
    return made


@pytest.mark.parametrize(
    "name", [".a.mrc", "a.mrc.tmp", "a.mrc.part", "a.mrc.partial", "a.mrc.filepart", "a.mrc~", "my_Gain.mrc"]
)
def test_hidden_temporary_and_gain_files_are_never_taken(folder: Path, movie: bytes, name: str) -> None:
    write(folder / name, movie)
    watched = Watched(source(folder / "*"))
    assert watched.poll(5, impatient=True) == []
    assert watched.watcher.pending == 0


def test_a_file_renamed_to_its_final_name_arrives(folder: Path, movie: bytes) -> None:
    watched = Watched(source(folder / "*"))
    temporary = write(folder / "a.mrc.partial", movie)
    assert watched.poll(10) == []
    temporary.rename(folder / "a.mrc")
    assert keys(watched.poll(4)) == ["a.mrc"]


def test_names_with_spaces_unicode_and_dots_make_their_own_keys(folder: Path, movie: bytes) -> None:
    names = ["grid 3/Grüße α.mrc", "grid 3/grid.1_0.50.mrc", "日本/a.mrc", "b/a.mrc"]
    for name in names:
        write(folder / name, movie)
    found = Watched(source(f"{folder}/*/*.mrc")).poll(2)
    assert sorted(keys(found)) == sorted(name.removesuffix(".mrc") for name in names)


def test_names_that_are_no_text_are_watched_as_well(folder: Path, movie: bytes) -> None:
    write(Path(os.fsdecode(os.fsencode(folder) + b"/\xff.mrc")), movie)
    assert len(Watched(source(folder / "*.mrc")).poll(2)) == 1


@pytest.mark.parametrize("order", [("a.mrc", "a.tiff"), ("a.tiff", "a.mrc")])
def test_keys_do_not_depend_on_which_suffix_came_first(
    folder: Path, movie: bytes, order: tuple[str, str]
) -> None:
    watched = Watched(source(folder / "*", settle_s=0))
    found = []
    for name in order:
        write(folder / name, movie)
        found += watched.poll(1, impatient=True)
    assert sorted(keys(found)) == ["a.mrc", "a.tiff"]


def test_keys_leave_a_given_suffix_out(folder: Path, movie: bytes) -> None:
    write(folder / "x.1" / "a_Fractions.mrc", movie)
    assert keys(Watched(source(folder / "*" / "*_Fractions.mrc")).poll(2)) == ["x.1/a_Fractions"]
    assert keys(Watched(source(folder / "**" / "*.[mt]*")).poll(2)) == ["x.1/a_Fractions.mrc"]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.mrc", {"top"}),
        ("*/*.mrc", {"one", "two"}),
        ("**/*.mrc", {"top", "one", "two", "deep", "deeper"}),
        ("**/Data/*.mrc", {"deep"}),
        ("s?/Data/**/*.mrc", {"deep", "deeper"}),
        ("s1/*.mrc", {"one"}),
        ("s1/Data/**/x/*r.mrc", {"deeper"}),
        ("nothing/*.mrc", set()),
    ],
)
def test_patterns_mean_what_they_mean_in_a_shell(
    folder: Path, movie: bytes, pattern: str, expected: set[str]
) -> None:
    for name in ("top", "s1/one", "s2/two", "s1/Data/deep", "s1/Data/x/deeper", "s1/.hidden/no"):
        write(folder / f"{name}.mrc", movie)
    found = Watched(source(f"{folder}/{pattern}")).poll(2)
    assert {str(arrival.path) for arrival in found} == set(glob.glob(f"{folder}/{pattern}", recursive=True))  # noqa: PTH207
    assert {Path(key).name for key in keys(found)} == expected


def test_a_new_folder_is_watched_as_soon_as_it_is_made(folder: Path, movie: bytes) -> None:
    watched = Watched(source(folder / "**" / "Data" / "*_Fractions.mrc"))
    watched.poll(100)
    square = folder / "Supervisor 1" / "Images-Disc1" / "GridSquare_1" / "Data"
    write(square / "FoilHole_1_Fractions.mrc", movie)
    write(square / "FoilHole_1.xml", b"<xml/>")
    assert keys(watched.poll(4)) == ["Supervisor 1/Images-Disc1/GridSquare_1/Data/FoilHole_1_Fractions"]


def test_a_whole_epu_session_is_found(real_data: Path, folder: Path, movie: bytes) -> None:
    movies = set()
    for path in epu_paths((real_data / "epu_session" / "bi37708-28_tree.txt").read_text()):
        if path.suffix == ".xml" and "Images-Disc1" in path.parts and "Data" in path.parts:
            movies.add(write(folder / path.with_name(f"{path.stem}_Fractions.mrc"), movie))
    assert len(movies) > 1000
    watched = Watched(source(folder / "**" / "GridSquare_*" / "Data" / "*_Fractions.mrc"))
    found = watched.poll(9)
    assert {arrival.path for arrival in found} == movies
    assert len(set(keys(found))) == len(movies)
    assert watched.poll(70) == []


def epu_paths(tree: str) -> list[Path]:
    """The paths of a listing as the program ``tree`` draws it."""
    paths, above = [], []
    for line in tree.splitlines():
        branch, mark, name = line.partition("── ")
        if mark:
            depth = len(branch) // 4
            above[depth:] = [name]
            paths.append(Path(*above))
    return paths


def test_the_sessions_own_folder_is_left_alone(folder: Path, movie: bytes) -> None:
    write(folder / "a.mrc", movie)
    write(folder / "out" / "transfer" / "a.mrc", movie)
    watched = Watched(source(folder / "**" / "*.mrc"), apart=[folder / "out"])
    assert keys(watched.poll(3)) == ["a"]


def test_links_are_followed_and_circles_are_not(folder: Path, movie: bytes, tmp_path: Path) -> None:
    write(tmp_path / "elsewhere" / "b.mrc", movie)
    (folder / "to_folder").symlink_to(tmp_path / "elsewhere")
    (folder / "a.mrc").symlink_to(tmp_path / "elsewhere" / "b.mrc")
    (folder / "broken.mrc").symlink_to(tmp_path / "nowhere.mrc")
    (folder / "itself").symlink_to("itself")
    (folder / "back").symlink_to(folder)
    (tmp_path / "elsewhere" / "up").symlink_to(tmp_path)
    watched = Watched(source(folder / "**" / "*.mrc"))
    assert sorted(keys(watched.poll(3))) == ["a", "to_folder/b"]
    assert watched.watcher.problem == ""


def test_without_a_pattern_nothing_is_watched() -> None:
    assert Watched(SourceParams()).poll(3) == []
