"""The frames of one tilt aligned and added up; a file that is a whole series has no frames to align."""

import numpy as np

from tomofly.formats.movie import read_frames
from tomofly.formats.mrc import write_image
from tomofly.model import Flag, ItemRef, Outcome, StageContext
from tomofly.stages.faults import blamed_on_input
from tomofly.stages.motion_run import correct_motion
from tomofly.stages.sections import gain_of, microscope_of
from tomofly.stages.tilts.motion import TiltMotionParams


def correct_tilt_motion(item: ItemRef, params: TiltMotionParams, ctx: StageContext) -> Outcome:
    """Align one tilt, or take the sections of a single-file series as they are."""
    if not item.attributes.get("views"):
        return correct_motion(item, params, ctx)
    with blamed_on_input("The series cannot be read", "Transfer it again"):
        sections = read_frames(ctx.inputs["transfer"].products["movie"]).astype(np.float32)
    pixel_size = microscope_of(ctx).pixel_size_angstrom
    path = ctx.new_file(".mrc")
    write_image(path, sections, pixel_size)
    flags = [Flag("no_frames", "The series is one file of summed tilts: no frames were aligned")]
    if gain_of(ctx).path:
        flags.append(Flag("gain_not_applied", "Summed tilts are taken as corrected: the gain is not applied"))
    metrics = {"micrograph_pixel_size_angstrom": pixel_size, "frames_used": float(len(sections))}
    return Outcome({"average": path}, metrics, tuple(flags))
