"""How fast and how right frame alignment is, beside RELION's own implementation on the same files.

    python benchmarks/frame_alignment.py [--detector 4096] [--frames 40] [--threads 2] [--movies 1]

Simulated movies of 1 e⁻/Å² per frame and 1 Å pixels, with a gain reference, hot and dead pixels, drift,
local motion and damage. Both programs read the movie and the gain from MRC files, find defects, align
globally and in 5 × 5 patches, weight by dose and write the plain and the dose-weighted micrograph.
Compilation is done before the clock starts. The peer is skipped, with a message, where
relion_run_motioncorr is not installed.
"""

import argparse
import json
import resource
import shutil
import subprocess
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import starfile

from tomofly.formats.gain import read_gain
from tomofly.formats.movie import read_frames
from tomofly.formats.mrc import write_image
from tomofly.imaging.defects import find_defects, unaligned_sum
from tomofly.imaging.frame_sum import sum_frames
from tomofly.imaging.motion import align_frames
from tomofly.simulate import SpaMicroscope, expose
from tomofly.simulate.camera import make_camera
from tomofly.simulate.truth import Truth

PEER = "relion_run_motioncorr"
PATCHES = 5
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Score:
    """Time of one program on one movie, and its errors against truth in pixels (root mean square).

    global_error_px: of the global shifts against the mean over the field; field_error_px: of the total
    shifts on a grid from edge to edge; local_error_px: of these less their mean over the field. A shift
    that is the same for all frames is no error.
    """

    program: str
    movie: int
    wall_s: float
    cpu_s: float
    global_error_px: float
    local_error_px: float
    field_error_px: float
    flags: str = ""


def microscope(detector: int, frames: int, seed: int) -> SpaMicroscope:
    """The instrument of the target: 1 e⁻/Å² per frame, 1 Å pixels."""
    return SpaMicroscope(
        detector_yx_px=(detector, detector),
        frames=frames,
        pixel_size_angstrom=1.0,
        dose_per_frame_e_per_a2=1.0,
        seed=seed,
    )


def write_movie(folder: Path, scope: SpaMicroscope, index: int) -> Truth:
    """Write movie.mrc (counts above 127, of hot pixels only, are cut) and gain.mrc; return the truth."""
    exposure = expose(scope, index)
    write_image(folder / "movie.mrc", np.minimum(exposure.frames, 127).astype(np.int8), 1.0)
    write_image(folder / "gain.mrc", make_camera(scope).gain, 1.0)
    return exposure.truth


def errors(global_yx: FloatArray, field: FloatArray, truth: Truth) -> tuple[float, float, float]:
    """Errors of global shifts (frame, 2) and of total shifts (frame, y, x, 2) on the truth's grid."""
    whole = global_yx - np.array(truth.mean_shift_yx_px)
    total = field - np.array(truth.local_shift_yx_px)
    total -= total.mean(axis=0)
    local = total - total.mean(axis=(1, 2), keepdims=True)
    return rms(whole - whole.mean(axis=0)), rms(local), rms(total)


def rms(values: FloatArray) -> float:
    """Root mean square over everything."""
    return float(np.sqrt(np.mean(values**2)))


def run_ours(folder: Path, truth: Truth, index: int, threads: int) -> Score:
    """Read, align, add up, write."""
    start, cpu = time.perf_counter(), time.process_time()
    frames = read_frames(folder / "movie.mrc", threads=threads)
    gain = read_gain(folder / "gain.mrc").pixels
    defects = find_defects(unaligned_sum(frames, gain), gain=gain)
    calibration = {"pixel_size_angstrom": 1.0, "gain": gain, "defects": defects, "threads": threads}
    found = align_frames(frames, patches=(PATCHES, PATCHES), **calibration)
    sums = sum_frames(frames, found, dose_per_frame=1.0, **calibration)
    write_image(folder / "average.mrc", sums.average, 1.0)
    if sums.dose_weighted is not None:
        write_image(folder / "dose_weighted.mrc", sums.dose_weighted, 1.0)
    wall, spent = time.perf_counter() - start, time.process_time() - cpu
    field = found.shift_field(np.array(truth.grid_y_px), np.array(truth.grid_x_px))
    measured = errors(found.global_shift_yx_px, field, truth)
    return Score(f"tomofly, {threads} threads", index, wall, spent, *measured, " ".join(found.flags))


