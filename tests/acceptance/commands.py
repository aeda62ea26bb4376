"""The command line, run as a user would run it, on a small simulated microscope."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tomofly.simulate import SpaMicroscope

MICROSCOPE = SpaMicroscope(detector_yx_px=(448, 512), frames=6, dtype="uint8", seed=5)
SETTINGS = (
    f"microscope.pixel_size_angstrom={MICROSCOPE.pixel_size_angstrom}",
    f"microscope.dose_per_frame_e_per_a2={MICROSCOPE.dose_per_frame_e_per_a2}",
    "picks.diameter_angstrom=130", "motion.patches=3,3", "source.settle_s=0.3", "source.poll_s=0.2",
    "source.give_up_s=1", "resources.minimum_free_gb=0",
)  # fmt: skip


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def environment(home: Path) -> dict[str, str]:
    return {**os.environ, "TOMOFLY_HOME": str(home), "COLUMNS": "200"}


def tomofly(home: Path, *arguments: str | Path, timeout: float = 240) -> Done:
    """Run the command line as a user would."""
    command = [sys.executable, "-m", "tomofly.cli", *map(str, arguments)]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, timeout=timeout, env=environment(home),
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    return Done(done.returncode, done.stdout, done.stderr)


def spa_arguments(source: str, out: Path, *settings: str) -> list[str]:
    chosen = [word for setting in (*SETTINGS, *settings) for word in ("--set", setting)]
    return ["run", "spa", "--source", source, "--out", str(out), "--once", "--json", *chosen]


def run_spa(home: Path, source: str, out: Path, *settings: str) -> Done:
    return tomofly(home, *spa_arguments(source, out, *settings))
