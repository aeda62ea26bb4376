"""``tomofly live``: run the live program, and ask something of one that runs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tomofly.cli.options import JsonOption
from tomofly.cli.output import tell, write_json, write_line, write_table

if TYPE_CHECKING:
    from tomofly.services.live import View

app = typer.Typer(help="Live X-ray tomography: run it, and control it while it runs.", no_args_is_help=True)

ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config", help="Settings of the live program; default: TOMOFLY_LIVE_CONFIG", show_default=False
    ),
]
ScanOption = Annotated[str | None, typer.Option("--scan-prefix", help="Prefix of collection's PVs")]
StreamOption = Annotated[str | None, typer.Option("--stream-prefix", help="Prefix of reconstruction's PVs")]
WaitOption = Annotated[bool, typer.Option("--wait", help="Come back when it is done")]
LimitOption = Annotated[float, typer.Option("--limit", min=0.1, help="Longest wait, s")]


@app.callback()
def group() -> None:
    """Live X-ray tomography: run it, and control it while it runs."""


@app.command("run")
def run_command(
    config: ConfigOption = None,
    headless: Annotated[bool, typer.Option("--headless", help="Lines instead of the live view")] = False,
    json: Annotated[bool, typer.Option("--json", help="The status as JSON lines on standard output")] = False,
) -> None:
    """Run the live program until Ctrl-C or SIGTERM."""
    from tomofly.services.live import live_settings, run

    settings = live_settings(config)
    view = _view(settings.service.aside, headless=headless, json=json)
    with view:  # type: ignore[attr-defined]
        run(settings, view)


def _view(aside: Path | None, *, headless: bool, json: bool) -> "View":
    from tomofly.cli.live_view import JsonLines, PlainLines, TerminalView, is_terminal

    if json:
        return JsonLines()
    return PlainLines() if headless or not is_terminal() else TerminalView(aside)


@app.command("set")
def set_command(
    assignments: Annotated[list[str], typer.Argument(help="name=value, such as center=512.5 ortho_z=300")],
    config: ConfigOption = None,
    scan: ScanOption = None,
    stream: StreamOption = None,
    json: JsonOption = False,
) -> None:
    """Set parameters of the running program; all are checked before the first is set."""
    from tomofly.live.client import changes_told
    from tomofly.services.live import reached

    with reached(config, scan, stream) as client:
        changes = changes_told(client.set(assignments))
    if json:
        write_json(changes)
        return
    for name, value in changes.items():
        write_line(f"{name}={value}")


@app.command()
def start(config: ConfigOption = None, scan: ScanOption = None, stream: StreamOption = None) -> None:
    """Start collecting: the sample turns, dark and flat fields are taken, frames stream."""
    from tomofly.services.live import reached

    with reached(config, scan, stream) as client:
        client.start()
    tell("Collection starts: `tomofly live status` shows it.")


@app.command()
def stop(config: ConfigOption = None, scan: ScanOption = None, stream: StreamOption = None) -> None:
    """Stop collecting; the live program stays at work."""
    from tomofly.services.live import reached

    with reached(config, scan, stream) as client:
        client.abort()
    tell("Collection stops: `tomofly live status` shows it.")


@app.command()
def capture(
    frames: Annotated[
        int | None, typer.Option(min=0, help="Frames from now on; default: as set before")
    ] = None,
    pre: Annotated[int | None, typer.Option(min=0, help="Frames from before now, out of the ring")] = None,
    wait: WaitOption = False,
    limit: LimitOption = 3600.0,
    stop: Annotated[
        bool, typer.Option("--stop", help="End the capture under way, with the frames that it has")
    ] = False,
    config: ConfigOption = None,
    scan: ScanOption = None,
    stream: StreamOption = None,
) -> None:
    """Capture frames into a Data Exchange file."""
    from tomofly.services.live import reached

    if stop:
        with reached(config, scan, stream) as client:
            client.stop_capture()
        tell("The capture ends with the frames that it has.")
        return
    with reached(config, scan, stream) as client:
        path = client.capture(frames, pre, limit if wait else None)
    write_line(path) if wait else tell("The capture has begun: `tomofly live status` shows it.")


@app.command()
def copy(
    file: Annotated[
        str, typer.Argument(help="A captured file; default: all of which the copy failed", show_default=False)
    ] = "",
    config: ConfigOption = None,
    scan: ScanOption = None,
    stream: StreamOption = None,
) -> None:
    """Copy captured files to RemoteAnalysisDir once more."""
    from tomofly.services.live import reached

    with reached(config, scan, stream) as client:
        client.copy(file)
    tell("The copies have begun: `tomofly live status` shows them.")


@app.command()
def retake(
    kind: Annotated[Literal["dark", "flat"], typer.Argument(help="Which fields")],
    wait: WaitOption = False,
    limit: LimitOption = 600.0,
    config: ConfigOption = None,
    scan: ScanOption = None,
    stream: StreamOption = None,
) -> None:
    """Take dark or flat fields anew while the sample turns."""
    from tomofly.services.live import reached

    with reached(config, scan, stream) as client:
        client.retake(kind, limit if wait else None)
    tell(f"The {kind} fields are taken." if wait else f"The {kind} fields are being taken.")


@app.command()
def status(
    json: JsonOption = False,
    config: ConfigOption = None,
    scan: ScanOption = None,
    stream: StreamOption = None,
) -> None:
    """Say how the running program stands, and what is wrong."""
    from tomofly.cli.live_view import status_lines
    from tomofly.services.live import reached

    with reached(config, scan, stream) as client:
        document = client.status()
    if json:
        write_json(document)
        return
    for line in status_lines(document):
        write_line(line)


@app.command()
def save(
    file: Annotated[Path, typer.Argument(help="JSON file to write")],
    config: ConfigOption = None,
    scan: ScanOption = None,
    stream: StreamOption = None,
) -> None:
    """Write all settings of the running program into a file."""
    from tomofly.services.live import reached, save_configuration

    with reached(config, scan, stream) as client:
        save_configuration(file.expanduser(), client)
    tell(f"wrote {file}")


@app.command()
def load(
    file: Annotated[Path, typer.Argument(help="JSON file of settings, also a .config file of tomoScan")],
    config: ConfigOption = None,
    scan: ScanOption = None,
    stream: StreamOption = None,
) -> None:
    """Set the running program to the settings of a file; all are checked before the first is set."""
    from tomofly.live.client import changes_told
    from tomofly.services.live import reached, read_configuration

    document = read_configuration(file.expanduser())
    with reached(config, scan, stream) as client:
        for name, value in changes_told(client.load(document)).items():
            write_line(f"{name}={value}")


@app.command("config")
def config_command() -> None:
    """Print an example of the settings, with every default and its meaning."""
    from tomofly.services.live import example

    write_line(example().rstrip())


@app.command()
def pvs(
    markdown: Annotated[bool, typer.Option("--markdown", help="The whole page of the reference")] = False,
) -> None:
    """List the PVs that the live program serves, with what they mean."""
    from tomofly.services.live import pv_page, pv_rows

    if markdown:
        write_line(pv_page().rstrip())
        return
    write_table(("PV", "record", "meaning"), pv_rows())
