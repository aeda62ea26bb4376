"""The kernels are loaded before the first frame."""

from tomofly.live.slicer import Room
from tomofly.live.warm_up import PIXEL_TYPES, warm_up


def test_nothing_is_left_to_compile_for_any_type_of_pixel() -> None:
    assert len(PIXEL_TYPES) == 3
    warm_up(Room(threads=2))
    assert warm_up(Room(threads=2)) < 60
