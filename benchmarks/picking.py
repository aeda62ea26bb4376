"""How right and how fast picking is, on simulated micrographs with known particles and on real ones.

    python benchmarks/picking.py [--count 4] [--data FOLDER] [--json FILE]

Simulated: 2048 × 2048 pixels of 1.5 Å, 40 e⁻/Å², defocus 0.8–2.5 µm, three structures, each with and without
carbon and contamination, crowded, and empty. A pick counts where it lies within half a radius of a true
particle, one to one; particles cut by the image edge count neither way. Real (``--data``, the folder with
``spa_apoferritin`` and ``spa_carbon``): three hand-picked micrographs, and one with a mask of contamination.
"""

import argparse
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import mrcfile
import numpy as np
import numpy.typing as npt
import pandas as pd

from tomofly.imaging.matching import match_picks
from tomofly.imaging.picking import MARGIN_DIAMETERS, find_particles, select_picks
from tomofly.simulate import SpaMicroscope, expose
from tomofly.simulate.particle import structure
from tomofly.simulate.truth import Truth, exclusion_mask

Image = npt.NDArray[np.float32]
Points = npt.NDArray[np.float64]

PIXEL_SIZE_ANGSTROM = 1.5
FRAMES = 4
DOSE = 40.0
SIZE = 2048
DEMONSTRATION_DIAMETERS = (115.0, 155.0)
DEMONSTRATION: dict[str, object] = {
    "carbon_edge_fraction": 0.1,
    "contamination_fraction": 0.2,
    "dose_per_frame_e_per_a2": 7.5,
}
SCENES: dict[str, dict[str, object]] = {
    "ice alone": {"carbon_edge_fraction": 0.0, "contamination_fraction": 0.0},
    "carbon and contamination": {"carbon_edge_fraction": 1.0, "contamination_fraction": 1.0},
    "crowded": {
        "carbon_edge_fraction": 0.0,
        "contamination_fraction": 0.0,
        "particles_per_micrograph": (330, 330),
    },
    "demonstration": {**DEMONSTRATION, "detector_yx_px": (1024, 1024)},
    "demonstration, 512²": {**DEMONSTRATION, "detector_yx_px": (512, 512)},
}


@dataclass(frozen=True)
class Accuracy:
    """Pooled over the micrographs of one kind."""

    scene: str
    structure: str
    particles: int
    picks: int
    precision: float
    recall: float
    f1: float
    in_bad_areas: float
    distance_median_px: float
    distance_rms_px: float
    distance_p95_px: float


def microscope(names: tuple[str, ...], seed: int, scene: dict[str, object]) -> SpaMicroscope:
    """A microscope whose frames need no alignment and no gain: only the particles are at stake."""
    still = {
        "drift_rms_angstrom_per_frame": 0,
        "early_drift_angstrom": 0,
        "beam_induced_angstrom": 0,
        "gain_variation": 0,
        "hot_pixel_fraction": 0,
        "dead_pixel_fraction": 0,
    }
    exposure = {
        "frames": FRAMES,
        "dtype": "uint16",
        "dose_per_frame_e_per_a2": DOSE / FRAMES,
        "defocus_range_angstrom": (8000, 25000),
        "pixel_size_angstrom": PIXEL_SIZE_ANGSTROM,
        "detector_yx_px": (SIZE, SIZE),
    }
    return SpaMicroscope.model_validate({"seed": seed, "structures": names, **still, **exposure, **scene})


def micrograph(settings: SpaMicroscope, index: int) -> tuple[Image, Truth]:
    """The sum of the frames (y, x) and what is true of it."""
    exposure = expose(settings, index)
    return exposure.frames.sum(axis=0, dtype=np.float32), exposure.truth


def pick(
    image: Image,
    diameter_angstrom: float | tuple[float, float],
    pixel_size_angstrom: float = PIXEL_SIZE_ANGSTROM,
) -> Points:
    """Positions (n, 2) with every setting at its default."""
    found = find_particles(
        image, pixel_size_angstrom=pixel_size_angstrom, diameter_angstrom=diameter_angstrom
    )
    return select_picks(found).position_yx_px


