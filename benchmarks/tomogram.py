"""Tomograms of simulated tilt series: time, agreement with the truth, strips, thickness, levelling and picks.

41 tilts, ±60°, 3 e⁻/Å² each, reconstructed at 10 Å. The geometry is the true one, or the true one with errors
such as an alignment leaves. Times are wall and processor seconds: the latter hold on a busy machine, too.

    python benchmarks/tomogram.py
    python benchmarks/tomogram.py --parts full picks
"""

import argparse
import json
import resource
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from scipy.spatial import cKDTree

from tilt_alignment import CASES, simulated
from tilt_scoring import unexplained
from tomofly.imaging.binning import bin_mean
from tomofly.imaging.ctf_strips import correct_tilted_ctf
from tomofly.imaging.gold_erasing import erase_gold
from tomofly.imaging.slab import find_slab_in_series, levelled
from tomofly.imaging.tilt_alignment import align_tilt_series
from tomofly.imaging.tilt_geometry import TiltGeometry
from tomofly.imaging.tilt_weighting import tilt_contrast, weight_tilts
from tomofly.imaging.tomogram import reconstruct_tomogram
from tomofly.imaging.tomogram_fsc import shell_correlation
from tomofly.imaging.tomogram_gold import find_gold
from tomofly.imaging.tomogram_picking import pick_by_size
from tomofly.simulate.tilt_microscope import TiltSeriesConfig
from tomofly.simulate.tilt_series import SimulatedSeries, simulate_tilt_series
from tomofly.simulate.tilt_structures import bead_model

VOXEL_ANGSTROM = 10.0
DIAMETER_ANGSTROM = 250.0
# Errors of an alignment: of the shifts (pixels, RMS), and of the axis (degrees).
ERRORS = ((0.2, 0.0), (0.5, 0.0), (0.0, 0.1), (0.2, 0.1), (0.5, 0.3))


def _taken(threads: int, **more: object) -> tuple[SimulatedSeries, TiltGeometry]:
    config = TiltSeriesConfig.model_validate({"detector_yx_px": (400, 384), **more})
    series = simulate_tilt_series(config, threads=threads).by_angle()
    geometry = TiltGeometry(
        series.tilt_angle_deg, series.axis_angle_deg, series.shift_yx_px, x_tilt_deg=series.x_tilt_deg
    )
    return series, geometry


def _prepared(
    series: SimulatedSeries,
    geometry: TiltGeometry,
    threads: int,
    *,
    erased: bool = True,
    corrected: bool = True,
    hand: int | None = None,
    dose_weighted: bool = True,
) -> np.ndarray:
    """Contrast, free of gold, CTF-corrected and weighted."""
    images = tilt_contrast(series.images)
    if erased:
        images = erase_gold(images, 100.0 / series.pixel_size_angstrom, threads=threads)
    config = series.config
    if corrected:
        images = correct_tilted_ctf(
            images, geometry, pixel_size_angstrom=series.pixel_size_angstrom, threads=threads,
            hand=series.hand if hand is None else hand, astigmatism_angle_deg=0.0,
            defocus_u_angstrom=series.defocus_angstrom, defocus_v_angstrom=series.defocus_angstrom,
            voltage_kv=config.voltage_kv, amplitude_contrast=config.amplitude_contrast,
            spherical_aberration_mm=config.spherical_aberration_mm,
        )  # fmt: skip
    dose = series.dose_before_e_per_a2 + config.dose_per_tilt_e_per_a2 / 2
    return weight_tilts(
        images, series.pixel_size_angstrom, tilt_angle_deg=series.tilt_angle_deg, threads=threads,
        dose_e_per_angstrom2=dose if dose_weighted else None,
    )  # fmt: skip


