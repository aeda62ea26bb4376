"""Stacks of images too large for memory, written section by section."""

from collections.abc import Sequence
from pathlib import Path

import mrcfile
import numpy as np

from tomofly.formats.mrc import read_layout, read_sections
from tomofly.formats.on_disk import sync


def gather_stack(path: str | Path, sections: Sequence[tuple[Path, int]], pixel_size_angstrom: float) -> None:
    """Write sections of other MRC files, counted from 0, as one stack of float32; flush it to the disk.

    Holds one section at a time. Raises ValueError where their shapes differ, BadFile for one that cannot be
    read.
    """
    layouts = {source: read_layout(source) for source, _ in sections}
    shapes = {layout.shape_yx for layout in layouts.values()}
    if len(shapes) != 1:
        raise ValueError(f"images of {len(shapes)} different shapes make no stack: {sorted(shapes)}")
    rows, columns = shapes.pop()
    with mrcfile.new_mmap(path, (len(sections), rows, columns), mrc_mode=2, overwrite=True) as stack:
        for n, (source, section) in enumerate(sections):
            stack.data[n] = read_sections(layouts[source], section, section + 1)[0].astype(np.float32)
        stack.set_image_stack()
        stack.voxel_size = pixel_size_angstrom
        stack.update_header_stats()
        stack.header.nlabl = 0  # a label with the time would make every copy another
        stack.header.label = b""
    sync(Path(path))
