"""The stages of an X-ray session: what they find, make, flag and refuse."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pytest
import tifffile
from PIL import Image

from tests.stages.scan_bench import (
    CENTRE,
    DEGREES,
    PIXEL_UM,
    ROWS,
    WIDTH,
    ScanBench,
    codes,
    truth,
    write_scan,
)
from tomofly.formats.volume_file import open_volume
from tomofly.model import BadInput, Outcome, TomoflyError
from tomofly.stages.scans import centre, scan, volume

Volume = npt.NDArray[np.float32]


@pytest.fixture
def bench(tmp_path: Path) -> ScanBench:
    source = tmp_path / "scan_001.h5"
    write_scan(source)
    return ScanBench(tmp_path / "session", source)


def _volume(outcome: Outcome) -> Volume:
    with open_volume(outcome.products["volume"]) as opened:
        return opened.slices(0, opened.header.shape_zyx[0])


def _error(image: Volume, row: int) -> float:
    y, x = np.mgrid[:WIDTH, :WIDTH] - WIDTH // 2
    inside = x * x + y * y < 44**2
    return float(np.sqrt(np.mean((image - truth(row))[inside] ** 2)) * PIXEL_UM / 0.01)


def test_a_scan_becomes_the_volume_that_it_is_of(bench: ScanBench) -> None:
    outcome = bench.run_all(volume={"ring_removal": "none"})
    made = _volume(outcome)
    assert made.shape == (ROWS, WIDTH, WIDTH)
    assert _error(made[3], 3) < 0.15 and _error(made[17], 17) < 0.15
    assert bench.results["scan_centre"].metrics["centre_px"] == pytest.approx(CENTRE, abs=0.2)
    assert outcome.metrics["voxel_size_um"] == PIXEL_UM
    assert outcome.flags == ()


def test_the_file_says_what_it_is(bench: ScanBench) -> None:
    outcome = bench.run_all()
    with open_volume(outcome.products["volume"]) as opened:
        assert opened.header.unit == "1/um" and opened.header.voxel_um == PIXEL_UM
        assert opened.header.made_by["centre_px"] == bench.results["scan_centre"].metrics["centre_px"]
    with h5py.File(outcome.products["volume"]) as file:
        assert file["exchange/data"].chunks is None and file["exchange/data"].attrs["axes"] == "z:y:x"


@pytest.mark.parametrize(("method", "memory_gb"), [("gridding", 0.0065), ("direct", 0.0085)])
def test_the_memory_that_is_allowed_changes_nothing_but_the_number_of_slabs(
    bench: ScanBench, method: str, memory_gb: float
) -> None:
    settings = {"method": method, "zinger_radius_px": 2}
    at_once = _volume(bench.run_all(volume=settings))
    outcome = bench.run(volume.STAGE, **settings, memory_gb=memory_gb, threads=1)
    assert outcome.metrics["slabs"] > 2
    assert np.array_equal(_volume(outcome), at_once)


def test_memory_that_is_not_enough_is_no_fault_of_the_scan(bench: ScanBench) -> None:
    bench.run(scan.STAGE)
    bench.run(centre.STAGE)
    with pytest.raises(TomoflyError, match="memory_gb") as raised:
        bench.run(volume.STAGE, memory_gb=0.001)
    assert not isinstance(raised.value, BadInput)


def test_rows_can_be_chosen(bench: ScanBench) -> None:
    whole = _volume(bench.run_all())
    part = _volume(bench.run(volume.STAGE, first_row=4, last_row=9))
    assert part.shape[0] == 5
    assert np.abs(part - whole[4:9]).max() < 2e-3 * np.abs(whole).max()
    with pytest.raises(BadInput, match="first_row"):
        bench.run(volume.STAGE, first_row=ROWS)


def test_light_that_fades_is_followed_by_flats_before_and_after(bench: ScanBench) -> None:
    write_scan(bench.source, drift=0.3)
    outcome = bench.run_all(volume={"ring_removal": "none"})
    assert bench.results["scan"].metrics["flat_epochs"] == 2
    assert _error(_volume(outcome)[3], 3) < 0.15


def test_metrics_and_pictures_are_those_declared(bench: ScanBench) -> None:
    bench.run_all()
    for stage in (scan.STAGE, centre.STAGE, volume.STAGE):
        result = bench.results[stage.name]
        assert result.metrics.keys() <= {metric.name for metric in stage.metrics}
        assert all(np.isfinite(value) for value in result.metrics.values())
        for preview in stage.previews:
            with Image.open(result.products[preview]) as picture:
                assert min(picture.size) > 60
    assert bench.results["scan"].metrics["coverage_deg"] == pytest.approx(180, abs=0.1)


def test_zingers_are_taken_out(bench: ScanBench) -> None:
    with h5py.File(bench.source, "a") as file:
        data = file["exchange/data"][()]
        places = np.random.default_rng(3).integers(0, data.size, 400)
        data.reshape(-1)[places] = 65000
        file["exchange/data"][...] = data
    left = _volume(bench.run_all(volume={"ring_removal": "none"}))
    taken = _volume(bench.run(volume.STAGE, ring_removal="none", zinger_radius_px=2, zinger_threshold=0.3))
    assert _error(taken[3], 3) < 0.7 * _error(left[3], 3)


@pytest.mark.parametrize("removal", ["sorting", "wavelets"])
def test_a_pixel_that_answers_otherwise_makes_no_ring(bench: ScanBench, removal: str) -> None:
    with h5py.File(bench.source, "a") as file:
        data = file["exchange/data"][()]
        data[:, :, [30, 44, 71, 72, 90]] = data[:, :, [30, 44, 71, 72, 90]] * 0.97
        file["exchange/data"][...] = data
    rings = bench.run_all(volume={"ring_removal": "none"}).metrics["rings"]
    fewer = bench.run(volume.STAGE, ring_removal=removal, ring_window_px=9).metrics["rings"]
    assert fewer < 0.8 * rings


def test_phase_retrieval_smooths_and_needs_what_it_needs(bench: ScanBench) -> None:
    bench.run(scan.STAGE)
    bench.run(centre.STAGE)
    with pytest.raises(BadInput, match="energy"):
        bench.run(volume.STAGE, phase=True)
    known = {"energy_kev": 25.0, "distance_mm": 100.0, "phase_alpha": 200.0}
    plain = bench.run(volume.STAGE)
    smooth = bench.run(volume.STAGE, phase=True, **known)
    assert smooth.metrics["noise"] < 0.7 * plain.metrics["noise"]
    in_slabs = bench.run(volume.STAGE, phase=True, **known, memory_gb=0.0125, threads=1)
    assert in_slabs.metrics["slabs"] > 1
    assert in_slabs.metrics["noise"] == pytest.approx(smooth.metrics["noise"], rel=0.02)


def test_a_scan_without_a_pixel_size_is_in_pixels_and_says_so(bench: ScanBench) -> None:
    with h5py.File(bench.source, "a") as file:
        del file["measurement/instrument/detection_system/objective/resolution"]
    outcome = bench.run_all()
    assert "no_pixel_size" in codes(bench.run(scan.STAGE))
    with open_volume(outcome.products["volume"]) as opened:
        assert opened.header.unit == "1/px" and opened.header.voxel_um is None


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"data_dark": None}, "no_darks"),
        ({"theta": None}, "theta_missing"),
        ({"theta": DEGREES[:-10]}, "theta_shorter"),
        ({"theta": np.linspace(0, 119, len(DEGREES))}, "missing_wedge"),
    ],
)
def test_what_is_missing_is_a_flag(bench: ScanBench, changes: dict[str, Any], code: str) -> None:
    write_scan(bench.source, **changes)
    assert code in codes(bench.run(scan.STAGE))


def test_frames_that_are_no_numbers_or_full_are_told(bench: ScanBench) -> None:
    with h5py.File(bench.source) as file:
        data = file["exchange/data"][()].astype(np.float32)
    data[:, 4, 50:60] = np.nan
    write_scan(bench.source, data=data)
    outcome = bench.run_all()
    assert "not_numbers" in codes(bench.run(scan.STAGE))
    assert np.isfinite(_volume(outcome)).all()
    full = np.full((len(DEGREES), ROWS, WIDTH), 65535, np.uint16)
    write_scan(bench.source, data=full)
    assert "saturated" in codes(bench.run(scan.STAGE))


BROKEN: dict[str, Callable[[Path], None]] = {
    "flat": lambda path: write_scan(path, data_white=None),
    "brighter": lambda path: write_scan(path, data_dark=np.full((2, ROWS, WIDTH), 60000, np.uint16)),
    "numbers": lambda path: write_scan(path, data=np.full((120, ROWS, WIDTH), np.nan, np.float32)),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:4000]),
    "projections": lambda path: write_scan(path, theta=DEGREES[:4]),
    "no HDF5": lambda path: path.write_bytes(b"something else" * 1000),
    "data_white": lambda path: write_scan(path, data_white=np.ones((2, 4, 4), np.uint16)),
}


@pytest.mark.parametrize("what", BROKEN)
def test_bad_scans_are_refused_with_the_reason(bench: ScanBench, what: str) -> None:
    BROKEN[what](bench.source)
    with pytest.raises(BadInput, match=what):
        bench.run(scan.STAGE)


def test_transmissions_need_no_flats_when_that_is_said(bench: ScanBench) -> None:
    from tests.stages.scan_bench import transmissions

    write_scan(bench.source, data=transmissions(DEGREES), data_white=None, data_dark=None)
    outcome = bench.run_all(scan={"normalised": True}, volume={"ring_removal": "none"})
    assert _error(_volume(outcome)[3], 3) < 0.12


def test_a_centre_that_is_set_is_taken_and_one_outside_is_refused(bench: ScanBench) -> None:
    bench.run(scan.STAGE)
    assert bench.run(centre.STAGE, method="fixed", centre_px=51.25).metrics == {"centre_px": 51.25}
    for wrong in (0.0, float(WIDTH)):
        with pytest.raises(BadInput, match="centre_px"):
            bench.run(centre.STAGE, method="fixed", centre_px=wrong)


def test_pairs_half_a_turn_apart_show_the_centre_too(bench: ScanBench) -> None:
    write_scan(bench.source, theta=np.linspace(0, 180, len(DEGREES)))
    bench.run(scan.STAGE)
    outcome = bench.run(centre.STAGE, method="pairs")
    assert outcome.metrics["centre_px"] == pytest.approx(CENTRE, abs=1.0)


def test_nothing_to_see_makes_the_centre_uncertain(bench: ScanBench) -> None:
    rng = np.random.default_rng(0)
    with h5py.File(bench.source) as file:
        flat = file["exchange/data_white"][0]
    write_scan(bench.source, data=(flat + rng.normal(0, 100, (len(DEGREES), *flat.shape))).astype(np.uint16))
    bench.run(scan.STAGE)
    assert codes(bench.run(centre.STAGE)) & {"centre_uncertain", "centre_unknown"}


def test_a_window_that_is_even_and_rows_in_disorder_are_refused() -> None:
    for wrong in ({"ring_window_px": 8}, {"first_row": 9, "last_row": 4}):
        with pytest.raises(ValueError):
            volume.VolumeParams.model_validate(wrong)


# Real scans


def _dls_scan(folder: Path, path: Path) -> None:
    projections = np.stack([tifffile.imread(file) for file in sorted((folder / "tiffs").glob("*.tif*"))])
    angles = np.loadtxt(folder / "angles.txt").reshape(-1)[10:-10]
    with h5py.File(path, "w") as file:
        file["exchange/data"] = projections
        file["exchange/data_white"] = tifffile.imread(folder / "flat_00001.tiff")[None]
        file["exchange/data_dark"] = tifffile.imread(folder / "dark_00001.tiff")[None]
        file["exchange/theta"] = angles


@pytest.mark.real_data
def test_the_axis_of_a_scan_of_diamond_is_found(real_data: Path, tmp_path: Path) -> None:
    _dls_scan(real_data / "xct_dls_24737", tmp_path / "dls.h5")
    bench = ScanBench(tmp_path / "session", tmp_path / "dls.h5")
    outcome = bench.run_all()
    assert bench.results["scan_centre"].metrics["centre_px"] == pytest.approx(85.5, abs=0.5)
    assert bench.results["scan_centre"].metrics["certainty"] > 0.5
    assert _volume(outcome).shape == (135, 160, 160)


@pytest.mark.real_data
def test_the_axis_of_a_tooth_is_found(real_data: Path, tmp_path: Path) -> None:
    bench = ScanBench(tmp_path / "session", real_data / "xct_aps_tooth" / "tooth.h5")
    bench.run(scan.STAGE)
    assert bench.run(centre.STAGE).metrics["centre_px"] == pytest.approx(296, abs=0.5)


def test_threads_are_fewer_where_memory_is_short(bench: ScanBench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 64)
    whole = bench.run_all(volume={"threads": 0})
    short = bench.run(volume.STAGE, threads=0, memory_gb=0.0065)
    assert np.abs(_volume(short) - _volume(whole)).max() < 2e-3 * np.abs(_volume(whole)).max()
