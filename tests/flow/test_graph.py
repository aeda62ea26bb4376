"""Workflows: the order of stages, and graphs that cannot run, told in clear words."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tomofly_example import BALANCE, LEDGER, NUMBER, REPORT

from tomofly.flow.graph import Membership, build_workflow
from tomofly.model import ItemRef, TomoflyError

STAGES = [NUMBER, LEDGER, REPORT, BALANCE]


@given(st.permutations(STAGES))
def test_every_stage_comes_after_its_needs_whatever_the_order_given(stages: list) -> None:
    workflow = build_workflow("notes", stages)
    names = [stage.name for stage in workflow.stages]
    assert all(names.index(need) < names.index(s.name) for s in workflow.stages for need in s.needs)
    assert set(workflow.by_name) == {stage.name for stage in STAGES}
    assert workflow.root_kind == "note" and workflow.kinds[0] == "note"


def test_tasks_of_a_group_stand_on_the_item_that_it_makes() -> None:
    workflow = build_workflow("notes", STAGES)
    kinds = {"number": "note", "ledger": "ledger", "report": "ledger", "balance": "balance"}
    assert workflow.item_kind == kinds
    assert [stage.name for stage in workflow.stages_for("ledger")] == ["ledger", "report"]
    assert workflow.stages_for("nothing") == ()


def test_an_item_is_a_member_of_its_group_and_of_every_fold() -> None:
    workflow = build_workflow("notes", STAGES)
    found = workflow.memberships(ItemRef("A_01", "note"))
    assert set(found) == {Membership("ledger", "ledger", "A"), Membership("balance", "balance", "balance")}
    assert workflow.memberships(ItemRef("loose", "note")) == [Membership("balance", "balance", "balance")]
    assert workflow.memberships(ItemRef("A", "ledger")) == []


def test_stages_of_other_session_kinds_are_left_out() -> None:
    other = replace(REPORT, session_kinds=("other",))
    assert "report" not in build_workflow("notes", [NUMBER, LEDGER, other]).by_name


def test_a_kind_without_stages_is_told_of() -> None:
    with pytest.raises(TomoflyError, match="no session kind 'tomo'"):
        build_workflow("tomo", STAGES)


def test_a_need_that_is_not_installed_is_named() -> None:
    with pytest.raises(TomoflyError, match="Stage 'ledger' needs 'number', which is not installed"):
        build_workflow("notes", [LEDGER, REPORT])


def test_stages_that_need_each_other_are_named() -> None:
    circle = [replace(NUMBER, name="a", needs=("b",)), replace(NUMBER, name="b", needs=("a",))]
    with pytest.raises(TomoflyError, match="in a circle: a, b"):
        build_workflow("notes", circle)


def test_a_group_gathers_the_results_of_one_stage() -> None:
    twice = replace(LEDGER, needs=("number", "balance"))
    with pytest.raises(TomoflyError, match="'ledger' must need exactly one stage, not 2"):
        build_workflow("notes", [NUMBER, BALANCE, twice])


def test_a_stage_takes_results_of_one_kind_of_item() -> None:
    mixed = replace(REPORT, needs=("ledger", "number"))
    with pytest.raises(TomoflyError, match="needs stages of different items: ledger, note"):
        build_workflow("notes", [NUMBER, LEDGER, mixed])


def test_settings_have_a_section_for_each_stage_and_the_shared_ones() -> None:
    document = build_workflow("notes", STAGES).settings().document()
    assert {"source", "microscope", "gain", "resources", "number", "balance"} <= document.keys()
