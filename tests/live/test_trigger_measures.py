"""Measures of triggers on pictures whose content is known."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from PIL import Image
from pydantic import TypeAdapter

from tomofly.live.triggers.observation import Measured, Observation
from tomofly.live.triggers.plugins import measure_of
from tomofly.live.triggers.settings import Measure
from tomofly.model import TomoflyError

FloatImage = npt.NDArray[np.float32]
RANDOM = np.random.default_rng(7)


def scene(crack_px: int = 0, noise: float = 0.1) -> FloatImage:
    """A bright disc with a dark crack of some width, and a dark pore."""
    y, x = np.mgrid[:90, :120]
    image = np.where((y - 45) ** 2 + (x - 60) ** 2 < 40**2, 1.0, 0.0)
    image[(y - 30) ** 2 + (x - 75) ** 2 < 5**2] = 0.0
    image[(np.abs(y - 50) < 20) & (x >= 50) & (x < 50 + crack_px)] = 0.0
    return (image + RANDOM.normal(0, noise, image.shape)).astype(np.float32)


def measured(image: FloatImage, metrics: dict[str, float] | None = None, **settings: Any) -> Measured:
    measure = TypeAdapter(Measure).validate_python(settings)
    return measure_of(measure)(Observation({"slice_z": image}, metrics or {}))


def test_a_statistic_is_that_of_the_region_alone() -> None:
    image = np.arange(12.0, dtype=np.float32).reshape(3, 4)
    found = measured(image, kind="region", region=(1, 1, 3, 3), statistic="mean")
    assert found.value == pytest.approx((5 + 6 + 9 + 10) / 4)
    assert measured(image, kind="region", statistic="percentile", percentile=50).value == pytest.approx(5.5)


def test_pixels_without_a_value_are_left_out_and_a_picture_of_nothing_has_none() -> None:
    image = np.array([[1, np.nan], [3, np.inf]], dtype=np.float32)
    assert measured(image, kind="region", statistic="maximum").value == 3
    assert math.isnan(measured(image * np.nan, kind="region").value)


def test_a_region_beyond_the_picture_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match=r"reaches beyond the picture of 90 × 120"):
        measured(scene(), kind="region", region=(0, 0, 91, 10))


@pytest.mark.parametrize(("quantity", "expected"), [("area", 390 + 80), ("count", 2), ("largest", 390)])
def test_dark_objects_in_the_disc_are_counted(quantity: str, expected: float) -> None:
    found = measured(
        scene(crack_px=10), kind="objects", region=(27, 42, 74, 90), quantity=quantity, smooth_px=0.5
    )
    assert found.value == pytest.approx(expected, rel=0.06)
    assert found.mask is not None
    assert found.mask.sum() == pytest.approx(470, rel=0.06)


def test_a_change_is_measured_from_the_reference_that_was_asked_for() -> None:
    kind = TypeAdapter(Measure)
    first = measure_of(kind.validate_python({"kind": "change", "reference": "first", "memory": 3}))
    running = measure_of(kind.validate_python({"kind": "change", "reference": "running", "memory": 3}))
    before = [Observation({"slice_z": scene()}) for _ in range(5)]
    after = [Observation({"slice_z": scene(crack_px=12)}) for _ in range(12)]
    quiet, loud = ([[m(o).value for o in part] for m in (first, running)] for part in (before, after))
    assert all(math.isnan(value) for value in quiet[0][:3]), "the reference is being made"
    assert max(quiet[0][3:]) < 0.36
    assert min(loud[0]) > 0.42, "the first pictures stay the reference"
    assert loud[1][0] > 0.42
    assert loud[1][-1] < 0.36, "the running one has followed"


def test_a_picture_of_another_size_begins_a_new_reference() -> None:
    change = measure_of(TypeAdapter(Measure).validate_python({"kind": "change", "memory": 1}))
    assert math.isnan(change(Observation({"slice_z": scene()})).value)
    assert math.isfinite(change(Observation({"slice_z": scene()})).value)
    assert math.isnan(change(Observation({"slice_z": scene()[:50]})).value)


def test_a_metric_is_taken_by_its_name() -> None:
    assert measured(scene(), {"sharpness_z": 4.5}, kind="metric", name="sharpness_z").value == 4.5
    with pytest.raises(ValueError, match="there are: sharpness_z"):
        measured(scene(), {"sharpness_z": 4.5}, kind="metric", name="sharpnes")


def strokes(folder: Path, labels: npt.NDArray[np.uint8]) -> dict[str, Any]:
    Image.fromarray(scene(crack_px=6)).save(folder / "slice.tif")
    Image.fromarray(labels).save(folder / "labels.png")
    return {"image": folder / "slice.tif", "labels": folder / "labels.png"}


def test_a_few_strokes_teach_what_a_crack_is(tmp_path: Path) -> None:
    labels = np.zeros((90, 120), dtype=np.uint8)
    labels[40:60, 52:54] = 2
    labels[20:25, 40:60], labels[60:80, 65:70], labels[27:33, 73:78] = 1, 1, 2
    labels[2:5, 5:115], labels[40:60, 22:26] = 1, 1
    settings = {"kind": "pixels", "examples": [strokes(tmp_path, labels)], "quantity": "area", "trees": 20}
    inside = {"region": (25, 40, 75, 95)}
    without, with_crack = (measured(scene(px), **settings, **inside).value for px in (0, 8))
    brighter = measured(3 * scene(8) + 10, **settings, **inside).value
    assert without < 150
    assert with_crack > without + 200
    assert brighter == pytest.approx(with_crack, rel=0.2), "another exposure is no change of the sample"


def test_strokes_of_one_label_teach_nothing(tmp_path: Path) -> None:
    labels = np.zeros((90, 120), dtype=np.uint8)
    labels[40:60, 52:54] = 2
    with pytest.raises(TomoflyError, match="at least one other are needed"):
        measured(scene(), kind="pixels", examples=[strokes(tmp_path, labels)])
    with pytest.raises(TomoflyError, match=r"labels.png has 80 × 120 pixels"):
        measured(scene(), kind="pixels", examples=[strokes(tmp_path, labels[:80])])


def onnx_threshold(path: Path, above: float) -> Path:
    """A model that gives 1 where the picture, normalised, lies above a value."""
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    shape = [1, 1, None, None]
    nodes = [
        helper.make_node("Greater", ["picture", "level"], ["is"]),
        helper.make_node("Cast", ["is"], ["mask"], to=kind),
    ]
    graph = helper.make_graph(
        nodes, "threshold", [helper.make_tensor_value_info("picture", kind, shape)],
        [helper.make_tensor_value_info("mask", kind, shape)],
        [helper.make_tensor("level", kind, [], [above])],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path)
    return path


def test_an_onnx_model_is_given_the_normalised_picture(tmp_path: Path) -> None:
    model = onnx_threshold(tmp_path / "threshold.onnx", 1.0)
    image = scene()
    expected = ((image - image.mean()) / image.std() > 1.0).sum()
    found = measured(image, kind="onnx", model=model, quantity="area")
    assert found.value == pytest.approx(expected, abs=2)
    assert found.mask is not None
    with pytest.raises(TomoflyError, match="It has: mask"):
        measured(image, kind="onnx", model=model, output="other")
    (tmp_path / "no.onnx").write_text("no model")
    with pytest.raises(TomoflyError, match="cannot be used as an ONNX model"):
        measured(image, kind="onnx", model=tmp_path / "no.onnx")


def test_a_measure_of_another_package_is_found_by_its_name() -> None:
    assert measured(scene(noise=0), kind="plugin", name="bright_pixels", options={"above": 0.5}).value > 4000
    with pytest.raises(TomoflyError, match=r"There are: .*bright_pixels"):
        measured(scene(), kind="plugin", name="dark_pixels")
