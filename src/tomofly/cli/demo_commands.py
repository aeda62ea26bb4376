"""``tomofly demo``: a simulated microscope writes movies while tomofly processes them."""

import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tomofly.cli.options import HomeOption, JsonOption, OutOption, SetOption

if TYPE_CHECKING:
    from tomofly.flow.conductor import RunOptions
    from tomofly.services.home import Home

app = typer.Typer(help="Show tomofly at work on a simulated instrument.", no_args_is_help=True)

FRAMES = 20
PARTICLE_DIAMETERS_ANGSTROM = (115, 155)
"""The two structures that the simulated specimen holds are of about these sizes."""

LAST_FILE_GRACE_S = 30.0


@app.callback()
def group() -> None:
    """Show tomofly at work on a simulated instrument."""


@app.command()
def spa(
    items: Annotated[int, typer.Option(min=1, help="Movies to take")] = 6,
    detector: Annotated[str, typer.Option(help="Pixels, height x width")] = "1024x1024",
    pace: Annotated[float, typer.Option(min=0, help="Seconds from one movie to the next")] = 4.0,
    seed: Annotated[int, typer.Option(min=0, help="Everything random follows from this")] = 0,
    out: OutOption = None,
    set_: SetOption = None,
    headless: Annotated[bool, typer.Option("--headless", help="Lines instead of the live view")] = False,
    json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Watch single-particle movies being taken, aligned, fitted, picked and exported."""
    from tomofly.cli.running import RunRequest, run_here
    from tomofly.services.export import ExportOptions, export_session
    from tomofly.services.home import open_home
    from tomofly.services.sessions import create_session, free_name

    place = open_home(home)
    folder = _new_folder(out)
    microscope_folder = folder / "microscope"
    lines = _prepare(microscope_folder, detector, seed)
    name = free_name(place, folder.name)
    create_session(place, name, folder=folder, assignments=[*lines, *(set_ or ())])
    command = _microscope_command(microscope_folder, items, pace, detector, seed)
    with (folder / "microscope.log").open("wb") as log:
        camera = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        options = _until_done(place, name, _Camera(camera, folder / "microscope.log", items))
        request = RunRequest(
            options,
            headless or json,
            json,
            lambda: export_session(place, name, folder / "relion", ExportOptions()),
        )
        status = run_here(place, name, request)
    finally:
        camera.terminate()
        camera.wait(timeout=30)
    if not json:
        _say_where_to_look(folder, name)
    raise typer.Exit(status)


@dataclass(frozen=True)
class _Camera:
    """The simulated microscope: its process, what it says, and how many movies it takes."""

    process: "subprocess.Popen[bytes]"
    log: Path
    items: int

    def is_at_work(self) -> bool:
        """Say whether it still takes movies. Raises TomoflyError when it has died."""
        from tomofly.model import TomoflyError

        status = self.process.poll()
        if status:
            lines = self.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            said = lines[-1] if lines else f"it ended with status {status}"
            raise TomoflyError(f"The simulated microscope has died: {said}", f"Its whole log is {self.log}")
        return status is None


def _until_done(place: "Home", name: str, camera: _Camera) -> "RunOptions":
    """Options of a run that ends by itself when the camera has stopped and all its movies have come in."""
    from tomofly.flow import conductor
    from tomofly.services.sessions import session_info
    from tomofly.store import statistics

    session_id = session_info(place, name).row.id

    def arrived() -> int:
        with place.database.read() as connection:
            return sum(statistics.count_kinds(connection, session_id).values())

    @dataclass(frozen=True)
    class UntilCameraStops(conductor.RunOptions):
        @property
        def ends_by_itself(self) -> bool:
            if camera.is_at_work():
                return False
            if arrived() >= camera.items:
                return True
            stopped.append(time.monotonic())
            return time.monotonic() - stopped[0] > LAST_FILE_GRACE_S

    stopped: list[float] = []
    return UntilCameraStops()


def _new_folder(out: Path | None) -> Path:
    """Give the folder for the demonstration: the one asked for, or the first free one here."""
    from tomofly.model import TomoflyError
    from tomofly.services.home import checked_folder

    if out is None:
        number = 1
        while (folder := Path.cwd() / f"tomofly-demo{'' if number == 1 else f'-{number}'}").exists():
            number += 1
        return folder
    folder = checked_folder(out, "a demonstration")
    if folder.exists() and any(folder.iterdir()):
        raise TomoflyError(f"The folder {folder} is not empty", "Name a new one with --out")
    return folder


def _prepare(folder: Path, detector: str, seed: int) -> list[str]:
    """Set the microscope up, write its gain reference, and give the settings that fit it."""
    from tomofly.cli.simulate_commands import spa_microscope, writable_folder
    from tomofly.simulate.spa import write_gain

    microscope = spa_microscope(detector, FRAMES, seed, [])
    gain = write_gain(microscope, writable_folder(folder))
    diameters = ",".join(str(diameter) for diameter in PARTICLE_DIAMETERS_ANGSTROM)
    return [
        f"source.pattern={folder}/*.mrc",
        f"microscope.pixel_size_angstrom={microscope.pixel_size_angstrom}",
        f"microscope.voltage_kv={microscope.voltage_kv}",
        f"microscope.spherical_aberration_mm={microscope.spherical_aberration_mm}",
        f"microscope.amplitude_contrast={microscope.amplitude_contrast}",
        f"microscope.dose_per_frame_e_per_a2={microscope.dose_per_frame_e_per_a2}",
        f"gain.path={gain}",
        f"picks.diameter_angstrom={diameters}",
        "source.settle_s=1",
    ]


def _microscope_command(folder: Path, items: int, pace: float, detector: str, seed: int) -> list[str]:
    command = [sys.executable, "-m", "tomofly.cli", "simulate", "spa", "--out", str(folder)]
    numbers = {"items": items, "pace": pace, "detector": detector, "frames": FRAMES, "seed": seed}
    for name, value in numbers.items():
        command += [f"--{name}", str(value)]
    return command


def _say_where_to_look(folder: Path, name: str) -> None:
    from tomofly.cli.output import write_line

    write_line(f"Pictures: {folder}/motion/*.webp, {folder}/ctf/*.webp, {folder}/picks/*.webp")
    write_line(
        f"RELION:   cd {folder}/relion && relion_star_printtable micrographs_ctf.star data_micrographs"
    )
    write_line(f"Numbers:  tomofly session items '{name}'   tomofly session show '{name}'")
