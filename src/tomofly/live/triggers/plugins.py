"""Measures by kind, and those of other packages."""

from collections.abc import Callable
from importlib.metadata import entry_points

from tomofly.live.triggers.observation import FloatImage, Measured, Observation
from tomofly.live.triggers.settings import (
    ChangeMeasure,
    Measure,
    MetricMeasure,
    ObjectsMeasure,
    OnnxMeasure,
    PixelsMeasure,
    PluginMeasure,
    RegionMeasure,
)
from tomofly.model import TomoflyError

GROUP = "tomofly.triggers"
"""Entry points of this group are called with the options of the settings, and give a measure: a function of
a picture (rows, columns; float32) that gives a number, or a Measured with the pixels that it counted."""

OnImage = Callable[[FloatImage], "Measured | float"]
OnObservation = Callable[[Observation], Measured]


def measure_of(settings: Measure) -> OnObservation:
    """Make the measure that settings describe. Raises TomoflyError where it cannot be had."""
    if isinstance(settings, MetricMeasure):
        return lambda seen: Measured(_metric(seen, settings.name))
    on_image = _on_image(settings)
    from tomofly.live.triggers.measures import part_of

    def measure(seen: Observation) -> Measured:
        if settings.source not in seen.images:
            raise ValueError(f"there is no {settings.source} in this output")
        found = on_image(part_of(seen.images[settings.source], settings.region))
        return found if isinstance(found, Measured) else Measured(float(found))

    return measure


def _metric(seen: Observation, name: str) -> float:
    if name not in seen.metrics:
        raise ValueError(
            f"there is no metric '{name}'; there are: {', '.join(sorted(seen.metrics)) or 'none'}"
        )
    return float(seen.metrics[name])


def _on_image(settings: Measure) -> OnImage:
    """Load what the measure needs, and nothing else: learners and models are large."""
    from tomofly.live.triggers import measures

    match settings:
        case RegionMeasure():
            return lambda image: measures.statistic_of(settings, image)
        case ChangeMeasure():
            return measures.Change(settings)
        case ObjectsMeasure():
            return lambda image: measures.objects_in(settings, image)
        case PixelsMeasure():
            from tomofly.live.triggers.classifier import PixelClassifier

            return PixelClassifier(settings)
        case OnnxMeasure():
            from tomofly.live.triggers.onnx_model import OnnxModel

            return OnnxModel(settings)
        case PluginMeasure():
            return _plugin(settings)
        case _:
            raise TypeError(f"{type(settings).__name__} measures no picture")


def _plugin(settings: PluginMeasure) -> OnImage:
    found = {each.name: each for each in entry_points(group=GROUP)}
    if settings.name not in found:
        raise TomoflyError(
            f"No installed package brings the trigger measure '{settings.name}'",
            f"There are: {', '.join(sorted(found)) or 'none'}",
        )
    try:
        made: OnImage = found[settings.name].load()(settings.options)
    except Exception as error:  # whatever code of others raises
        raise TomoflyError(f"The trigger measure '{settings.name}' cannot be made: {error!r}") from error
    return made
