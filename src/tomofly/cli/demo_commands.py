"""``tomofly demo``: a simulated microscope writes movies while tomofly processes them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tomofly.cli.options import DetectorOption, HomeOption, JsonOption, OutOption, SeedOption, SetOption

if TYPE_CHECKING:
    from tomofly.services.home import Home

app = typer.Typer(help="Show tomofly at work on a simulated instrument.", no_args_is_help=True)

FRAMES = 20
PARTICLE_DIAMETERS_ANGSTROM = (115, 155)
"""The two structures that the simulated specimen holds are of about these sizes."""

TILTING: dict[str, Any] = {
    "tilt_range_deg": [-50, 50], "tilt_step_deg": 5, "axis_error_deg": 3, "pre_tilt_deg": 6,
    "defocus_angstrom": 40000,
}  # fmt: skip
TILTING_PIXEL_ANGSTROM, TILTING_FRAMES = 8.0, 2
"""Small tilts, few of them, for a short demonstration; the reported axis is off, the slab inclined."""

HeadlessOption = Annotated[bool, typer.Option("--headless", help="Lines instead of the live view")]
PaceOption = Annotated[float, typer.Option(min=0, help="Seconds from one exposure to the next")]


@app.callback()
def group() -> None:
    """Show tomofly at work on a simulated instrument."""


@app.command()
def spa(
    items: Annotated[int, typer.Option(min=1, help="Movies to take")] = 6,
    detector: DetectorOption = "1024x1024",
    pace: PaceOption = 4.0,
    seed: SeedOption = 0,
    out: OutOption = None,
    set_: SetOption = None,
    headless: HeadlessOption = False,
    json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Watch single-particle movies being taken, aligned, fitted, picked and exported."""
    from tomofly.cli.demo_camera import new_folder

    folder = new_folder(out)
    movies = folder / "microscope"
    numbers = {"items": items, "pace": pace, "detector": detector, "frames": FRAMES, "seed": seed}
    show = _Show(home, folder, "spa", headless or json, json)
    settings = [*_spa_settings(movies, detector, seed), *(set_ or ())]
    status = show.run(["spa", "--out", str(movies), *_as_options(numbers)], items, settings)
    if not json:
        show.say_where_to_look(
            f"{folder}/motion/*.webp, {folder}/ctf/*.webp, {folder}/picks/*.webp",
            "relion_star_printtable micrographs_ctf.star data_micrographs",
        )
    raise typer.Exit(status)


