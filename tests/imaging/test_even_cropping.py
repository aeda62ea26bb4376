"""Pictures are binned alike along both axes, whatever their sides, and keep their middle."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tomofly.imaging.fourier import evenly_cropped, evenly_cropped_shape

SIDES = st.integers(200, 6000)


@given(SIDES, SIDES, st.floats(1.0, 14.0, exclude_min=True))
def test_both_axes_are_binned_alike_to_a_pixel_of_the_height(rows: int, columns: int, binning: float) -> None:
    kept, small = evenly_cropped_shape((rows, columns), binning)
    assert all(side % 2 == 0 for side in (*kept, *small))
    assert columns - kept[1] == columns % 2
    assert 0 <= rows - kept[0] <= 2 * columns / small[1] + 2
    assert abs(small[0] * kept[1] / small[1] - kept[0]) <= 1.01


def test_no_binning_keeps_every_row() -> None:
    assert evenly_cropped_shape((957, 926), 1.0) == ((957, 926), (957, 926))


def test_a_spot_far_from_the_middle_keeps_its_place_in_square_pixels() -> None:
    shape, at = (383, 371), np.array([150.0, -140.0])
    y, x = (np.arange(n) - n // 2 for n in shape)
    spot = np.exp(-((y[:, None] - at[0]) ** 2 + (x[None, :] - at[1]) ** 2) / (2 * 8.0**2)).astype(np.float32)
    kept, small = evenly_cropped_shape(shape, 7.41)
    image = evenly_cropped(spot[None], 7.41)[0]
    assert image.shape == small
    index = np.indices(small).reshape(2, -1)
    found = (index * image.ravel()).sum(axis=1) / image.sum() - np.array(small) // 2
    np.testing.assert_allclose(found * kept[1] / small[1], at, atol=0.1)
