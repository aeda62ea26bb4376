"""Exports of reconstructed volumes: TIFF slices, HDF5, or OME-Zarr, as floats or scaled to 16 bits."""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import tifffile

from tomofly.formats.errors import BadFile
from tomofly.formats.ome_zarr import Pyramid, write_ome_zarr
from tomofly.formats.volume_file import Scaling, VolumeSlices, new_volume, open_volume
from tomofly.model import TomoflyError
from tomofly.services.exports.export import Draft, Format, PixelType
from tomofly.store.browse import BrowsedItem

VOLUME = ("volume", "volume")
_SLICES_AT_ONCE = 32
_LOOKED_AT = 16
_PERCENTILES = (0.02, 99.98)
_CENTIMETRES = 1e-4


@dataclass(frozen=True)
class _Exported:
    """A volume on its way out."""

    name: str
    item: BrowsedItem
    volume: VolumeSlices
    scaling: Scaling

    def slices(self, first: int, last: int) -> npt.NDArray[Any]:
        """Give slices as they are to be written."""
        return self.scaling.apply(self.volume.slices(first, last))


def write_volumes(items: Iterable[BrowsedItem], draft: Draft) -> None:
    """Write every volume that there is, and ``volumes.json``, which says what its numbers mean."""
    write = _WRITERS[draft.options.format]
    listed: dict[str, Any] = {}
    for item in items:
        product = item.products.get(VOLUME)
        if product is None:
            draft.leave_out(item.key, "It has no volume yet")
            continue
        path = (draft.scope.folder / product).resolve()
        try:
            with draft.whole_or_none(), open_volume(path) as volume:
                scaling = _scaling(volume, draft.options.pixels)
                exported = _Exported(draft.names.of(item.key), item, volume, scaling)
                written = write(exported, draft)
        except BadFile as error:
            raise TomoflyError(f"The volume of {item.key} cannot be read: {error}", error.do) from error
        draft.items += 1
        listed[item.key] = {"path": written, **_meaning(exported)}
    text = json.dumps(listed, indent=1, ensure_ascii=False) + "\n"
    draft.add_file("volumes.json").write_text(text, encoding="utf-8")


def _meaning(exported: _Exported) -> dict[str, Any]:
    header, scaling = exported.volume.header, exported.scaling
    return {
        "shape_zyx": list(header.shape_zyx),
        "voxel_um": header.voxel_um,
        "unit": header.unit,
        "type": scaling.dtype.name,
        "offset": scaling.offset,
        "scale": scaling.scale,
        "made_by": dict(header.made_by),
    }


def _scaling(volume: VolumeSlices, pixels: PixelType) -> Scaling:
    """Choose the range for whole numbers from some slices, so that very few voxels are cut off."""
    dtype = np.dtype(pixels)
    if dtype.kind == "f":
        return Scaling(dtype)
    depth = volume.header.shape_zyx[0]
    chosen = np.unique(np.linspace(0, depth - 1, min(depth, _LOOKED_AT)).round().astype(int))
    ranges = np.array([np.percentile(volume.slices(int(z), int(z) + 1), _PERCENTILES) for z in chosen])
    low, high = float(ranges[:, 0].min()), float(ranges[:, 1].max())
    return Scaling(dtype, low, (high - low) / np.iinfo(dtype).max if high > low else 1.0)


def _write_tiff(exported: _Exported, draft: Draft) -> str:
    """One file for each slice, as volume viewers import them, with the size of a pixel."""
    header = exported.volume.header
    resolution = (1 / (header.voxel_um * _CENTIMETRES),) * 2 if header.voxel_um else (1.0, 1.0)
    unit = "CENTIMETER" if header.voxel_um else "NONE"
    depth = header.shape_zyx[0]
    digits = max(4, len(str(depth - 1)))
    for first in range(0, depth, _SLICES_AT_ONCE):
        slab = exported.slices(first, min(depth, first + _SLICES_AT_ONCE))
        for n, image in enumerate(slab, start=first):
            path = draft.new_file(f"{exported.name}/{exported.name}_{n:0{digits}d}.tif")
            tifffile.imwrite(path, image, resolution=resolution, resolutionunit=unit, metadata=None)
    return exported.name


def _write_hdf5(exported: _Exported, draft: Draft) -> str:
    """The session's own file where it is asked for as it is, else one with other numbers."""
    name = f"{exported.name}.h5"
    if exported.scaling.dtype == np.float32:
        return draft.place(exported.item.products[VOLUME], name)
    header = exported.volume.header
    with new_volume(draft.new_file(name), header, exported.scaling) as volume:
        for first in range(0, header.shape_zyx[0], _SLICES_AT_ONCE):
            last = min(header.shape_zyx[0], first + _SLICES_AT_ONCE)
            volume.write(first, exported.slices(first, last))
    return name


def _write_zarr(exported: _Exported, draft: Draft) -> str:
    header, name = exported.volume.header, f"{exported.name}.ome.zarr"
    if exported.scaling.dtype == np.float16:
        draft.note("Few viewers of OME-Zarr read half floats")
    pyramid = Pyramid(header.shape_zyx, exported.scaling.dtype, header.voxel_um, exported.name)
    write_ome_zarr(draft.new_file(name), pyramid, exported.slices)
    return name


_WRITERS: Mapping[Format, Callable[[_Exported, Draft], str]] = {
    "tiff": _write_tiff,
    "hdf5": _write_hdf5,
    "zarr": _write_zarr,
}
