"""What the stages of tomograms declare is enough for forms, tables and docs, and true."""

import pickle
import subprocess
import sys
from typing import get_type_hints

import pytest

from tomofly.model import ItemRef, MapStage, Outcome, StageContext, result_parameters
from tomofly.model.loading import LoadedOnCall
from tomofly.stages.tilts import tomogram, tomogram_picks, tomogram_view

STAGES = [tomogram.STAGE, tomogram_view.STAGE, tomogram_picks.STAGE]


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_a_tomogram_stage_takes_what_it_will_be_given(stage: MapStage) -> None:
    assert isinstance(stage.run, LoadedOnCall)
    assert list(get_type_hints(stage.run.function).values()) == [ItemRef, stage.params, StageContext, Outcome]
    assert pickle.loads(pickle.dumps(stage)) == stage  # noqa: S301
    for name, info in stage.params.model_fields.items():
        assert info.description and not info.is_required(), name
    assert all(metric.help and metric.help[-1] != "." for metric in stage.metrics)


def test_views_and_picks_can_be_switched_off_without_a_change_of_results() -> None:
    for stage in STAGES[1:]:
        on, off = stage.params(), stage.params.model_validate({"enabled": False})
        assert result_parameters(on) == result_parameters(off)


def test_declaring_tomograms_loads_no_mathematics() -> None:
    names = "tomogram, tomogram_view, tomogram_picks"
    code = f"import sys; from tomofly.stages.tilts import {names}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"numba", "scipy", "numpy", "pandas", "mrcfile", "PIL"} & set(done.stdout.split())
