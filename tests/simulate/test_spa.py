"""A session that appears on disk: pace, layout, companions, truth."""

import threading
from datetime import UTC, datetime
from pathlib import Path
from xml.etree import ElementTree as Xml

import mrcfile
import numpy as np
import pytest
import tifffile

from tomofly.simulate import (
    GAIN_FILE,
    TRUTH_SUFFIX,
    SpaMicroscope,
    expose,
    gain_reference,
    truth_beside,
    write_session,
)
from tomofly.simulate.epu import Shot

TINY = SpaMicroscope(detector_yx_px=(66, 94), frames=3, compression="lzw", seed=6)
STARTED = datetime(2025, 3, 4, 5, 6, 7, tzinfo=UTC)


class Time:
    """A clock that only waiting moves."""

    def __init__(self) -> None:
        self.now = 100.0

    def wait(self, seconds: float) -> None:
        self.now += seconds


def test_a_flat_session_holds_gain_movies_and_truth(tmp_path: Path) -> None:
    write_session(TINY, tmp_path, 2, start=5)
    names = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file())
    movies = [f"movie_{index:05d}{end}" for index in (5, 6) for end in (".mrc", TRUTH_SUFFIX)]
    assert names == sorted([str(GAIN_FILE), *movies])
    assert np.array_equal(mrcfile.read(tmp_path / "movie_00006.mrc"), expose(TINY, 6).frames)
    gain = mrcfile.read(tmp_path / GAIN_FILE)
    assert np.array_equal(gain.reshape(66, 94), gain_reference(TINY))
    truth = truth_beside(tmp_path / "movie_00006.mrc")
    assert (truth.key, truth.file, truth.index) == ("movie_00006", "movie_00006.mrc", 6)
    assert truth.camera.gain_file == str(GAIN_FILE)
    assert truth.particles == expose(TINY, 6).truth.particles


def test_movies_keep_the_pace(tmp_path: Path) -> None:
    time, written = Time(), []
    write_session(
        TINY, tmp_path, 4, pace_s=8.0, writing="grow", wait=time.wait, clock=lambda: time.now,
        on_written=lambda path, truth: written.append((path.name, time.now)),
    )  # fmt: skip
    assert [name for name, _ in written] == [f"movie_{index:05d}.mrc" for index in range(4)]
    assert np.diff([at for _, at in written]) == pytest.approx(8.0)
    # The last one began three paces after the first and grew for half a pace.
    assert time.now == pytest.approx(100 + 3 * 8 + 4)


def test_a_session_that_is_told_to_stop_writes_no_further_movie(tmp_path: Path) -> None:
    stop = threading.Event()
    write_session(TINY, tmp_path, 50, stop=stop, on_written=lambda path, truth: stop.set())
    assert len(list(tmp_path.glob("*.mrc"))) == 1


def test_epu_folders_and_names(tmp_path: Path) -> None:
    paths: list[Path] = []
    write_session(
        TINY, tmp_path, 3, layout="epu", file_format="tiff", writing="rename", started=STARTED,
        on_written=lambda path, truth: paths.append(path.relative_to(tmp_path)),
    )  # fmt: skip
    first = paths[0]
    assert first.parts[0] == "Images-Disc1"
    assert first.parent.match("GridSquare_*/Data")
    assert first.match("FoilHole_*_Data_*_*_20250304_050607_Fractions.tiff")
    assert len(set(paths)) == 3
    assert np.array_equal(tifffile.imread(tmp_path / first), expose(TINY, 0).frames[:, ::-1])
    stem = first.name.removesuffix(".tiff")
    assert (tmp_path / first.parent / f"{stem}{TRUTH_SUFFIX}").is_file()
    assert (tmp_path / first.parent / f"{stem.removesuffix('_Fractions')}.xml").is_file()
    assert not list(tmp_path.rglob("*.partial"))


def test_names_stay_unique_through_a_long_session() -> None:
    names = {Shot(index, STARTED).folder / Shot(index, STARTED).stem for index in range(500)}
    assert len(names) == 500
    assert len({name.parent for name in names}) == 11


def written_xml(folder: Path) -> Xml.Element:
    write_session(TINY, folder, 1, layout="epu", started=STARTED)
    return Xml.fromstring(next(folder.rglob("*.xml")).read_text())  # noqa: S314 (our own file)


def paths_in(element: Xml.Element, above: str = "") -> set[str]:
    here = f"{above}/{element.tag}"
    return {here}.union(*(paths_in(child, here) for child in element))


def custom_keys(root: Xml.Element) -> dict[str, str]:
    array = "{http://schemas.microsoft.com/2003/10/Serialization/Arrays}"
    return {
        pair.findtext(f"{array}Key", ""): pair.findtext(f"{array}Value", "")
        for pair in root.iter(f"{array}KeyValueOfstringanyType")
    }


def test_the_xml_says_what_was_done(tmp_path: Path) -> None:
    root = written_xml(tmp_path)
    fei = "{http://schemas.datacontract.org/2004/07/Fei.SharedObjects}"

    def number(path: str) -> float:
        return float(root.findtext("/".join(fei + name for name in path.split("/")), "nan"))

    assert number("microscopeData/gun/AccelerationVoltage") == 300000
    assert number("SpatialScale/pixelSize/x/numericValue") == pytest.approx(1.5e-10)
    assert -1e-3 < number("microscopeData/stage/Position/X") < 1e-3
    date = root.findtext(f"{fei}microscopeData/{fei}acquisition/{fei}acquisitionDateTime", "")
    assert datetime.fromisoformat(date) == STARTED
    keys = custom_keys(root)
    assert float(keys["Dose"]) == pytest.approx(4.5e20)
    assert float(keys["DoseOnCamera"]) == pytest.approx(4.5 * 2.25)


@pytest.mark.real_data
def test_the_xml_has_the_element_paths_of_a_real_one(tmp_path: Path, real_data: Path) -> None:
    real = Xml.parse(real_data / "epu_session" / "Example1.xml").getroot()  # noqa: S314 (a known file)
    made = written_xml(tmp_path)
    assert paths_in(made) <= paths_in(real)
    assert set(custom_keys(made)) <= set(custom_keys(real))
