"""What writing a PV does to the beamline, and what PVs show of it: functions by the PVs' names."""

import time
from collections.abc import Callable
from typing import Any

from tomofly.simulate.beamline.autopilot import PATTERNS
from tomofly.simulate.beamline.beamline import Beamline
from tomofly.simulate.beamline.camera import IMAGE_MODES, TRIGGER_MODES
from tomofly.simulate.beamline.codecs import CODECS
from tomofly.simulate.beamline.faults import BLANKS, DROP_MODES
from tomofly.simulate.beamline.motion import Motor
from tomofly.simulate.beamline.pv_table import PIXEL_TYPES

Order = Callable[[Any], object]
Orders = dict[str, Order]
Shown = dict[str, Callable[[], float | int | str]]


def camera_orders(beamline: Beamline, new_ids: Callable[[], bool]) -> Orders:
    """Orders of cam1; `new_ids`: whether a series begins with the first id."""
    camera = beamline.camera

    def region(place: int) -> Order:
        def change(value: int) -> None:
            parts = list(camera.orders.setup.region)
            parts[place] = value
            beamline.order_setup(region=tuple(parts))

        return change

    def data_type(value: int) -> None:
        if value in PIXEL_TYPES:
            beamline.order_setup(dtype=PIXEL_TYPES[value])

    return {
        "Acquire": lambda value: beamline.acquire(bool(value), new_ids=new_ids()),
        "AcquireTime": lambda value: beamline.order_setup(exposure_s=value),
        "AcquirePeriod": lambda value: camera.order(period_s=value),
        "FrameRate": lambda value: camera.order(period_s=1 / value),
        "ImageMode": lambda value: camera.order(image_mode=IMAGE_MODES[value]),
        "NumImages": lambda value: camera.order(images=value),
        "TriggerMode": lambda value: camera.order(trigger=TRIGGER_MODES[value]),
        "TriggerSoftware": lambda value: camera.trigger() if value else None,
        "MinY": region(0),
        "MinX": region(1),
        "SizeY": region(2),
        "SizeX": region(3),
        "BinX": lambda value: beamline.order_setup(binning=value),
        "BinY": lambda value: beamline.order_setup(binning=value),
        "DataType": data_type,
        "ArrayCallbacks": lambda value: camera.order(callbacks=bool(value)),
    }


