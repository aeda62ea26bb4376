"""The live program as one process: EPICS server, intake, reconstruction, capture, triggers, all in one.

A part that fails is named in the status and costs nothing of the others: frames go to each by a queue of its
own. It ends with whatever ends the event given, everything in a safe state.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any

import structlog
from p4p.nt import NTScalar
from p4p.server import Server, StaticProvider
from p4p.server.thread import SharedPV

from tomofly.live import reports
from tomofly.live.capture.copy_queue import CopyQueue
from tomofly.live.capture.folder import check_folder
from tomofly.live.client import STATUS_NAME
from tomofly.live.collection.channels import EpicsChannels
from tomofly.live.collection.driver import Collection
from tomofly.live.collection.foreign import ForeignCollection
from tomofly.live.control.capture import CaptureControl
from tomofly.live.control.clicks import Clicks
from tomofly.live.control.copying import CopyControl
from tomofly.live.control.lens import move_by
from tomofly.live.control.reconstruction import ReconstructionControl
from tomofly.live.control.triggers import TriggerControl
from tomofly.live.frames import Frame, FrameKind
from tomofly.live.live_slices import LivePreview, LiveSlices
from tomofly.live.memory import spare_garbage_collection
from tomofly.live.parts import Parts, recon_channel
from tomofly.live.pixels import SIZES
from tomofly.live.publishing import SlicePublisher
from tomofly.live.reconstruction import LiveReconstructor
from tomofly.live.records.audit import Audit
from tomofly.live.records.ioc import Ioc
from tomofly.live.records.presence import refuse_hidden, refuse_served
from tomofly.live.records.saving import Autosave
from tomofly.live.settings import LiveSettings
from tomofly.live.status import alerts
from tomofly.live.warm_up import warm_up

log = structlog.get_logger(__name__)

WATCHDOG_S = 3.0
SAVED = "settings_pvs.json"
LENSES = "lenses.json"
AUDIT = "audit.jsonl"
COPIES = "copies.json"
COLLECTING = "collecting"

Watch = Callable[[dict[str, Any], LiveSlices | None], object]


class LiveProgram:
    """All parts, at work between `start` and `close`."""

    def __init__(self, settings: LiveSettings) -> None:
        self.settings = settings
        self.parts = Parts(settings)
        self.troubles: dict[str, str] = {}
        self._began = time.time()
        self._groups = (self.parts.scan, self.parts.stream)
        self._tasks: list[asyncio.Task[None]] = []
        self.reconstruction: ReconstructionControl | None = None
        self.reconstructor: LiveReconstructor | None = None
        self.capture: CaptureControl | None = None
        self.copies: CopyControl | None = None
        self._copy_queue: CopyQueue | None = None
        self.collection: Collection | None = None
        self.triggers: TriggerControl | None = None
        self._foreign: ForeignCollection | None = None
        self._preview: LivePreview | None = None
        self._status_pv = SharedPV(nt=NTScalar("s"))
        self._autosave = Autosave(settings.service.state_folder / SAVED, self._groups, self._tell)
        self._audit = Audit(settings.service.state_folder / AUDIT)
        self._channels = EpicsChannels()
        self._publisher = SlicePublisher(recon_channel(settings), losses=self.parts.losses)

    def _tell(self, text: str) -> None:
        log.warning("notice", text=text)
        self.parts.scan.notice(text)

    async def start(self) -> None:
        """Begin. Raises TomoflyError where the names are served already."""
        prefixes = [group.full_name("ServerRunning") for group in self._groups]
        refuse_hidden()
        await refuse_served(prefixes, self.settings.service.presence_s)
        self._autosave.restore()
        for group in self._groups:
            group.on_refusal(group.notice)
            group.on_taken(self._audit.note)
        self._ioc = Ioc(self._groups)
        self._ioc.start()
        self._server = Server(
            providers=[self.parts.broadcast.provider, self._provider(), dict(self._publisher.pvs)]
        )
        self._publisher.start(serve=False)
        for name, make in self._makers().items():
            self._make(name, make)
        self._autosave.start()
        self.parts.intake.start()
        self._tasks += [asyncio.create_task(self._watchdog()), asyncio.create_task(self._show())]
        log.info("started", scan=self.settings.prefixes.scan, stream=self.settings.prefixes.stream)

    def _provider(self) -> StaticProvider:
        provider = StaticProvider("status")
        provider.add(self.settings.prefixes.stream + STATUS_NAME, self._status_pv)
        return provider

    def _makers(self) -> dict[str, Callable[[], None]]:
        """Give what is to be made, in an order in which each finds what it needs."""
        return {
            "calibration": self._make_calibration,
            "copies": self._make_copies,
            "capture": self._make_capture,
            "collection": self._make_collection,
            "reconstruction": self._make_reconstruction,
            "triggers": self._make_triggers,
        }

    def _make(self, name: str, make: Callable[[], None]) -> None:
        """Make a part; where that fails the others go on, and the status says it."""
        try:
            make()
        except Exception as error:
            log.exception("a part cannot be made", part=name)
            self.troubles[name] = str(error)
            self._tell(f"{name.capitalize()} does not work: {error}")

    def _attach(self, name: str, take: Callable[[Frame], None]) -> None:
        self.parts.intake.attach(name, take, depth=self.settings.camera.queue)

    def _make_copies(self) -> None:
        def tell(text: str) -> None:
            loop.call_soon_threadsafe(self._tell, text)

        loop, memory = asyncio.get_running_loop(), self.settings.service.state_folder / COPIES
        self._copy_queue = CopyQueue(memory, self.settings.capture.copy_limit_s, tell)
        self.copies = CopyControl(self.parts.scan, self._copy_queue)
        self.copies.connect()

    def _make_capture(self) -> None:
        def elsewhere() -> str:
            return self.collection.message if self.collection is not None else "Done"

        self.capture = CaptureControl(
            self.parts.scan, self.parts.capture_service, self.settings.capture.folder, elsewhere,
            self._groups, self.copies.captured if self.copies is not None else None,
        )  # fmt: skip
        self.capture.connect()
        self._attach("capture", self.capture.take)
        self._tasks.append(self._task("capture", self.capture.look_after))

    def _make_calibration(self) -> None:
        def tell(reason: str) -> None:
            loop.call_soon_threadsafe(self._tell, f"A field was refused: {reason}")

        loop = asyncio.get_running_loop()
        self.parts.calibration.on_refusal(tell)
        self._attach("calibration", self.parts.calibration.put)

    def _make_collection(self) -> None:
        wanted = self.settings.collection
        if not wanted.enabled:
            if wanted.foreign:
                self._foreign = ForeignCollection(wanted.foreign, self._channels, self.parts)
            return
        self.collection = Collection(
            self.settings, self.parts.scan, self._channels, self,
            lambda: self.capture is not None and self.capture.capturing,
            self.settings.service.state_folder / COLLECTING,
        )  # fmt: skip
        self.collection.connect()
        self._attach("collection", self.collection.note_frame)
        self._tasks.append(self._task("collection", self.collection.look_after))

    def _make_reconstruction(self) -> None:
        self.reconstructor = self.parts.reconstructor()
        stream = self.parts.stream
        self.reconstruction = ReconstructionControl(
            stream, self.reconstructor, show_limits=lambda name: self._ioc.show_limits(stream, name),
            memory=self.settings.service.state_folder / LENSES, binned=self.parts.binning.frame,
            binning=SIZES[self.parts.scan.whole("StreamBinning")],
            lens_of_frames=not self.settings.collection.enabled,
        )  # fmt: skip
        self.reconstructor.on_output(self.reconstruction.came)
        self.reconstructor.on_output(self._publisher.publish)
        self.reconstruction.connect()
        self._attach("reconstruction", self.reconstruction.take)
        clicks = Clicks(stream, self.reconstruction, self.settings.click_file)
        clicks.connect()
        self._tasks.append(self._task("clicks", clicks.look_after))
        if self.settings.reconstruction.start:
            self.reconstruction.start()

    def _make_triggers(self) -> None:
        if self.settings.triggers and self.reconstructor is not None and self.capture is not None:
            folder = self.settings.service.state_folder / "triggers"
            self.triggers = TriggerControl(
                self.settings.triggers, self.parts.stream, self.capture, folder,
                self.parts.calibration.for_frame,
            )  # fmt: skip
            self.reconstructor.on_output(self.triggers.offer)
            if self.triggers.sees_projections:
                self._attach("triggers", self.triggers.take)

    # A listener of collection.

    def kind(self, kind: FrameKind) -> None:
        """Frames show something else from now on."""
        self.parts.kind(kind)

    def angles(self, angles: Any, first_id: int) -> None:
        """Angles of frames from an id on."""
        self.parts.angles(angles, first_id)

    def lens(self, lens: int) -> None:
        """Another lens is in."""
        self.parts.lens(lens)
        if self.reconstruction is not None:
            self._aside = self._task("lens", lambda: self._follow_lens(lens))

    async def _follow_lens(self, lens: int) -> None:
        """Bring what the slices cross in into the middle, where LensChangeSync says so, for the new lens."""
        control, stream = self.reconstruction, self.parts.stream
        if control is None or control.lens_in == lens:
            return
        if stream.text("LensChangeSync") == "Yes":
            await move_by(self._channels, stream, control.way_to_the_middle(), self._tell)
            control.put_into_the_middle()
        control.lens(lens)

    # What goes on.

    def _task(self, name: str, work: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
        async def watched() -> None:
            try:
                await work()
            except Exception as error:
                log.exception("a part has failed", part=name)
                self.troubles[name] = str(error)

        return asyncio.create_task(watched(), name=name)

    async def _watchdog(self) -> None:
        while True:
            self._ioc.feed_watchdogs()
            await asyncio.sleep(WATCHDOG_S)

    async def _show(self) -> None:
        while True:
            await asyncio.sleep(self.settings.service.status_s)
            try:
                self.show()
            except Exception:
                # What is shown must not end the program; the next time may go well.
                log.exception("the status cannot be shown")

    def show(self) -> dict[str, Any]:
        """Bring PVs and status channel up to date; give the status."""
        if self.reconstruction is not None:
            self.reconstruction.publish()
            self._show_preview()
        if self.triggers is not None:
            self.triggers.publish()
        status = self.status()
        self._show_in_pvs(status)
        text = json.dumps(status, default=str)
        # Clients wait for the channel until there is a status to give.
        self._status_pv.post(text) if self._status_pv.isOpen() else self._status_pv.open(text)
        return status

    def _show_preview(self) -> None:
        preview = self.reconstructor.preview if self.reconstructor is not None else None
        slices = self.reconstruction.latest if self.reconstruction is not None else None
        if preview is not None and slices is not None and preview is not self._preview:
            self._preview = preview
            self._publisher.publish_volume(preview.volume, slices)

    def _show_in_pvs(self, status: dict[str, Any]) -> None:
        frames, fields = status["frames"], status["fields"]
        shown = {
            "StreamFramesReceived": frames["received"], "StreamFramesMissing": frames["missing"],
            "StreamFramesDropped": sum(frames["lost"].values()),
            "StreamRate": status["camera"]["frames_per_s"],
            "StreamDarkVersion": fields["dark"]["version"], "StreamFlatVersion": fields["flat"]["version"],
            "StreamDarkAge": fields["dark"]["age_s"] or 0.0, "StreamFlatAge": fields["flat"]["age_s"] or 0.0,
            "StreamFreeSpace": status["capture"]["free_gb"] or 0.0, "StreamAlerts": len(status["alerts"]),
        }  # fmt: skip
        for name, value in shown.items():
            self.parts.scan.set(name, value)

    # How it stands.

    def status(self) -> dict[str, Any]:
        """Give everything that an operator needs, as one document."""
        troubles = dict(self.troubles)
        document = {
            "time": time.time(),
            "program": reports.of_program(self._began, troubles, self.settings),
            "collection": reports.of_collection(self.parts.scan, self.collection),
            "camera": reports.of_camera(self.parts.intake),
            "frames": reports.of_frames(self.parts.losses),
            "reconstruction": reports.of_reconstruction(
                self.parts.stream, self.reconstruction, self.reconstructor, self._publisher, troubles
            ),
            "fields": reports.of_fields(self.parts),
            "capture": reports.of_capture(self.parts.scan, self.capture, self.settings),
            "triggers": self.triggers.status() if self.triggers is not None else [],
            "copies": self.copies.publish() if self.copies is not None else {},
            "fights": [asdict(fight) for fight in self._audit.fights()],
        }
        return document | {"alerts": [alert.document() for alert in alerts(document)]}

    async def close(self) -> None:
        """Bring the beamline to rest, end captures with what they have, save, and let go."""
        log.info("ending")
        if self.collection is not None:
            await self.collection.close()
        if self._foreign is not None:
            self._foreign.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.to_thread(self._close_parts)
        self._channels.close()
        log.info("ended")

    def _close_parts(self) -> None:
        self.parts.intake.close()
        parts = (self.triggers, self.reconstructor, self.capture, self._publisher)
        for part in (*parts, self._copy_queue, self._autosave, self._audit):
            if part is not None:
                part.close()
        self.parts.calibration.close()
        self._server.stop()


async def _kernels_ready(program: LiveProgram) -> None:
    """Have the kernels loaded before frames come; where that fails, the status will say why."""
    try:
        await asyncio.to_thread(warm_up, program.parts.room())
    except Exception:
        log.exception("the kernels cannot be made ready")


async def run_live(settings: LiveSettings, ended: asyncio.Event, watch: Watch | None = None) -> None:
    """Run until `ended` is set; `watch` is told the status and the latest slices once a `status_s`.

    Raises TomoflyError where it cannot begin.
    """
    settings.service.state_folder.mkdir(parents=True, exist_ok=True)
    program = LiveProgram(settings)
    await asyncio.to_thread(program.parts.take_memory)
    await _kernels_ready(program)
    await program.start()
    spare_garbage_collection()
    try:
        while not ended.is_set():
            try:
                await asyncio.wait_for(ended.wait(), settings.service.status_s)
            except TimeoutError:
                if watch is not None:
                    latest = program.reconstruction.latest if program.reconstruction is not None else None
                    watch(program.status(), latest)
    finally:
        await program.close()


def check_folders(settings: LiveSettings) -> None:
    """Refuse folders that cannot be written to, before anything starts. Raises TomoflyError."""
    for folder in (settings.service.state_folder, settings.capture.folder):
        check_folder(folder)
