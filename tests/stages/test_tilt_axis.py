"""Series tell their axes one by one; what enough of them say is where later ones begin to search."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.imaging.tilt_scenes import TiltScene, tilt_scene
from tests.stages.benches import require_lawful
from tomofly.formats.mrc import write_image
from tomofly.imaging.tilt_local import LocalDeformation
from tomofly.model import BadInput, ItemRef, MapStage, Member, Outcome, Result, StageContext
from tomofly.stages.tilts import alignment, axis, axis_session
from tomofly.stages.tilts.axis_file import read_axis, session_axis
from tomofly.stages.tilts.axis_session_run import gather_axes, median_axis, said_of
from tomofly.stages.tilts.files import LocalMovement, SeriesFile, View, read_alignment

TILTS = np.arange(-45.0, 46.0, 7.5)
TRUE_AXIS_DEG = 84.0


@dataclass
class AlignmentBench:
    """Runs the stages of alignment on one series of images."""

    folder: Path
    scene: TiltScene
    axis_angle_deg: float | None = 86.0
    provisional: bool = False
    said: str = ""
    results: dict[str, Result] = field(default_factory=dict)

    def __post_init__(self) -> None:
        images, tilts = self.scene.images, self.scene.nominal_tilt_deg
        order = np.argsort(np.argsort(np.abs(tilts), kind="stable"))
        views = tuple(
            View(key=f"t{i}", section=None, tilt_angle_deg=float(a), order=int(order[i]))
            for i, a in enumerate(tilts)
        )
        series = SeriesFile(
            name="TS_1",
            views=views,
            axis_angle_deg=self.axis_angle_deg or 0.0,
            axis_source="unknown" if self.axis_angle_deg is None else "mdoc",
            pixel_size_angstrom=12.0,
            full_pixel_size_angstrom=12.0,
            shape_yx=images.shape[1:],
            full_shape_yx=images.shape[1:],
            provisional=self.provisional,
        )
        products = {"series": self.folder / "TS_1.json", "stack": self.folder / "TS_1.st"}
        series.write(products["series"])
        write_image(products["stack"], images, 12.0)
        self.results["compose"] = Result("compose", products)

    def run(self, stage: MapStage, **params: Any) -> Outcome:
        """Run a stage with some settings of series_alignment, and keep its result."""
        settings = alignment.SeriesAlignmentParams.model_validate(params)
        work = self.folder / stage.name
        work.mkdir(exist_ok=True)
        context = StageContext(
            stage=stage.name,
            key="TS_1",
            work=work,
            partial=self.folder,
            shared={"series_alignment": settings} if stage.reads else {},
            inputs={name: self.results[name] for name in stage.needs},
            log=logging.getLogger("test"),
            threads=2,
            followed=dict.fromkeys(stage.follows, self.said),
        )
        own = settings if stage is alignment.STAGE else stage.params()
        outcome = stage.run(ItemRef("TS_1", "tilt series", None, ""), own, context)
        require_lawful(stage, outcome, work)
        self.results[stage.name] = Result(stage.name, outcome.products, outcome.metrics, outcome.flags)
        return outcome


@pytest.fixture(scope="module")
def scene() -> TiltScene:
    return tilt_scene((270, 310), TILTS, thickness_px=40.0, particles_per_megapixel=9000.0, seed=2)


def codes(outcome: Outcome) -> set[str]:
    return {flag.code for flag in outcome.flags}


def test_a_series_is_looked_at_and_aligned_with_its_errors(tmp_path: Path, scene: TiltScene) -> None:
    bench = AlignmentBench(tmp_path, scene, said='{"86.0": 84.0}')
    first = bench.run(axis.STAGE)
    assert first.metrics["first_axis_deg"] == pytest.approx(TRUE_AXIS_DEG, abs=1.5)
    assert first.metrics["nominal_axis_deg"] == 86.0
    found = bench.run(alignment.STAGE, local=True)
    record = read_alignment(found.products["alignment"])
    assert found.metrics["axis_angle_deg"] == pytest.approx(TRUE_AXIS_DEG, abs=0.5)
    assert found.metrics["axis_deviation_deg"] == pytest.approx(
        abs(found.metrics["axis_angle_deg"] - 84.0), abs=1e-6
    )
    assert 0 < found.metrics["residual_angstrom"] < 12.0
    assert found.metrics["leave_one_out_angstrom"] > 0
    like = [found.metrics[f"ncc_{angle}"] for angle in (0, 20, 40)]
    assert all(0 < value < 1 for value in like)
    for values in (record.shift_error_px, record.residual_angstrom):
        assert len(values) == len(TILTS) and np.isfinite(values).all()
    assert {"shifts", "residuals"} <= set(found.products)
    assert "local_model_skipped" in codes(found) and record.local is None


def test_a_provisional_series_is_aligned_from_its_first_look_alone(tmp_path: Path, scene: TiltScene) -> None:
    bench = AlignmentBench(tmp_path, scene, provisional=True)
    assert bench.run(axis.STAGE).metrics == {}
    found = bench.run(alignment.STAGE, method="fiducials")
    assert "residual_angstrom" not in found.metrics and found.metrics["unaligned_tilts"] == 0
    looked = read_axis(bench.results["series_axis"].products["axis"]).search()
    assert found.metrics["axis_angle_deg"] == pytest.approx(looked.axis_angle_deg)
    assert np.abs(looked.geometry.shift_yx_px - scene.shift_yx_px).max() < 60


def test_an_axis_that_nobody_tells_is_searched_all_around(tmp_path: Path, scene: TiltScene) -> None:
    bench = AlignmentBench(tmp_path, scene, axis_angle_deg=None)
    looked = bench.run(axis.STAGE)
    assert "axis_searched" in codes(looked) and "nominal_axis_deg" not in looked.metrics
    assert looked.metrics["first_axis_deg"] == pytest.approx(TRUE_AXIS_DEG, abs=2.0)


def test_an_axis_unlike_that_of_the_session_is_flagged(tmp_path: Path, scene: TiltScene) -> None:
    bench = AlignmentBench(tmp_path, scene, said='{"86.0": 80.0}')
    bench.run(axis.STAGE)
    found = bench.run(alignment.STAGE)
    assert "axis_unlike_session" in codes(found)
    assert found.metrics["axis_angle_deg"] == pytest.approx(TRUE_AXIS_DEG, abs=0.6)


def test_series_without_beads_are_aligned_by_patches_and_say_so(tmp_path: Path, scene: TiltScene) -> None:
    bench = AlignmentBench(tmp_path, scene)
    bench.run(axis.STAGE, method="fiducials")
    found = bench.run(alignment.STAGE, method="fiducials", bead_diameter_angstrom=150.0)
    assert "too_few_beads" in codes(found)
    assert found.metrics["axis_angle_deg"] == pytest.approx(TRUE_AXIS_DEG, abs=0.6)


def test_what_is_not_aligned_here_is_not_looked_at(tmp_path: Path, scene: TiltScene) -> None:
    bench = AlignmentBench(tmp_path, scene)
    assert bench.run(axis.STAGE, method="nominal") == Outcome()
    found = bench.run(alignment.STAGE, method="nominal", level=False)
    assert "nominal_alignment" in codes(found) and found.metrics["axis_angle_deg"] == 86.0


def test_an_alignment_is_imported_once_the_series_is_complete(tmp_path: Path, scene: TiltScene) -> None:
    given = {"method": "imported", "level": False, "import_folder": str(tmp_path)}
    angles, rows = np.sort(TILTS), ["1 0 0 1 0 0"] * len(TILTS)
    (tmp_path / "TS_1.tlt").write_text("\n".join(f"{angle:.2f}" for angle in angles))
    (tmp_path / "TS_1.xf").write_text("\n".join(rows[:-1]))
    part = AlignmentBench(tmp_path, scene, provisional=True)
    assert part.run(axis.STAGE, **given) == Outcome()
    assert "import_awaited" in codes(part.run(alignment.STAGE, **given))
    whole = AlignmentBench(tmp_path, scene)
    whole.run(axis.STAGE, **given)
    with pytest.raises(BadInput, match=r"TS_1\.xf.*transforms"):
        whole.run(alignment.STAGE, **given)
    (tmp_path / "TS_1.xf").write_text("\n".join(rows))
    found = whole.run(alignment.STAGE, **given)
    assert "imported_alignment" in codes(found) and found.metrics["axis_angle_deg"] == pytest.approx(
        0, abs=1e-6
    )


def test_a_series_of_which_no_tilt_shows_anything_is_bad_input(tmp_path: Path) -> None:
    dark = TiltScene(
        np.zeros((5, 96, 128), dtype=np.float32),
        np.arange(5.0),
        84.0,
        0.0,
        0.0,
        np.zeros((5, 2)),
        np.zeros((1, 3)),
    )
    bench = AlignmentBench(tmp_path, dark)
    bench.run(axis.STAGE)
    with pytest.raises(BadInput, match="No two tilts"):
        bench.run(alignment.STAGE)


def test_two_tilts_are_aligned_and_what_they_do_not_tell_is_flagged(tmp_path: Path, scene: TiltScene) -> None:
    middle = len(TILTS) // 2
    pair = TiltScene(
        scene.images[middle : middle + 2], TILTS[middle : middle + 2], 84.0, 0.0, 0.0,
        scene.shift_yx_px[middle : middle + 2], scene.points_zyx_px,
    )  # fmt: skip
    bench = AlignmentBench(tmp_path, pair)
    bench.run(axis.STAGE)
    found = bench.run(alignment.STAGE)
    assert {"few_tilts", "nominal_axis_kept", "level_not_measured"} <= codes(found)
    assert found.metrics["axis_angle_deg"] == 86.0


def series(key: str, found: float, nominal: float | None = 86.0, error: float = 0.3) -> Member:
    metrics = {"first_axis_deg": found, "first_axis_error_deg": error}
    if nominal is not None:
        metrics["nominal_axis_deg"] = nominal
    return Member(ItemRef(key, "tilt series", None, ""), Result("series_axis", {}, metrics))


def gathered(
    members: Sequence[Member], folder: Path, checkpoint: Path | None = None
) -> tuple[str, Mapping[str, float], Path]:
    folder.mkdir(exist_ok=True)
    context = StageContext(
        stage="session_axis",
        key="session_axis",
        work=folder,
        partial=folder,
        shared={},
        inputs={},
        log=logging.getLogger("test"),
        checkpoint=checkpoint,
    )
    outcome = gather_axes(members, axis_session.SessionAxisParams(), context)
    return outcome.content or "", outcome.metrics, outcome.products["checkpoint"]


def test_a_session_says_nothing_before_enough_series_told_their_axis(tmp_path: Path) -> None:
    vague = series("c", 70.0, error=4.0)
    said, metrics, _ = gathered([series("a", 93.8), series("b", 94.1), vague], tmp_path)
    assert said == "" and metrics["session_axis_series"] == 2
    assert session_axis(said, 86.0) is None


def test_a_session_says_a_rounded_median_for_each_nominal_axis(tmp_path: Path) -> None:
    others = [series(f"o{i}", -3.0 + i, nominal=None) for i in range(3)]
    here = [series(f"h{i}", found) for i, found in enumerate((93.8, 94.1, 94.2, 120.0))]
    said, metrics, _ = gathered([*others, *here], tmp_path)
    assert session_axis(said, 86.0) == 94.0 and session_axis(said, None) == -2.0
    assert session_axis(said, 85.0) is None
    assert metrics["session_axis_deg"] == pytest.approx(94.15)


def test_series_that_come_in_batches_say_the_same_as_all_at_once(tmp_path: Path) -> None:
    members = [series(f"s{i}", 90.0 + i) for i in range(7)]
    at_once, _, _ = gathered(members, tmp_path / "once")
    _, _, first = gathered(members[4:], tmp_path / "first")
    later, _, stored = gathered(members[:4], tmp_path / "second", first)
    assert later == at_once
    again, _, _ = gathered([series("s0", 0.0, error=9.0)], tmp_path / "third", stored)
    assert "s0" in json.loads(stored.read_text()) and again == '{"86.0": 94.0}'


@given(st.floats(-170, 170), st.lists(st.floats(-3, 3), min_size=3, max_size=9))
def test_the_median_of_axes_goes_round_with_them(middle: float, off: list[float]) -> None:
    found, spread = median_axis(np.array(off) + middle)
    assert found == pytest.approx(middle + np.median(off), abs=1e-6)
    assert spread <= 6.0


def test_one_more_series_changes_what_is_said_only_where_the_median_moves() -> None:
    seen = {f"s{i}": ("86.0", 94.0 + 0.1 * (i % 3)) for i in range(9)}
    before = said_of(seen)
    assert said_of(seen | {"s9": ("86.0", 99.0)}) == before


def test_local_movement_is_written_and_read_back() -> None:
    rng = np.random.default_rng(1)
    y, x = np.meshgrid(np.linspace(-90, 90, 3), np.linspace(-120, 120, 4), indexing="ij")
    centre = np.stack([np.zeros(y.size), y.ravel(), x.ravel()], axis=1)
    local = LocalDeformation(centre, rng.normal(0, 1, (5, 12, 2)), (3, 4))
    again = LocalMovement.model_validate_json(LocalMovement.of(local).model_dump_json()).deformation()
    assert again.grid_yx == (3, 4) and np.array_equal(again.centre_zyx_px, centre)
    assert np.abs(again.shift_yx_px - local.shift_yx_px).max() <= 0.0005
