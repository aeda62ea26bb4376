"""What RELION would stumble over is put right in the export, shown on rows made by hand."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tomofly.flow.gain_copy import own_gain
from tomofly.formats.mrc import read_image, read_layout, write_image
from tomofly.formats.star import read_star
from tomofly.model import GainParams, MicroscopeParams
from tomofly.services.exports import relion as export_relion
from tomofly.services.exports.export import Draft, ExportOptions, SafeNames
from tomofly.services.exports.motion import write_gain

MOTION = {"motion": SimpleNamespace(track="one")}


@pytest.fixture
def draft(tmp_path: Path) -> Draft:
    """An export of a session that lies beside it."""
    scope: Any = SimpleNamespace(folder=tmp_path / "session", workflow=MOTION)
    settings: Any = {"one": {"microscope": MicroscopeParams(pixel_size_angstrom=1.25)}}
    (tmp_path / "session" / "motion").mkdir(parents=True)
    folder = tmp_path / "export"
    return Draft(scope, settings, ExportOptions(), folder, folder, SafeNames())


@pytest.mark.parametrize("half", [False, True])
def test_a_micrograph_of_half_floats_is_exported_as_32_bits(draft: Draft, half: bool) -> None:
    pixels = np.arange(13 * 17, dtype=np.float32).reshape(13, 17)
    product = draft.scope.folder / "motion" / "m.mrc"
    write_image(product, pixels, 1.5, float16=half)
    tables = export_relion._Tables()
    name = export_relion._place_micrograph(draft, tables, "motion/m.mrc", "Micrographs/m.mrc")
    placed = draft.folder / name
    assert read_layout(placed).mode == 2
    image, pixel_size = read_image(placed)
    np.testing.assert_allclose(image, pixels, rtol=1e-3)
    assert pixel_size == pytest.approx(1.5)
    assert (placed.is_symlink(), tables.widened) == (not half, int(half))


@pytest.mark.parametrize("divide", [False, True])
def test_the_gain_is_exported_as_the_movies_need_it(draft: Draft, tmp_path: Path, divide: bool) -> None:
    recorded = np.random.default_rng(1).uniform(0.5, 1.5, (13, 17)).astype(np.float32)
    write_image(tmp_path / "gain.mrc", recorded, 1.25)
    gain = GainParams(path=str(tmp_path / "gain.mrc"), rotation_deg=90, flip="up-down", divide=divide)
    name = write_gain(draft, gain)
    assert write_gain(draft, gain) == name
    written, _ = read_image(draft.folder / name)
    needed = np.rot90(1 / recorded if divide else recorded)[::-1]
    np.testing.assert_allclose(written, needed / needed.mean(), rtol=1e-5)
    assert len(draft.notes) == 1 and "turn it no more" in draft.notes[0]


def test_the_sessions_own_copy_of_the_gain_is_exported_when_the_original_is_gone(
    draft: Draft, tmp_path: Path
) -> None:
    recorded = np.random.default_rng(1).uniform(0.5, 1.5, (13, 17)).astype(np.float32)
    gain = GainParams(path=str(tmp_path / "gone" / "gain.mrc"), checksum="0f3a" * 8)
    own = own_gain(draft.scope.folder, gain)
    own.parent.mkdir()
    write_image(own, recorded, 1.25)
    written, _ = read_image(draft.folder / write_gain(draft, gain))
    np.testing.assert_allclose(written, recorded / recorded.mean(), rtol=1e-5)


def test_a_gain_that_is_gone_is_told_of(draft: Draft, tmp_path: Path) -> None:
    gain = GainParams(path=str(tmp_path / "none.mrc"))
    assert write_gain(draft, gain) == "none.mrc"
    assert "is gone" in draft.notes[0]


def test_particles_of_each_optics_group_have_their_own_box(draft: Draft) -> None:
    draft.folder.mkdir()
    tables = export_relion._Tables(boxes={1: (96, 1.5), 3: (128, 1.1)})
    tables.particles.append(pd.DataFrame({"rlnOpticsGroup": [1, 3]}))
    export_relion._write_particles(draft, tables, pd.DataFrame({"rlnOpticsGroup": [1, 2, 3]}))
    optics = read_star(draft.folder / "particles.star")["optics"]
    assert list(optics["rlnImageSize"]) == [96, 128]
    assert list(optics["rlnImagePixelSize"]) == [1.5, 1.1]
