"""Extract, at work: cut the boxes out, normalise them, and write the stack with its table."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from tomofly.formats.mrc import read_image, write_image
from tomofly.formats.star import read_star, write_star
from tomofly.imaging.extraction import extract_boxes, normalise_relion
from tomofly.imaging.particle_size import diameter_range
from tomofly.model import Flag, ItemRef, MicroscopeParams, Outcome, Result, StageContext, section_of
from tomofly.stages.extract import ExtractParams
from tomofly.stages.faults import blamed_on_input
from tomofly.stages.picks import PicksParams
from tomofly.stages.picks_run import best_micrograph
from tomofly.stages.sections import microscope_of

BOX_DIAMETERS = 1.5
# The background circle is a little larger than the particle, so that it touches none of it.
BACKGROUND_DIAMETERS = 1.15
LARGEST_BACKGROUND = 0.9


def extract_particles(item: ItemRef, params: ExtractParams, ctx: StageContext) -> Outcome:
    """Cut out the picked particles of one micrograph; those too near to its edge are left out and flagged."""
    motion, picks = ctx.inputs["motion"], ctx.inputs["picks"]
    pixel_size = motion.metrics["micrograph_pixel_size_angstrom"]
    with blamed_on_input("Particles cannot be extracted", "Look at the settings of extract"):
        table = _picked(picks)
        diameter = _largest_diameter(ctx)
        if not len(table):
            return _nothing()
        image, _ = read_image(best_micrograph(motion))
        box, binned_box = box_sizes(params, diameter, pixel_size)
        stack, kept = extract_boxes(
            np.asarray(image, np.float32),
            table[["rlnCoordinateY", "rlnCoordinateX"]].to_numpy(),
            box,
            invert=params.invert,
            binned_box_px=binned_box,
        )
        if not len(stack):
            return _nothing(len(table))
        stack_pixel = pixel_size * box / binned_box
        if params.normalise:
            stack = normalise_relion(stack, _background_px(params, diameter, stack_pixel, binned_box))
    products = _write(item, stack, table.iloc[kept], stack_pixel, ctx)
    ctx.log.info("%s: %d boxes of %d pixels", item.key, len(stack), binned_box)
    metrics = {
        "extracted": float(len(stack)),
        "left_out_at_edge": float(len(table) - len(stack)),
        "box_size_px": float(binned_box),
        "box_pixel_size_angstrom": stack_pixel,
    }
    return Outcome(products=products, metrics=metrics, flags=_edge_flags(len(table) - len(stack)))


def box_sizes(params: ExtractParams, diameter_angstrom: float, pixel_size_angstrom: float) -> tuple[int, int]:
    """Side of a box before and after binning, both even."""
    box = params.box_px or 2 * int(np.ceil(BOX_DIAMETERS * diameter_angstrom / pixel_size_angstrom / 2))
    return box, max(2, 2 * round(box / params.binning / 2))


def _background_px(
    params: ExtractParams, diameter_angstrom: float, stack_pixel_angstrom: float, box_px: int
) -> float:
    asked = params.background_diameter_angstrom or BACKGROUND_DIAMETERS * diameter_angstrom
    return min(asked / stack_pixel_angstrom, LARGEST_BACKGROUND * box_px)


def _picked(picks: Result) -> pd.DataFrame:
    block = next(iter(read_star(picks.products["coordinates"]).values()))
    if not isinstance(block, pd.DataFrame):
        raise TypeError(f"{picks.products['coordinates'].name} holds no table of coordinates")
    return block


def _largest_diameter(ctx: StageContext) -> float:
    """The diameter that the settings of picks give, in Å: one size of box for all micrographs."""
    return diameter_range(section_of(ctx.shared, "picks", PicksParams).diameter_angstrom)[1]


def _nothing(at_edge: int = 0) -> Outcome:
    """No particle is no error: there is just no stack."""
    metrics = {"extracted": 0.0, "left_out_at_edge": float(at_edge)}
    return Outcome(metrics=metrics, flags=(Flag("no_particles", "There is no particle to extract"),))


def _edge_flags(left_out: int) -> tuple[Flag, ...]:
    if not left_out:
        return ()
    return (Flag("left_out_at_edge", f"{left_out} particles lie too near to the edge for their box"),)


def _write(
    item: ItemRef,
    stack: npt.NDArray[np.float32],
    table: pd.DataFrame,
    stack_pixel_angstrom: float,
    ctx: StageContext,
) -> dict[str, Path]:
    products = {"stack": ctx.new_file("_particles.mrcs"), "particles": ctx.new_file("_particles.star")}
    write_image(products["stack"], stack, stack_pixel_angstrom)
    particles = table.reset_index(drop=True)
    # Names below the session's folder, as the products will lie there.
    name = f"extract/{item.key}_particles.mrcs"
    particles.insert(2, "rlnImageName", [f"{i:06d}@{name}" for i in range(1, len(particles) + 1)])
    motion_product = best_micrograph(ctx.inputs["motion"])
    suffix = motion_product.name.removeprefix(Path(item.key).name)
    particles.insert(3, "rlnMicrographName", f"motion/{item.key}{suffix}")
    ctf = ctx.inputs["ctf"].metrics
    particles["rlnDefocusU"] = ctf["defocus_u_angstrom"]
    particles["rlnDefocusV"] = ctf["defocus_v_angstrom"]
    particles["rlnDefocusAngle"] = ctf["astigmatism_angle_deg"]
    particles["rlnPhaseShift"] = ctf.get("phase_shift_deg", 0.0)
    particles["rlnOpticsGroup"] = 1
    optics = _optics(microscope_of(ctx), stack_pixel_angstrom, stack.shape[-1], ctx.inputs["motion"])
    write_star(products["particles"], {"optics": optics, "particles": particles})
    return products


def _optics(
    microscope: MicroscopeParams, stack_pixel_angstrom: float, box_px: int, motion: Result
) -> pd.DataFrame:
    """The one optics group of a session."""
    row = {
        "rlnOpticsGroupName": "opticsGroup1",
        "rlnOpticsGroup": 1,
        "rlnMicrographPixelSize": motion.metrics["micrograph_pixel_size_angstrom"],
        "rlnVoltage": microscope.voltage_kv,
        "rlnSphericalAberration": microscope.spherical_aberration_mm,
        "rlnAmplitudeContrast": microscope.amplitude_contrast,
        "rlnImagePixelSize": stack_pixel_angstrom,
        "rlnImageSize": box_px,
        "rlnImageDimensionality": 2,
        "rlnCtfDataAreCtfPremultiplied": 0,
    }
    return pd.DataFrame([row])