def measure_time(threads: int) -> dict[str, object]:
    """Time 512 x 512 x 256 voxels from 41 views, compiled code loaded."""
    random = np.random.default_rng(0)
    images = random.normal(size=(41, 512, 512)).astype(np.float32)
    geometry = TiltGeometry(np.arange(-60.0, 61, 3), np.full(41, 85.0), random.normal(size=(41, 2)) * 9, 2.0)
    reconstruct_tomogram(images[:, :64, :64], geometry, (32, 64, 64))
    result: dict[str, object] = {}
    for name, iterations in (("wbp", 1), ("sirt", 1), ("sirt", 3)):
        start = time.perf_counter()
        reconstruct_tomogram(
            images, geometry, (256, 512, 512), method=name, iterations=iterations, threads=threads
        )
        result[f"{name}_{iterations}_s"] = round(time.perf_counter() - start, 2)
    return result


def measure_full(threads: int) -> dict[str, object]:
    """Time each step for 41 tilts of 1024² (4096² at 2.5 Å, binned to 10 Å), 300 voxels high."""
    random = np.random.default_rng(0)
    images = random.normal(100, 10, size=(41, 1024, 1024)).astype(np.float32)
    geometry = TiltGeometry(np.arange(-60.0, 61, 3), np.full(41, 85.0), random.normal(size=(41, 2)) * 9, 2.0)
    result: dict[str, object] = {}

    def timed(name: str, work: Callable[[], np.ndarray]) -> np.ndarray:
        wall, own = time.perf_counter(), time.process_time()
        made = work()
        seconds = (time.perf_counter() - wall, time.process_time() - own)
        result[name] = {"wall_s": round(seconds[0], 1), "processor_s": round(seconds[1], 1)}
        return made

    contrast = timed("contrast", lambda: tilt_contrast(images))
    corrected = timed("strips", lambda: correct_tilted_ctf(
        contrast, geometry, pixel_size_angstrom=10.0, defocus_u_angstrom=35000.0, defocus_v_angstrom=34700.0,
        astigmatism_angle_deg=20.0, voltage_kv=300.0, spherical_aberration_mm=2.7, amplitude_contrast=0.1,
        threads=threads,
    ))  # fmt: skip
    weighted = timed("weights", lambda: weight_tilts(
        corrected, 10.0, tilt_angle_deg=geometry.tilt_angle_deg, threads=threads,
        dose_e_per_angstrom2=np.linspace(0, 120, 41),
    ))  # fmt: skip
    timed("wbp", lambda: reconstruct_tomogram(weighted, geometry, (300, 1024, 1024), threads=threads))
    return result


def measure_strips(threads: int) -> dict[str, object]:
    """Agreement with the true density from 20 to 10 Å, where steep tilts alone have measured, far out."""
    series, geometry = _taken(
        threads, detector_yx_px=(72, 800), pixel_size_angstrom=5.0, axis_angle_deg=4.0, damage=False,
        thickness_angstrom=400.0, structures=("two_lobes",), particles_per_um2=500, counting=False,
        defocus_angstrom=18000.0, astigmatism_angstrom=0.0, ice_noise=0.0, solute_mg_per_ml=0.0,
        illumination_variation=0.0, tracking_error_angstrom=40.0,
    )  # fmt: skip
    shape = (96, 72, 800)
    truth = _density(series, shape)
    cases: dict[str, dict[str, object]] = {
        "strips": {},
        "one focus for each tilt": {"hand": 0},
        "strips, the wrong hand": {"hand": -series.hand},
        "not corrected": {"corrected": False},
    }
    result: dict[str, object] = {}
    for name, case in cases.items():
        images = _prepared(series, geometry, threads, erased=False, dose_weighted=False, **case)  # type: ignore[arg-type]
        volume = reconstruct_tomogram(images, geometry, shape, threads=threads)
        end = np.s_[:, :, -260:]
        frequency, fsc = shell_correlation(volume[end], truth[end], tilt_range_deg=(42, 59))
        band = (frequency / 5.0 > 1 / 20) & (frequency / 5.0 < 1 / 10)
        result[name] = round(float(fsc[band].mean()), 3)
    return result


