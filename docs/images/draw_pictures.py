"""Draw the pictures of the README and the docs from a simulated session: the live view, and what it makes.

    python docs/images/draw_pictures.py

Writes ``live-view.svg``, ``live-view-tomo.svg`` and ``previews.png`` beside this file.
"""

import io
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from PIL import Image
from rich.console import Console

from tomofly.cli.view import drawn, settings_in_short
from tomofly.services.home import Home, open_home
from tomofly.services.progress import Progress, session_progress
from tomofly.services.sessions import list_sessions
from tomofly.services.settings import current_settings
from tomofly.services.table import item_previews, table_page

HERE = Path(__file__).parent
ITEMS, SHOWN_AT = 8, 5
SERIES = 2
COLUMNS = 122
FONT_FACES = re.compile(r"@font-face \{.*?\}\n", re.DOTALL)
"""Fonts of another site: a picture in the documentation must not fetch anything."""

SHOWN = ("picks.preview", "ctf.preview", "motion.drift")
TILE_PX = 330
GAP_PX = 10


def main() -> None:
    """Run the demonstrations and draw them."""
    with tempfile.TemporaryDirectory() as folder:
        home = shown(Path(folder) / "spa", "spa", ITEMS, lambda now: now.done >= SHOWN_AT, "live-view.svg")
        draw_previews(home)
        home.close()
        shown(Path(folder) / "tomo", "tomo", SERIES, is_tilting, "live-view-tomo.svg").close()


def is_tilting(progress: Progress) -> bool:
    """Say whether one series is done and the next has a provisional tomogram."""
    return progress.done > 0 and any(series.tomogram == "provisional" for series in progress.series)


def shown(folder: Path, kind: str, items: int, is_moment: Callable[[Progress], bool], picture: str) -> Home:
    """Run a demonstration, draw its live view at the moment, and give its home when it has ended."""
    home = open_home(folder / "home")
    command = [
        sys.executable, "-m", "tomofly.cli", "demo", kind, "--headless", "--items", str(items),
        "--out", str(folder / "demo"), "--home", str(home.folder),
    ]  # fmt: skip
    with subprocess.Popen(command) as demo:
        draw_live_view(home, wait_for(home, demo, is_moment), HERE / picture)
    return home


def wait_for(home: Home, demo: "subprocess.Popen[bytes]", is_moment: Callable[[Progress], bool]) -> Progress:
    """Wait until the demonstration has come to the moment; give how far it is."""
    while demo.poll() is None:
        time.sleep(0.2)
        names = [info.row.name for info in list_sessions(home)] if home.folder.exists() else []
        if names and is_moment(progress := session_progress(home, names[0])):
            return progress
    raise SystemExit("the demonstration ended too early")


def draw_live_view(home: Home, progress: Progress, path: Path) -> None:
    """Write the live view as an SVG."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), highlight=False)
    told = replace(progress, folder="demo-output/tomofly-demo")
    console.print(drawn(told, settings_in_short(current_settings(home, progress.name))))
    picture = FONT_FACES.sub("", console.export_svg(title=f"tomofly demo {progress.kind}"))
    path.write_text(picture, encoding="utf-8")


def draw_previews(home: Home) -> None:
    """Write picks, spectrum and drift of one micrograph side by side."""
    name = list_sessions(home)[0].row.name
    key = table_page(home, name, limit=1).rows[0]["key"]
    found = item_previews(home, name, key)
    tiles = [Image.open(found[name]).convert("RGB") for name in SHOWN]
    tiles = [tile.resize((round(tile.width * TILE_PX / tile.height), TILE_PX)) for tile in tiles]
    width = sum(tile.width for tile in tiles) + GAP_PX * (len(tiles) - 1)
    sheet = Image.new("RGB", (width, TILE_PX), "white")
    left = 0
    for tile in tiles:
        sheet.paste(tile, (left, 0))
        left += tile.width + GAP_PX
    sheet.quantize(64).save(HERE / "previews.png", optimize=True)


if __name__ == "__main__":
    main()
