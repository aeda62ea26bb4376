"""Control: PVs turn into parameters and captures, and what comes of them turns into PVs."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from p4p.client.thread import Context
from p4p.nt import NTScalar
from p4p.server import Server
from p4p.server.thread import SharedPV

from tests.live.conftest import ChannelAccess, Loopback
from tomofly.imaging.xray.rotation_centre import CentreEstimate
from tomofly.live.client import LiveClient
from tomofly.live.collection.broadcast import Broadcast
from tomofly.live.collection.channels import DeviceFault, EpicsChannels, until
from tomofly.live.collection.foreign import ForeignCollection
from tomofly.live.control.facts import facts
from tomofly.live.control.lens import move_by
from tomofly.live.control.reconstruction import ReconstructionControl, parameters_of
from tomofly.live.frames import FrameKind
from tomofly.live.live_slices import LiveSlices
from tomofly.live.parameters import LiveParameters
from tomofly.live.records.presence import refuse_hidden
from tomofly.live.records.scan_table import SCAN_TABLE
from tomofly.live.records.stream_table import STREAM_TABLE
from tomofly.live.records.values import PVValues
from tomofly.model import TomoflyError

ROWS, COLUMNS = 20, 32


class FakeReconstructor:
    """Checks parameters as the real one does, and remembers them."""

    def __init__(self) -> None:
        self.parameters = LiveParameters.model_validate({})
        self.restarts = 0
        self.losses: Mapping[str, int] = {"received": 7}

    def set(self, **values: Any) -> LiveParameters:
        self.parameters = self.parameters.changed(values)
        return self.parameters

    def put(self, frame: object) -> bool:
        return True

    def restart(self) -> None:
        self.restarts += 1


def slices(rows: int = ROWS, columns: int = COLUMNS, **more: Any) -> LiveSlices:
    image = np.zeros((rows, columns), np.float32)
    made = LiveSlices(
        sequence=1, stage="running", z=np.zeros((columns, columns), np.float32), y=image, x=image,
        unit="1/px",
        parameters=LiveParameters.model_validate({}), parameters_version=1, centre=(columns - 1) / 2,
        ortho_xyz=(columns // 2, columns // 2, rows // 2), number=90, unique_id=90, angle_deg=1.0, oldest=1,
        projections=90, coverage_deg=90.0, settled=1.0, acquired_at=0.0, made_at=0.0, latency_s=0.02,
        taken_s=0.01, found_centre=None, losses={},
    )  # fmt: skip
    return replace(made, **more)


class Bench:
    def __init__(self, folder: Path, *, lens_of_frames: bool = False, **kept: float) -> None:
        """`kept`: settings that were kept over a restart."""
        self.values = PVValues("r:", STREAM_TABLE)
        self.values.restore(kept)
        self.reconstructor = FakeReconstructor()
        self.told: list[str] = []
        self.values.on_refusal(self.told.append)
        self.control = ReconstructionControl(
            self.values, self.reconstructor, show_limits=lambda name: None, memory=folder / "lenses.json",
            lens_of_frames=lens_of_frames,
        )  # fmt: skip
        self.control.connect()

    async def came(self, made: LiveSlices) -> None:
        self.control.came(made)
        await asyncio.sleep(0)  # let the loop deliver what came from the other thread


@pytest.fixture
def bench(tmp_path: Path) -> Callable[[Callable[[Bench], Awaitable[None]]], Bench]:
    def run(test: Callable[[Bench], Awaitable[None]]) -> Bench:
        async def whole() -> Bench:
            made = Bench(tmp_path)
            await test(made)
            return made

        return asyncio.run(whole())

    return run


OnBench = Callable[[Callable[[Bench], Awaitable[None]]], Bench]


def test_every_parameter_has_its_pv() -> None:
    """None is forgotten but the step of angles, which is found."""
    given = parameters_of(PVValues("r:", STREAM_TABLE))
    assert set(LiveParameters.model_fields) - set(given) == {"angular_step_deg"}
    LiveParameters.model_validate({}).changed(given)


@pytest.mark.parametrize(("word", "radius"), [("None", 0), ("Radius 2", 2), ("Radius 3", 3), ("Radius 4", 4)])
def test_the_radius_of_dezinger_is_what_it_says(bench: OnBench, word: str, radius: int) -> None:
    async def test(made: Bench) -> None:
        made.values.take("Dezinger", word)
        assert made.reconstructor.parameters.dezinger == radius

    bench(test)


def test_what_does_not_go_together_is_refused_with_the_name_of_the_pv(bench: OnBench) -> None:
    async def test(made: Bench) -> None:
        assert not made.values.take("Alpha", 100.0)
        assert "Alpha" in made.told[-1]
        assert made.values["Alpha"] == 0.0
        assert made.values.take("PixelSize", 1.5)
        assert made.values.take("Distance", 50.0)
        assert made.values.take("Alpha", 100.0)

    bench(test)


def test_positions_begin_in_the_middle_and_follow_binning(bench: OnBench) -> None:
    async def test(made: Bench) -> None:
        values = made.values
        values.take("PixelSize", 0.5)
        await made.came(slices())
        assert [values[name] for name in ("Center", "OrthoX", "OrthoZ")] == [15.5, 16, 10]
        assert values.limits("OrthoZ") == (0, ROWS - 1)
        values.take("Center", 14.0)
        values.take("OrthoX", 20)
        await made.came(slices(ROWS // 2, COLUMNS // 2))
        assert values["Center"] == pytest.approx(14.5 / 2 - 0.5)
        assert values["OrthoX"] == 10
        assert values["PixelSize"] == 1.0
        assert not values.take("OrthoX", 16)

    bench(test)


def test_each_lens_has_its_centre_also_after_a_restart(bench: OnBench, tmp_path: Path) -> None:
    async def test(made: Bench) -> None:
        values = made.values
        await made.came(slices())
        values.take("Center", 14.0)
        made.control.lens(1)
        values.take("Center", 18.0)
        made.control.lens(0)
        assert values["Center"] == 14.0
        assert made.reconstructor.restarts == 2
        again = Bench(tmp_path)
        again.control.lens(1)
        assert again.values["Center"] == 18.0

    bench(test)


def test_a_restart_with_another_lens_in_takes_no_lens_its_centre(bench: OnBench, tmp_path: Path) -> None:
    async def test(made: Bench) -> None:
        await made.came(slices())
        made.values.take("Center", 14.0)
        made.control.lens(2)
        made.values.take("Center", 18.0)
        again = Bench(tmp_path, Center=18.0)
        await again.came(slices())
        again.control.lens(2)
        assert (again.values["Center"], again.reconstructor.restarts) == (18.0, 0)
        again.control.lens(0)
        assert again.values["Center"] == 14.0
        other = Bench(tmp_path, Center=14.0)
        other.control.lens(2)
        assert other.values["Center"] == 18.0

    bench(test)


def test_a_centre_that_was_found_is_remembered_for_its_lens(bench: OnBench) -> None:
    async def test(made: Bench) -> None:
        made.values.take("AutoCenterEnable", 1)
        await made.came(slices(centre=13.0))
        made.control.publish()
        made.control.lens(1)
        made.values.take("Center", 18.0)
        made.control.lens(0)
        assert made.values["Center"] == 13.0

    bench(test)


def test_the_middle_that_nobody_chose_is_that_of_each_size(bench: OnBench) -> None:
    async def test(made: Bench) -> None:
        values = made.values
        await made.came(slices(rows=30, columns=40))
        assert (values["Center"], values["OrthoX"], values["OrthoZ"]) == (19.5, 20, 15)
        values.take("OrthoX", 12)
        await made.came(slices(rows=36, columns=52))
        assert (values["Center"], values["OrthoX"], values["OrthoY"], values["OrthoZ"]) == (25.5, 12, 26, 18)
        values.take("Center", 24.0)
        await made.came(slices(rows=30, columns=70))
        assert (values["Center"], values["OrthoX"]) == (24.0, 12)

    bench(test)


def test_where_nobody_else_says_it_frames_tell_which_lens_is_in(tmp_path: Path) -> None:
    async def test(*, lens_of_frames: bool) -> list[float]:
        folder = tmp_path / str(lens_of_frames)
        folder.mkdir()
        made = Bench(folder, lens_of_frames=lens_of_frames)
        await made.came(slices(lens=0))
        made.values.take("Center", 14.0)
        centres = []
        for lens in (1, 0):
            await made.came(slices(lens=lens))
            centres.append(made.values.number("Center"))
            made.values.take("Center", 18.0)
        return centres

    assert asyncio.run(test(lens_of_frames=True)) == [14.0, 14.0]
    assert asyncio.run(test(lens_of_frames=False)) == [14.0, 18.0]


def test_a_lens_remembers_its_centre_whatever_the_binning(bench: OnBench, tmp_path: Path) -> None:
    async def test(made: Bench) -> None:
        values = made.values
        await made.came(slices())
        values.take("PixelSize", 0.5)
        values.take("Center", 14.0)
        made.control.lens(1)
        await made.came(slices(ROWS // 2, COLUMNS // 2))
        values.take("Center", 3.0)
        made.control.lens(0)
        assert values["Center"] == pytest.approx(14.5 / 2 - 0.5)
        assert values["PixelSize"] == 1.0
        unbinned = Bench(tmp_path)
        unbinned.control.lens(1)
        assert unbinned.values["Center"] == pytest.approx(3.5 * 2 - 0.5)
        assert unbinned.values["PixelSize"] == 0.5

    bench(test)


def test_a_certain_centre_is_taken_over_on_wish(bench: OnBench) -> None:
    async def test(made: Bench) -> None:
        values = made.values
        values.take("AutoCenter", 1)
        await made.came(slices(found_centre=CentreEstimate(13.0, 9.0, 0.3)))
        assert values["AutoCenter"] == 1
        await made.came(slices(found_centre=CentreEstimate(13.25, 0.1, 0.9)))
        assert values["AutoCenter"] == 0
        assert values["Center"] == 13.25

    bench(test)


def test_measures_become_pvs(bench: OnBench) -> None:
    async def test(made: Bench) -> None:
        await made.came(slices())
        made.control.publish()
        values = made.values
        assert values["Coverage"] == 50.0
        assert values["Latency50"] == pytest.approx(0.02)
        assert values.text("BufferSize") == "90/90"
        assert values["FramesIn"] == 7

    bench(test)


def test_the_way_of_the_sample_to_the_middle(bench: OnBench) -> None:
    async def test(made: Bench) -> None:
        values, puts = made.values, {}
        values.take("PixelSize", 2.0)
        await made.came(slices())
        values.take("OrthoX", 20)
        values.take("OrthoZ", 5)
        values.set("SampleTomo0degPVName", "top")

        class Motors:
            async def get(self, name: str) -> float:
                return 1.0

            async def put(self, name: str, value: float, wait_s: float | None = None) -> None:
                puts[name] = value

        await move_by(Motors(), values, made.control.way_to_the_middle(), made.told.append)  # type: ignore[arg-type]
        assert puts == {"top": pytest.approx(1.0 + 4 * 0.002)}
        made.control.put_into_the_middle()
        assert (values["OrthoX"], values["OrthoZ"]) == (16, 10)

    bench(test)


def test_facts_leave_out_what_nobody_said() -> None:
    scan, stream = PVValues("s:", SCAN_TABLE), PVValues("r:", STREAM_TABLE)
    scan.set("SampleName", "rock")
    known = facts(scan, stream)
    assert known["sample"] == "rock"
    assert known["flat_mode"] == "Start"
    assert "email" not in known
    assert "pixel_size_um" not in known


# Other servers.


@pytest.fixture
def pva_device(epics: Loopback) -> Iterator[SharedPV]:
    pv = SharedPV(nt=NTScalar("d"), initial=1.0)

    @pv.put
    def put(pv: SharedPV, operation: Any) -> None:
        pv.post(operation.value())
        operation.done()

    with Server(providers=[{"dev:motor": pv}]):
        yield pv


def test_a_device_over_pvaccess(pva_device: SharedPV, ca: ChannelAccess) -> None:
    async def run() -> None:
        channels = EpicsChannels()
        name = "pva://dev:motor"
        assert await channels.get(name) == 1.0
        await channels.put(name, 2.5, 5.0)
        assert await until(channels, name, lambda v: v == 2.5, 5.0, "no motor") == 2.5
        with pytest.raises(DeviceFault, match=r"too slow: pva://dev:motor is 2.5 after 0.1 s"):
            await until(channels, name, lambda v: v == 3.0, 0.1, "too slow")
        channels.close()

    ca.run(run())


def test_a_foreign_collection_is_listened_to(epics: Loopback, ca: ChannelAccess) -> None:
    broadcast = Broadcast("fo:")
    heard: dict[str, Any] = {}

    class Told:
        def foreign_kind(self, kind: Any) -> None:
            heard["kind"] = kind

        def foreign_first(self, first_id: int) -> None:
            heard["first"] = first_id

        def foreign_theta(self, angles: Any) -> None:
            heard["theta"] = angles

        def foreign_field(self, kind: FrameKind, mean: Any) -> None:
            heard[kind.name] = mean

    async def run() -> None:
        channels = EpicsChannels()
        foreign = ForeignCollection("fo:", channels, Told())
        broadcast.field(FrameKind.FLAT, np.ones((3, 5), np.float32), 1)
        async with asyncio.timeout(20):
            while "FLAT" not in heard:
                await asyncio.sleep(0.01)
        foreign.close()
        channels.close()

    with Server(providers=[broadcast.provider]):
        ca.run(run())
    assert heard["FLAT"].shape == (3, 5)
    assert "DARK" not in heard  # it has sent none yet


def test_a_taken_port_on_the_loopback_is_refused(monkeypatch: pytest.MonkeyPatch, epics: Loopback) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        monkeypatch.setenv("EPICS_CAS_SERVER_PORT", str(other.getsockname()[1]))
        with pytest.raises(TomoflyError, match="EPICS_CAS_SERVER_PORT"):
            refuse_hidden()
    refuse_hidden()


def test_a_configuration_is_checked_before_anything_is_set(epics: Loopback, pva: Context) -> None:
    with LiveClient("nobody:", "there:") as client, pytest.raises(TomoflyError) as refusal:
        client.load({"nobody:": {"NumAngles": 5, "ExposureTime": -1}})
    assert "ExposureTime" in str(refusal.value)
