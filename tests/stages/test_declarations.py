"""What a stage declares is enough for forms, tables and docs, and true."""

import pickle
import subprocess
import sys
from typing import get_type_hints

import pytest

from tomofly.model import (
    ItemRef,
    MapStage,
    Outcome,
    Settings,
    StageContext,
    StageParams,
    TomoflyError,
    result_parameters,
)
from tomofly.model.loading import LoadedOnCall
from tomofly.model.sections import GainParams, MicroscopeParams
from tomofly.stages import ctf, extract, importing, motion, picks, transfer

STAGES = [transfer.STAGE, importing.STAGE, motion.STAGE, ctf.STAGE, picks.STAGE, extract.STAGE]
SECTIONS: dict[str, type[StageParams]] = {
    "microscope": MicroscopeParams,
    "gain": GainParams,
    **{stage.name: stage.params for stage in STAGES},
}


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_every_parameter_has_help_and_a_legal_default(stage: MapStage) -> None:
    for name, info in stage.params.model_fields.items():
        assert info.description, name
        assert not info.is_required(), name
    assert stage.params() == stage.params.model_validate(stage.params().model_dump(mode="json"))


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_a_stage_reads_parameters_that_exist(stage: MapStage) -> None:
    for section, names in stage.reads.items():
        assert set(names) <= set(SECTIONS[section].model_fields)


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_metrics_are_named_once_and_explained(stage: MapStage) -> None:
    names = [metric.name for metric in stage.metrics]
    assert len(names) == len(set(names))
    assert all(metric.help and metric.help[-1] != "." for metric in stage.metrics)


@pytest.mark.parametrize(
    "stage", [stage for stage in STAGES if isinstance(stage.run, LoadedOnCall)], ids=lambda stage: stage.name
)
def test_a_stages_function_takes_what_it_will_be_given(stage: MapStage) -> None:
    assert isinstance(stage.run, LoadedOnCall)
    hints = get_type_hints(stage.run.function)
    assert list(hints.values()) == [ItemRef, stage.params, StageContext, Outcome]
    assert pickle.loads(pickle.dumps(stage)) == stage  # noqa: S301


def test_commands_that_compute_nothing_load_no_mathematics() -> None:
    code = "import sys; from tomofly.stages.registry import installed_stages as i; i(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"numba", "scipy", "numpy", "pandas", "tifffile", "mrcfile", "PIL"}
    assert not heavy & set(done.stdout.split())


def test_every_stage_needs_only_stages_before_it() -> None:
    before: set[str] = set()
    for stage in STAGES:
        assert set(stage.needs) <= before
        before.add(stage.name)


def test_settings_take_a_diameter_or_a_range() -> None:
    settings = Settings.validate("spa", SECTIONS, {})
    one = settings.changed(["picks.diameter_angstrom=125"])["picks"]
    both = settings.changed(["picks.diameter_angstrom=100,150"])["picks"]
    assert result_parameters(one)["diameter_angstrom"] == 125.0
    assert result_parameters(both)["diameter_angstrom"] == [100.0, 150.0]


def test_settings_take_ranges_sizes_and_none() -> None:
    settings = Settings.validate("spa", SECTIONS, {}).changed(
        [
            "motion.patches=6,4",
            "ctf.defocus_range_angstrom=5000,30000",
            "ctf.phase_shift_range_deg=0,120",
            "import.expected_size_px=4092,5760",
        ]
    )
    document = settings.document()
    assert document["motion"]["patches"] == [6, 4]
    assert document["ctf"]["phase_shift_range_deg"] == [0.0, 120.0]
    assert document["import"]["expected_size_px"] == [4092, 5760]
    assert (
        settings.changed(["ctf.phase_shift_range_deg=none"]).document()["ctf"]["phase_shift_range_deg"]
        is None
    )


@pytest.mark.parametrize(
    ("assignment", "words"),
    [
        ("motion.patches=2,2", "motion.patches cannot be .*at least 3"),
        ("ctf.defocus_range_angstrom=20000,10000", "ctf.defocus_range_angstrom cannot be .*rises"),
        ("ctf.resolution_range_angstrom=5,30", "ctf.resolution_range_angstrom cannot be .*fall"),
        ("ctf.phase_shift_range_deg=90,0", "ctf.phase_shift_range_deg cannot be .*rises"),
        ("ctf.box_px=511", "ctf.box_px cannot be '511'.*even"),
        ("picks.diameter_angstrom=200,100", r"picks.diameter_angstrom.*cannot be .*smallest, largest"),
        ("picks.threshold=1", "picks cannot be .*keep_threshold=3"),
        ("extract.box_px=97", "extract.box_px cannot be '97'.*even"),
    ],
)
def test_settings_that_make_no_sense_are_refused_before_they_are_used(assignment: str, words: str) -> None:
    settings = Settings.validate("spa", SECTIONS, {})
    with pytest.raises(TomoflyError, match=words):
        settings.changed([assignment])


def test_extraction_is_off_until_asked_for_and_that_is_no_change_of_results() -> None:
    off, on = extract.ExtractParams(), extract.ExtractParams(enabled=True)
    assert not off.enabled
    assert result_parameters(off) == result_parameters(on)