def _density(series: SimulatedSeries, shape: tuple[int, int, int]) -> np.ndarray:
    """The particles' residues where they were put, negative as their contrast."""
    voxel = series.pixel_size_angstrom
    volume = np.zeros(shape)
    for place, turn, name in zip(
        series.particle_xyz_angstrom, series.particle_rotations, series.particle_structures, strict=True
    ):
        model = bead_model(name, voxel)
        nearest = np.rint((model.xyz_angstrom @ turn.T + place)[:, ::-1] / voxel).astype(int)
        nearest += np.array(shape) // 2
        inside = ((nearest >= 0) & (nearest < shape)).all(axis=1)
        np.add.at(volume, tuple(nearest[inside].T), -model.weight_volt_angstrom3[inside])
    return volume.astype(np.float32)


def measure_agreement(threads: int) -> dict[str, object]:
    """Compare with a reconstruction from the true geometry one whose geometry is off as alignments are."""
    series, geometry = _taken(threads)
    images = _prepared(series, geometry, threads)
    true = reconstruct_tomogram(images, geometry, (200, 384, 400), threads=threads)
    result: dict[str, object] = {}
    for shift, axis in ERRORS:
        errors = np.random.default_rng(1).normal(0, shift / np.sqrt(2), geometry.shift_yx_px.shape)
        off = replace(
            geometry,
            shift_yx_px=geometry.shift_yx_px + errors,
            axis_angle_deg=geometry.axis_angle_deg + axis,
        )
        volume = reconstruct_tomogram(images, off, true.shape, threads=threads)
        result[f"{shift} px, {axis}°"] = _agreement(true, volume, threads)
    return result


def _agreement(true: np.ndarray, volume: np.ndarray, threads: int) -> dict[str, float]:
    frequency, fsc = shell_correlation(true, volume, tilt_range_deg=(-60, 60), threads=threads)
    return {
        f"fsc at {at} Nyquist": round(float(np.interp(at / 2, frequency, fsc)), 3) for at in (0.1, 0.25, 0.5)
    }


def measure_aligned(threads: int) -> dict[str, object]:
    """Compare with a reconstruction from the true geometry that from the program's own alignment.

    The series are those of tilt_alignment.py. What turns or moves the whole specimen (tilt offset, x-tilt,
    a translation) is taken out, since no image tells it from a specimen that lies so.
    """
    result: dict[str, object] = {}
    for number in range(len(CASES)):
        series = simulated(number, threads)
        found = align_tilt_series(
            series.images, series.nominal_tilt_deg, series.nominal_axis_deg,
            pixel_size_angstrom=series.pixel_size_angstrom, threads=threads,
        )  # fmt: skip
        geometry = TiltGeometry(
            series.tilt_angle_deg, series.axis_angle_deg, series.shift_yx_px, x_tilt_deg=series.x_tilt_deg
        )
        error = unexplained(series, found.geometry.shift_yx_px)
        own = replace(
            geometry, shift_yx_px=geometry.shift_yx_px + error, axis_angle_deg=found.geometry.axis_angle_deg
        )
        shape = (round(series.thickness_angstrom / VOXEL_ANGSTROM) + 60, 384, 400)
        true, volume = (
            reconstruct_tomogram(_prepared(series, each, threads), each, shape, threads=threads)
            for each in (geometry, own)
        )
        shift = round(float(np.sqrt(np.mean(np.sum(error**2, axis=1)))), 3)
        axis = round(float((own.axis_angle_deg - geometry.axis_angle_deg).mean()), 3)
        result[f"series {number + 1}"] = {
            "shift_px": shift, "axis_deg": axis, **_agreement(true, volume, threads)
        }  # fmt: skip
    return result


