"""Tilt series exported from the command line, with what is told of those that are left out."""

from pathlib import Path

import pytest

from tests.acceptance.commands import tomofly
from tests.services.tilt_products import Specimen, tilt_session
from tomofly.services.home import open_home


@pytest.mark.timeout(200)
def test_series_are_exported_by_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOMOFLY_DATABASE", raising=False)
    home = open_home(tmp_path / "home")
    tilt_session(home, tmp_path / "session", [Specimen(), Specimen(name="TS 2", provisional=True)])
    home.close()
    words = ["session", "export", "tilts", "--format", "relion", "--out", str(tmp_path / "out"), "--json"]
    done = tomofly(tmp_path / "home", *words)
    assert done.status == 0, done.err
    told = done.json
    assert (told["items"], told["left_out"], told["particles"]) == (1, 1, 1)
    assert told["reasons"] == {"TS 2": "it is not complete: tilts are awaited"}
    assert told["files"][:2] == ["provenance.json", "tilt_series.star"]
    words = ["export", "tilts", "--format", "imod", "--full-stacks", "--filter", "key=TS_1"]
    again = tomofly(tmp_path / "home", *words)
    assert again.out == f"1 items exported to {tmp_path / 'session' / 'exports' / 'imod'}\n"
    assert (tmp_path / "session" / "exports" / "imod" / "TS_1" / "tilt.com").is_file()
    refused = tomofly(tmp_path / "home", "export", "tilts", "--format", "cryosparc")
    assert refused.status == 1
    assert "Legal are: relion, relion4, imod, aretomo, warp, csv, json" in refused.err
