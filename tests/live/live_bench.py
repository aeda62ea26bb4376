"""A simulated beamline and the live program, each in a process of its own, for tests of the whole."""

from pathlib import Path

from tests.live.conftest import Serve, Server

SETTINGS = """
[prefixes]
scan = "{name}:TomoScanStream:"
stream = "{name}:TomoStream:"
[camera]
prefix = "{name}SP:"
image = "{name}SP:Pva1:Image"
optics = "{name}:MCTOptics:"
roi = "{name}SP:ROI1:"
[rotation]
record = "{name}:m1"
[sample_x]
record = "{name}:m2"
[sample_y]
record = "{name}:m3"
[shutter]
open = ["{name}:A_shutter:open", "1"]
close = ["{name}:A_shutter:close", "1"]
fast_open = ["{name}:fast_shutter:open", "1"]
fast_close = ["{name}:fast_shutter:close", "1"]
status = "{name}:A_shutter:status"
[reconstruction]
memory_gb = 0.1
threads = 1
backend = "{backend}"
preview = 16
preview_s = 0.5
[capture]
ring_gb = 0.02
minimum_free_gb = 0.01
[service]
status_s = 0.3
[initial]
SampleOutX = 1.0
ExposureTime = 0.01
RotationStep = 1.0
NumAngles = 360
NumDarkFields = 3
NumFlatFields = 4
StreamFrameTimeout = 3.0
"""


def simulate(serve: Serve, name: str) -> Server:
    """Start a beamline of small frames whose stage stands and whose camera rests."""
    return serve(
        "-m", "tomofly.cli", "simulate", "beamline", "--prefix", f"{name}:", "--camera-prefix", f"{name}SP:",
        "--size", "36x52", "--rate", "40", "--pattern", "none", "--no-acquire", ready="beamline ready",
    )  # fmt: skip


def write_settings(folder: Path, name: str, *, backend: str = "cpu", more: str = "") -> Path:
    """Write the settings of a live program for that beamline."""
    file = folder / "live.toml"
    file.write_text(SETTINGS.format(name=name, backend=backend) + more)
    return file


def start_live(serve: Serve, settings: Path) -> Server:
    """Start the live program; it writes its status as JSON lines."""
    return serve("-m", "tomofly.cli", "live", "run", "--config", settings, "--json", ready='"time"')
