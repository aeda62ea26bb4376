"""All records of the beamline in one EPICS database."""

import asyncio
import ctypes

from aioca import camonitor
from softioc import asyncio_dispatcher, builder, softioc

from tomofly.simulate.beamline import doings, pv_table
from tomofly.simulate.beamline.autopilot import PATTERNS
from tomofly.simulate.beamline.beamline import Beamline
from tomofly.simulate.beamline.codecs import CODECS
from tomofly.simulate.beamline.faults import DROP_MODES
from tomofly.simulate.beamline.motor_ioc import MotorIoc
from tomofly.simulate.beamline.motor_record import MOTOR_FIELDS, define_motor_records
from tomofly.simulate.beamline.names import Names
from tomofly.simulate.beamline.records import Group

FRAME_TYPE_NUMBERS = (0, 1, 2)


class BeamlineIoc:
    """Made, started and used in the thread of one asyncio loop; once in a process."""

    def __init__(self, beamline: Beamline, names: Names) -> None:
        self._beamline = beamline
        self._outside = names.frame_type
        self._told_to_acquire = beamline.acquires_at_start
        define_motor_records()
        self._motors = self._make_motors(names)
        self._camera = self._make_camera(names)
        self._groups = [self._camera, *self._make_others(names)]

    @property
    def names(self) -> list[str]:
        """Names of all PVs; of motors those of the records, with their fields."""
        motors = [f"{motor.name} ({' '.join(('VAL', *MOTOR_FIELDS))})" for motor in self._motors]
        return motors + [name for group in self._groups for name in group.names]

    def start(self) -> None:
        """Serve."""
        builder.LoadDatabase()
        for motor in self._motors:
            motor.load()
        softioc.iocInit(asyncio_dispatcher.AsyncioDispatcher(asyncio.get_running_loop()))
        # EPICS base has locked all memory, to come too, where it may: each new array would be filled at once.
        ctypes.CDLL(None).munlockall()
        if self._outside:
            camonitor(self._outside, self._frame_type_told, datatype=int, notify_disconnect=True)

    def refresh(self) -> None:
        """Show how everything is."""
        self._beamline.own_frame_type = int(self._camera["FrameType"])
        for motor in self._motors:
            motor.update()
        for group in self._groups:
            group.refresh()
        # A put shows before its order is carried out, and is no series that has ended.
        if self._told_to_acquire and not self._beamline.camera.is_acquiring:
            self._told_to_acquire = False
            self._camera.set("Acquire", 0)

    def _frame_type_told(self, value: "object") -> None:
        """Take over what the outer PV says, while it is there."""
        number = int(value) if getattr(value, "ok", False) else None  # type: ignore[call-overload]
        self._beamline.outside_frame_type = number if number in FRAME_TYPE_NUMBERS else None

    def _make_motors(self, names: Names) -> list[MotorIoc]:
        scene, motors = self._beamline.scene, names.motors

        def stay() -> None:
            """Nothing else drives the sample stages."""

        return [
            MotorIoc(motors["rotation"], scene.rotation, "deg", "Rotation", self._beamline.release_rotation),
            MotorIoc(motors["x"], scene.sample_x, "mm", "Sample across the beam, x", stay),
            MotorIoc(motors["y"], scene.sample_y, "mm", "Sample along the axis, y", stay),
        ]

    def _make_camera(self, names: Names) -> Group:
        beamline = self._beamline
        orders, shown = beamline.camera.orders, doings.camera_shown(beamline)
        setup = orders.setup
        start = {
            "Acquire": int(beamline.acquires_at_start), "AcquireTime": setup.exposure_s,
            "AcquirePeriod": orders.period_s, "FrameRate": 1 / orders.period_s, "NumImages": orders.images,
            "SizeX": setup.region[3], "SizeY": setup.region[2], "BinX": 1, "BinY": 1,
            "DataType": shown["DataType_RBV"](),
        }  # fmt: skip
        acts = doings.camera_orders(beamline, lambda: not self._camera["UniqueIdMode"])
        order = acts["Acquire"]

        def acquire(value: int) -> None:
            self._told_to_acquire = bool(value)
            order(value)

        acts = {**acts, "Acquire": acquire}
        return Group(f"{names.camera}cam1:", pv_table.CAMERA, acts, shown, start)

    def _make_others(self, names: Names) -> list[Group]:
        beamline, pilot = self._beamline, self._beamline.autopilot
        wishes = beamline.delivery.wishes
        start = {
            "Pattern": PATTERNS.index(pilot.pattern), "Speed": pilot.speed_deg_s,
            "DropMode": DROP_MODES.index(wishes.drop), "DropShare": wishes.drop_share,
            "DropPeriod": wishes.drop_period, "DropBurst": wishes.drop_burst,
            "Wrap16": int(wishes.wrap_16_bits), "Codec": CODECS.index(wishes.codec),
        }  # fmt: skip
        camera = names.camera
        return [
            Group(
                f"{camera}Pva1:", pv_table.PVA_PLUGIN, doings.plugin_orders(beamline),
                doings.plugin_shown(beamline, names.image), {},
            ),
            Group(f"{camera}ROI1:", pv_table.ROI_PLUGIN, doings.roi_orders(beamline), {}, {}),
            Group(
                names.beamline, pv_table.DEVICES, doings.device_orders(beamline),
                doings.device_shown(beamline), {},
            ),
            Group(
                f"{names.beamline}Sim:", pv_table.SIMULATION, doings.simulation_orders(beamline),
                doings.simulation_shown(beamline), start,
            ),
        ]  # fmt: skip
