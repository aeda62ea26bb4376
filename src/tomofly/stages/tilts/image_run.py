"""One tilt made ready for its series.

What takes time is done here, tilt by tilt: the image at the pixel size of alignment and tomogram, what it
shows for telling dark and blocked tilts, and the spectra of its tiles for the CTF of the series.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from tomofly.formats.mrc import read_image, write_image
from tomofly.imaging.fourier import evenly_cropped
from tomofly.imaging.tilt_screening import TiltScreening, screen_tilt
from tomofly.imaging.tilt_spectra import tile_spectra
from tomofly.model import Flag, ItemRef, Outcome, StageContext
from tomofly.stages.faults import blamed_on_input
from tomofly.stages.tilts.files import write_screening, write_spectra
from tomofly.stages.tilts.image import TiltImageParams

FloatImage = npt.NDArray[np.float32]

HALVES = ("even", "odd")


def prepare_tilt(_: ItemRef, params: TiltImageParams, ctx: StageContext) -> Outcome:
    """Make one tilt, or every section of a whole series in one file, ready."""
    motion = ctx.inputs["tilt_motion"]
    pixel_size = motion.metrics["micrograph_pixel_size_angstrom"]
    wanted = params.pixel_size_angstrom
    with blamed_on_input("The tilt cannot be used", "Look at it"):
        average = read_sections(motion.products["average"])
        images = _binned(average, pixel_size, wanted, ctx.threads)
        screened = [screen_tilt(image) for image in average]
    size = pixel_size * (average.shape[2] // 2) / (images.shape[2] // 2)
    products = {"image": _write(images, size, "_tilt.mrc", ctx), "screening": ctx.new_file("_screening.json")}
    write_screening(products["screening"], screened, (images.shape[1], images.shape[2]))
    for half in HALVES:
        if half in motion.products:
            small = _binned(read_sections(motion.products[half]), pixel_size, wanted, ctx.threads)
            products[half] = _write(small, size, f"_tilt_{half}.mrc", ctx)
    spectra, flags = _spectra(average, pixel_size, params, ctx)
    if spectra is not None:
        products["spectra"] = spectra
    return Outcome(products, _metrics(screened, size, pixel_size), flags)


def read_sections(path: Path) -> FloatImage:
    """Read images (section, y, x); one alone is a section, too."""
    pixels, _ = read_image(path)
    stack = np.asarray(pixels, dtype=np.float32)
    return stack[None] if stack.ndim == 2 else stack


def _binned(images: FloatImage, pixel_size: float, wanted: float, threads: int) -> FloatImage:
    """Crop in Fourier space to the wanted pixel size, square pixels; never to a finer one than there is."""
    return evenly_cropped(images, max(1.0, wanted / pixel_size), threads)


def _write(images: FloatImage, pixel_size: float, suffix: str, ctx: StageContext) -> Path:
    path = ctx.new_file(suffix)
    write_image(path, images if len(images) > 1 else images[0], pixel_size)
    return path


def _spectra(
    images: FloatImage, pixel_size: float, params: TiltImageParams, ctx: StageContext
) -> tuple[Path | None, tuple[Flag, ...]]:
    """Write the spectra of the tiles; a tilt that has none goes without, and says so."""
    try:
        spectra = [
            tile_spectra(
                image,
                pixel_size_angstrom=pixel_size,
                tile_length_angstrom=params.ctf_tile_angstrom,
                resolution_range_angstrom=params.ctf_resolution_range_angstrom,
                threads=ctx.threads,
            )
            for image in images
        ]
    except ValueError as error:
        return None, (Flag("no_spectrum", f"No power spectrum: {error}"),)
    path = ctx.new_file("_spectra.npz")
    write_spectra(path, spectra)
    return path, ()


def _metrics(screened: list[TiltScreening], size: float, pixel_size: float) -> dict[str, float]:
    """Of several sections, the medians."""
    return {
        "tilt_pixel_size_angstrom": size,
        "full_pixel_size_angstrom": pixel_size,
        "mean_counts": float(np.median([s.mean for s in screened])),
        "blocked_fraction": float(np.median([s.blocked_fraction for s in screened])),
        "sharpness": float(np.median([s.sharpness for s in screened])),
    }