def camera_shown(beamline: Beamline) -> Shown:
    """What cam1 shows."""
    camera = beamline.camera
    types = {name: number for number, name in PIXEL_TYPES.items()}
    sensor = beamline.config.detector_yx_px

    def setup(read: Callable[[Any], float | int]) -> Callable[[], float | int]:
        return lambda: read(camera.orders.setup)

    return {
        "AcquireBusy": lambda: int(camera.is_acquiring),
        "DetectorState_RBV": lambda: int(camera.is_acquiring),
        "StatusMessage_RBV": lambda: "Acquiring" if camera.is_acquiring else "Idle",
        "AcquireTime_RBV": setup(lambda s: float(s.exposure_s)),
        "AcquirePeriod_RBV": lambda: max(camera.orders.period_s, camera.orders.setup.exposure_s),
        "FrameRate_RBV": camera.counts.rate_hz,
        "ImageMode_RBV": lambda: IMAGE_MODES.index(camera.orders.image_mode),
        "NumImages_RBV": lambda: camera.orders.images,
        "NumImagesCounter_RBV": lambda: camera.counts.of_series,
        "ArrayCounter_RBV": lambda: camera.counts.number,
        "TriggerMode_RBV": lambda: TRIGGER_MODES.index(camera.orders.trigger),
        "SizeY_RBV": setup(lambda s: int(s.region[2])),
        "SizeX_RBV": setup(lambda s: int(s.region[3])),
        "BinX_RBV": setup(lambda s: int(s.binning)),
        "BinY_RBV": setup(lambda s: int(s.binning)),
        "ArraySizeY_RBV": setup(lambda s: int(s.region[2] // s.binning)),
        "ArraySizeX_RBV": setup(lambda s: int(s.region[3] // s.binning)),
        "MaxSizeY_RBV": lambda: sensor[0],
        "MaxSizeX_RBV": lambda: sensor[1],
        "DataType_RBV": setup(lambda s: types[s.dtype]),
    }


def plugin_shown(beamline: Beamline, channel: str) -> Shown:
    """What Pva1 shows."""
    types = {name: number for number, name in PIXEL_TYPES.items()}
    return {
        "PvName_RBV": lambda: channel,
        "ArrayCounter_RBV": lambda: beamline.delivery.sent,
        "DroppedArrays_RBV": lambda: len(beamline.delivery.dropped),
        "UniqueId_RBV": lambda: beamline.last_id,
        "DataType_RBV": lambda: types[beamline.camera.orders.setup.dtype],
    }


def plugin_orders(beamline: Beamline) -> Orders:
    """Orders of Pva1."""
    return {"EnableCallbacks": lambda value: setattr(beamline, "sending", bool(value))}


def roi_orders(beamline: Beamline) -> Orders:
    """Orders of ROI1."""
    camera = beamline.camera
    wanted = {"binning": 1, "on": 1}

    def bin_by(**change: int) -> None:
        wanted.update(change)
        camera.order(roi_binning=wanted["binning"] if wanted["on"] else 1)

    return {
        "EnableCallbacks": lambda value: bin_by(on=value),
        "BinX": lambda value: bin_by(binning=value),
        "BinY": lambda value: bin_by(binning=value),
        "Scale": lambda value: camera.order(roi_scale=value),
    }


def device_orders(beamline: Beamline) -> Orders:
    """Orders of shutters, lens and stage triggers. Those of shutters give the time of their end."""
    scene, camera = beamline.scene, beamline.camera

    def drive(shutter: Motor, place: float) -> Order:
        return lambda value: shutter.move(place, time.time()) if value else None

    return {
        "A_shutter:open": drive(scene.shutter, 1.0),
        "A_shutter:close": drive(scene.shutter, 0.0),
        "fast_shutter:open": drive(scene.fast_shutter, 1.0),
        "fast_shutter:close": drive(scene.fast_shutter, 0.0),
        "MCTOptics:LensSelect": lambda value: _select_lens(beamline, value),
        "PSO:Start": lambda value: camera.order(trigger_start_deg=value),
        "PSO:Step": lambda value: camera.order(trigger_step_deg=value),
    }


def _select_lens(beamline: Beamline, lens: int) -> None:
    if lens < len(beamline.config.magnifications):
        beamline.scene.lens = lens


def device_shown(beamline: Beamline) -> Shown:
    """What shutters and optics show."""
    scene = beamline.scene

    def status(shutter: Motor) -> int:
        now = time.time()
        return 2 if shutter.is_moving(now) else int(shutter.motion.at(now)[0] >= 0.5)

    return {
        "A_shutter:status": lambda: status(scene.shutter),
        "fast_shutter:status": lambda: status(scene.fast_shutter),
        "MCTOptics:ImagePixelSize": lambda: beamline.config.pixel_of_lens(scene.lens),
    }


def simulation_orders(beamline: Beamline) -> Orders:
    """Orders of Sim: patterns, events and faults."""
    pilot, delivery = beamline.autopilot, beamline.delivery

    def wish(name: str, meaning: Callable[[Any], object] = lambda value: value) -> Order:
        return lambda value: setattr(delivery.wishes, name, meaning(value))

    def once(act: Callable[[], object]) -> Order:
        return lambda value: act() if value else None

    return {
        "Pattern": lambda value: beamline.fly(PATTERNS[value], pilot.speed_deg_s),
        "Speed": lambda value: beamline.fly(pilot.pattern, value),
        "StartEvent": once(beamline.begin_event),
        "DropMode": wish("drop", lambda value: DROP_MODES[value]),
        "DropShare": wish("drop_share"),
        "DropPeriod": wish("drop_period"),
        "DropBurst": wish("drop_burst"),
        "Wrap16": wish("wrap_16_bits", bool),
        "RestartIds": once(lambda: delivery.restart_ids(beamline.camera.counts.number)),
        "Freeze": wish("frozen", bool),
        "Duplicate": wish("duplicate_next", bool),
        "Swap": wish("swap_next", bool),
        "Codec": wish("codec", lambda value: CODECS[value]),
        "Blank": wish("blank", lambda value: BLANKS[value]),
    }


def simulation_shown(beamline: Beamline) -> Shown:
    """What Sim: shows."""
    counts, load = beamline.camera.counts, _Load(beamline)
    return {
        "Sent_RBV": lambda: beamline.delivery.sent,
        "Dropped_RBV": lambda: len(beamline.delivery.dropped),
        "Skipped_RBV": lambda: counts.skipped,
        "Late_RBV": lambda: counts.late_ms,
        "Load_RBV": load,
        "EventBegins_RBV": lambda: beamline.event_begins_at() or 0.0,
    }


class _Load:
    """Processor time of the camera's thread over the last second or so, in percent of one core."""

    def __init__(self, beamline: Beamline) -> None:
        self._counts = beamline.camera.counts
        self._last = (time.time(), 0.0)
        self._value = 0.0

    def __call__(self) -> float:
        now, busy = time.time(), self._counts.busy_s
        if now - self._last[0] >= 1:
            self._value = 100 * (busy - self._last[1]) / (now - self._last[0])
            self._last = (now, busy)
        return self._value
