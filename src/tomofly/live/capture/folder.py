"""Whether a folder can take captures."""

import os
from pathlib import Path

from tomofly.model import BadInput


def check_folder(folder: Path) -> None:
    """Make a folder where there is none. Raises BadInput where it cannot be made or written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"The folder {folder} cannot be made: {error.strerror}", "Name another") from error
    if not os.access(folder, os.W_OK):
        raise BadInput(f"The folder {folder} cannot be written to", "Name another")
