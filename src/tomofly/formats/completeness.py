"""Cheap evidence that a file is whole: headers and the chain of pages, never pixels."""

from dataclasses import dataclass
from pathlib import Path

from tomofly.formats.eer import acquisition_metadata, eer_frames
from tomofly.formats.errors import BadFile
from tomofly.formats.mrc import read_layout
from tomofly.formats.suffixes import HDF5_SUFFIXES, MRC_SUFFIXES, TIFF_SUFFIXES
from tomofly.formats.tiff_chain import TiffPage, read_pages


@dataclass(frozen=True)
class Evidence:
    """What a file says of its own completeness. `whole` None: nothing, only time tells."""

    whole: bool | None
    reason: str
    expected_bytes: int | None = None
    frames: int | None = None


def probe(path: str | Path) -> Evidence:
    """Look at headers alone for evidence that the file is whole. Never raises on a half-written file.

    An MRC file is whole when its size is what its header says. A TIFF or EER file is whole when its chain of
    pages ends and every page lies inside the file; a writer that links each page as it goes makes a growing
    file look whole between two pages, so the size must have settled as well.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    try:
        if suffix in MRC_SUFFIXES:
            return _probe_mrc(path)
        if suffix in TIFF_SUFFIXES:
            return _probe_tiff(path)
        if suffix in HDF5_SUFFIXES:
            return _probe_hdf5(path)
    except BadFile as error:
        return Evidence(False, error.what)
    except OSError as error:
        return Evidence(False, f"cannot be read now ({error.strerror})")
    return Evidence(None, "a kind of file that does not tell its own length")


def _probe_mrc(path: Path) -> Evidence:
    layout = read_layout(path)
    missing = layout.expected_bytes - layout.file_bytes
    if missing > 0:
        reason = f"{missing} of {layout.expected_bytes} bytes are missing"
        return Evidence(False, reason, layout.expected_bytes, layout.sections)
    if -missing >= layout.section_bytes:
        reason = f"{-missing} bytes longer than its header says"
        return Evidence(False, reason, layout.expected_bytes, layout.sections)
    reason = "as long as its header says" + (f", and {-missing} bytes of padding" if missing else "")
    return Evidence(True, reason, layout.expected_bytes, layout.sections)


def _probe_tiff(path: Path) -> Evidence:
    pages = read_pages(path)
    frames = eer_frames(pages) or pages
    promised = _promised_frames(pages)
    if promised and promised > len(frames):
        return Evidence(False, f"{len(frames)} of {promised} frames are there", None, len(frames))
    last = max(at + count for page in pages for at, count in zip(page.offsets, page.byte_counts, strict=True))
    return Evidence(True, f"all {len(frames)} pages lie inside the file", last, len(frames))


def _promised_frames(pages: list[TiffPage]) -> int | None:
    """The number of frames that an EER camera wrote into its metadata."""
    text = acquisition_metadata(pages[0]).get("numberOfFrames", "")
    return int(text) if text.isdecimal() else None


def _probe_hdf5(path: Path) -> Evidence:
    # Loading the library takes longer than all that watching other files needs.
    from tomofly.formats.scan import probe_scan

    missing, frames = probe_scan(path)
    if missing:
        return Evidence(False, f"{missing} chunks of its images are not written yet", None, frames)
    return Evidence(True, f"it opens, and all {frames} frames are there", None, frames)
