"""Names of the beamline's PVs: prefixes, motors and the image channel."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Names:
    """Prefixes of the PVs. `frame_type`: the PV that says what frames are; none: the camera's own."""

    beamline: str = "2bmb:"
    camera: str = "2bmSP2:"
    frame_type: str | None = None

    @property
    def image(self) -> str:
        """Channel of the frames."""
        return f"{self.camera}Pva1:Image"

    @property
    def motors(self) -> dict[str, str]:
        """Names of the motor records."""
        return {part: f"{self.beamline}m{n + 1}" for n, part in enumerate(("rotation", "x", "y"))}
