"""A stage that follows a fold: what a session as a whole has shown enters into each of its items."""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tomofly_example import BALANCE, LEDGER, NUMBER, REPORT, PlainParams, add_balance

from tests.flow.inline import Bench
from tomofly.flow.graph import Workflow, build_workflow
from tomofly.model import ItemRef, MapStage, Member, Outcome, StageContext, StageParams
from tomofly.store import Database


class ShareParams(StageParams):
    """Nothing to set."""


def share(item: ItemRef, params: ShareParams, ctx: StageContext) -> Outcome:
    """Say which part of the balance a note is."""
    whole = float(ctx.followed["balance"] or "nan")
    return Outcome(metrics={"part": ctx.inputs["number"].metrics["value"] / whole})


SHARE = MapStage(
    name="share", version="1", summary="Part of the balance", session_kinds=("notes",), track="adding",
    consumes="note", produces="note", params=ShareParams, needs=("number",), follows=("balance",), run=share,
)  # fmt: skip


def following() -> Workflow:
    return build_workflow("notes", [NUMBER, LEDGER, REPORT, BALANCE, SHARE])


@pytest.fixture
def bench(tmp_path: Path, new_database: Callable[[Path], Database]) -> Bench:
    return Bench(new_database(tmp_path), tmp_path / "notes", workflow=following())


def _parts(bench: Bench) -> dict[str, float]:
    return {key: row[4]["part"] for (_, key, stage), row in bench.results().items() if stage == "share"}


def test_what_a_fold_says_in_the_end_is_in_every_item(bench: Bench) -> None:
    bench.arrive(*(bench.write_note(f"A_{i:02d}", i) for i in (1, 2, 3, 4)))
    bench.settle(close=False)
    assert sum(_parts(bench).values()) == pytest.approx(1.0)
    bench.arrive(bench.write_note("A_05", 10))
    bench.settle(close=False)
    assert _parts(bench)["A_01"] == pytest.approx(0.1)
    bench.settle()
    assert _parts(bench)["A_05"] == pytest.approx(0.5) and _parts(bench)["A_01"] == pytest.approx(0.05)


def test_an_item_is_not_made_again_while_the_fold_says_the_same(bench: Bench) -> None:
    bench.arrive(*(bench.write_note(f"A_{i:02d}", i) for i in (1, 2, 3, 4)))
    bench.settle()
    bench.ran.clear()
    bench.arrive(bench.write_note("A_05", 0))
    bench.settle()
    assert [key for stage, key in bench.ran if stage == "share"] == ["A_05"]


def test_a_cleared_fold_says_nothing_until_it_is_made_again(bench: Bench) -> None:
    bench.arrive(*(bench.write_note(f"A_{i:02d}", i) for i in (1, 2, 3, 4)))
    bench.settle()
    before = bench.results()
    bench.engine.clear(["balance"])
    bench.settle()
    assert bench.results() == before


def test_a_fold_that_has_nothing_to_say_has_nothing_made_again(
    tmp_path: Path, new_database: Callable[[Path], Database]
) -> None:
    def keep_silent(members: Sequence[Member], params: StageParams, ctx: StageContext) -> Outcome:
        added: Outcome = add_balance(members, PlainParams(), ctx)
        return replace(added, content="")

    def listen(item: ItemRef, params: ShareParams, ctx: StageContext) -> Outcome:
        return Outcome(metrics={"part": float(len(ctx.followed["balance"]))})

    stages = [NUMBER, LEDGER, REPORT, replace(BALANCE, run=keep_silent), replace(SHARE, run=listen)]
    workflow = build_workflow("notes", stages)
    bench = Bench(new_database(tmp_path), tmp_path / "notes", workflow=workflow)
    bench.arrive(*(bench.write_note(f"A_{i:02d}", i) for i in (1, 2, 3, 4, 5)))
    bench.settle()
    assert set(_parts(bench).values()) == {0.0}
    assert sorted(key for stage, key in bench.ran if stage == "share") == [f"A_{i:02d}" for i in range(1, 6)]


@pytest.mark.timeout(300)
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 10_000))
def test_stream_equals_batch_where_a_fold_is_followed(
    tmp_path_factory: pytest.TempPathFactory, new_database: Callable[[Path], Database], seed: int
) -> None:
    chance = random.Random(seed)
    folder: Path = tmp_path_factory.mktemp("follow")
    database = new_database(folder)
    stream = Bench(database, folder / "stream", name="stream", workflow=following())
    contents = {f"A_{i:02d}": chance.randint(1, 9) for i in range(9)}
    for key, value in contents.items():
        stream.arrive(stream.write_note(key, value))
        if chance.random() < 0.5:
            stream.step(chance.randint(1, 6))
        if chance.random() < 0.3:
            stream.step(chance.randint(1, 6), lambda orders: [o for o in orders if chance.random() < 0.5])
            stream.engine = stream.new_engine()
    stream.settle()
    batch = Bench(database, folder / "batch", name="batch", workflow=following())
    batch.arrive(*(batch.write_note(key, value) for key, value in contents.items()))
    batch.settle()
    assert stream.results() == batch.results()
    database.close()
