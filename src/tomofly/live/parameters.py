"""What the live reconstruction can be told while it runs, with limits and meanings."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tomofly.imaging.xray.filters import FilterName
from tomofly.live.pixels import rescaled_centre, rescaled_position
from tomofly.model.errors import BadInput

# What changes how a projection is prepared: in effect for those yet to come, as the ring keeps none raw.
PREPARATION = frozenset({"dezinger", "ring_removal", "energy_kev", "distance_mm", "alpha", "pixel_size_um"})
# What changes which projections are kept.
WINDOW = frozenset({"window_turns", "angular_step_deg"})


class LiveParameters(BaseModel):
    """Parameters of the live reconstruction; lengths are in pixels of the images that arrive."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    centre: float | None = Field(
        default=None, description="Column of the rotation axis; none: the middle, or found"
    )
    auto_centre: bool = Field(
        default=False, description="Take over the centre that is found, where it is certain"
    )
    filter: FilterName = Field(default="parzen", description="Filter of back-projection")
    dezinger: int = Field(default=0, ge=0, le=4, description="Radius of outlier removal: 0 (off), 2, 3 or 4")
    ring_removal: bool = Field(
        default=False, description="Take off what all projections show in the same pixel"
    )
    energy_kev: float = Field(
        default=20.0, ge=1, le=1000, description="Photon energy in keV, for phase retrieval"
    )
    distance_mm: float = Field(
        default=100.0, ge=0, le=100_000, description="Sample to detector, for phase retrieval"
    )
    alpha: float = Field(default=0.0, ge=0, le=1e6, description="δ/β of the sample; 0: no phase retrieval")
    pixel_size_um: float | None = Field(
        default=None, gt=0, le=10_000, description="Pixel size; none: values per pixel"
    )
    ortho_x: int | None = Field(default=None, ge=0, description="x of the slice across x; none: the middle")
    ortho_y: int | None = Field(default=None, ge=0, description="y of the slice across y; none: the middle")
    ortho_z: int | None = Field(
        default=None, ge=0, description="Row of the horizontal slice; none: the middle"
    )
    rot_x: float = Field(
        default=0.0, ge=-180, le=180, description="Spin of the x slice about the axis, in degrees"
    )
    rot_y: float = Field(
        default=0.0, ge=-180, le=180, description="Spin of the y slice about the axis, in degrees"
    )
    rot_z: float = Field(default=0.0, ge=-80, le=80, description="Tilt of the z slice about y, in degrees")
    window_turns: float = Field(
        default=0.5, ge=0.01, le=16, description="Turns that make a slice; 0.5 is 180 degrees"
    )
    angular_step_deg: float | None = Field(
        default=None, gt=0, le=30, description="Step; none: found from the frames"
    )

    def changed(self, values: Mapping[str, Any]) -> "LiveParameters":
        """Give these parameters with some changed; raises BadInput telling which value is refused and why."""
        try:
            after = LiveParameters.model_validate({**self.model_dump(), **values})
        except ValidationError as error:
            raise BadInput(_reasons(error), "Nothing was changed; correct the value") from None
        after.check()
        return after

    def check(self) -> None:
        """Raise BadInput where values do not go together."""
        if self.dezinger == 1:
            raise BadInput("Radius 1 of outlier removal is refused", "Use 0 (off), 2, 3 or 4")
        if self.alpha > 0 and (self.pixel_size_um is None or self.distance_mm == 0):
            raise BadInput(
                "Phase retrieval needs a pixel size and a distance above 0",
                "Set pixel size and distance too, or alpha to 0",
            )

    def check_against(self, rows: int, columns: int) -> None:
        """Raise BadInput where a position lies outside of a detector of so many rows and columns."""
        limits = {"centre": columns, "ortho_x": columns, "ortho_y": columns, "ortho_z": rows}
        for name, size in limits.items():
            value = getattr(self, name)
            if value is not None and not 0 <= value <= size - 1:
                raise BadInput(
                    f"{name} = {value} lies outside of the detector of {rows} rows and {columns} columns",
                    f"Use 0 to {size - 1}",
                )

    def rescaled(self, ratio: float) -> "LiveParameters":
        """Give these for pixels of which `ratio` make one old one, as after a change of binning."""
        positions = {
            name: rescaled_position(value, ratio)
            for name in ("ortho_x", "ortho_y", "ortho_z")
            if (value := getattr(self, name)) is not None
        }
        centre, size = self.centre, self.pixel_size_um
        return self.model_copy(
            update={
                "centre": None if centre is None else rescaled_centre(centre, ratio),
                "pixel_size_um": None if size is None else size / ratio,
                **positions,
            }
        )

    def within(self, rows: int, columns: int) -> tuple["LiveParameters", list[str]]:
        """Give these with positions outside of a detector back at their defaults, and the names of those."""
        limits = {"centre": columns, "ortho_x": columns, "ortho_y": columns, "ortho_z": rows}
        outside = [
            name for name, size in limits.items()
            if (value := getattr(self, name)) is not None and not 0 <= value <= size - 1
        ]  # fmt: skip
        return self.model_copy(update=dict.fromkeys(outside)), outside


def _reasons(error: ValidationError) -> str:
    parts = [
        f"{'.'.join(str(key) for key in one['loc'])} = {one['input']!r} is refused: {one['msg'].lower()}"
        for one in error.errors()
    ]
    return "; ".join(parts)
