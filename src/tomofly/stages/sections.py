"""The shared sections of the settings, with their types."""

from tomofly.model import GainParams, MicroscopeParams, StageContext, section_of

GAIN_FIELDS = ("checksum", "rotation_deg", "flip", "divide")
"""The settings of the gain reference that results depend on; where it lies is none of them."""


def microscope_of(ctx: StageContext) -> MicroscopeParams:
    """The microscope's settings. Raises TypeError where the session has none."""
    return section_of(ctx.shared, "microscope", MicroscopeParams)


def gain_of(ctx: StageContext) -> GainParams:
    """The gain reference's settings. Raises TypeError where the session has none."""
    return section_of(ctx.shared, "gain", GainParams)
