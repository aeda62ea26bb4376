"""Real mdoc files make series of stand-ins for their movies, in the order and with the doses of RELION."""

import re
from pathlib import Path

import pandas as pd
import pytest

from tomofly.formats.star import read_star
from tomofly.model import SourceFile
from tomofly.stages.tilts.catalog import TiltCatalog
from tomofly.stages.tilts.composition import compose_views, views_of
from tomofly.stages.tilts.rules import ComposeParams

pytestmark = pytest.mark.real_data

MDOCS = {
    "tomo_empiar10164/TS_01.mrc.mdoc": ("TS_01", 41, 85.3),
    "mdoc/L1_ts_001.mrc.mdoc": ("L1_ts_001", 41, 94.0),
    "mdoc/murfey_chrom_07_ts_010.mdoc": ("murfey_chrom_07_ts_010", 11, 83.8),
    "mdoc/teamtomo_frame_set_single.mdoc": ("s_mmm", 1, 88.414),
}


def stand_ins(mdoc: Path) -> list[SourceFile]:
    """Give the movies that an mdoc names, found in the order of their names, and the mdoc."""
    paths = re.findall(r"^SubFramePath = (.*)$", mdoc.read_text(), re.MULTILINE)
    names = sorted(path.replace("\\", "/").rpartition("/")[2].strip() for path in paths)
    movies = [SourceFile(Path("/frames") / name, name, "9:9", 1000.0 + n) for n, name in enumerate(names)]
    return [*movies, SourceFile(mdoc, mdoc.name, "9:9", 2000.0)]


@pytest.mark.parametrize("name", MDOCS)
def test_every_real_mdoc_makes_its_series(real_data: Path, name: str) -> None:
    series, count, axis = MDOCS[name]
    catalog = TiltCatalog(ComposeParams())
    entries = catalog.take(stand_ins(real_data / name))
    assert not catalog.problems
    assert {entry.attributes["series"] for entry in entries} == {series}
    assert len(entries) == count
    assert {entry.attributes["not_found"] for entry in entries} == {0}
    assert {entry.attributes["axis_angle_deg"] for entry in entries} == {axis}
    assert sorted(entry.attributes["order"] for entry in entries) == list(range(count))
    assert all(entry.attributes["tilt_angle_deg"] is not None for entry in entries)


def test_empiar_10164_has_the_order_and_the_doses_that_relion_has(real_data: Path) -> None:
    folder = real_data / "tomo_empiar10164"
    params = ComposeParams(dose_per_tilt_e_per_a2=3.0)
    entries = TiltCatalog(params).take(stand_ins(folder / "TS_01.mrc.mdoc"))
    views = [view for entry in entries for view in views_of(entry.key, entry.attributes)]
    composed = compose_views(views, params)
    table = next(iter(read_star(folder / "TS_01_relion.star").values()))
    assert isinstance(table, pd.DataFrame)
    names = [Path(name).name for name in table["rlnMicrographMovieName"]]
    dose = {n: float(d) for n, d in zip(names, table["rlnMicrographPreExposure"], strict=True)}
    angle = {n: float(a) for n, a in zip(names, table["rlnTomoNominalStageTiltAngle"], strict=True)}
    assert len(composed.used) == len(names) == 41
    for view in composed.used:
        assert view.accumulated_dose_e_per_a2 == pytest.approx(dose[view.key], abs=1e-3)
        assert view.tilt_angle_deg == pytest.approx(angle[view.key], abs=2e-3)
    assert composed.axis_angle_deg == 85.3
