"""The demonstration of tilt series ends by itself, with a tomogram that is compared with the truth."""

from pathlib import Path

import pytest

from tests.acceptance.commands import tomofly


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_demonstration_of_tilt_series_ends_by_itself_with_a_tomogram(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    shown = tomofly(
        tmp_path / "home", "demo", "tomo", "--headless", "--items", "1", "--detector", "320x384",
        "--pace", "1", "--out", folder, "--json", "--set", "resources.minimum_free_gb=0", timeout=580,
    )  # fmt: skip
    assert shown.status == 0, shown.err
    summary = shown.json
    assert (summary["items"], summary["done"], summary["failed"]) == (1, 1, 0)
    tilts = summary["kinds"]["movie"]
    assert tilts["items"] == tilts["done"] == 21 and tilts["failed"] == 0
    (series,) = summary["series"]
    assert series["series"] == "TS_1" and series["true_axis_angle_deg"] == pytest.approx(85.0, abs=0.5)
    assert abs(series["axis_angle_deg_error"]) < 2.0
    assert abs(series["tilt_offset_deg_error"]) < 4.0
    assert series["shift_rms_angstrom"] < 40.0
    assert summary["accuracy"]["series"] == 1
    assert "TS_1 done (21 aligned, tomogram)" in shown.err
    assert summary["exports"][0]["items"] == 1
    assert (folder / "tomogram" / "TS_1.mrc").is_file()
    assert list((folder / "tomogram").glob("*.webp"))
    assert list((folder / "relion").glob("*.star"))
