"""The frames of one tilt aligned and added up; a file that is a whole series has no frames to align."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tomofly.formats.movie import read_frames
from tomofly.formats.mrc import write_image
from tomofly.model import BadInput, Flag, ItemRef, Outcome, StageContext
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
    surplus = require_sections(item.attributes, len(sections))
    pixel_size = microscope_of(ctx).pixel_size_angstrom
    path = ctx.new_file(".mrc")
    write_image(path, sections, pixel_size)
    flags = [Flag("no_frames", "The series is one file of summed tilts: no frames were aligned"), *surplus]
    if gain_of(ctx).path:
        flags.append(Flag("gain_not_applied", "Summed tilts are taken as corrected: the gain is not applied"))
    metrics = {"micrograph_pixel_size_angstrom": pixel_size, "frames_used": float(len(sections))}
    return Outcome({"average": path}, metrics, tuple(flags))


def require_sections(attributes: Mapping[str, Any], sections: int) -> list[Flag]:
    """Compare the sections that a stack has with those that its mdoc or list of angles speaks of.

    An mdoc numbers them, so that it need not list all. Raises BadInput where an angle has no section, or a
    list that numbers nothing has another length.
    """
    views, source = attributes["views"], attributes.get("angle_source") or "settings"
    spoken = {"mdoc": "its mdoc", "settings": "compose.angles_deg"}.get(source, f"the {source} beside it")
    beyond = sum(view["section"] >= sections for view in views)
    if beyond or (source != "mdoc" and len(views) != sections):
        raise BadInput(
            f"The stack has {sections} sections, and {spoken} gives the angles of {len(views)}",
            "Bring the stack and its angles as they belong together; they are taken again then",
        )
    if len(views) == sections:
        return []
    missing = sections - len(views)
    tell = f"{spoken} lists {len(views)} of the {sections} sections of the stack: {missing} are not used"
    return [Flag("sections_not_listed", tell[0].upper() + tell[1:])]
