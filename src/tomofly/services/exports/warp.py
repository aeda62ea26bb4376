"""Export of tilt series for Warp: an .xml and a .tomostar for each, and the averages of its tilts.

Laid out as WarpTools does: ``tomostar/``, ``warp_frameseries/average/`` and ``warp_tiltseries/``.
"""

from dataclasses import dataclass, replace

from tomofly.formats.tilt_record import TiltRecord
from tomofly.formats.warp_xml import write_tomostar, write_warp_xml
from tomofly.services.exports.export import Draft
from tomofly.services.exports.series import (
    ExportedSeries,
    ExportedTilt,
    NotReady,
    has_halves,
    series_record,
    tomogram_products,
)

FRAMES = "warp_frameseries"


@dataclass
class WarpExport:
    """Writes each series by itself; nothing lists them all."""

    draft: Draft

    def add(self, exported: ExportedSeries) -> None:
        """Write one series; Warp does not use tilts that could not be aligned."""
        if any(tilt.view.section is not None for tilt in exported.tilts):
            raise NotReady("Warp needs a file for each tilt, and this series is one file of all")
        record = series_record(self.draft, exported, full=True)
        tilts = [self._tilt(exported, *pair) for pair in zip(exported.tilts, record.tilts, strict=True)]
        record = replace(record, tilts=tuple(tilts))
        write_warp_xml(self.draft.new_file(f"warp_tiltseries/{exported.name}.xml"), record)
        write_tomostar(self.draft.new_file(f"tomostar/{exported.name}.tomostar"), record)
        if "tomogram" in (volumes := tomogram_products(exported)):
            self.draft.place(volumes["tomogram"], f"warp_tiltseries/reconstruction/{exported.name}.mrc")

    def finish(self) -> None:
        """Nothing more is to be written."""

    def _tilt(self, exported: ExportedSeries, tilt: ExportedTilt, record: TiltRecord) -> TiltRecord:
        """Bring the averages of a tilt to where Warp looks for those of the movie that is named."""
        folders = {"average": "average"}
        if has_halves(exported):
            folders |= {"even": "average/even", "odd": "average/odd"}
        for product, folder in folders.items():
            source = tilt.item.products["tilt_motion", product]
            self.draft.place(source, f"{FRAMES}/{folder}/{tilt.file_name}.mrc")
        return replace(record, movie_name=f"../{FRAMES}/{tilt.file_name}.mrc")
