"""Export of tilt series for RELION 4: stacks, one list with a projection matrix for each tilt, particles."""

from dataclasses import dataclass, field, replace

from tomofly.formats.relion4_tomo import write_relion4_particles, write_relion4_tomograms
from tomofly.formats.relion_tomo import TomoParticle, write_optimisation_set
from tomofly.formats.tilt_record import TiltSeriesRecord
from tomofly.services.exports.export import Draft
from tomofly.services.exports.picks import particles_of
from tomofly.services.exports.series import ExportedSeries, NotReady, optics_group, series_record
from tomofly.services.exports.stacks import place_stack


@dataclass
class Relion4Export:
    """The series that have been written, and their particles."""

    draft: Draft
    series: list[TiltSeriesRecord] = field(default_factory=list)
    particles: list[TomoParticle] = field(default_factory=list)
    groups: dict[float, str] = field(default_factory=dict)

    def add(self, exported: ExportedSeries) -> None:
        """Bring the stack of one series, without the tilts that could not be aligned."""
        record = series_record(self.draft, exported, full=self.draft.options.full_stacks).used()
        if any(tilt.defocus_u_angstrom is None for tilt in record.tilts):
            raise NotReady("RELION 4 needs the defocus of every tilt, and of some it is not known")
        stack = place_stack(self.draft, exported, f"Movies/{exported.name}.mrc", aligned_only=True)
        group = optics_group(self.groups, record.pixel_size_angstrom)
        self.particles += particles_of(self.draft, exported, record)
        self.series.append(replace(record, stack_name=stack, optics_group=group))

    def finish(self) -> None:
        """Write the list of series, and the particles picked in their tomograms."""
        write_relion4_tomograms(self.draft.add_file("tomograms.star"), self.series)
        if self.particles:
            write_relion4_particles(self.draft.add_file("particles.star"), self.particles, self.series)
            path = self.draft.add_file("optimisation_set.star")
            write_optimisation_set(path, "tomograms.star", "particles.star")
            self.draft.particles = len(self.particles)
