"""Export of tilt series for IMOD: a folder for each, with its stack, alignment and commands."""

from dataclasses import dataclass, replace

from tomofly.formats.imod import write_imod
from tomofly.services.exports.export import Draft
from tomofly.services.exports.series import ExportedSeries, series_record, tomogram_products
from tomofly.services.exports.stacks import place_half_stacks, place_stack


@dataclass
class ImodExport:
    """Writes each series by itself; nothing lists them all."""

    draft: Draft

    def add(self, exported: ExportedSeries) -> None:
        """Write one series: every tilt of the stack, those that could not be aligned excluded by tilt.com."""
        name = exported.name
        place_stack(self.draft, exported, f"{name}/{name}.st")
        place_half_stacks(
            self.draft, exported, {half: f"{name}/{name}_{half}.st" for half in ("even", "odd")}
        )
        record = series_record(self.draft, exported, full=self.draft.options.full_stacks)
        for path in write_imod(self.draft.new_file(f"{name}/{name}.xf").parent, replace(record, name=name)):
            self.draft.new_file(f"{name}/{path.name}")
        if "tomogram" in (volumes := tomogram_products(exported)):
            self.draft.place(volumes["tomogram"], f"{name}/{name}_tomofly.mrc")

    def finish(self) -> None:
        """Nothing more is to be written."""
