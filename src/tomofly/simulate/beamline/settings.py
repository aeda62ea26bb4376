"""The beamline: every number that decides what its simulated camera sees."""

from typing import Annotated, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

PixelType = Literal["uint8", "uint16", "float32"]
PatternName = Literal["none", "continuous", "back-and-forth", "interlaced", "golden"]
Size = Annotated[int, Field(ge=8, le=8192)]
# Recorded scans to be replayed may be a few rows cut out.
Rows = Annotated[int, Field(ge=1, le=8192)]
Share = Annotated[float, Field(ge=0, le=1)]

# The range of counts that a level is a share of. Cameras that send float32 count as 16-bit ones do.
FULL_SCALE = {"uint8": 255.0, "uint16": 65535.0, "float32": 65535.0}


class BeamlineConfig(BaseModel):
    """A parallel beam, a rotating sample that changes in time, a camera, and what is wrong with each.

    Detector pixels are those of the camera unbinned; times of the sample are seconds after its start.
    Sizes of the sample follow the field of view of lens 0, so that a config fits any detector.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(0, ge=0, description="Everything random follows from this.")

    # Geometry
    detector_yx_px: tuple[Rows, Size] = Field((256, 256), description="Pixels (y, x).")
    pixel_size_um: float = Field(1.0, gt=0, le=1000, description="Pixel on the sample with lens 0, µm.")
    centre_px: float | None = Field(
        None, description="Rotation centre with lens 0, from the middle of the first pixel; none: 3 % off."
    )
    magnifications: tuple[Annotated[float, Field(gt=0, le=100)], ...] = Field(
        (1.0, 2.0, 5.0), min_length=1, max_length=16, description="Of each lens relative to lens 0."
    )
    lens_shifts_px: tuple[float, ...] = Field(
        (0.0, 3.25, -5.5), description="How far each lens moves the rotation centre; missing ones: 0."
    )
    wobble_px: float = Field(0.0, ge=0, le=50, description="Amplitude of the axis's way, twice a turn.")

    # Sample
    grains: int = Field(40, ge=0, le=1000, description="Ellipsoids denser or lighter than the cylinder.")
    radius: float = Field(0.40, gt=0.05, le=2, description="Cylinder's radius, as a share of the width.")
    absorption: float = Field(1.0, ge=0, le=20, description="-ln of what passes through its middle.")
    event_after_s: float | None = Field(None, description="When the crack begins to open; none: never.")
    crack_opening: Share = Field(0.03, description="Widest opening, as a share of the width.")
    crack_seconds: float = Field(4.0, gt=0, description="Time in which the crack opens.")
    bubble: bool = Field(True, description="Whether a bubble grows in the sample.")
    bubble_growth: float = Field(0.0005, ge=0, description="Growth of its radius, share of the width per s.")

    # Beam
    exposure_s: float = Field(0.01, gt=0, le=60, description="Exposure for which the level is given.")
    open_beam_photons: float = Field(10000.0, gt=0, description="Photons per pixel in that exposure.")
    open_beam_level: float = Field(0.5, gt=0, le=4, description="Their counts, as a share of the full range.")
    illumination: Share = Field(0.15, description="Fall of the beam's profile towards the borders.")
    spots: int = Field(12, ge=0, le=1000, description="Marks on the scintillator.")
    drift: float = Field(0.005, ge=0, le=0.5, description="Relative amplitude of the beam's slow changes.")
    drift_period_s: float = Field(180.0, gt=0, description="Period of those changes.")

    # Camera
    dtype: PixelType = Field("uint16", description="Number type of the pixels.")
    motion_blur: bool = Field(
        False, description="Blur frames by the turn of the stage while they are exposed; costs time."
    )
    noise: bool = Field(True, description="Photon and read-out noise; without it what is expected is given.")
    dark_level: Share = Field(0.0015, description="Offset, as a share of the full range.")
    dark_current: float = Field(0.0005, ge=0, description="Counts per second, as a share of the full range.")
    read_noise: float = Field(0.00003, ge=0, description="Rms, as a share of the full range.")
    ring_columns: int = Field(6, ge=0, description="Columns whose answer to light is not proportional.")
    ring_pixels: int = Field(60, ge=0, description="Pixels whose answer to light is not proportional.")
    ring_strength: float = Field(0.06, ge=0, le=0.5, description="Largest departure at the full range.")
    zingers_per_s: float = Field(50.0, ge=0, description="Direct hits per second and 1024 x 1024 pixels.")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        """Refuse a centre beyond the detector."""
        width = self.detector_yx_px[1]
        if self.centre_px is not None and not 0 <= self.centre_px <= width - 1:
            raise ValueError(f"centre_px: {self.centre_px} is outside a detector {width} pixels wide")
        return self

    @property
    def width_um(self) -> float:
        """Width of the field of view with lens 0."""
        return self.detector_yx_px[1] * self.pixel_size_um

    @property
    def height_um(self) -> float:
        """Height of the field of view with lens 0."""
        return self.detector_yx_px[0] * self.pixel_size_um

    def centre_of_lens(self, lens: int = 0) -> float:
        """Rotation centre in unbinned detector pixels with a lens."""
        width = self.detector_yx_px[1]
        first = 0.53 * width - 0.5 if self.centre_px is None else self.centre_px
        return first + (self.lens_shifts_px[lens] if lens < len(self.lens_shifts_px) else 0.0)

    def pixel_of_lens(self, lens: int = 0) -> float:
        """Unbinned pixel on the sample with a lens, µm."""
        return self.pixel_size_um / self.magnifications[lens]

    def random(self, topic: str, *numbers: int) -> np.random.Generator:
        """Random numbers of one topic ("grains", "noise", …); topics are independent of each other."""
        return np.random.default_rng(np.random.SeedSequence([self.seed, *numbers, *topic.encode()]))
