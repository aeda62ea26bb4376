"""The microscope: every number that decides what a simulated movie looks like."""

from typing import Annotated, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

StructureName = Literal["shell", "barrel", "bent"]
CameraType = Literal["int8", "uint8", "uint16", "float32"]
Compression = Literal["none", "lzw"]
Fraction = Annotated[float, Field(ge=0, le=1)]
Size = Annotated[int, Field(ge=64, le=8192)]
Count = Annotated[int, Field(ge=0)]
Length = Annotated[float, Field(ge=0)]

# Number of particles per square Ångström in a well-filled, not crowded, thin film of ice.
SPARSE_PER_A2, DENSE_PER_A2 = 11e-6, 19e-6


class SpaMicroscope(BaseModel):
    """A transmission electron microscope, its camera and its specimen, for single particles.

    Lengths on the specimen are in Å, doses in e⁻/Å², and pixels are those of the physical detector
    unless a name says "frame": a super-resolution frame has twice as many pixels along each axis.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(0, ge=0, description="Everything random follows from this and the movie's number.")

    # Camera
    detector_yx_px: tuple[Size, Size] = Field((1024, 1024), description="Physical pixels (y, x).")
    frames: int = Field(20, ge=1, le=2000, description="Frames per movie.")
    pixel_size_angstrom: float = Field(1.5, gt=0.1, le=20, description="Physical pixel on the specimen, Å.")
    super_resolution: bool = Field(False, description="Write frames sampled at half the physical pixel.")
    dtype: CameraType = Field("uint8", description="Number type of the frames.")
    compression: Compression = Field("none", description="Compression of TIFF frames.")
    gain_variation: float = Field(0.05, ge=0, le=0.3, description="Standard deviation of the gain, mean 1.")
    hot_pixel_fraction: float = Field(2e-5, ge=0, le=0.01, description="Share of pixels that count too much.")
    dead_pixel_fraction: float = Field(2e-5, ge=0, le=0.01, description="Share of pixels that never count.")
    dose_per_frame_e_per_a2: float = Field(1.5, gt=0, le=1e5, description="Electrons per Å² and frame.")

    # Optics
    voltage_kv: float = Field(300.0, ge=60, le=1000, description="Acceleration voltage, kV.")
    spherical_aberration_mm: float = Field(2.7, ge=0, le=10, description="Spherical aberration, mm.")
    amplitude_contrast: float = Field(0.1, ge=0, lt=1, description="Share of amplitude contrast.")
    defocus_range_angstrom: tuple[float, float] = Field(
        (8000.0, 25000.0), description="Smallest and largest mean defocus, Å, underfocus positive."
    )
    astigmatism_range_angstrom: tuple[Length, Length] = Field(
        (0.0, 600.0), description="Smallest and largest defocus_u - defocus_v, Å."
    )
    phase_shift_deg: float = Field(0.0, ge=0, le=180, description="Phase shift of a phase plate, degrees.")
    envelope_b_factor_angstrom2: float = Field(60.0, ge=0, le=2000, description="exp(-B k²/4) on amplitudes.")

    # Specimen
    structures: tuple[StructureName, ...] = Field(
        ("shell", "barrel"), min_length=1, description="The particles, each chosen equally often."
    )
    particles_per_micrograph: tuple[Count, Count] | None = Field(
        None, description="Fewest and most particles; none: 11 to 19 per (1000 Å)²."
    )
    ice_thickness_angstrom: float = Field(300.0, ge=0, le=5000, description="Thickness of the ice, Å.")
    ice_noise: float = Field(1.0, ge=0, le=20, description="Amplitude of the ice's granularity; 1: physical.")
    ice_gradient: float = Field(0.02, ge=0, le=0.5, description="Smooth change of brightness over the field.")
    ice_diffusion_angstrom2_per_dose: float = Field(
        0.3, ge=0, le=10, description="Mean square step of water along an axis, Å² per e⁻/Å²."
    )
    water_ring: float = Field(1.0, ge=0, le=50, description="Strength of the 3.7 Å ring; 1: vitreous ice.")
    carbon_edge_fraction: Fraction = Field(0.1, description="Probability that carbon is in the field.")
    contamination_fraction: Fraction = Field(0.2, description="Probability of ice contamination.")
    contamination_count: tuple[Count, Count] = Field((1, 3), description="Fewest and most blobs, if any.")
    gold_beads: int = Field(0, ge=0, le=1000, description="Gold beads of 100 Å per micrograph.")

    # Motion and radiation damage
    drift_rms_angstrom_per_frame: float = Field(0.3, ge=0, le=50, description="Speed of the stage drift.")
    early_drift_angstrom: float = Field(
        4.0, ge=0, le=200, description="Extra movement of the first frames, Å."
    )
    beam_induced_angstrom: float = Field(
        2.5, ge=0, le=200, description="Size of the movement that differs over the field, Å, at the end."
    )
    beam_induced_decay_e_per_a2: float = Field(4.0, gt=0, le=1000, description="Dose in which it settles.")
    damage: bool = Field(True, description="Fade high resolution with the dose.")
    dose_step_e_per_a2: float = Field(
        3.0, gt=0, le=1e5, description="Specimen changes in steps of this dose."
    )

    @model_validator(mode="after")
    def _ranges_ascend(self) -> Self:
        """Refuse a range whose first number is the larger one."""
        names = ("defocus_range_angstrom", "astigmatism_range_angstrom", "contamination_count")
        for name in (*names, "particles_per_micrograph"):
            limits = getattr(self, name)
            if limits is not None and limits[0] > limits[1]:
                raise ValueError(f"{name}: {limits[0]} is above {limits[1]}; give the smaller one first")
        return self

    @property
    def sampling(self) -> int:
        """Frame pixels per physical pixel along an axis."""
        return 2 if self.super_resolution else 1

    @property
    def frame_yx_px(self) -> tuple[int, int]:
        """Shape (y, x) of a frame as written."""
        return self.detector_yx_px[0] * self.sampling, self.detector_yx_px[1] * self.sampling

    @property
    def frame_pixel_size_angstrom(self) -> float:
        """Size of a frame's pixel on the specimen, Å."""
        return self.pixel_size_angstrom / self.sampling

    @property
    def electrons_per_frame_px(self) -> float:
        """Mean number of electrons that hit one frame pixel in one frame."""
        return self.dose_per_frame_e_per_a2 * self.frame_pixel_size_angstrom**2

    @property
    def particle_count_range(self) -> tuple[int, int]:
        """Fewest and most particles whose centre is to be in the field."""
        if self.particles_per_micrograph is not None:
            return self.particles_per_micrograph
        area = float(np.prod(self.detector_yx_px)) * self.pixel_size_angstrom**2
        return round(SPARSE_PER_A2 * area), round(DENSE_PER_A2 * area)

    def random(self, topic: str, index: int | None = None) -> np.random.Generator:
        """Random numbers of one topic ("motion", "ice", …) of one movie, or of the camera without `index`.

        Topics are independent, so changing how one part is drawn leaves the others as they were.
        """
        words = [self.seed, 0 if index is None else index + 1, *topic.encode()]
        return np.random.default_rng(np.random.SeedSequence(words))
