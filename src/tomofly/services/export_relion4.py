"""Export of tilt series for RELION 4: stacks, one list with a projection matrix for each tilt, particles."""

from dataclasses import dataclass, field, replace

from tomofly.formats.relion4_tomo import write_relion4_tomograms
from tomofly.formats.tilt_record import TiltSeriesRecord
from tomofly.services.export import Draft
from tomofly.services.export_series import ExportedSeries, NotReady, optics_group, series_record
from tomofly.services.export_stacks import place_stack


@dataclass
class Relion4Export:
    """The series that have been written."""

    draft: Draft
    series: list[TiltSeriesRecord] = field(default_factory=list)
    groups: dict[float, str] = field(default_factory=dict)

    def add(self, exported: ExportedSeries) -> None:
        """Bring the stack of one series, without the tilts that could not be aligned."""
        record = series_record(self.draft, exported, full=self.draft.options.full_stacks).used()
        if any(tilt.defocus_u_angstrom is None for tilt in record.tilts):
            raise NotReady("RELION 4 needs the defocus of every tilt, and of some it is not known")
        stack = place_stack(self.draft, exported, f"Movies/{exported.name}.mrc", aligned_only=True)
        group = optics_group(self.groups, record.pixel_size_angstrom)
        self.series.append(replace(record, stack_name=stack, optics_group=group))

    def finish(self) -> None:
        """Write the list of series."""
        write_relion4_tomograms(self.draft.add_file("tomograms.star"), self.series)
