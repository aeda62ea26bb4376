"""The devices of a beamline, put together out of settings and PVs."""

from dataclasses import dataclass, replace

from tomofly.live.collection.channels import Channels
from tomofly.live.collection.devices import Camera, Motor, Shutter
from tomofly.live.records.pv import STRING_BYTES
from tomofly.live.records.values import PVValues
from tomofly.live.settings import LiveSettings, MotorSettings


@dataclass(frozen=True)
class Beamline:
    """All that collection drives."""

    rotation: Motor
    sample_x: Motor
    sample_y: Motor
    shutter: Shutter
    camera: Camera


def device_names(settings: LiveSettings) -> dict[str, str]:
    """Give the values of the PVs that name devices, as the settings say."""
    shutter, camera = settings.shutter, settings.camera
    pairs = {
        "OpenShutter": shutter.open, "CloseShutter": shutter.close, "BeamReady": shutter.beam_ready,
        "OpenFastShutter": shutter.fast_open, "CloseFastShutter": shutter.fast_close,
    }  # fmt: skip
    names = {f"{name}PVName": pair[0] for name, pair in pairs.items()}
    names |= {f"{name}Value": pair[1] for name, pair in pairs.items()}
    return names | {
        "CameraPVPrefix": camera.prefix,
        "PvaPluginPVPrefix": camera.image.removesuffix("Image"),
        "RoiPluginPVPrefix": camera.roi,
        "MctOpticsPVPrefix": camera.optics,
        "ShutterStatusPVName": shutter.status,
        "RotationPVName": settings.rotation.record,
        "SampleXPVName": settings.sample_x.record,
        "SampleYPVName": settings.sample_y.record,
    }


def beamline(channels: Channels, settings: LiveSettings, values: PVValues) -> Beamline:
    """Give the devices that the PVs name now; what has no PV comes from the settings."""

    named = device_names(settings)

    def name_of(pv: str) -> str:
        # A stringout PV has no room for a long name: the settings know it whole.
        told = values.text(pv)
        return named[pv] if len(told) == STRING_BYTES - 1 and named[pv].startswith(told) else told

    def motor(names: MotorSettings, pv: str, label: str) -> Motor:
        return Motor(channels, names.model_copy(update={"record": name_of(pv)}), label)

    def put(name: str) -> tuple[str, str]:
        return name_of(f"{name}PVName"), name_of(f"{name}Value")

    shutter = Shutter(
        channels,
        opening=(put("OpenShutter"), put("OpenFastShutter")),
        closing=(put("CloseFastShutter"), put("CloseShutter")),
        status=name_of("ShutterStatusPVName"),
        status_open=settings.shutter.status_open,
    )
    camera = Camera(channels, name_of("CameraPVPrefix"), settings.camera.period, settings.camera.readout_s)
    if values.text("Testing") == "Yes":
        shutter = replace(shutter, opening=(), closing=(), status="")
    return Beamline(
        motor(settings.rotation, "RotationPVName", "rotation"),
        motor(settings.sample_x, "SampleXPVName", "sample's x"),
        motor(settings.sample_y, "SampleYPVName", "sample's y"),
        shutter,
        camera,
    )
