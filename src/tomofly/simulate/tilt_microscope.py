"""The microscope that tilts: every number that decides what a simulated tilt series looks like."""

from typing import Annotated, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

from tomofly.simulate.microscope import CameraType, Compression, Length, Size, SpaMicroscope
from tomofly.simulate.tilt_scheme import SchemeName, acquisition_angles

MOST_IN_INT8 = 127
TiltStructureName = Literal["two_lobes", "cage"]
Angle = Annotated[float, Field(ge=-90, le=90)]
TiltIndex = Annotated[int, Field(ge=0)]


class TiltSeriesConfig(BaseModel):
    """A microscope that takes tilt series, its camera and its specimen.

    Lengths on the specimen are in Å, doses in e⁻/Å², pixels are the camera's. Tilts are numbered in the
    order in which they are taken, from 0. Coordinates of the specimen are centred (x, y, z) in Å, with z
    across the slab: the frame in which the tomogram is level.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    seed: int = Field(0, ge=0, description="Everything random follows from this and the series' number.")

    # Camera
    detector_yx_px: tuple[Size, Size] = Field((512, 512), description="Pixels (y, x).")
    pixel_size_angstrom: float = Field(10.0, gt=0.1, le=40, description="Pixel on the specimen, Å.")
    frames: int = Field(8, ge=1, le=200, description="Frames of a tilt's movie.")
    dtype: CameraType | None = Field(
        None, description="Number type of the frames; none: int8, or uint16 where a frame counts more."
    )
    compression: Compression = Field("none", description="Compression of TIFF frames.")
    gain_variation: float = Field(0.0, ge=0, le=0.3, description="Standard deviation of the gain, mean 1.")
    hot_pixel_fraction: float = Field(0.0, ge=0, le=0.01, description="Share of pixels that count too much.")
    dead_pixel_fraction: float = Field(0.0, ge=0, le=0.01, description="Share of pixels that never count.")
    illumination_variation: float = Field(
        0.02, ge=0, le=0.5, description="Smooth pattern that stands still on the camera, relative."
    )
    counting: bool = Field(True, description="Count electrons; without it images hold what is expected.")

    # Scheme
    scheme: SchemeName = Field("dose-symmetric", description="Order of the angles.")
    tilt_range_deg: tuple[Angle, Angle] = Field((-60.0, 60.0), description="Lowest and highest stage angle.")
    tilt_step_deg: float = Field(3.0, gt=0, le=60, description="Angle from one tilt to the next.")
    start_deg: Angle = Field(0.0, description="First angle of schemes that start in the middle.")
    group: int = Field(1, ge=1, le=20, description="Tilts on one side before the other's turn.")
    tilt_angles_deg: tuple[Angle, ...] | None = Field(
        None, description="Stage angles in the order taken, instead of a scheme."
    )
    dose_per_tilt_e_per_a2: float = Field(3.0, gt=0, le=1000, description="Electrons per Å² and tilt.")

    # Geometry
    axis_angle_deg: float = Field(85.0, description="True tilt axis, anticlockwise from the image's y axis.")
    axis_error_deg: float = Field(0.0, description="Reported axis minus the true one.")
    sense: Literal[1, -1] = Field(1, description="Whether the stage's angles have the sense of the geometry.")
    pre_tilt_deg: Angle = Field(0.0, description="Angle of the slab about the tilt axis at stage angle 0.")
    x_tilt_deg: Angle = Field(0.0, description="Rotation about x that levels the slab.")
    hand: Literal[1, -1] = Field(1, description="Defocus = that at the axis + hand x depth.")
    tracking_error_angstrom: float = Field(60.0, ge=0, description="Largest distance of a tilt from centre.")
    branch_jump_angstrom: float = Field(
        0.0, ge=0, description="Further shift, at once, of all tilts below the start angle."
    )
    tilt_angle_error_deg: float = Field(0.0, ge=0, le=5, description="Standard deviation of the stage angle.")
    deformation_angstrom: float = Field(
        0.0, ge=0, le=500, description="Rms displacement over the field that the beam has caused at the end."
    )
    deformation_dose_e_per_a2: float = Field(60.0, gt=0, description="Dose in which it settles.")
    drift_angstrom_per_tilt: float = Field(4.0, ge=0, le=500, description="Way of the stage within a movie.")

    # Optics
    voltage_kv: float = Field(300.0, ge=60, le=1000, description="Acceleration voltage, kV.")
    spherical_aberration_mm: float = Field(2.7, ge=0, le=10, description="Spherical aberration, mm.")
    amplitude_contrast: float = Field(0.1, ge=0, lt=1, description="Share of amplitude contrast.")
    defocus_angstrom: float = Field(35000.0, description="Target at the tilt axis, Å, underfocus positive.")
    defocus_spread_angstrom: float = Field(
        800.0, ge=0, description="Standard deviation of a tilt's defocus about the target, Å."
    )
    astigmatism_angstrom: Length = Field(300.0, description="defocus_u - defocus_v, Å, of all tilts.")
    phase_shift_deg: float = Field(0.0, ge=0, le=180, description="Phase shift of a phase plate, degrees.")
    envelope_b_factor_angstrom2: float = Field(
        100.0, ge=0, le=2000, description="exp(-B k²/4) on amplitudes."
    )
    damage: bool = Field(True, description="Fade high resolution with the dose.")

    # Specimen
    thickness_angstrom: float = Field(1500.0, ge=50, le=20000, description="Thickness of the slab, Å.")
    structures: tuple[TiltStructureName, ...] = Field(
        ("two_lobes", "cage"), min_length=1, description="The particles, each chosen equally often."
    )
    particles_per_um2: float = Field(400.0, ge=0, le=5000, description="Particles per µm² of the slab.")
    solute_mg_per_ml: float = Field(
        20.0, ge=0, le=300, description="Small proteins of 30 kDa everywhere in the slab."
    )
    vesicle_radius_angstrom: float | None = Field(
        None, ge=100, description="Radius of a lipid vesicle in the middle of the field; none: no vesicle."
    )
    gold_beads: int = Field(0, ge=0, le=2000, description="Gold beads in the field, on both surfaces.")
    gold_diameter_angstrom: float = Field(100.0, ge=20, le=500, description="Diameter of a gold bead, Å.")
    ice_noise: float = Field(1.0, ge=0, le=20, description="Amplitude of the ice's granularity; 1: physical.")
    mean_free_path_angstrom: float = Field(
        3500.0, gt=0, description="Path after which 1/e of the electrons pass the energy filter, Å."
    )

    # What goes wrong
    dark_tilts: tuple[TiltIndex, ...] = Field((), description="Tilts, by order, that got no beam.")
    blocked_tilts: tuple[TiltIndex, ...] = Field((), description="Tilts, by order, half behind a grid bar.")

    @model_validator(mode="after")
    def _can_be_taken(self) -> Self:
        """Refuse ranges the wrong way round, and tilts that go wrong but are not there."""
        lowest, highest = self.tilt_range_deg
        if lowest > highest:
            raise ValueError(f"tilt_range_deg: {lowest} is above {highest}; give the smaller one first")
        last = len(self.nominal_tilts_deg) - 1
        if last < 0:
            raise ValueError("tilt_angles_deg: a series has at least one tilt")
        absent = [index for index in (*self.dark_tilts, *self.blocked_tilts) if index > last]
        if absent:
            raise ValueError(f"dark_tilts, blocked_tilts: there is no tilt {absent[0]}, the last is {last}")
        return self

    @property
    def nominal_tilts_deg(self) -> NDArray[np.float64]:
        """Angles (tilt,) that the stage reports, in the order taken."""
        if self.tilt_angles_deg is not None:
            return np.array(self.tilt_angles_deg, dtype=float)
        return acquisition_angles(
            self.scheme, self.tilt_range_deg, self.tilt_step_deg, self.start_deg, self.group
        )

    @property
    def frame_dtype(self) -> CameraType:
        """Number type of the frames; by itself int8 as long as bright pixels stay far below its end."""
        electrons = self.dose_per_tilt_e_per_a2 / self.frames * self.pixel_size_angstrom**2
        return self.dtype or ("int8" if electrons + 8 * electrons**0.5 < MOST_IN_INT8 else "uint16")

    @property
    def field_yx_angstrom(self) -> tuple[float, float]:
        """Size (y, x) of the field of view."""
        height, width = self.detector_yx_px
        return height * self.pixel_size_angstrom, width * self.pixel_size_angstrom

    def ice_microscope(self, path_angstrom: float, pixel_size_angstrom: float) -> SpaMicroscope:
        """The same beam on a film of ice as thick as the way through the slab (at most 5000 Å)."""
        return self._with_same_beam(
            pixel_size_angstrom=min(pixel_size_angstrom, 20.0),
            ice_thickness_angstrom=min(path_angstrom, 5000.0),
            ice_noise=self.ice_noise,
        )

    def camera_microscope(self) -> SpaMicroscope:
        """The same camera, for what makes gain references and counts electrons."""
        return self._with_same_beam(
            pixel_size_angstrom=min(self.pixel_size_angstrom, 20.0),
            frames=self.frames,
            dtype=self.frame_dtype,
            dose_per_frame_e_per_a2=self.dose_per_tilt_e_per_a2 / self.frames,
            gain_variation=self.gain_variation,
            hot_pixel_fraction=self.hot_pixel_fraction,
            dead_pixel_fraction=self.dead_pixel_fraction,
        )

    def _with_same_beam(self, **more: object) -> SpaMicroscope:
        """A microscope for single particles with this one's camera size and voltage."""
        same = {"seed": self.seed, "detector_yx_px": self.detector_yx_px, "voltage_kv": self.voltage_kv}
        return SpaMicroscope.model_validate(same | more)

    def random(self, topic: str, series: int, tilt: int | None = None) -> np.random.Generator:
        """Random numbers of one topic ("specimen", "counting", …) of a series or of one of its tilts.

        Topics are independent, so changing how one part is drawn leaves the others as they were.
        """
        words = [self.seed, series, 0 if tilt is None else tilt + 1, *topic.encode()]
        return np.random.default_rng(np.random.SeedSequence(words))
