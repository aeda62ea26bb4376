"""Third-party micrographs, single images of apoferritin, through all stages as a session runs them."""

from pathlib import Path

import numpy as np
import pytest
import starfile

from tomofly.imaging.matching import match_picks
from tomofly.model import GainParams, MicroscopeParams, StageParams
from tomofly.stages import ctf, extract, importing, motion, picks

from .benches import Bench

SHARED: dict[str, StageParams] = {
    "microscope": MicroscopeParams(pixel_size_angstrom=1.5, voltage_kv=300, amplitude_contrast=0.07),
    "gain": GainParams(),
}


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["May08_03.05.02", "May08_03.43.44", "May08_05.55.31"])
def test_apoferritin_is_fitted_and_picked_as_by_hand(real_data: Path, tmp_path: Path, name: str) -> None:
    folder = real_data / "spa_apoferritin"
    bench = Bench(tmp_path, folder / f"{name}.mrc", SHARED, key=name)
    assert bench.run(importing.STAGE).flags == ()
    assert [flag.code for flag in bench.run(motion.STAGE).flags] == ["single_frame"]
    assert 15000 < bench.run(ctf.STAGE).metrics["defocus_angstrom"] < 25000
    coordinates = bench.run(picks.STAGE, diameter_angstrom=125).products["coordinates"]
    found = starfile.read(coordinates)[["rlnCoordinateY", "rlnCoordinateX"]].to_numpy()
    by_hand = np.genfromtxt(folder / f"{name}_picks.csv", delimiter=",", skip_header=1)[:, ::-1]
    assert match_picks(found, by_hand, 125 / 1.5 / 2).f1 > 0.87
    assert bench.run(extract.STAGE).metrics["extracted"] > 100