def measure_slabs(threads: int) -> dict[str, object]:
    """Thickness in nm, and what remains of a slope of 8° and 4° after levelling."""
    empty = {"particles_per_um2": 0, "solute_mg_per_ml": 0, "ice_noise": 0}
    cases: dict[str, dict[str, object]] = {
        "80 nm": {"thickness_angstrom": 800},
        "80 nm, gold": {"thickness_angstrom": 800, "gold_beads": 12},
        "150 nm": {"thickness_angstrom": 1500},
        "300 nm": {"thickness_angstrom": 3000},
        "empty": empty,
    }
    result: dict[str, object] = {}
    for name, case in cases.items():
        series, geometry = _taken(threads, **case)
        contrast = tilt_contrast(series.images)
        slanting = replace(geometry, tilt_angle_deg=geometry.tilt_angle_deg + 8.0, x_tilt_deg=-4.0)
        start = time.perf_counter()
        slab = find_slab_in_series(contrast, slanting, VOXEL_ANGSTROM, 480, threads=threads)
        seconds = round(time.perf_counter() - start, 1)
        if not slab.detectable:
            result[name] = {"reason": slab.reason, "s": seconds}
            continue
        level = levelled(slanting, slab)
        result[name] = {
            "thickness_nm": round(slab.thickness, 1), "s": seconds,
            "error_nm": round(slab.thickness_error, 1),
            "pre_tilt_left_deg": round(float((level.tilt_angle_deg - geometry.tilt_angle_deg).mean()), 2),
            "x_tilt_left_deg": round(level.x_tilt_deg, 2),
        }  # fmt: skip
    return result


def measure_picks(threads: int) -> dict[str, object]:
    """F1 of picks within half a radius, of particles wholly in the tomogram; gold erased, or left in."""
    series, geometry = _taken(threads, detector_yx_px=(768, 800), pixel_size_angstrom=5.0, gold_beads=10)
    binned = np.stack([bin_mean(image, 2) for image in series.images])
    coarse = replace(series, images=binned, pixel_size_angstrom=VOXEL_ANGSTROM)
    # Block means lie half a fine pixel beside the binned image's centre.
    at_ten = replace(geometry, shift_yx_px=(geometry.shift_yx_px + 0.5) / 2)
    return {
        name: _picked(coarse, at_ten, erased=erased, threads=threads)
        for name, erased in (("gold erased", True), ("gold left in", False))
    }


def _picked(
    series: SimulatedSeries, geometry: TiltGeometry, *, erased: bool, threads: int
) -> dict[str, object]:
    shape = (220, 384, 400)
    images = _prepared(series, geometry, threads, erased=erased)
    volume = reconstruct_tomogram(images, geometry, shape, threads=threads)
    half = series.thickness_angstrom / 2 / VOXEL_ANGSTROM
    start = time.perf_counter()
    gold = find_gold(volume, VOXEL_ANGSTROM, 100.0, threads=threads)
    picks = pick_by_size(
        volume, VOXEL_ANGSTROM, DIAMETER_ANGSTROM, slab_z=(110 - half, 110 + half), gold_zyx=gold,
        threads=threads,
    )  # fmt: skip
    seconds = round(time.perf_counter() - start, 1)
    truth = series.particle_xyz_angstrom[:, ::-1] / VOXEL_ANGSTROM + np.array(shape) // 2
    margin = DIAMETER_ANGSTROM / VOXEL_ANGSTROM / 2
    limits = np.array(shape)[1:] - 1 - margin
    truth = truth[((truth[:, 1:] >= margin) & (truth[:, 1:] <= limits)).all(axis=1)]
    near, index = cKDTree(truth).query(picks.zyx, distance_upper_bound=margin / 2)
    right = len(np.unique(index[np.isfinite(near)]))
    return {
        "f1": round(2 * right / (len(picks) + len(truth)), 3), "picked": len(picks), "true": len(truth),
        "median_distance_angstrom": round(float(np.median(near)) * VOXEL_ANGSTROM, 1), "s": seconds,
        "gold_beads": len(gold),
    }  # fmt: skip


PARTS: dict[str, Callable[[int], dict[str, object]]] = {
    "time": measure_time,
    "full": measure_full,
    "agreement": measure_agreement,
    "aligned": measure_aligned,
    "strips": measure_strips,
    "slabs": measure_slabs,
    "picks": measure_picks,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    for part in args.parts:
        print(json.dumps({part: PARTS[part](args.threads)}), flush=True)
    print(json.dumps({"peak_memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}))


if __name__ == "__main__":
    main()
