"""The client: names that people use, refusals with a reason, all through PVs."""

from collections.abc import Iterator

import pytest

from tests.live.conftest import ChannelAccess, Loopback, Serve, Server
from tomofly.live.client import Change, LiveClient, Refused, find_setting, spelled, without_time
from tomofly.live.records.pv import PV, Value
from tomofly.live.records.scan_table import SCAN_TABLE
from tomofly.live.records.stream_table import STREAM_TABLE
from tomofly.model import TomoflyError

P, R = "cl:S:", "cl:R:"


@pytest.fixture(scope="module")
def server(serve: Serve) -> Server:
    return serve("-m", "tests.live.records_server", P, R)


@pytest.fixture
def client(server: Server, epics: Loopback) -> Iterator[LiveClient]:
    with LiveClient(P, R) as made:
        yield made


@pytest.mark.parametrize(
    ("name", "pv"),
    [
        ("center", "Center"), ("centre", "Center"), ("ortho_z", "OrthoZ"), ("OrthoZ", "OrthoZ"),
        ("filter", "FilterType"), ("pixel_size", "PixelSize"), ("exposure", "ExposureTime"),
        ("rot_x", "RotX"), ("window", "WindowLength"),
    ],
)  # fmt: skip
def test_names_that_people_use(name: str, pv: str) -> None:
    assert find_setting(name)[1].name == pv


@pytest.mark.parametrize(
    "pv", [pv for pv in (*SCAN_TABLE, *STREAM_TABLE) if pv.saved], ids=lambda pv: pv.name
)
def test_every_saved_setting_can_be_set_as_it_is_spelled(pv) -> None:  # type: ignore[no-untyped-def]
    assert find_setting(spelled(pv.name))[1].name == pv.name


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("centr=5", "Did you mean 'cent"),
        ("recon_time=1", "cannot be set"),
        ("center", "name=value"),
        ("center=nan", "Center cannot be nan"),
        ("center=wide", "Center cannot be 'wide'"),
        ("ortho_z=-1", "Legal is from 0 to 2448"),
        ("ortho_z=1.5", "whole number"),
        ("filter=Blackman", "Legal are: Parzen"),
    ],
)
def test_what_is_wrong_is_refused_before_anything_is_put(assignment: str, message: str) -> None:
    with LiveClient("nobody:", "there:") as client, pytest.raises(TomoflyError) as error:
        client.set(["rot_x=5", assignment])
    assert message in str(error.value)


def test_settings_arrive(client: LiveClient, ca: ChannelAccess) -> None:
    changes = client.set(["center=512.5", "ortho_z=300", "filter=ramp", "file_name=sample 7", "step=0.25"])
    assert [change.value for change in changes] == [512.5, 300, "Ramp", "sample 7", 0.25]
    assert ca.get(R + "Center") == 512.5
    assert ca.get(R + "FilterType") == 2
    assert ca.text(P + "FileName") == "sample 7"


def test_what_depends_on_each_other_is_set_in_an_order_that_works(
    client: LiveClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program that takes alpha only after a distance."""
    put = client._set

    def distance_first(stream: bool, pv: PV, value: Value) -> Change:
        if pv.name == "Alpha" and not client.get("Distance", stream=True):
            raise Refused("Alpha needs a distance")
        return put(stream, pv, value)

    monkeypatch.setattr(client, "_set", distance_first)
    with pytest.raises(TomoflyError, match=r"Alpha needs a distance\. Set before that: energy=25\.0"):
        client.set(["alpha=10", "energy=25"])
    assert [change.name for change in client.set(["alpha=10", "distance=70"])] == ["Distance", "Alpha"]


def test_limits_that_the_program_has_found_hold_before_anything_is_put(
    client: LiveClient, ca: ChannelAccess
) -> None:
    ca.put(R + "OrthoY.HOPR", 255)
    with pytest.raises(TomoflyError, match=r"OrthoY cannot be 300\. Legal is from 0 to 255"):
        client.set(["rot_x=7", "ortho_y=300"])
    assert ca.get(R + "RotX") == 0


def test_a_name_like_no_other_is_refused_with_where_names_are_listed() -> None:
    with pytest.raises(TomoflyError, match="tomofly live pvs"):
        find_setting("xyzzyx")


def test_a_refusal_is_told_without_its_time_of_day() -> None:
    assert without_time("21:54:16 Center cannot be 300.") == "Center cannot be 300."


def test_nobody_there_is_said() -> None:
    with (
        LiveClient("nobody:", "there:", answer_s=0.5) as client,
        pytest.raises(TomoflyError, match="tomofly live run"),
    ):
        client.status()


def test_a_command_that_is_under_way_is_not_asked_for_again(client: LiveClient) -> None:
    client.capture(frames=10, pre=5)
    with pytest.raises(TomoflyError, match="under way already"):
        client.capture(frames=None, pre=None)
    client.stop_capture()
    with pytest.raises(TomoflyError, match="No capture is under way"):
        client.stop_capture()


def test_a_configuration_is_saved_and_loaded(client: LiveClient, ca: ChannelAccess) -> None:
    client.set(["rot_y=12.5", "sample_name=rock"])
    document = client.configuration()
    client.set(["rot_y=0", "sample_name=sand"])
    changes = client.load(document)
    assert {change.name: change.value for change in changes} == {"RotY": 12.5, "SampleName": "rock"}
    assert ca.text(P + "SampleName") == "rock"
    assert client.load({"NumAngles": 333})[0].value == 333
