"""``tomofly export``: a folder that other programs read."""

from typing import Annotated

import typer

from tomofly.cli.options import FilterOption, HomeOption, JsonOption, NameArgument, OutOption
from tomofly.cli.output import tell, write_json, write_line

_FORMAT_HELP = (
    "relion, csv or json; of tilt series relion (5), relion4, imod, aretomo and warp too; "
    "of X-ray scans tiff, hdf5 or zarr (OME), csv and json"
)


def export(
    session: NameArgument,
    format: Annotated[str, typer.Option(help=_FORMAT_HELP)] = "relion",  # noqa: A002
    filter: FilterOption = None,  # noqa: A002
    out: OutOption = None,
    particles: Annotated[
        bool, typer.Option("--particles", help="Also cut out the particles of micrographs")
    ] = False,
    full_stacks: Annotated[
        bool,
        typer.Option(
            "--full-stacks", help="Stacks of tilts at full size, not as the session aligned its series"
        ),
    ] = False,
    threshold: Annotated[
        float | None,
        typer.Option(help="Take all candidates that score so high, not the session's picks; nothing is run"),
    ] = None,
    pixels: Annotated[
        str, typer.Option(help="Type of the voxels of volumes: float32, float16 or uint16")
    ] = "float32",
    copy: Annotated[bool, typer.Option("--copy", help="Copy images instead of linking to them")] = False,
    json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Export items for other programs, or as tables, with the settings and the provenance of each."""
    from tomofly.services.exports.export import (
        ExportOptions,
        checked_format,
        checked_pixels,
        export_session,
    )
    from tomofly.services.home import open_home

    options = ExportOptions(
        checked_format(format), tuple(filter or ()), particles, copy, full_stacks, threshold,
        checked_pixels(pixels),
    )  # fmt: skip
    done = export_session(open_home(home), session, out, options)
    if json:
        write_json(done.as_json())
        return
    write_line(f"{done.items} items exported to {done.folder}")
    if done.particles:
        write_line(f"{done.particles} particles in them")
    for note in done.notes:
        tell(note)
