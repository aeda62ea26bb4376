"""The microscope's parameters: ranges, units and repeatable randomness."""

import pytest
from pydantic import ValidationError

from tomofly.simulate import SpaMicroscope


def test_a_range_that_descends_is_refused_with_its_name() -> None:
    with pytest.raises(ValidationError, match=r"defocus_range_angstrom.*smaller one first"):
        SpaMicroscope(defocus_range_angstrom=(20000.0, 10000.0))


def test_an_unknown_parameter_is_refused() -> None:
    with pytest.raises(ValidationError):
        SpaMicroscope(defocus=3)


def test_every_parameter_explains_itself() -> None:
    assert all(field.description for field in SpaMicroscope.model_fields.values())


def test_super_resolution_quarters_the_electrons_per_pixel() -> None:
    plain = SpaMicroscope(detector_yx_px=(130, 170))
    fine = plain.model_copy(update={"super_resolution": True})
    assert fine.frame_yx_px == (260, 340)
    assert fine.frame_pixel_size_angstrom == plain.pixel_size_angstrom / 2
    assert fine.electrons_per_frame_px == pytest.approx(plain.electrons_per_frame_px / 4)


def test_topics_and_movies_draw_independent_numbers() -> None:
    microscope = SpaMicroscope(seed=4)
    draws = [
        microscope.random(topic, index).integers(1 << 60)
        for topic in ("ice", "motion")
        for index in (None, 0, 1)
    ]
    assert len(set(draws)) == len(draws)
    assert microscope.random("ice", 1).integers(1 << 60) == draws[2]


def test_particle_numbers_grow_with_the_field() -> None:
    small = SpaMicroscope(detector_yx_px=(500, 700)).particle_count_range
    large = SpaMicroscope(detector_yx_px=(1000, 1400)).particle_count_range
    assert large[1] == pytest.approx(4 * small[1], abs=3)
