"""Settings of a running live program, written where they can be."""

import json
from pathlib import Path
from typing import Any, cast

import pytest

from tomofly.model import TomoflyError
from tomofly.services.live import LiveClient, save_configuration


class Saying:
    def configuration(self) -> dict[str, Any]:
        return {"a:Center": 12.5}


CLIENT = cast("LiveClient", Saying())


def test_all_settings_are_in_the_file(tmp_path: Path) -> None:
    save_configuration(tmp_path / "kept.json", CLIENT)
    assert json.loads((tmp_path / "kept.json").read_text()) == {"a:Center": 12.5}


def test_no_folder_is_made_of_a_misspelt_name(tmp_path: Path) -> None:
    with pytest.raises(TomoflyError, match=r"There is no folder .*misspelt for kept\.json"):
        save_configuration(tmp_path / "misspelt" / "kept.json", CLIENT)
    assert not list(tmp_path.iterdir())


def test_a_file_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "kept.json").mkdir()
    with pytest.raises(TomoflyError, match=r"kept\.json cannot be written"):
        save_configuration(tmp_path / "kept.json", CLIENT)
