"""A simulated tomography scan: its line integrals, its detector, its file and its truth."""

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.transform import iradon, radon
from typer.testing import CliRunner

from tomofly.cli.simulate_commands import app
from tomofly.simulate.beamline import (
    BeamlineConfig,
    ScanPlan,
    scan_truth_beside,
    true_slice,
    true_volume,
    write_scan,
)
from tomofly.simulate.beamline.detector import Detector, Exposure
from tomofly.simulate.beamline.patterns import pattern_angles
from tomofly.simulate.beamline.phantom import make_phantom
from tomofly.simulate.beamline.projection import View, absorption
from tomofly.simulate.beamline.scene import CameraSetup, Look, PhantomSource
from tomofly.simulate.beamline.truth import AngleRule, beamline_truth

SMALL = BeamlineConfig(detector_yx_px=(33, 70), pixel_size_um=2.0, event_after_s=1.0, seed=3)
IDEAL = SMALL.model_copy(
    update={"noise": False, "zingers_per_s": 0.0, "ring_columns": 0, "ring_pixels": 0, "drift": 0.0}
)
NOW = 4.0


def ray_sums(config: BeamlineConfig, angle_rad: float, rows: list[int], fine: int = 3) -> np.ndarray:
    """Numerical integrals along rays through the attenuation at points: (row, x) of the detector."""
    phantom = make_phantom(config)
    height, width = config.detector_yx_px
    pixel = config.pixel_size_um
    offsets = (np.arange(fine) + 0.5) / fine - 0.5
    s = ((np.arange(width) - config.centre_of_lens(0))[:, None] + offsets).ravel() * pixel
    along = np.arange(-width / 2, width / 2, 0.4) * pixel
    # Across the beam: (cos, -sin); along it: (sin, cos).
    x = s[:, None] * np.cos(angle_rad) + along * np.sin(angle_rad)
    y = -s[:, None] * np.sin(angle_rad) + along * np.cos(angle_rad)
    sums = [phantom.attenuation(x, y, np.array((row - height // 2) * pixel), NOW).sum(axis=1) for row in rows]
    return np.array(sums).reshape(len(rows), width, fine).mean(axis=2) * 0.4 * pixel


@pytest.mark.parametrize("angle_deg", [0.0, 33.0, 124.0])
def test_line_integrals_are_sums_along_rays(angle_deg: float) -> None:
    angle = np.deg2rad(angle_deg)
    view = View((33, 70), angle, 2.0, SMALL.centre_of_lens(0), 16)
    rows = [2, 13, 16, 21, 30]
    exact = absorption(make_phantom(SMALL), view, NOW)[rows]
    numerical = ray_sums(SMALL, angle, rows)
    difference = np.abs(exact - numerical)
    assert difference.mean() < 0.004 * exact.max()
    # Only at the borders of bodies do means over a pixel differ from its middle.
    assert np.quantile(difference, 0.95) < 0.02 * exact.max()


def test_the_crack_takes_away_what_lies_in_its_place() -> None:
    before = make_phantom(SMALL)
    for angle in np.deg2rad([0, 34.4, 90, 124.4]):
        view = View((33, 70), float(angle), 2.0, SMALL.centre_of_lens(0), 16)
        missing = absorption(before, view, 0.5).sum() - absorption(before, view, 100.0).sum()
        crack = before.crack
        volume = 4 * crack.half_length_um * crack.half_height_um * crack.largest_um
        grown = absorption(
            before.model_copy(update={"crack": crack.model_copy(update={"begins_s": None})}), view, 0.5
        )
        grown = (
            grown.sum()
            - absorption(
                before.model_copy(update={"crack": crack.model_copy(update={"begins_s": None})}), view, 100.0
            ).sum()
        )
        assert (missing - grown) * 4 == pytest.approx(-crack.attenuation_per_um * volume, rel=1e-3)


def test_sense_of_rotation_and_centre_are_those_of_the_plan() -> None:
    """scikit-image turns pictures (y, x) in the same sense, about the pixel n // 2."""
    config = IDEAL.model_copy(update={"centre_px": 35.0})
    phantom = make_phantom(config)
    truth = beamline_truth(config, phantom, 0.0, AngleRule(pattern="continuous", start_deg=0, span_deg=180))
    picture = true_slice(truth, NOW, "z", 20, samples=5)
    angles = np.array([0.0, 17.0, 60.0, 90.0, 141.0])
    views = [View((33, 70), a, 2.0, 35.0, 16) for a in np.deg2rad(angles)]
    exact = np.stack([absorption(phantom, view, NOW)[20] for view in views], axis=1)
    theirs = radon(picture, theta=angles, circle=False, preserve_range=True) * 2.0
    theirs = theirs[theirs.shape[0] // 2 - 35 :][:70]
    assert np.corrcoef(exact.ravel(), theirs.ravel())[0, 1] > 0.999
    assert np.abs(exact - theirs).mean() < 0.01 * exact.max()


def test_transmission_of_a_noiseless_scan_is_the_exponential(tmp_path: Path) -> None:
    config = IDEAL.model_copy(update={"dtype": "float32"})
    truth = write_scan(config, tmp_path / "a.h5", ScanPlan(projections=7, flats=2, darks=1))
    with h5py.File(tmp_path / "a.h5") as file:
        exchange = {
            name: file[f"exchange/{name}"][:].astype(float) for name in ("data", "data_white", "data_dark")
        }
        theta = file["exchange/theta"][:]
    dark = exchange["data_dark"].mean(axis=0)
    passed = (exchange["data"] - dark) / (exchange["data_white"].mean(axis=0) - dark)
    for number in (0, 3, 6):
        angle = float(np.deg2rad(truth.angles_deg[number]))
        view = View((33, 70), angle, 2.0, truth.columns_px[number], truth.middle_row_px)
        expected = absorption(truth.phantom, view, truth.times_s[number])
        np.testing.assert_allclose(-np.log(passed[number]), expected, atol=2e-5)
    np.testing.assert_allclose(theta, np.arange(7) * 180 / 7, rtol=1e-6)


@given(level=st.floats(0.5, 3000.0), exposure=st.sampled_from([0.01, 0.02, 0.05]))
@settings(max_examples=15, deadline=None)
def test_photons_have_the_law_of_poisson(level: float, exposure: float) -> None:
    config = SMALL.model_copy(
        update={
            "detector_yx_px": (64, 90), "open_beam_photons": level, "illumination": 0.0, "spots": 0,
            "open_beam_level": 0.2, "dtype": "float32", "zingers_per_s": 0.0, "ring_columns": 0,
            "ring_pixels": 0, "drift": 0.0, "dark_level": 0.0, "dark_current": 0.0, "read_noise": 0.0,
        }
    )  # fmt: skip
    detector = Detector(config, 0, (0, 0, 64, 90))
    counts = np.stack([detector.expose(None, Exposure(exposure, 1, 1.0, 0.0, n)) for n in range(8)])
    photons = counts / (0.2 * 65535 / level)
    mean = level * exposure / config.exposure_s
    assert photons.mean() == pytest.approx(mean, abs=6 * np.sqrt(mean / photons.size))
    assert photons.var() == pytest.approx(mean, rel=0.06)


def test_binning_adds_up_photons_and_saturates() -> None:
    config = IDEAL.model_copy(update={"dtype": "uint16", "open_beam_level": 0.2})
    detector = Detector(config, 0, (0, 0, 33, 70))
    one = detector.expose(None, Exposure(0.01, 1, 1.0, 0.0, 1)).astype(float)
    two = detector.expose(None, Exposure(0.01, 2, 1.0, 0.0, 1)).astype(float)
    assert two.shape == (16, 35)
    np.testing.assert_allclose(two, one[:32].reshape(16, 2, 35, 2).sum(axis=(1, 3)), atol=4)
    assert (detector.expose(None, Exposure(0.1, 2, 1.0, 0.0, 1)) == 65535).any()


def test_dark_frames_do_not_depend_on_the_beam_and_zingers_come_alone() -> None:
    detector = Detector(SMALL, 0, (0, 0, 33, 70))
    dark = detector.expose(None, Exposure(0.01, 1, 0.0, 0.0, 5)).astype(float)
    assert dark.mean() == pytest.approx(65535 * SMALL.dark_level, rel=0.05)
    bright = SMALL.model_copy(update={"zingers_per_s": 1e6})
    hit = Detector(bright, 0, (0, 0, 33, 70)).expose(None, Exposure(0.01, 1, 0.0, 0.0, 5)).astype(float)
    assert 10 < (hit > 5000).sum() < 60


def test_rings_remain_after_flat_fields() -> None:
    config = IDEAL.model_copy(update={"ring_columns": 3, "dtype": "float32", "dark_level": 0.0})
    detector = Detector(config, 0, (0, 0, 33, 70))
    flat = detector.expose(None, Exposure(0.01, 1, 1.0, 0.0, 1))
    half = detector.expose(np.full((33, 70), 0.7, np.float32), Exposure(0.01, 1, 1.0, 0.0, 1))
    off = np.abs(half / flat - np.exp(-0.7)).max(axis=0) > 3e-5
    assert off.sum() == 3


@given(number=st.integers(1, 400), span=st.sampled_from([180.0, 360.0]))
def test_every_pattern_stays_in_its_span_and_covers_it(number: int, span: float) -> None:
    for pattern in ("continuous", "interlaced", "golden"):
        angles = pattern_angles(pattern, number, span, 10.0)
        assert angles.size == number
        assert ((angles >= 10.0) & (angles < 10.0 + span)).all()
        assert np.unique(angles.round(6)).size == number
        gaps = np.diff(np.sort(angles))
        assert number < 16 or gaps.max() < 3.1 * span / number + 8 * span / number**2 * 8
    there_and_back = pattern_angles("back-and-forth", number, span, 10.0)
    assert there_and_back.size == number
    assert (np.diff(there_and_back)[: (number - 1) // 2] > 0).all()


def test_slices_of_the_truth_agree_where_they_meet() -> None:
    phantom = make_phantom(SMALL)
    truth = beamline_truth(SMALL, phantom, 0.0, AngleRule(pattern="golden", start_deg=0, span_deg=180))
    volume = true_volume(truth, NOW, samples=1)
    assert volume.shape == (33, 70, 70)
    np.testing.assert_array_equal(true_slice(truth, NOW, "y", 30, samples=1), volume[:, 30, :])
    np.testing.assert_array_equal(true_slice(truth, NOW, "x", 41, samples=1), volume[:, :, 41])
    with pytest.raises(ValueError, match="one of x, y, z"):
        true_slice(truth, NOW, "w", 0)


def test_the_same_seed_gives_the_same_scan_and_another_one_another(tmp_path: Path) -> None:
    plan = ScanPlan(projections=3, flats=1, darks=1)
    frames = []
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        write_scan(SMALL.model_copy(update={"seed": seed}), tmp_path / f"{name}.h5", plan, started_at=5.0)
        with h5py.File(tmp_path / f"{name}.h5") as file:
            frames.append(file["exchange/data"][:])
    np.testing.assert_array_equal(frames[0], frames[1])
    assert (frames[0] != frames[2]).mean() > 0.5


def test_command_writes_both_layouts_with_truth(tmp_path: Path) -> None:
    run = CliRunner()
    common = ["--size", "20x36", "--projections", "5", "--flats", "2", "--darks", "3", "--centre", "19.5"]
    for name, layout in (("a.h5", "dx"), ("b.nxs", "nxtomo")):
        done = run.invoke(app, ["scan", "--out", str(tmp_path / name), "--format", layout, *common])
        assert done.exit_code == 0, done.output
    assert scan_truth_beside(tmp_path / "a.h5").centre_px == 19.5
    with h5py.File(tmp_path / "a.h5") as file:
        assert file["implements"].asstr()[()] == "exchange:measurement:process"
        assert file["exchange/data"].shape == (5, 20, 36)
        assert file["exchange/data"].attrs["axes"] == "theta:y:x"
        assert file["measurement/instrument/detection_system/objective/resolution"][()] == 1.0
        places = file["defaults/HDF5FrameLocation"][:]
        assert list(places[:6]) == [b"/exchange/data_dark"] * 3 + [b"/exchange/data_white"] * 2 + [
            b"/exchange/data"
        ]
    with h5py.File(tmp_path / "b.nxs") as file:
        assert list(file["entry/data/image_key"][:]) == [2] * 3 + [1] * 2 + [0] * 5
        assert file["entry/data/data"].shape == (10, 20, 36)
    assert not list(tmp_path.glob("*.partial"))
    again = run.invoke(app, ["scan", "--out", str(tmp_path / "a.h5"), *common])
    assert "exists" in str(again.exception)


def test_a_reconstruction_of_the_scan_is_the_truth(tmp_path: Path) -> None:
    """By scikit-image: values in 1/µm, sense and centre; only its filter blurs the borders of bodies."""
    config = IDEAL.model_copy(update={"centre_px": 48.0, "detector_yx_px": (20, 96), "dtype": "float32"})
    truth = write_scan(config, tmp_path / "a.h5", ScanPlan(projections=180, flats=1, darks=1, rate_hz=1e4))
    with h5py.File(tmp_path / "a.h5") as file:
        frames, flat, dark = (file[f"exchange/{name}"][:, 12] for name in ("data", "data_white", "data_dark"))
    sinogram = -np.log((frames - dark) / (flat - dark)) / config.pixel_size_um
    slice_ = iradon(sinogram.T, theta=np.array(truth.angles_deg), filter_name="ramp", circle=True)
    expected = true_slice(truth, 0.0, "z", 12)
    y, x = np.ogrid[:96, :96]
    inside = np.hypot(y - 48, x - 48) < 46
    assert np.sqrt(np.mean((slice_ - expected)[inside] ** 2)) < 0.1 * expected.max()
    assert slice_[inside].mean() == pytest.approx(expected[inside].mean(), rel=0.01)


def test_a_turn_during_the_exposure_blurs_and_nothing_is_lost() -> None:
    setup = CameraSetup((0, 0, 33, 70), 0.01, 1, "float32")
    still = PhantomSource(IDEAL, 0.0)
    blurred = PhantomSource(IDEAL.model_copy(update={"motion_blur": True}), 0.0)
    look = Look(30.0, (0.0, 0.0), False, 1.0, 0, 2, turn_deg=12.0)
    views = [still.picture(setup, replace(look, angle_deg=30.0 + a), 3.0, 1)[0] for a in (-6.0, 0.0, 6.0)]
    image = blurred.picture(setup, look, 3.0, 1)[0]
    assert np.abs(np.diff(image, axis=1)).max() < np.abs(np.diff(views[1], axis=1)).max()
    assert image.mean() == pytest.approx(np.mean(views), rel=0.01)
    standing = replace(look, turn_deg=0.0)
    np.testing.assert_array_equal(blurred.picture(setup, standing, 3.0, 1)[0], views[1])
