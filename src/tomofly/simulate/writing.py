"""Movies on disk, written as a camera's computer writes them: whole, growing, or under a temporary name."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import mrcfile
import numpy as np
import tifffile
from mrcfile.dtypes import HEADER_DTYPE
from numpy.typing import NDArray

FileFormat = Literal["mrc", "tiff"]
Writing = Literal["grow", "rename", "whole"]
Wait = Callable[[float], object]

PARTIAL_SUFFIX = ".partial"
"""A movie written under a temporary name ends in this until it is whole."""

GROWTH_STEPS = 16
MRC_MODES = {"int8": 0, "uint8": 6, "uint16": 6, "float32": 2}


def mrc_header(shape: tuple[int, ...], dtype: np.dtype[np.generic], pixel_size_angstrom: float) -> bytes:
    """The 1024 bytes (MRC2014) before an image (y, x) or a stack (frame, y, x) of a camera's type."""
    frames, height, width = (1, *shape)[-3:]
    header = np.zeros((), dtype=HEADER_DTYPE)
    for name, value in (("nx", width), ("ny", height), ("nz", frames), ("mx", width), ("my", height)):
        header[name] = value
    header["mz"] = 1  # A stack of images, not a volume.
    header["mode"] = MRC_MODES[dtype.name]
    header["cella"] = (width * pixel_size_angstrom, height * pixel_size_angstrom, pixel_size_angstrom)
    header["cellb"] = (90, 90, 90)
    header["mapc"], header["mapr"], header["maps"] = 1, 2, 3
    # Minimum above maximum says that the statistics were not computed: the camera streams.
    header["dmin"], header["dmax"], header["dmean"], header["rms"] = 0, -1, -2, -1
    header["nversion"] = 20141
    header["exttyp"], header["map"] = b"    ", b"MAP "
    header["machst"] = mrcfile.utils.machine_stamp_from_byte_order("<")
    return header.tobytes()


def mrc_parts(frames: NDArray[np.generic], pixel_size_angstrom: float) -> Iterator[bytes]:
    """The bytes of an MRC file: header, then one part per frame. uint8 becomes uint16 (mode 6)."""
    yield mrc_header(frames.shape, frames.dtype, pixel_size_angstrom)
    stored = np.dtype("<u2") if frames.dtype == np.uint8 else frames.dtype.newbyteorder("<")
    for frame in frames:
        yield frame.astype(stored, copy=False).tobytes()


def tiff_parts(frames: NDArray[np.generic], pixel_size_angstrom: float, compression: str) -> Iterator[bytes]:
    """The bytes of a TIFF file with one page per frame, in parts. TIFF has its last row first."""
    memory = io.BytesIO()
    per_cm = 1e8 / pixel_size_angstrom
    with tifffile.TiffWriter(memory, bigtiff=frames.nbytes > 2**31) as tiff:
        for frame in frames:
            tiff.write(
                frame[::-1],
                compression=None if compression == "none" else compression,
                photometric="minisblack",
                resolution=(per_cm, per_cm),
                resolutionunit="CENTIMETER",
                contiguous=False,
                metadata=None,
            )
    whole = memory.getbuffer()
    step = -(-len(whole) // GROWTH_STEPS)
    for start in range(0, len(whole), step):
        yield bytes(whole[start : start + step])


def write_movie(
    path: Path,
    frames: NDArray[np.generic],
    *,
    pixel_size_angstrom: float,
    compression: str = "none",
    writing: Writing = "whole",
    growth_s: float = 0.0,
    wait: Wait = float,
) -> None:
    """Write a movie (frame, y, x); the format is that of the suffix, .mrc or .tif/.tiff.

    "whole" writes at once; "grow" lets the file grow under its final name over `growth_s`, calling
    `wait(seconds)` between the parts (the default does not wait); "rename" grows under a temporary
    name and then renames.
    """
    if path.suffix == ".mrc":
        parts = mrc_parts(frames, pixel_size_angstrom)
        pause = growth_s / (len(frames) + 1)
    else:
        parts = tiff_parts(frames, pixel_size_angstrom, compression)
        pause = growth_s / GROWTH_STEPS
    target = path.with_name(path.name + PARTIAL_SUFFIX) if writing == "rename" else path
    with target.open("wb") as file:
        for part in parts:
            file.write(part)
            if writing != "whole":
                file.flush()
                wait(pause)
    if writing == "rename":
        target.rename(path)


def write_text_whole(path: Path, text: str) -> None:
    """Write a small text file that is never seen half-written."""
    partial = path.with_name(path.name + PARTIAL_SUFFIX)
    partial.write_text(text, encoding="utf-8")
    partial.rename(path)
