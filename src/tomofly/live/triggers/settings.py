"""What a trigger looks at, when it fires, and what it may spend."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Source = Literal["slice_x", "slice_y", "slice_z", "projection"]
Region = tuple[int, int, int, int]
Quantity = Literal["area", "count", "largest"]


class TriggerSection(BaseModel):
    """Base of all that is said of triggers: unknown names are refused, values are frozen."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False)


class _OfImage(TriggerSection):
    source: Source = Field("slice_z", description="Picture that is looked at")
    region: Region | None = Field(
        None, description="First row, first column, row and column behind the last; none: the whole picture"
    )

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if self.region is not None:
            top, left, bottom, right = self.region
            if min(top, left) < 0 or bottom <= top or right <= left:
                raise ValueError("region is first row, first column, row and column behind the last")
        return self


class RegionMeasure(_OfImage):
    """A statistic of the grey values of a region."""

    kind: Literal["region"] = "region"
    statistic: Literal["mean", "median", "minimum", "maximum", "deviation", "percentile"] = "mean"
    percentile: float = Field(99.0, ge=0, le=100, description="For the statistic percentile")


class ChangeMeasure(_OfImage):
    """How far a region has gone from a reference."""

    kind: Literal["change"] = "change"
    reference: Literal["first", "running"] = Field(
        "running", description="The first pictures, or a running mean that follows slowly"
    )
    memory: int = Field(20, ge=1, le=100_000, description="Pictures that the reference is the mean of")
    compare: Literal["rms", "largest", "unlike"] = Field(
        "rms", description="Root mean square or largest difference, in standard deviations of the "
        "reference; or 1 - correlation",
    )  # fmt: skip


class ObjectsMeasure(_OfImage):
    """Area, number or size of objects on one side of a threshold."""

    kind: Literal["objects"] = "objects"
    threshold: Literal["otsu", "triangle", "li", "yen", "value"] = "otsu"
    value: float = Field(0.0, description="Grey value, for the threshold value")
    side: Literal["dark", "bright"] = "dark"
    smooth_px: float = Field(1.0, ge=0, le=100, description="Gaussian smoothing before")
    least_area_px: int = Field(20, ge=1, description="Smaller objects do not count")
    quantity: Quantity = Field("area", description="Pixels of all objects, their number, or the largest one")


class Example(TriggerSection):
    """A picture with labelled strokes: a label picture of its size, 0 where nothing is said."""

    image: Path
    labels: Path

    def placed(self, folder: Path) -> Self:
        """Give the same, with relative paths starting from a folder."""
        files = {name: folder / path.expanduser() for name, path in vars(self).items()}
        return self.model_copy(update=files)


class PixelsMeasure(_OfImage):
    """Pixels of a class, told by a classifier that learns from a few labelled strokes."""

    kind: Literal["pixels"] = "pixels"
    examples: tuple[Example, ...] = Field(min_length=1, description="Pictures with strokes")
    wanted: int = Field(2, ge=1, description="Label that is counted")
    quantity: Quantity = "area"
    least_area_px: int = Field(20, ge=1, description="Smaller objects do not count")
    trees: int = Field(40, ge=1, le=1000)


class OnnxMeasure(_OfImage):
    """What an ONNX model makes of a picture (1, 1, rows, columns; mean 0, deviation 1, float32)."""

    kind: Literal["onnx"] = "onnx"
    model: Path
    output: str = Field("", description="Name of the output; empty: the first")
    channel: int = Field(0, ge=0, description="Of an output of several channels or classes")
    quantity: Literal["mean", "largest", "area"] = Field(
        "largest", description="Of the output's values; area: pixels above `above`"
    )
    above: float = Field(0.5, description="For the quantity area")


class MetricMeasure(TriggerSection):
    """One of the numbers that come with the slices, such as sharpness_z."""

    kind: Literal["metric"] = "metric"
    name: str


class PluginMeasure(_OfImage):
    """A measure of another package, registered under `tomofly.triggers`."""

    kind: Literal["plugin"] = "plugin"
    name: str
    options: dict[str, Any] = Field(default_factory=dict)


Measure = Annotated[
    RegionMeasure | ChangeMeasure | ObjectsMeasure | PixelsMeasure | OnnxMeasure | MetricMeasure
    | PluginMeasure,
    Field(discriminator="kind"),
]  # fmt: skip


class Rule(TriggerSection):
    """When a measured value starts a capture."""

    fires: Literal["above", "below"] = Field("above", description="Side of the threshold that fires")
    threshold: float
    rearm: float | None = Field(
        None, description="Value on the other side that arms the trigger again; none: the threshold"
    )
    consecutive: int = Field(2, ge=1, le=10_000, description="Values in a row that must lie beyond it")
    hold_off_s: float = Field(10.0, ge=0, description="Least time from one capture to the next")
    budget: int = Field(10, ge=1, description="Most captures until somebody grants more")
    dry_run: bool = Field(False, description="Say what would have been captured, and capture nothing")

    @model_validator(mode="after")
    def _rearm_on_the_other_side(self) -> Self:
        if self.rearm is not None:
            off = self.rearm - self.threshold
            if off > 0 if self.fires == "above" else off < 0:
                raise ValueError(f"rearm must not lie {self.fires} the threshold, on the side that fires")
        return self

    @property
    def rearm_at(self) -> float:
        """The value at which the trigger is armed again."""
        return self.threshold if self.rearm is None else self.rearm


class TriggerSettings(TriggerSection):
    """A trigger: what it measures, its rule, and the capture that it starts."""

    name: str = Field(min_length=1, max_length=40, pattern=r"^[A-Za-z0-9_.-]+$")
    enabled: bool = True
    measure: Measure
    rule: Rule
    frames: int = Field(900, ge=1, description="Frames to capture")
    pre: int = Field(0, ge=0, description="Frames before, from the ring")
    time_limit_s: float = Field(1.0, gt=0, le=600, description="A measurement that takes longer is ended")

    def placed(self, folder: Path) -> Self:
        """Give the same, with the relative paths of its files starting from a folder."""
        measure = self.measure
        if isinstance(measure, OnnxMeasure):
            files: dict[str, Any] = {"model": folder / measure.model.expanduser()}
        elif isinstance(measure, PixelsMeasure):
            files = {"examples": tuple(example.placed(folder) for example in measure.examples)}
        else:
            return self
        return self.model_copy(update={"measure": measure.model_copy(update=files)})
