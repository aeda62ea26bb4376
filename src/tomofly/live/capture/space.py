"""Room on the disk: asked for before a capture, and made sure of while it is written.

HDF5 does not survive a disk that is full: it may take the whole program with it. So it is never let near one.
"""

import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tomofly.model.errors import BadInput

FreeBytes = Callable[[Path], int]


def free_bytes(folder: Path) -> int:
    """What an ordinary user may still write there."""
    return shutil.disk_usage(folder).free


# What ending a file may take: its index, and all that is known of the scan.
_MARGIN_BYTES = 8 << 20


@dataclass(frozen=True)
class SpaceGuard:
    """Keeps `reserve_bytes` of a folder's disk free."""

    folder: Path
    reserve_bytes: int
    free: FreeBytes = free_bytes

    def require(self, wanted: int) -> None:
        """Raise BadInput where there is no room for so many bytes more."""
        room = self.free(self.folder) - self.reserve_bytes
        if wanted > room:
            raise BadInput(
                f"The capture needs {wanted / 1e9:.2f} GB, and {max(room, 0) / 1e9:.2f} GB may be used in "
                f"{self.folder}",
                "Make room there, ask for fewer frames, or choose another folder",
            )

    def grants(self, wanted: int) -> bool:
        """Whether so many bytes can be written now, and a file be ended after that.

        They are allocated for a moment: what a disk says to have free is not what a quota lets one have.
        """
        if self.free(self.folder) - wanted < self.reserve_bytes:
            return False
        try:
            with tempfile.TemporaryFile(dir=self.folder) as trial:
                os.posix_fallocate(trial.fileno(), 0, wanted + _MARGIN_BYTES)
        except OSError:
            return False
        return True

    def is_short(self) -> bool:
        """Whether what is kept free has been reached."""
        return self.free(self.folder) < self.reserve_bytes