MOVIES_STAR = """
data_optics

loop_
_rlnOpticsGroupName #1
_rlnOpticsGroup #2
_rlnMicrographOriginalPixelSize #3
_rlnVoltage #4
_rlnSphericalAberration #5
_rlnAmplitudeContrast #6
opticsGroup1 1 1.0 300.0 2.7 0.1

data_movies

loop_
_rlnMicrographMovieName #1
_rlnOpticsGroup #2
movie.mrc 1
"""


def run_peer(folder: Path, truth: Truth, index: int, threads: int) -> Score:
    """Run RELION on the same files and read back its model."""
    (folder / "movies.star").write_text(MOVIES_STAR)
    command = (
        f"{PEER} --i movies.star --o out/ --use_own --patch_x {PATCHES} --patch_y {PATCHES} --dose_weighting "
        f"--dose_per_frame 1 --angpix 1 --voltage 300 --gainref gain.mrc --save_noDW --j {threads}"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    tables = starfile.read(folder / "out" / "movie.star", always_dict=True)
    shifts = tables["global_shift"]
    whole = np.stack([shifts["rlnMicrographShiftY"], shifts["rlnMicrographShiftX"]], axis=1).astype(float)
    field = whole[:, None, None, :] + peer_field(tables, truth, len(whole))
    shutil.rmtree(folder / "out")
    return Score(f"RELION, {threads} threads", index, wall, spent, *errors(whole, field, truth))


def peer_field(tables: dict, truth: Truth, n_frames: int) -> FloatArray:
    """RELION's local motion (frame, y, x, 2) on the truth's grid; 0 where it kept none."""
    height, width = truth.frame_yx_px
    v = (np.array(truth.grid_y_px)[:, None] + 0.5) / height - 0.5
    u = (np.array(truth.grid_x_px)[None, :] + 0.5) / width - 0.5
    terms = np.stack(np.broadcast_arrays(1.0, u, u * u, v, v * v, u * v), axis=-1)
    table = tables.get("local_motion_model")
    if table is None or len(table) != 36:
        return np.zeros((n_frames, *terms.shape[:2], 2))
    along_x, along_y = table["rlnMotionModelCoeff"].to_numpy(float).reshape(2, 6, 3)
    powers = np.arange(n_frames)[:, None] ** np.arange(1.0, 4.0)
    return np.einsum("yxa,cab,fb->fyxc", terms, np.stack([along_y, along_x]), powers)


def warm_up(folder: Path) -> None:
    """Compile, or load what was compiled before, with a small movie of the same types."""
    scope = microscope(512, 8, seed=99)
    truth = write_movie(folder, scope, 0)
    run_ours(folder, truth, 0, 1)


def print_table(scores: list[Score]) -> None:
    """One line for each run."""
    names = ("global px", "local px", "field px")
    print(
        f"{'program':22} {'movie':>5} {'wall s':>7} {'CPU s':>7} " + " ".join(f"{name:>9}" for name in names)
    )
    for score in scores:
        measured = (score.global_error_px, score.local_error_px, score.field_error_px)
        print(
            f"{score.program:22} {score.movie:5d} {score.wall_s:7.1f} {score.cpu_s:7.1f} "
            + " ".join(f"{value:9.3f}" for value in measured),
            score.flags,
        )


def main() -> None:
    """Simulate, run both programs, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--detector", type=int, default=4096, help="pixels along a side")
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--movies", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-peer", action="store_true", help="leave RELION out")
    parser.add_argument("--json", type=Path, help="also write the scores to this file")
    options = parser.parse_args()
    with_peer = not options.no_peer and shutil.which(PEER) is not None
    if not with_peer:
        print(f"{PEER} is {'left out' if options.no_peer else 'not installed: no peer in this run'}")
    scores: list[Score] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        warm_up(folder)
        scope = microscope(options.detector, options.frames, options.seed)
        for index in range(options.movies):
            truth = write_movie(folder, scope, index)
            scores.extend(run_ours(folder, truth, index, t) for t in sorted({1, options.threads}))
            if with_peer:
                scores.append(run_peer(folder, truth, index, options.threads))
    print_table(scores)
    if options.json:
        options.json.write_text(json.dumps([asdict(score) for score in scores], indent=1))


if __name__ == "__main__":
    main()
