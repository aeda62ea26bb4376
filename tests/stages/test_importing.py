"""A movie is taken in when it is what the settings say; contradictions are flagged, broken files refused."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tomofly.formats.mrc import write_image
from tomofly.model import BadInput, GainParams, MicroscopeParams, Outcome, StageParams
from tomofly.simulate import SpaMicroscope
from tomofly.stages.importing import STAGE

from .benches import MICROSCOPE, Bench

SHAPE = (7, 144, 160)


def counts(shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    """Frames as a counting camera gives them."""
    return np.random.default_rng(5).poisson(2.0, shape).astype(np.int16)


def import_array(bench: Bench, frames: np.ndarray, pixel_size: float = 2.1, **params: Any) -> Outcome:
    """Import frames from an MRC file without gain and metadata."""
    path = bench.folder / "movie.mrc"
    write_image(path, frames, pixel_size)
    return plain(bench, path).run(STAGE, **params)


def plain(bench: Bench, path: Path, **microscope: float) -> Bench:
    """A bench for a file without gain and metadata."""
    settings = MicroscopeParams(**{"pixel_size_angstrom": 2.1, **microscope})
    return Bench(bench.folder, path, {"microscope": settings, "gain": GainParams()})


def codes(outcome: Outcome) -> set[str]:
    return {flag.code for flag in outcome.flags}


def test_a_movie_that_fits_the_settings_has_no_flags(bench: Bench) -> None:
    outcome = bench.run(STAGE)
    assert outcome.flags == ()
    assert outcome.metrics["frames"] == MICROSCOPE.frames
    assert (outcome.metrics["height_px"], outcome.metrics["width_px"]) == MICROSCOPE.detector_yx_px
    assert set(outcome.metrics) == {metric.name for metric in STAGE.metrics}


def test_the_dose_comes_from_the_metadata_where_the_settings_give_none(bench: Bench) -> None:
    outcome = bench.run(STAGE)
    assert outcome.metrics["dose_per_frame_e_per_a2"] == pytest.approx(4.0)
    assert outcome.metrics["total_dose_e_per_a2"] == pytest.approx(4.0 * MICROSCOPE.frames)


def test_the_dose_of_the_settings_comes_first_and_a_difference_is_flagged(
    bench: Bench, shared: dict[str, StageParams]
) -> None:
    microscope = shared["microscope"].model_copy(update={"dose_per_frame_e_per_a2": 2.0})
    bench.shared = {**shared, "microscope": microscope}
    outcome = bench.run(STAGE)
    assert outcome.metrics["dose_per_frame_e_per_a2"] == 2.0
    assert codes(outcome) == {"dose_differs"}


def test_an_unknown_dose_is_flagged(bench: Bench) -> None:
    assert codes(import_array(bench, counts())) == {"dose_unknown"}


@pytest.mark.parametrize(("header", "word"), [(1.05, "factor of 2"), (4.2, "factor of 2"), (2.2, "2.2 Å")])
def test_a_pixel_size_that_contradicts_the_header_is_flagged(bench: Bench, header: float, word: str) -> None:
    outcome = import_array(bench, counts(), header)
    (flag,) = (flag for flag in outcome.flags if flag.code == "pixel_size_differs")
    assert word in flag.message


@pytest.mark.parametrize("header", [1.0, 2.1, 2.11])
def test_a_header_that_agrees_or_says_nothing_is_not_flagged(bench: Bench, header: float) -> None:
    assert "pixel_size_differs" not in codes(import_array(bench, counts(), header))


def test_a_voltage_that_contradicts_the_metadata_is_flagged(
    bench: Bench, shared: dict[str, StageParams]
) -> None:
    bench.shared = {**shared, "microscope": shared["microscope"].model_copy(update={"voltage_kv": 200.0})}
    assert codes(bench.run(STAGE)) == {"voltage_differs"}


@pytest.mark.parametrize(
    ("rotation", "flip", "fits"),
    [(0, "none", True), (180, "none", False), (0, "up-down", False), (180, "left-right", False)],
)
def test_the_frames_tell_a_wrongly_turned_gain(
    bench: Bench, shared: dict[str, StageParams], rotation: int, flip: str, fits: bool
) -> None:
    gain = shared["gain"].model_copy(update={"rotation_deg": rotation, "flip": flip})
    bench.shared = {**shared, "gain": gain}
    outcome = bench.run(STAGE)
    assert ("gain_orientation" not in codes(outcome)) == fits
    if not fits:
        message = next(flag.message for flag in outcome.flags if flag.code == "gain_orientation")
        assert "gain.rotation_deg=0 and gain.flip=none" in message
        assert abs(outcome.metrics["gain_z_score"]) < 6


def test_a_gain_of_another_camera_is_flagged(
    bench: Bench, shared: dict[str, StageParams], tmp_path: Path
) -> None:
    other = np.random.default_rng(1).normal(1, 0.05, MICROSCOPE.detector_yx_px).astype(np.float32)
    write_image(tmp_path / "other.mrc", other, 2.1)
    bench.shared = {**shared, "gain": GainParams(path=str(tmp_path / "other.mrc"))}
    assert codes(bench.run(STAGE)) == {"gain_unrelated"}


def test_a_gain_of_the_wrong_size_is_refused_with_both_sizes(bench: Bench, tmp_path: Path) -> None:
    write_image(tmp_path / "small.mrc", np.ones((300, 200), np.float32), 1.0)
    bench.shared = {**bench.shared, "gain": GainParams(path=str(tmp_path / "small.mrc"))}
    with pytest.raises(BadInput, match="200 x 300 pixels, the movie 576 x 640"):
        bench.run(STAGE)


def test_a_quarter_turn_of_an_oblong_gain_is_refused(bench: Bench, shared: dict[str, StageParams]) -> None:
    bench.shared = {**shared, "gain": shared["gain"].model_copy(update={"rotation_deg": 90})}
    with pytest.raises(BadInput, match=r"640 x 576 pixels after a rotation by 90°, the movie 576 x 640"):
        bench.run(STAGE)


def test_a_missing_gain_may_come_back_and_is_tried_again(bench: Bench, tmp_path: Path) -> None:
    bench.shared = {**bench.shared, "gain": GainParams(path=str(tmp_path / "gone.mrc"))}
    with pytest.raises(FileNotFoundError):
        bench.run(STAGE)


def test_a_single_image_is_accepted_and_needs_no_dose(bench: Bench) -> None:
    outcome = import_array(bench, counts((144, 160)))
    assert outcome.flags == ()
    assert outcome.metrics["frames"] == 1


@pytest.mark.parametrize(
    ("fill", "words"),
    [(0, "All pixels of the movie are zero"), (7, "All pixels of the movie have the value 7")],
)
def test_a_blank_movie_is_refused(bench: Bench, fill: int, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        import_array(bench, np.full(SHAPE, fill, np.int16))


def test_a_movie_with_nan_is_refused_with_the_frame(bench: Bench) -> None:
    frames = counts().astype(np.float32)
    frames[3, 20:30, 5] = np.nan
    with pytest.raises(BadInput, match=r"frame 4 has 10 of 23040 pixels that are no numbers"):
        import_array(bench, frames)


def test_a_movie_mostly_saturated_is_refused_and_a_little_saturated_flagged(bench: Bench) -> None:
    frames = counts()
    frames[:, :100] = np.iinfo(np.int16).max
    with pytest.raises(BadInput, match="69 % of the pixels are saturated"):
        import_array(bench, frames)
    frames = counts()
    frames[:, :5] = np.iinfo(np.int16).max
    assert "saturated" in codes(import_array(bench, frames))


def test_a_truncated_movie_is_refused_with_what_is_there(bench: Bench, movie: Path) -> None:
    short = bench.folder / "short.mrc"
    short.write_bytes(movie.read_bytes()[:-100])
    with pytest.raises(BadInput, match="7 of 8 images"):
        plain(bench, short).run(STAGE)


@pytest.mark.parametrize("content", [b"", b"no movie at all" * 100])
def test_what_is_no_movie_is_refused(bench: Bench, content: bytes) -> None:
    path = bench.folder / "text.mrc"
    path.write_bytes(content)
    with pytest.raises(BadInput, match=r"text\.mrc"):
        plain(bench, path).run(STAGE)


def test_a_movie_that_is_smaller_than_asked_is_refused(bench: Bench) -> None:
    with pytest.raises(BadInput, match=r"160 x 144 pixels, import\.minimum_side_px asks for 200"):
        import_array(bench, counts(), minimum_side_px=200)
    with pytest.raises(BadInput, match=r"7 frames, import\.minimum_frames asks for 8"):
        import_array(bench, counts(), minimum_frames=8)
    with pytest.raises(BadInput, match=r"160 x 144 pixels, import\.expected_size_px says 144 x 160"):
        import_array(bench, counts(), expected_size_px=(160, 144))
    assert import_array(bench, counts(), expected_size_px=(144, 160)).metrics["height_px"] == 144


def test_metadata_that_cannot_be_read_do_not_lose_the_movie(bench: Bench, movie: Path) -> None:
    copy = bench.folder / movie.name
    shutil.copy(movie, copy)
    copy.with_name(copy.name.replace("_Fractions.mrc", ".xml")).write_text("<MicroscopeImage><broken")
    outcome = Bench(bench.folder, copy, bench.shared).run(STAGE)
    assert codes(outcome) == {"metadata_unreadable", "dose_unknown"}


def test_a_movie_that_has_vanished_for_now_is_tried_again(bench: Bench) -> None:
    with pytest.raises(FileNotFoundError):
        plain(bench, bench.folder / "gone.mrc").run(STAGE)


def test_the_content_changes_only_with_what_later_stages_take(bench: Bench) -> None:
    first = bench.run(STAGE)
    assert bench.run(STAGE, test_gain_orientation=False).content == first.content
    microscope = bench.shared["microscope"].model_copy(update={"dose_per_frame_e_per_a2": 4.1})
    bench.shared = {**bench.shared, "microscope": microscope}
    assert bench.run(STAGE).content != first.content


def test_what_the_microscope_knew_becomes_columns(bench: Bench) -> None:
    metrics = bench.run(STAGE).metrics
    low, high = SpaMicroscope.model_validate(MICROSCOPE).defocus_range_angstrom
    assert low <= metrics["applied_defocus_angstrom"] <= high
    assert metrics["recorded_pixel_size_angstrom"] == MICROSCOPE.pixel_size_angstrom
    assert abs(metrics["stage_x_um"]) < 1000
    assert metrics["acquired_unix_s"] > 1.7e9


def test_a_transform_is_refused_by_its_mode(bench: Bench, movie: Path) -> None:
    raw = bytearray(movie.read_bytes())
    raw[12:16] = (4).to_bytes(4, "little")
    path = bench.folder / "transform.mrc"
    path.write_bytes(raw)
    with pytest.raises(BadInput, match="mode 4"):
        plain(bench, path).run(STAGE)
