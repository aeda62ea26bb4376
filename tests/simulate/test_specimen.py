"""What lies in the field, and how it looks."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from tomofly.simulate import SpaMicroscope, exclusion_mask, expose, exposure, gain_reference, specimen

CROWDED = SpaMicroscope(
    detector_yx_px=(520, 610),
    pixel_size_angstrom=2.0,
    frames=4,
    carbon_edge_fraction=1,
    contamination_fraction=1,
    particles_per_micrograph=(10, 12),
    gold_beads=1,
    seed=2,
)


def test_the_same_seed_and_number_give_the_same_movie_and_others_do_not() -> None:
    microscope = SpaMicroscope(detector_yx_px=(90, 110), frames=3, carbon_edge_fraction=1)
    first, again, other = (expose(microscope, index) for index in (4, 4, 5))
    assert np.array_equal(first.frames, again.frames)
    assert first.truth == again.truth
    assert not np.array_equal(first.frames, other.frames)
    reseeded = expose(microscope.model_copy(update={"seed": 1}), 4)
    assert not np.array_equal(first.frames, reseeded.frames)


@pytest.mark.parametrize("index", range(4))
def test_particles_keep_clear_of_each_other_and_of_what_is_excluded(index: int) -> None:
    contents = specimen.draw_contents(CROWDED, index)
    mask = exclusion_mask(expose(CROWDED, index).truth)
    places = np.array([(p.y_px, p.x_px) for p in contents.particles])
    radii = np.array([p.particle.diameter_angstrom / 2 / 2.0 for p in contents.particles])
    apart = np.linalg.norm(places[:, None] - places[None], axis=2)
    np.fill_diagonal(apart, np.inf)
    assert np.all(apart >= radii[:, None] + radii[None])
    inside = [(round(y), round(x)) for y, x in places if 0 <= y <= 519 and 0 <= x <= 609]
    assert inside
    assert not any(mask[place] for place in inside)


def test_the_number_of_particles_is_in_its_range_and_every_structure_occurs() -> None:
    microscope = SpaMicroscope(particles_per_micrograph=(20, 24), structures=("shell", "barrel", "bent"))
    truths = [exposure_truth(microscope, index) for index in range(4)]
    assert all(20 <= len(names) <= 24 for names in truths)
    assert {name for names in truths for name in names} == {"shell", "barrel", "bent"}


def exposure_truth(microscope: SpaMicroscope, index: int) -> list[str]:
    contents = specimen.draw_contents(microscope, index)
    height, width = microscope.frame_yx_px
    return [
        p.particle.name for p in contents.particles if 0 <= p.y_px <= height - 1 and 0 <= p.x_px <= width - 1
    ]


def test_particles_are_darker_than_the_ice_around_them() -> None:
    microscope = SpaMicroscope(
        detector_yx_px=(512, 590), frames=10, beam_induced_angstrom=0, early_drift_angstrom=0,
        drift_rms_angstrom_per_frame=0, carbon_edge_fraction=0, contamination_fraction=0,
        hot_pixel_fraction=0, dead_pixel_fraction=0, ice_gradient=0, structures=("barrel",), seed=9,
    )  # fmt: skip
    movie = expose(microscope, 0)
    image = gaussian_filter(movie.frames.sum(axis=0) * gain_reference(microscope), 15)
    here = [image[round(p.y_px), round(p.x_px)] for p in movie.truth.particles]
    assert np.mean(here) < np.median(image) - image.std()
    assert np.mean(np.array(here) < np.median(image)) > 0.9


def test_carbon_and_contamination_are_dark_where_the_mask_says() -> None:
    movie = expose(CROWDED, 1)
    assert movie.truth.carbon is not None
    assert {disc.kind for disc in movie.truth.discs} == {"contamination", "gold"}
    image = movie.frames.sum(axis=0) * gain_reference(CROWDED)
    mask = exclusion_mask(movie.truth)
    assert 0.05 < mask.mean() < 0.9
    assert image[mask].mean() < 0.97 * image[~mask].mean()
    assert exclusion_mask(movie.truth, margin_px=9).sum() > mask.sum()
    without = exposure.expose(CROWDED.model_copy(update={"carbon_edge_fraction": 0.0}), 1).truth
    assert without.carbon is None


def fine_power(microscope: SpaMicroscope) -> list[float]:
    """Power between 8 and 5 Å in each noise-free frame."""
    found = []
    for image in exposure.intensity(microscope, 0):
        spectrum = np.abs(np.fft.fft2(image - image.mean())) ** 2
        k = np.hypot(*np.meshgrid(*(np.fft.fftfreq(n, 2.0) for n in image.shape), indexing="ij"))
        found.append(float(spectrum[(k > 1 / 8) & (k < 1 / 5)].mean()))
    return found


def test_fine_detail_of_the_particles_fades_with_dose() -> None:
    update = {"ice_noise": 0.0, "carbon_edge_fraction": 0.0, "contamination_fraction": 0.0, "gold_beads": 0}
    still = {"drift_rms_angstrom_per_frame": 0.0, "early_drift_angstrom": 0.0, "beam_induced_angstrom": 0.0}
    dose = {"dose_per_frame_e_per_a2": 8.0}
    faded = fine_power(CROWDED.model_copy(update=update | still | dose))
    assert np.all(np.diff(faded) < 0)
    assert faded[-1] < 0.2 * faded[0]
    kept = fine_power(CROWDED.model_copy(update=update | still | dose | {"damage": False}))
    assert kept == pytest.approx([kept[0]] * 4, rel=1e-3)


def test_ice_forgets_its_grain_but_keeps_its_strength() -> None:
    microscope = SpaMicroscope(
        detector_yx_px=(300, 340), pixel_size_angstrom=2.0, frames=3, dose_per_frame_e_per_a2=10,
        particles_per_micrograph=(0, 0), carbon_edge_fraction=0, contamination_fraction=0, ice_gradient=0,
        drift_rms_angstrom_per_frame=0, early_drift_angstrom=0, beam_induced_angstrom=0,
    )  # fmt: skip
    images = [image.ravel().astype(float) for image in map(np.copy, exposure.intensity(microscope, 0))]
    assert np.corrcoef(images[0], images[1])[0, 1] < 0.5
    assert images[2].std() == pytest.approx(images[0].std(), rel=0.05)
    frozen = microscope.model_copy(update={"ice_diffusion_angstrom2_per_dose": 0.0})
    lasting = [image.ravel() for image in map(np.copy, exposure.intensity(frozen, 0))]
    assert np.corrcoef(lasting[0], lasting[2])[0, 1] > 0.999
