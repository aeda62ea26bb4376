"""Binning of what is streamed: means of blocks, fields likewise, and all positions stay where they are."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tomofly.imaging.binning import bin_mean
from tomofly.live.binning import StreamBinning
from tomofly.live.calibration import CalibrationStore
from tomofly.live.control.facts import facts
from tomofly.live.frames import Frame, FrameKind
from tomofly.live.parameters import LiveParameters
from tomofly.live.pixels import binning_ratio, rescaled_centre, rescaled_position
from tomofly.live.reconstruction import LiveReconstructor
from tomofly.live.records.scan_table import SCAN_TABLE
from tomofly.live.records.stream_table import STREAM_TABLE
from tomofly.live.records.values import PVValues
from tomofly.live.slicer import Room

ROWS, COLUMNS = 9, 65
VIEWS = 90
MU_PER_UM = 0.02
PIXEL_UM = 0.5
DISC = 12.0


def frame(number: int, image: NDArray[Any], kind: FrameKind = FrameKind.PROJECTION) -> Frame:
    return Frame(
        number=number, unique_id=number, image=image, kind=kind, angle_deg=number * 180.0 / VIEWS,
        acquired_at=0.0, received_at=0.0, exposure_s=0.01, lens=0,
    )  # fmt: skip


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.int16, np.float64])
@pytest.mark.parametrize("size", [2, 4])
def test_a_binned_pixel_is_the_mean_of_its_block(dtype: type, size: int) -> None:
    image: NDArray[Any] = np.random.default_rng(1).integers(0, 255, (11, 17)).astype(dtype)
    rows, columns = 11 // size, 17 // size
    kept = image[: rows * size, : columns * size].astype(np.float64)
    expected = kept.reshape(rows, size, columns, size).mean(axis=(1, 3))
    assert np.allclose(bin_mean(image, size), expected, rtol=1e-6)


@given(st.integers(4, 3000), st.integers(4, 3000), st.sampled_from([1, 2, 4]), st.sampled_from([1, 2, 4]))
def test_sizes_tell_the_change_of_binning(rows: int, columns: int, before: int, after: int) -> None:
    first, second = (rows // before, columns // before), (rows // after, columns // after)
    if first == second:
        assert before == after
    elif 1 not in first + second:  # images of one row tell nothing
        assert binning_ratio(first, second) == before / after


@given(st.integers(0, 2447), st.sampled_from([0.25, 0.5, 2.0, 4.0]))
def test_a_position_stays_at_its_place(position: int, ratio: float) -> None:
    new = rescaled_position(position, ratio)
    assert abs(rescaled_centre(position, ratio) - new) <= 0.5 * max(1, 1 / ratio - 1, ratio - 1)
    assert rescaled_position(rescaled_position(new, 1 / ratio), ratio) == new


def fields(store: CalibrationStore) -> None:
    for kind, count in ((FrameKind.DARK, 10), (FrameKind.FLAT, 200)):
        for number in range(3):
            store.put(frame(number, np.full((ROWS, COLUMNS), count, np.uint8), kind))
    store.close_run()


def test_a_binned_frame_has_the_binned_fields_of_the_frame_that_came() -> None:
    store = CalibrationStore()
    fields(store)
    binning = StreamBinning(store.for_frame)
    came = frame(9, np.full((ROWS, COLUMNS), 100, np.uint8))
    assert binning.frame(came) is came
    whole = binning.fields(came)
    binning.size = 4
    binned = binning.frame(came)
    found = binning.fields(binned)
    assert binned.image.shape == (2, 16)
    assert whole is not None
    assert whole.dark.shape == (ROWS, COLUMNS)
    assert found is not None
    assert found.flat.shape == (2, 16)
    assert np.all(found.flat == 200)
    assert binning.fields(binned) is found
    # Of another type than the fields, also binned.
    assert binning.fields(binning.frame(replace(came, image=came.image.astype(np.uint16)))) is None
    dark = frame(10, came.image, FrameKind.DARK)
    assert binning.frame(dark) is dark


def shadow(number: int, centre: float) -> NDArray[np.uint16]:
    """A disc off the axis, as counts between a dark of 10 and a flat of 60 000."""
    angle = np.deg2rad(number * 180.0 / VIEWS)
    s = centre + 8 * np.cos(angle) - 5 * np.sin(angle)
    fine = np.arange(COLUMNS)[:, None] + np.linspace(-0.45, 0.45, 10)
    chord = 2 * np.sqrt(np.maximum(DISC**2 - (fine - s) ** 2, 0)) * PIXEL_UM * MU_PER_UM
    light = np.exp(-chord).mean(axis=1)
    return np.broadcast_to((10 + 59_990 * light).round().astype(np.uint16), (ROWS, COLUMNS)).copy()


def test_centre_positions_and_values_stay_right_when_the_binning_changes() -> None:
    store = CalibrationStore()
    for kind, count in ((FrameKind.DARK, 10), (FrameKind.FLAT, 60_000)):
        store.put(frame(0, np.full((ROWS, COLUMNS), count, np.uint16), kind))
    store.close_run()
    binning = StreamBinning(store.for_frame)
    centre = 33.5
    wanted = LiveParameters.model_validate({}).changed(
        {"centre": centre, "filter": "ramp", "pixel_size_um": PIXEL_UM, "ortho_x": 40, "ortho_y": 27,
         "ortho_z": 6}
    )  # fmt: skip
    room = Room(memory_bytes=2**26, backend="cpu", threads=1)
    number = 0
    with LiveReconstructor(binning.fields, wanted, room=room) as live:
        for size in (1, 2, 4, 1):
            binning.size = size
            for _ in range(VIEWS):
                number += 1
                assert live.put(binning.frame(frame(number, shadow(number, centre))))
            assert live.drain(20)
            latest = live.latest
            assert latest is not None
            assert latest.z.shape == (COLUMNS // size, COLUMNS // size)
            assert latest.centre == pytest.approx((centre + 0.5) / size - 0.5)
            assert latest.parameters.pixel_size_um == PIXEL_UM * size
            if number > 3 * VIEWS:  # back from 4 x: within the pixel that was looked at
                assert np.all(np.abs(np.subtract(latest.ortho_xyz, (40, 27, 6))) < 4)
            else:
                assert latest.ortho_xyz == (40 // size, 27 // size, 6 // size)
            # The disc: 8 right of the axis and 5 below the middle, MU inside.
            x, y = ((at + COLUMNS // 2 + 0.5) / size for at in (8, 5))
            inside = latest.z[int(y) - 1 : int(y) + 2, int(x) - 1 : int(x) + 2]
            assert inside.mean() == pytest.approx(MU_PER_UM, rel=0.06), size
            assert latest.unit == "1/um"
        assert sum("begins anew" in text for text in live.messages) >= 3


def test_captured_frames_keep_their_pixel_size_and_centre() -> None:
    scan, stream = PVValues("s:", SCAN_TABLE), PVValues("r:", STREAM_TABLE)
    stream.set("PixelSize", 2.0)
    stream.set("Center", 15.5)
    known = facts(scan, stream, 2)
    assert known["pixel_size_um"] == 1.0
    assert known["rotation_centre_px"] == 31.5