def simulated(scene: str, names: tuple[str, ...], count: int, seed: int) -> Accuracy:
    """Simulate and pick ``count`` micrographs."""
    sizes = [structure(name).diameter_angstrom for name in names]
    diameter = sizes[0] if len(sizes) == 1 else DEMONSTRATION_DIAMETERS
    margin = MARGIN_DIAMETERS * max(sizes) / PIXEL_SIZE_ANGSTROM
    hits = wrong = missed = bad = 0
    distances = []
    settings = microscope(names, seed, SCENES[scene])
    for index in range(count):
        image, truth = micrograph(settings, index)
        position = pick(image, diameter)
        centres = np.array([(p.y_px, p.x_px) for p in truth.particles]).reshape(-1, 2)
        whole = ((centres >= margin) & (centres <= np.array(image.shape) - 1 - margin)).all(axis=1)
        matching = match_picks(position, centres, min(sizes) / PIXEL_SIZE_ANGSTROM / 4)
        hit = int(whole[matching.pairs[:, 1]].sum())
        hits, missed = hits + hit, missed + int(whole.sum()) - hit
        wrong += len(position) - len(matching.pairs)
        distances.append(matching.distance_px[whole[matching.pairs[:, 1]]])
        y, x = np.round(position).astype(int).T
        bad += int(exclusion_mask(truth)[y, x].sum())
    precision, recall = hits / max(hits + wrong, 1), hits / max(hits + missed, 1)
    f1 = 2 * hits / max(2 * hits + wrong + missed, 1)
    apart = np.concatenate(distances)
    median, high = (float(value) for value in np.percentile(apart, [50, 95]))
    return Accuracy(
        scene, "+".join(names), hits + missed, hits + wrong, precision, recall, f1,
        bad / max(hits + wrong, 1), median, float(np.sqrt(np.mean(apart**2))), high,
    )  # fmt: skip


def empty(count: int, seed: int) -> float:
    """False picks of 125 Å per empty micrograph."""
    settings = microscope(("shell",), seed, {**SCENES["ice alone"], "particles_per_micrograph": (0, 0)})
    return float(np.mean([len(pick(micrograph(settings, i)[0], 125.0)) for i in range(count)]))


def hand_picked(folder: Path) -> dict[str, float]:
    """F1 against the hand picks of each real micrograph."""
    scores = {}
    for path in sorted((folder / "spa_apoferritin").glob("*.mrc")):
        hand = pd.read_csv(path.with_name(f"{path.stem}_picks.csv"))[["y_px", "x_px"]].to_numpy()
        position = pick(mrcfile.read(path).astype(np.float32), 125.0, 1.5)
        scores[path.stem] = match_picks(position, hand, 125 / 1.5 / 4).f1
    return scores


def contaminated(folder: Path) -> dict[str, float]:
    """Picks inside and outside of the mask of a real micrograph; lengths in its pixels."""
    image = mrcfile.read(folder / "spa_carbon" / "Ucsf_stack_1142_DW.mrc").astype(np.float32)
    bad = mrcfile.read(folder / "spa_carbon" / "Ucsf_stack_1142_DW_mask.mrc") > 0.5
    y, x = np.round(pick(image, 20.0, 1.0)).astype(int).T
    return {"inside": float(bad[y, x].sum()), "outside": float((~bad[y, x]).sum())}


def seconds(repeats: int = 5) -> float:
    """The shortest time of one thread for 4096 × 4096 pixels, exclusion included."""
    image = np.tile(micrograph(microscope(("shell",), 5, SCENES["ice alone"]), 0)[0], (2, 2))
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        pick(image, 125.0)
        times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    """Run all and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--count", type=int, default=4, help="micrographs of each kind")
    parser.add_argument("--data", type=Path, help="folder of the real micrographs")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    options = parser.parse_args()
    figures: dict[str, object] = {
        "seconds_4096": seconds(),
        "false_picks_when_empty": empty(options.count, 3),
    }
    rows = []
    for scene in SCENES:
        is_demonstration = scene.startswith("demonstration")
        kinds = [("shell", "barrel")] if is_demonstration else [("shell",), ("barrel",), ("bent",)]
        for names in kinds:
            count, seed = (2 * options.count, 0) if is_demonstration else (options.count, 7)
            rows.append(simulated(scene, names, count, seed))
            print(
                f"{scene:26s} {rows[-1].structure:13s}"
                + " ".join(f"{k} {v:.3f}" for k, v in list(asdict(rows[-1]).items())[2:]),
                flush=True,
            )
    figures["simulated"] = [asdict(row) for row in rows]
    figures["simulated_mean_f1"] = float(
        np.mean([row.f1 for row in rows if not row.scene.startswith("demonstration")])
    )
    if options.data:
        figures["hand_picked_f1"] = hand_picked(options.data)
        figures["contaminated"] = contaminated(options.data)
    print(json.dumps({k: v for k, v in figures.items() if k != "simulated"}, indent=1))
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
