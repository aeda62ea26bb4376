"""A small simulated movie, and a bench to run stages on it."""

from pathlib import Path

import pytest

from tomofly.model import GainParams, MicroscopeParams, StageParams
from tomofly.simulate import GAIN_FILE, Truth, write_session

from .benches import MICROSCOPE, Bench


@pytest.fixture(scope="session")
def microscope_session(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one EPU movie, its XML and the gain reference."""
    folder = tmp_path_factory.mktemp("microscope")
    write_session(MICROSCOPE, folder, 1, layout="epu")
    return folder


@pytest.fixture(scope="session")
def movie(microscope_session: Path) -> Path:
    """The simulated movie."""
    (found,) = microscope_session.rglob("*_Fractions.mrc")
    return found


@pytest.fixture(scope="session")
def truth(movie: Path) -> Truth:
    """What is true of the simulated movie."""
    return Truth.from_json(movie.with_name(f"{movie.stem}.truth.json").read_text())


@pytest.fixture(scope="session")
def shared(microscope_session: Path) -> dict[str, StageParams]:
    """The settings that fit the simulated microscope."""
    return {
        "microscope": MicroscopeParams(
            pixel_size_angstrom=MICROSCOPE.pixel_size_angstrom,
            voltage_kv=MICROSCOPE.voltage_kv,
            spherical_aberration_mm=MICROSCOPE.spherical_aberration_mm,
            amplitude_contrast=MICROSCOPE.amplitude_contrast,
        ),
        "gain": GainParams(path=str(microscope_session / GAIN_FILE)),
    }


@pytest.fixture
def bench(tmp_path: Path, movie: Path, shared: dict[str, StageParams]) -> Bench:
    """A bench with the simulated movie on it."""
    return Bench(tmp_path, movie, shared)