@app.command()
def tomo(
    items: Annotated[int, typer.Option(min=1, help="Tilt series to take")] = 2,
    detector: DetectorOption = "400x448",
    pace: PaceOption = 2.0,
    seed: SeedOption = 0,
    out: OutOption = None,
    set_: SetOption = None,
    headless: HeadlessOption = False,
    json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Watch tilt series being taken, aligned and reconstructed, with a tomogram before the last tilt."""
    from tomofly.cli.demo_camera import new_folder
    from tomofly.cli.simulate_commands import tilt_microscope

    folder = new_folder(out)
    tilts = folder / "microscope"
    facts = [f"{name}={value}" for name, value in TILTING.items()]
    microscope = tilt_microscope(detector, TILTING_PIXEL_ANGSTROM, TILTING_FRAMES, seed, facts)
    numbers = {
        "items": items, "pace": pace, "detector": detector, "pixel": TILTING_PIXEL_ANGSTROM,
        "frames": TILTING_FRAMES, "seed": seed,
    }  # fmt: skip
    taking = [*_as_options(numbers), *(word for fact in facts for word in ("--set", fact))]
    show = _Show(home, folder, "tomo", headless or json, json)
    count = items * len(microscope.nominal_tilts_deg)
    lines = [*_tomo_settings(tilts, microscope), *(set_ or ())]
    status = show.run(["tomo", "--out", str(tilts), *taking], count, lines)
    if not json:
        show.say_where_to_look(
            f"{folder}/tomogram/*.webp, {folder}/series_alignment/*.webp; "
            f"{folder}/tomogram/*.mrc for IMOD's 3dmod",
            "relion_star_printtable tomograms.star data_global",
        )
    raise typer.Exit(status)


@app.command()
def xct(
    seconds: Annotated[float, typer.Option(min=2, help="Seconds of live slices before the crack opens")] = 10,
    size: Annotated[int, typer.Option(min=64, max=2048, help="Pixels of the camera, each way")] = 256,
    rate: Annotated[float, typer.Option(min=1, help="Frames per second")] = 50.0,
    seed: SeedOption = 0,
    out: OutOption = None,
    headless: HeadlessOption = False,
    json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Watch a sample crack at a simulated beamline: live slices, retake, triggered capture, volume."""
    from tomofly.cli.demo_camera import new_folder
    from tomofly.cli.demo_xct import show_beamline, show_volume
    from tomofly.cli.output import write_json, write_line

    folder = new_folder(out)
    live = show_beamline(folder, size, rate, seed, seconds, plain=headless or json)
    summary, status = show_volume(home, folder, live, plain=headless or json)
    if json:
        write_json({"live": live, "session": summary})
    else:
        write_line(f"Capture:  {live['capture']['file']}")
        write_line(f"Volume:   {folder}/session/volume; pictures: {folder}/session/volume/*.webp")
        write_line(f"Journal:  {folder}/triggers/decisions.jsonl, with the picture that started the capture")
    raise typer.Exit(status)


def _as_options(values: dict[str, Any]) -> list[str]:
    """Give values as the words of a command line."""
    return [word for name, value in values.items() for word in (f"--{name}", str(value))]


class _Show:
    """A demonstration in a folder: a session beside a simulated microscope."""

    def __init__(self, home: Path | None, folder: Path, kind: str, plain: bool, json: bool) -> None:
        from tomofly.services.home import open_home
        from tomofly.services.sessions import free_name

        self.place: Home = open_home(home)
        self.folder, self.kind = folder, kind
        self.plain, self.json = plain, json
        self.name = free_name(self.place, folder.name)

    def run(self, taking: list[str], movies: int, settings: list[str]) -> int:
        """Have the microscope write so many movies while the session runs; give the exit status."""
        from tomofly.cli.demo_camera import taking_movies, until_camera_stops
        from tomofly.cli.running import RunRequest, run_here
        from tomofly.services.exports.export import ExportOptions, export_session
        from tomofly.services.sessions import create_session

        create_session(self.place, self.name, kind=self.kind, folder=self.folder, assignments=settings)
        with taking_movies(taking, self.folder / "microscope.log", movies) as camera:
            request = RunRequest(
                until_camera_stops(self.place, self.name, camera),
                self.plain,
                self.json,
                lambda: export_session(self.place, self.name, self.folder / "relion", ExportOptions()),
            )
            return run_here(self.place, self.name, request)

    def say_where_to_look(self, pictures: str, command: str) -> None:
        """Say where pictures, export and numbers are."""
        from tomofly.cli.output import write_line

        write_line(f"Pictures: {pictures}")
        write_line(f"RELION:   cd {self.folder}/relion && {command}")
        write_line(f"Numbers:  tomofly session items '{self.name}'   tomofly session show '{self.name}'")


def _spa_settings(folder: Path, detector: str, seed: int) -> list[str]:
    """Set the microscope up, write its gain reference, and give the settings that fit it."""
    from tomofly.cli.simulate_commands import spa_microscope, writable_folder
    from tomofly.simulate.spa import write_gain

    microscope = spa_microscope(detector, FRAMES, seed, [])
    gain = write_gain(microscope, writable_folder(folder))
    diameters = ",".join(str(diameter) for diameter in PARTICLE_DIAMETERS_ANGSTROM)
    return [
        *_microscope_settings(folder, microscope),
        f"microscope.dose_per_frame_e_per_a2={microscope.dose_per_frame_e_per_a2}",
        f"gain.path={gain}",
        f"picks.diameter_angstrom={diameters}",
    ]


def _tomo_settings(folder: Path, microscope: Any) -> list[str]:
    """Give the settings that fit the microscope; everything that takes minutes on real ones takes seconds."""
    nyquist = 2 * microscope.pixel_size_angstrom
    return [
        *_microscope_settings(folder, microscope),
        f"tilt_image.ctf_resolution_range_angstrom=60,{1.05 * nyquist:.1f}",
        "compose.provisional_every=5",
        "compose.quiet_s=3",
    ]


def _microscope_settings(folder: Path, microscope: Any) -> list[str]:
    return [
        f"source.pattern={folder}/*.mrc",
        "source.settle_s=1",
        *(
            f"microscope.{name}={getattr(microscope, name)}"
            for name in ("pixel_size_angstrom", "voltage_kv", "spherical_aberration_mm", "amplitude_contrast")
        ),
    ]
