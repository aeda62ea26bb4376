"""A frame's kind, angle, exposure and lens: from its attributes, else from PVs and settings, and said so."""

import math

import numpy as np
import pytest

from tomofly.formats.ntndarray import NDFrame
from tomofly.live.frame_numbers import Arrival, Numbered
from tomofly.live.frame_reading import AttributeNames, Flag, FrameReader
from tomofly.live.frames import Frame, FrameKind


def received(unique_id: int = 5, **attributes: object) -> NDFrame:
    image = np.zeros((3, 5), np.uint16)
    return NDFrame(image, unique_id, 1e9, math.nan, attributes, 0, "")


def read(reader: FrameReader, unique_id: int = 5, lap: int = 0, **attributes: object) -> Frame:
    numbered = Numbered(unique_id + lap, Arrival.NEXT, lap)
    return reader.read(received(unique_id, **attributes), numbered, 2e9)[0]


def flags(reader: FrameReader, unique_id: int = 5, **attributes: object) -> tuple[Flag, ...]:
    numbered = Numbered(unique_id, Arrival.NEXT)
    return reader.read(received(unique_id, **attributes), numbered, 2e9)[1]


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        (0, FrameKind.DARK), (1, FrameKind.FLAT), (2, FrameKind.PROJECTION), (2.0, FrameKind.PROJECTION),
        ("1", FrameKind.FLAT), ("DarkField", FrameKind.DARK), ("FlatField", FrameKind.FLAT),
        ("Projection", FrameKind.PROJECTION), ("Flat field", FrameKind.FLAT), (7, FrameKind.OTHER),
        ("something else", FrameKind.OTHER), ("/exchange/data_white", FrameKind.FLAT),
    ],
)  # fmt: skip
def test_the_kind_is_read_as_a_number_a_word_or_a_place(said: object, kind: FrameKind) -> None:
    assert read(FrameReader(), FrameType=said).kind is kind


@pytest.mark.parametrize(
    ("place", "kind"),
    [("data", FrameKind.PROJECTION), ("data_dark", FrameKind.DARK), ("data_white", FrameKind.FLAT)],
)
def test_the_place_in_the_file_tells_the_kind_too(place: str, kind: FrameKind) -> None:
    assert read(FrameReader(), HDF5FrameLocation=f"/exchange/{place}").kind is kind


def test_what_the_frame_says_of_itself_counts_more_than_the_pv() -> None:
    reader = FrameReader()
    reader.set_kind("FlatField")
    assert read(reader, FrameType=2).kind is FrameKind.PROJECTION
    assert read(reader).kind is FrameKind.FLAT
    assert flags(reader) == (Flag.KIND_FROM_PV,)


def test_while_something_is_on_its_way_frames_show_nothing_whatever_they_say() -> None:
    reader = FrameReader()
    reader.hold(True)
    assert read(reader, FrameType=1, SampleMoving=0, ShutterOpen=1).kind is FrameKind.OTHER
    reader.hold(False)
    assert read(reader, FrameType=1, SampleMoving=0, ShutterOpen=1).kind is FrameKind.FLAT


def test_a_frame_of_which_nothing_is_known_is_a_projection_without_an_angle() -> None:
    frame = read(FrameReader())
    assert frame.kind is FrameKind.PROJECTION
    assert math.isnan(frame.angle_deg)
    assert frame.exposure_s is None
    assert frame.lens is None
    assert flags(FrameReader()) == (Flag.KIND_ASSUMED, Flag.NO_ANGLE)


def test_a_frame_says_everything_of_itself() -> None:
    told = {
        "FrameType": 2, "RotationAngle": -12.5, "ExposureTime": 0.02, "LensSelect": 1, "SampleMoving": 0,
        "ShutterOpen": 1,
    }  # fmt: skip
    frame = read(FrameReader(), **told)
    assert (frame.angle_deg, frame.exposure_s, frame.lens, frame.moving) == (-12.5, 0.02, 1, False)
    assert (frame.acquired_at, frame.received_at) == (1e9, 2e9)
    assert flags(FrameReader(), **told) == ()


def test_a_frame_taken_while_the_sample_moves_is_none_of_the_three() -> None:
    frame = read(FrameReader(), FrameType=1, SampleMoving=1)
    assert frame.kind is FrameKind.OTHER
    assert frame.moving


@pytest.mark.parametrize(
    ("kind", "shutter", "usable"), [(0, 0, True), (0, 1, False), (1, 0, False), (2, 0, False)]
)
def test_a_frame_that_contradicts_its_shutter_is_none_of_the_three(
    kind: int, shutter: int, usable: bool
) -> None:
    assert (read(FrameReader(), FrameType=kind, ShutterOpen=shutter).kind != FrameKind.OTHER) is usable


def test_angles_come_from_the_list_by_the_frames_id() -> None:
    reader = FrameReader()
    reader.set_theta(np.array([0, 0.5, 1.0], np.float32), first_id=10)
    assert [read(reader, n).angle_deg for n in (10, 11, 12)] == [0, 0.5, 1.0]
    assert flags(reader, 11, FrameType=2) == (Flag.ANGLE_FROM_LIST,)


@pytest.mark.parametrize("unique_id", [9, 13, 400])
def test_a_frame_beyond_the_list_has_no_angle_rather_than_the_last(unique_id: int) -> None:
    reader = FrameReader()
    reader.set_theta(np.array([0, 0.5, 1.0], np.float32), first_id=10)
    assert math.isnan(read(reader, unique_id).angle_deg)
    assert flags(reader, unique_id, FrameType=2) == (Flag.BEYOND_LIST,)


def test_the_list_goes_on_when_ids_wrap_and_begins_again_with_the_camera() -> None:
    reader = FrameReader()
    reader.set_theta(np.arange(100.0), first_id=65_530)
    assert read(reader, 65_535).angle_deg == 5
    assert read(reader, 4, lap=65_536).angle_deg == 10
    reader.set_first_id(3)
    assert read(reader, 4, lap=65_536).angle_deg == 1
    assert read(reader, 7).angle_deg == 4


def test_degrees_per_frame_serve_where_there_is_no_list() -> None:
    reader = FrameReader(start_deg=-90, step_deg=0.25)
    reader.set_first_id(100)
    assert read(reader, 104).angle_deg == -89
    assert flags(reader, 104, FrameType=2) == (Flag.ANGLE_FROM_STEP,)
    reader.set_step(0, 1.0)
    assert read(reader, 104).angle_deg == 4


def test_the_names_of_attributes_can_be_others() -> None:
    reader = FrameReader(names=AttributeNames(angle="SampleOmega"))
    assert read(reader, SampleOmega=3.0).angle_deg == 3.0


@pytest.mark.parametrize("said", [math.nan, math.inf, "north", None])
def test_an_angle_that_is_none_is_not_taken(said: object) -> None:
    assert math.isnan(read(FrameReader(), RotationAngle=said).angle_deg)
