"""Pictures show what they are about: sizes, scales, marks in their places, signs that the font lacks."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from tomofly.stages.previews import (
    draw_drift,
    draw_micrograph,
    draw_picks,
    draw_profile,
    draw_spectrum,
)
from tomofly.stages.previews.canvas import Axes, nice_length, ticks_between
from tomofly.stages.previews.lettering import text_width, write_text
from tomofly.stages.previews.micrograph import PickMarks


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        assert picture.format == "WEBP"
        return np.asarray(picture.convert("RGB")).astype(int)


def noise(shape: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(0).normal(100, 10, shape).astype(np.float32)


@pytest.mark.parametrize(
    ("shape", "size"), [((1300, 700), (512, 276)), ((300, 410), (300, 410)), ((512, 2048), (128, 512))]
)
def test_a_thumbnail_keeps_proportions_within_512_pixels(
    tmp_path: Path, shape: tuple[int, int], size: tuple[int, int]
) -> None:
    draw_micrograph(noise(shape), 1.1, tmp_path / "a.webp")
    assert pixels(tmp_path / "a.webp").shape[:2] == size


def test_a_thumbnail_is_drawn_whatever_the_pixels_are(tmp_path: Path) -> None:
    for fill in (0.0, np.nan, np.inf, -3.0):
        draw_micrograph(np.full((130, 170), fill, np.float32), 1.1, tmp_path / "a.webp")
        assert pixels(tmp_path / "a.webp").shape == (130, 170, 3)


def test_a_lump_of_ice_takes_no_contrast_from_the_rest(tmp_path: Path) -> None:
    image = noise((400, 500))
    draw_micrograph(image, 1.1, tmp_path / "a.webp")
    image[300:, 300:] -= 400
    draw_micrograph(image, 1.1, tmp_path / "b.webp")
    spreads = [pixels(tmp_path / name)[:300, :300].std() for name in ("a.webp", "b.webp")]
    assert spreads[1] > 0.8 * spreads[0]


def test_the_scale_bar_is_as_long_as_its_label_says(tmp_path: Path) -> None:
    # 512 px of 2 Å: the bar is 20 nm, which is 100 px
    draw_micrograph(np.zeros((512, 512), np.float32), 2.0, tmp_path / "a.webp")
    bright = pixels(tmp_path / "a.webp")[-25:].min(axis=2) > 180
    assert bright.sum(axis=1).max() == pytest.approx(100, abs=3)


def test_circles_and_exclusion_lie_where_they_belong(tmp_path: Path) -> None:
    excluded = np.zeros((10, 12), np.bool_)
    excluded[:3, 9:] = True
    marks = PickMarks(np.array([[300.0, 100.0]]), np.array([60.0]), excluded)
    draw_picks(noise((500, 600)), 1.0, marks, tmp_path / "a.webp")
    picture = pixels(tmp_path / "a.webp")
    scale = 512 / 600
    green = picture[..., 1] - picture[..., 0] > 40
    rows, columns = np.nonzero(green)
    assert rows.mean() == pytest.approx(300 * scale, abs=2)
    assert columns.mean() == pytest.approx(100 * scale, abs=2)
    assert np.ptp(rows) == pytest.approx(60 * scale, abs=4)
    red = picture[..., 0] - picture[..., 1]
    assert red[60:110, 420:500].mean() > 20
    assert abs(red[200:300, 200:400].mean()) < 5


@pytest.mark.parametrize("patches", [0, 25])
def test_a_drift_plot_needs_no_patches(tmp_path: Path, patches: int) -> None:
    random = np.random.default_rng(1)
    path = np.cumsum(random.normal(0, 0.5, (17, 2)), axis=0)
    local = np.cumsum(random.normal(0, 0.1, (17, patches, 2)), axis=0)
    draw_drift(path, random.uniform(0, 1, (patches, 2)), local, tmp_path / "a.webp", applied=True)
    draw_drift(path, random.uniform(0, 1, (patches, 2)), local, tmp_path / "b.webp", applied=False)
    assert pixels(tmp_path / "a.webp").shape == (330, 640, 3)


def test_a_specimen_that_did_not_move_is_drawn(tmp_path: Path) -> None:
    draw_drift(np.zeros((5, 2)), np.zeros((0, 2)), np.zeros((5, 0, 2)), tmp_path / "a.webp", applied=False)
    assert pixels(tmp_path / "a.webp").any()


@pytest.mark.parametrize("resolution", [None, 30.0, 3.1])
def test_spectrum_and_profile_are_drawn_with_and_without_a_resolution(
    tmp_path: Path, resolution: float | None
) -> None:
    frequency = np.linspace(0.02, 0.4, 190)
    wave = 0.5 + 0.5 * np.cos(300 * frequency**2)
    draw_profile(
        frequency, wave, wave, wave, fit_resolution_angstrom=resolution, path=tmp_path / "profile.webp"
    )
    spectrum = np.random.default_rng(0).uniform(0, 1, (256, 256)).astype(np.float32)
    draw_spectrum(
        spectrum, highest_frequency=0.4, fit_resolution_angstrom=resolution, caption="U 1 µm",
        path=tmp_path / "spectrum.webp",
    )  # fmt: skip
    assert pixels(tmp_path / "profile.webp").shape == (300, 640, 3)
    assert pixels(tmp_path / "spectrum.webp").shape == (538, 512, 3)


@given(st.floats(1e-6, 1e9))
def test_a_nice_length_is_round_and_not_too_long(longest: float) -> None:
    nice = nice_length(longest)
    assert longest / 2.51 <= nice <= longest * (1 + 1e-6)
    assert f"{nice:.0e}"[0] in "125"


@given(st.floats(-1e4, 1e4), st.floats(1e-3, 1e4))
def test_ticks_lie_within_their_range(low: float, width: float) -> None:
    ticks = ticks_between(low, low + width)
    assert 1 <= len(ticks) <= 12
    slack = 1e-6 * (width + abs(low))
    assert all(low - slack <= tick <= low + width + slack for tick in ticks)


def test_places_in_a_plot_grow_to_the_right_and_upwards() -> None:
    draw = ImageDraw.Draw(Image.new("RGB", (100, 100)))
    axes = Axes(draw, (10, 20, 90, 80), (0, 4), (0, 2))
    assert axes.place([0, 4, 2], [0, 2, 1]) == [(10, 80), (90, 20), (50, 50)]


def test_signs_that_the_font_lacks_are_drawn_and_take_their_room() -> None:
    assert text_width("", 20) == 0
    assert text_width("10 Å", 20) == pytest.approx(text_width("10 A", 20), abs=2)
    assert text_width("Å⁻¹", 20) < text_width("A-1", 20)

    def drawn(text: str) -> np.ndarray:
        picture = Image.new("L", (60, 40))
        write_text(ImageDraw.Draw(picture), (30, 20), text, 22, 255, anchor="m")  # type: ignore[arg-type]
        return np.asarray(picture)

    assert drawn("Å").sum() > drawn("A").sum()
    assert drawn("µ").sum() > drawn("u").sum()
    assert np.abs(drawn("e²").astype(int) - drawn("e").astype(int)).sum() > 0
