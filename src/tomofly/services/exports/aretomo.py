"""Export of tilt series for AreTomo: a stack, its angles and an .aln for each.

AreTomo has no rotation about x. What an .aln says of the tilts holds all the same: the volume that it leads
to is the session's, not turned about x. By how much it would have to be is in ``volumes.csv``.
"""

import csv
from dataclasses import dataclass, field

from tomofly.formats.aretomo import not_turned_about_x, write_aln
from tomofly.formats.imod import write_angles
from tomofly.services.exports.export import Draft
from tomofly.services.exports.series import ExportedSeries, series_record
from tomofly.services.exports.stacks import place_half_stacks, place_stack

HALF_SUFFIXES = {"even": "_EVN", "odd": "_ODD"}
LEAST_TURN_DEG = 0.01


@dataclass
class AretomoExport:
    """The series that have been written: what AreTomo's volume of each is."""

    draft: Draft
    volumes: list[tuple[str, str, float, float, int]] = field(default_factory=list)

    def add(self, exported: ExportedSeries) -> None:
        """Write one series; tilts that could not be aligned are its dark frames."""
        name = exported.name
        record = series_record(self.draft, exported, full=self.draft.options.full_stacks)
        place_stack(self.draft, exported, f"{name}.mrc")
        place_half_stacks(self.draft, exported, {h: f"{name}{s}.mrc" for h, s in HALF_SUFFIXES.items()})
        write_angles(self.draft.new_file(f"{name}.rawtlt"), exported.series.tilt_angle_deg)
        write_aln(self.draft.new_file(f"{name}.aln"), not_turned_about_x(record))
        pixel, height = record.pixel_size_angstrom, record.tomogram_size_xyz[2]
        self.volumes.append((exported.item.key, name, pixel, record.x_tilt_deg, height))

    def finish(self) -> None:
        """Write how the session's volumes lie to those of AreTomo."""
        columns = ("series", "name", "pixel_size [Å]", "turned_about_x [deg]", "height [px]")
        with self.draft.add_file("volumes.csv").open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            writer.writerows(self.volumes)
        turned = [series for series, *_, x_tilt, _ in self.volumes if abs(x_tilt) > LEAST_TURN_DEG]
        if turned:
            what = "AreTomo cannot turn a volume about x, by which the session levels its specimens"
            self.draft.note(
                f"{what}: its volumes of {len(turned)} series will be inclined as volumes.csv says; "
                "where each tilt was taken from is the same"
            )
