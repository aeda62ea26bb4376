"""Files that may be the only copy of what they hold are put aside before another takes their name."""

import filecmp
import glob
import os
import stat
from itertools import count
from pathlib import Path

SUFFIX = ".superseded"


def keep_earlier(new: Path, final: Path) -> list[Path]:
    """Put a different file that lies at ``final`` aside; give all that were put aside there so far."""
    try:
        there = final.lstat()
    except FileNotFoundError:
        return []
    if stat.S_ISREG(there.st_mode) and not _holds_the_same(new, final):
        _put_aside(final, there)
    return sorted(final.parent.glob(f"{glob.escape(final.name)}.*{SUFFIX}"))


def _holds_the_same(new: Path, final: Path) -> bool:
    # A link is no copy: what it points at may go.
    return not new.is_symlink() and filecmp.cmp(new, final, shallow=False)


def _put_aside(final: Path, there: os.stat_result) -> None:
    """Give the file a second name, so that it is never without one."""
    for number in count():
        mark = f"{there.st_mtime_ns}.{number}" if number else str(there.st_mtime_ns)
        aside = final.with_name(f"{final.name}.{mark}{SUFFIX}")
        if not os.path.lexists(aside):
            break
        if aside.samefile(final):  # an earlier conductor came as far as this
            return
    try:
        aside.hardlink_to(final)
    except OSError:  # a file system without second names
        final.rename(aside)
