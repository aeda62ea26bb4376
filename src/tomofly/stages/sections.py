"""The shared sections of the settings, with their types."""

from tomofly.model import GainParams, MicroscopeParams, StageContext

GAIN_FIELDS = ("checksum", "rotation_deg", "flip", "divide")
"""The settings of the gain reference that results depend on; where it lies is none of them."""


def microscope_of(ctx: StageContext) -> MicroscopeParams:
    """The microscope's settings. Raises TypeError where the session has none."""
    section = ctx.shared["microscope"]
    if not isinstance(section, MicroscopeParams):
        raise TypeError(f"the section 'microscope' is a {type(section).__name__}")
    return section


def gain_of(ctx: StageContext) -> GainParams:
    """The gain reference's settings. Raises TypeError where the session has none."""
    section = ctx.shared["gain"]
    if not isinstance(section, GainParams):
        raise TypeError(f"the section 'gain' is a {type(section).__name__}")
    return section
