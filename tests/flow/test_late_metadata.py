"""Metadata that come later than their movie: what they change is made again, and nothing else."""

from pathlib import Path

import pytest

from tests.flow.inline import Bench
from tests.flow.watching import Watched, source
from tomofly.flow.graph import build_workflow
from tomofly.simulate import SpaMicroscope, write_session
from tomofly.stages import importing, motion, transfer
from tomofly.store import Database
from tomofly.store.intake import NewItem

DOSE = 4.0


@pytest.fixture
def movie(tmp_path: Path) -> Path:
    """A small movie as EPU writes it; its XML, which alone knows the dose, lies elsewhere for now."""
    microscope = SpaMicroscope(
        seed=5, detector_yx_px=(224, 256), frames=4, pixel_size_angstrom=2.1, dose_per_frame_e_per_a2=DOSE
    )
    write_session(microscope, tmp_path / "camera", 1, layout="epu")
    (found,) = (tmp_path / "camera").rglob("*_Fractions.mrc")
    xml(found).rename(tmp_path / "late.xml")
    return found


def xml(movie: Path) -> Path:
    return movie.with_name(movie.name.replace("_Fractions.mrc", ".xml"))


def take_in(bench: Bench, watched: Watched) -> list[str]:
    """Let the watcher look, process what it finds, and give the stages that ran."""
    bench.ran.clear()
    found = watched.poll(5)
    bench.arrive(*(NewItem("movie", a.key, str(a.path), a.content) for a in found))
    bench.settle()
    return [stage for stage, _ in bench.ran]


@pytest.mark.parametrize("mode", ["link", "move"])
@pytest.mark.parametrize(("in_settings", "again"), [(0.0, ["motion"]), (DOSE, [])])
def test_a_dose_that_comes_late_is_used_and_only_what_reads_it_is_made_again(
    any_database: Database, tmp_path: Path, movie: Path, mode: str, in_settings: float, again: list[str]
) -> None:
    document: dict[str, dict[str, object]] = {
        "transfer": {"mode": mode},
        "microscope": {"pixel_size_angstrom": 2.1, "dose_per_frame_e_per_a2": in_settings},
        "motion": {"patches": [1, 1]},
    }
    workflow = build_workflow("spa", [transfer.STAGE, importing.STAGE, motion.STAGE])
    bench = Bench(any_database, tmp_path / "bench", workflow, document)
    watched = Watched(source(tmp_path / "camera" / "**" / "*_Fractions.mrc", ignore=["*gain*"]))
    assert take_in(bench, watched) == ["transfer", "import", "motion"]
    assert ("dose_used_e_per_a2" in metrics(bench)) == (in_settings > 0)
    (tmp_path / "late.xml").rename(xml(movie))
    assert take_in(bench, watched) == ["transfer", "import", *again]
    assert metrics(bench)["dose_used_e_per_a2"] == pytest.approx(4 * DOSE, rel=1e-3)
    assert take_in(bench, watched) == []


def metrics(bench: Bench) -> dict[str, float]:
    """Give the metrics of motion as the database holds them."""
    from sqlalchemy import select

    from tomofly.store import tables as t

    query = select(t.metrics.c.name, t.metrics.c.value).join(t.tasks, t.tasks.c.id == t.metrics.c.task_id)
    with bench.database.read() as connection:
        return dict(connection.execute(query.where(t.tasks.c.stage == "motion")).all())
