"""Settings of the live program: what is wrong is said before anything starts."""

import math
import re
import tomllib
from pathlib import Path

import pytest

from tomofly.live.settings import LiveSettings, checked_settings, example, read_settings
from tomofly.live.triggers.settings import OnnxMeasure, PixelsMeasure
from tomofly.model import TomoflyError

TRIGGER: dict[str, object] = {"name": "a", "measure": {"kind": "region"}, "rule": {"threshold": 1}}


def test_the_example_is_the_defaults() -> None:
    assert checked_settings(tomllib.loads(example())) == LiveSettings()


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"camra": {}}, "There is no setting 'camra'.*Did you mean 'camera'"),
        ({"camera": {"imag": "x"}}, "There is no setting 'camera.imag'.*Did you mean 'image'"),
        ({"reconstruction": {"memory_gb": float("nan")}}, "reconstruction.memory_gb cannot be nan"),
        ({"reconstruction": {"backend": "tpu"}}, "reconstruction.backend cannot be 'tpu'"),
        ({"prefixes": {"scan": "a:", "stream": "a:"}}, "scan and stream must differ"),
        ({"shutter": {"open": ["only a name"]}}, "shutter.open"),
        ({"capture": 3}, "capture cannot be 3"),
        ({"shutter": {"open": "a"}}, r"shutter.open cannot be 'a': Write the PV and its value, such as \["),
        ({"initial": {"NumAngles": math.nan}}, "initial.NumAngles cannot be nan: Give a number or a text"),
        ({"triggers": [{"name": "a"}]}, "triggers.0.measure is missing"),
        ({"triggers": [{"nme": "a", **TRIGGER}]}, "no setting 'triggers.0.nme'.*Did you mean 'name'"),
        (
            {"triggers": [TRIGGER | {"measure": {"kind": "region", "statstic": "mean"}}]},
            "no setting 'triggers.0.measure.statstic'.*Did you mean 'statistic'",
        ),
        ({"triggers": [TRIGGER | {"measure": {"kind": "plugin"}}]}, "triggers.0.measure.name is missing"),
    ],
)
def test_what_is_wrong_is_named(document: dict[str, object], message: str) -> None:
    with pytest.raises(TomoflyError) as error:
        checked_settings(document)
    assert re.search(message, str(error.value))


def test_paths_start_from_the_file(tmp_path: Path) -> None:
    file = tmp_path / "live.toml"
    file.write_text('[capture]\nfolder = "here"\n[service]\nlog = "live.log"\n')
    settings = read_settings(file)
    assert settings.capture.folder == tmp_path / "here"
    assert settings.service.log == str(tmp_path / "live.log")


def test_files_of_triggers_start_from_the_file_too(tmp_path: Path) -> None:
    file = tmp_path / "live.toml"
    file.write_text(
        """
[[triggers]]
name = "one"
rule = { threshold = 1 }
measure = { kind = "onnx", model = "crack.onnx" }
[[triggers]]
name = "two"
rule = { threshold = 1 }
measure = { kind = "pixels", examples = [{ image = "a.png", labels = "/strokes/b.png" }] }
"""
    )
    one, two = (trigger.measure for trigger in read_settings(file).triggers)
    assert isinstance(one, OnnxMeasure)
    assert isinstance(two, PixelsMeasure)
    assert one.model == tmp_path / "crack.onnx"
    assert (two.examples[0].image, two.examples[0].labels) == (tmp_path / "a.png", Path("/strokes/b.png"))


@pytest.mark.parametrize("text", ["[camera", "a = 1 b"])
def test_a_broken_file_is_named(tmp_path: Path, text: str) -> None:
    file = tmp_path / "live.toml"
    file.write_text(text)
    with pytest.raises(TomoflyError, match=r"live\.toml"):
        read_settings(file)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(TomoflyError, match="tomofly live config"):
        read_settings(tmp_path / "none.toml")
