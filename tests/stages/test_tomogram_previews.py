"""Pictures and films of tomograms: sections, circles and heights are where they belong."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tomofly.stages.previews import VolumeMarks, draw_sections, write_slices_movie, write_tilts_movie

HEAD, GAP = 24, 6
SHAPE = (60, 300, 340)


def _volume(shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    return np.random.default_rng(2).normal(0, 1, shape).astype(np.float32)


def _green(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    return (pixels[..., 1] - pixels[..., 0] > 50) & (pixels[..., 1] - pixels[..., 2] > 25)


def _middle(mask: np.ndarray) -> list[float]:
    return [float((places.min() + places.max()) / 2) for places in np.nonzero(mask)]


def test_three_sections_stand_beside_each_other(tmp_path: Path) -> None:
    draw_sections(_volume(), 10.0, tmp_path / "a.webp", "TS_1")
    with Image.open(tmp_path / "a.webp") as picture:
        assert picture.size == (340 + GAP + 60, HEAD + 300 + GAP + 60)


def test_small_tomograms_are_enlarged_and_large_ones_reduced(tmp_path: Path) -> None:
    for shape, width in (((20, 100, 140), 280 + GAP + 40), ((40, 700, 1120), 560 + GAP + 20)):
        draw_sections(_volume(shape), 10.0, tmp_path / "a.webp")
        with Image.open(tmp_path / "a.webp") as picture:
            assert picture.size[0] == width


def test_a_particle_is_circled_in_each_section_that_cuts_it(tmp_path: Path) -> None:
    middle = np.array([[30.0, 150.0, 170.0]])
    draw_sections(_volume(), 10.0, tmp_path / "a.webp", marks=VolumeMarks(middle, 24.0))
    green = _green(tmp_path / "a.webp")
    xy, xz = green[HEAD : HEAD + 300, :340], green[HEAD + 300 + GAP :, :340]
    yz = green[HEAD : HEAD + 300, 340 + GAP :]
    assert _middle(xy) == pytest.approx([150, 170], abs=2)
    assert _middle(xz) == pytest.approx([30, 170], abs=2)
    assert _middle(yz) == pytest.approx([150, 30], abs=2)
    assert np.ptp(np.nonzero(xy)[0]) == pytest.approx(24, abs=3)


def test_a_particle_that_no_section_cuts_is_not_circled(tmp_path: Path) -> None:
    away = VolumeMarks(np.array([[8.0, 40.0, 60.0]]), 24.0)
    draw_sections(_volume(), 10.0, tmp_path / "a.webp", marks=away)
    assert not _green(tmp_path / "a.webp").any()


@pytest.mark.parametrize(
    ("slab", "frames"), [(None, 30), ((20.0, 39.0), 20), ((-50.0, 500.0), 30), ((59.5, 90.0), 1)]
)
def test_a_film_goes_through_the_specimen(
    tmp_path: Path, slab: tuple[float, float] | None, frames: int
) -> None:
    write_slices_movie(_volume((60, 120, 100)), 10.0, tmp_path / "a.webp", slab)
    with Image.open(tmp_path / "a.webp") as film:
        assert film.n_frames == frames
        assert film.size == (200, 240)


def test_a_film_of_tilts_is_in_the_order_of_their_angles(tmp_path: Path) -> None:
    images = np.zeros((3, 120, 100), np.float32)
    images += np.array([5.0, -4.0, 0.0], np.float32)[:, None, None]
    images[:, 60:, :] += np.array([2.0, 1.0, 3.0], np.float32)[:, None, None]
    images[2, :, 50:] += 9.0
    write_tilts_movie(images, 10.0, np.array([30.0, -30.0, 0.0]), tmp_path / "a.webp")
    with Image.open(tmp_path / "a.webp") as film:
        assert film.n_frames == 3
        film.seek(1)
        middle = np.asarray(film.convert("L")).astype(int)
    assert middle[60:200, 150:].mean() > middle[60:200, :50].mean() + 40


def test_what_has_no_contrast_is_drawn(tmp_path: Path) -> None:
    for fill in (0.0, np.nan):
        volume = np.full((12, 50, 60), fill, np.float32)
        draw_sections(volume, 10.0, tmp_path / "a.webp")
        write_slices_movie(volume, 10.0, tmp_path / "b.webp")
        assert (tmp_path / "b.webp").stat().st_size > 0
