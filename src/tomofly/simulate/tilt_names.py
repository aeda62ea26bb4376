"""Names of movies, mdoc files and stacks, as the programs that take tilt series choose them."""

from datetime import datetime
from typing import Literal

from tomofly.simulate.mdoc_writing import MdocStyle
from tomofly.simulate.writing import FileFormat

TiltLayout = Literal["serialem", "pacetomo", "tomo5", "names", "stack"]
"""Who writes: "names" are SerialEM's movies without an mdoc, "stack" is one file of images per series."""


def series_key(layout: TiltLayout, name: str, number: int) -> str:
    """Name of series `number`, from 1: `TS_1`, or with PACEtomo `TS_ts_001`."""
    return f"{name}_ts_{number:03d}" if layout == "pacetomo" else f"{name}_{number}"


def mdoc_style(layout: TiltLayout) -> MdocStyle | None:
    """The program whose mdoc goes with a layout; None where there is no mdoc."""
    styles: dict[TiltLayout, MdocStyle] = {"serialem": "serialem", "pacetomo": "pacetomo", "tomo5": "tomo5"}
    return styles.get(layout)


def mdoc_name(layout: TiltLayout, key: str) -> str:
    """Name of a series' mdoc file."""
    return f"{key}.mdoc" if layout == "tomo5" else f"{key}.mrc.mdoc"


def stack_name(key: str) -> str:
    """Name of a series' stack; the angles are in the file of the same stem with `.rawtlt`."""
    return f"{key}.st"


def movie_name(
    layout: TiltLayout,
    file_format: FileFormat,
    key: str,
    order: int,
    reported_deg: float,
    shot: int,
    acquired: datetime,
) -> str:
    """Name of the movie of tilt `order` of a series; `shot` counts all movies of the session from 0.

    PACEtomo goes through all series at each angle and numbers their movies in one row, so nothing in
    their names tells the series.
    """
    if layout == "tomo5":
        suffix = "tiff" if file_format == "tiff" else "mrc"
        return f"{key}_{order + 1:03d}_{reported_deg:.2f}_{acquired:%Y%m%d_%H%M%S}_Fractions.{suffix}"
    suffix = "tif" if file_format == "tiff" else "mrc"
    if layout == "pacetomo":
        session = key.rsplit("_ts_", 1)[0]
        return f"{session}_{shot + 1:04d}_{reported_deg:.1f}.{suffix}"
    return f"{key}_{order:03d}_{reported_deg:.1f}.{suffix}"
