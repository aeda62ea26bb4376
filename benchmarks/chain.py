"""The whole chain: from movie file complete to picks in the database, on movies of full size.

A few movies are simulated once and linked under many names, because simulating one takes longer than
processing it. The rate is taken between the first and the last item done, so that it is the sustained one;
the latency is from the file being there to its picks.

    python benchmarks/chain.py --items 12 --detector 4096x4096 --frames 40
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from tomofly.services.home import open_home
from tomofly.simulate import SpaMicroscope, write_session
from tomofly.store import sessions, tables


def _link_copies(originals: list[Path], folder: Path, items: int) -> None:
    folder.mkdir()
    for number in range(items):
        original = originals[number % len(originals)]
        os.link(original, folder / f"movie_{number:04d}{original.suffix}")


def _done_times(home_folder: Path, name: str) -> list[float]:
    from sqlalchemy import select

    home = open_home(home_folder)
    with home.database.read() as connection:
        session = sessions.find_session(connection, name)
        query = select(tables.tasks.c.done_at).where(
            tables.tasks.c.session_id == session.id, tables.tasks.c.stage == "picks",
            tables.tasks.c.state == "done",
        )  # fmt: skip
        return sorted(connection.scalars(query))


def _run(folder: Path, microscope: SpaMicroscope, suffix: str, transfer: str) -> dict[str, object]:
    settings = {
        "microscope.pixel_size_angstrom": microscope.pixel_size_angstrom,
        "microscope.dose_per_frame_e_per_a2": microscope.dose_per_frame_e_per_a2,
        "gain.path": folder / "made" / "gain" / "gain_reference.mrc",
        "picks.diameter_angstrom": 140,
        "motion.patches": "5,5",
        "transfer.mode": transfer,
    }
    words = [word for name, value in settings.items() for word in ("--set", f"{name}={value}")]
    command = [
        sys.executable, "-m", "tomofly.cli", "run", "spa", "--source", str(folder / "movies" / f"*{suffix}"),
        "--out", str(folder / "out"), "--once", "--json", "--home", str(folder / "home"), *words,
    ]  # fmt: skip
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    return dict(json.loads(done.stdout))


def main() -> None:
    """Run the benchmark and print its figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--items", type=int, default=12)
    parser.add_argument("--originals", type=int, default=2)
    parser.add_argument("--detector", default="4096x4096")
    parser.add_argument("--frames", type=int, default=40)
    parser.add_argument("--format", choices=("mrc", "tiff"), default="mrc")
    parser.add_argument("--transfer", choices=("link", "copy"), default="link")
    parser.add_argument("--folder", type=Path, default=None, help="where to work; a large disk")
    parser.add_argument("--json", type=Path, default=None)
    given = parser.parse_args()
    height, width = (int(n) for n in given.detector.split("x"))
    microscope = SpaMicroscope(
        detector_yx_px=(height, width), frames=given.frames, pixel_size_angstrom=1.0,
        dose_per_frame_e_per_a2=1.0, dtype="int8", compression="lzw" if given.format == "tiff" else "none",
    )  # fmt: skip
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name)
        write_session(microscope, folder / "made", given.originals, file_format=given.format)
        originals = sorted((folder / "made").glob("movie_*.mrc" if given.format == "mrc" else "movie_*.tif*"))
        _link_copies(originals, folder / "movies", given.items)
        summary = _run(folder, microscope, originals[0].suffix, given.transfer)
        times = np.array(_done_times(folder / "home", "out"))
    figures = {
        "items": len(times), "detector": given.detector, "frames": given.frames, "format": given.format,
        "transfer": given.transfer, "wall_s": summary["wall_s"],
        "movies_per_hour_sustained": round(3600 * (len(times) - 2) / (times[-1] - times[1]), 1),
        "movies_per_hour_with_start": round(3600 * len(times) / float(str(summary["wall_s"])), 1),
    }  # fmt: skip
    json.dump(figures, sys.stdout, indent=2)
    print()
    if given.json:
        given.json.write_text(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
