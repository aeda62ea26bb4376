"""Export of tilt series for RELION 5: a STAR file for each, their lists, tomograms and particles.

All paths are relative to the export's folder, where RELION is to be started.
"""

from dataclasses import dataclass, field, replace
from typing import Any

from tomofly.formats.relion_tomo import (
    TomoParticle,
    write_optimisation_set,
    write_particles,
    write_tilt_series,
    write_tomograms,
)
from tomofly.formats.tilt_record import TiltRecord, TiltSeriesRecord
from tomofly.services.exports.export import Draft
from tomofly.services.exports.motion import write_motion
from tomofly.services.exports.picks import particles_of
from tomofly.services.exports.series import (
    ExportedSeries,
    ExportedTilt,
    has_halves,
    optics_group,
    series_record,
    tomogram_products,
)

HALF_SUFFIXES = {"even": "_EVN", "odd": "_ODD"}


@dataclass
class Relion5Export:
    """The series that have been written, by the names of their STAR files, and their particles."""

    draft: Draft
    series: dict[str, TiltSeriesRecord] = field(default_factory=dict)
    particles: list[TomoParticle] = field(default_factory=list)
    groups: dict[float, str] = field(default_factory=dict)

    def add(self, exported: ExportedSeries) -> None:
        """Write one series with its tilts and its tomogram."""
        record = series_record(self.draft, exported, full=True)
        group = optics_group(self.groups, record.pixel_size_angstrom)
        tilts = [self._tilt(exported, *pair) for pair in zip(exported.tilts, record.tilts, strict=True)]
        record = replace(record, tilts=tuple(tilts), optics_group=group, **self._volumes(exported))
        star = f"tilt_series/{exported.name}.star"
        write_tilt_series(self.draft.new_file(star), record)
        self.particles += particles_of(self.draft, exported, record)
        self.series[star] = record

    def finish(self) -> None:
        """Write the lists: all series, those with a tomogram, and the particles picked in these."""
        write_tomograms(self.draft.add_file("tilt_series.star"), self.series, tomograms=False)
        with_volume = {star: one for star, one in self.series.items() if one.tomogram_name}
        if with_volume:
            write_tomograms(self.draft.add_file("tomograms.star"), with_volume)
        if self.particles:
            write_particles(self.draft.add_file("particles.star"), self.particles, with_volume.values())
            path = self.draft.add_file("optimisation_set.star")
            write_optimisation_set(path, "tomograms.star", "particles.star")
            self.draft.particles = len(self.particles)

    def _tilt(self, exported: ExportedSeries, tilt: ExportedTilt, record: TiltRecord) -> TiltRecord:
        """Bring the images of a tilt, its movie and its motion, and name them."""
        if record.excluded:
            return record
        image = self._image(exported, tilt, "average", "")
        names: dict[str, Any] = {"image_name": image, "movie_name": image}
        if has_halves(exported):
            names |= {
                f"{half}_name": self._image(exported, tilt, half, suffix)
                for half, suffix in HALF_SUFFIXES.items()
            }
        if ("tilt_motion", "shifts") in tilt.item.products:
            own = f"{exported.name}/{tilt.file_name}"
            names["motion_star"], movie = write_motion(self.draft, tilt.item, own, "tilt_motion")
            names["movie_name"] = movie or image
        return replace(record, **names)

    def _image(self, exported: ExportedSeries, tilt: ExportedTilt, product: str, suffix: str) -> str:
        """Bring an image, or the stack that it is a section of; RELION counts sections from 1."""
        source = tilt.item.products["tilt_motion", product]
        if tilt.view.section is None:
            return self.draft.place(source, f"tilts/{exported.name}/{tilt.file_name}{suffix}.mrc")
        name = f"tilts/{exported.name}{suffix}.mrcs"
        if name not in self.draft.made:
            self.draft.place(source, name)
        return f"{tilt.section + 1:06d}@{name}"

    def _volumes(self, exported: ExportedSeries) -> dict[str, Any]:
        suffixes = {"tomogram": "", "even": "_half1", "odd": "_half2"}
        placed = {
            which: self.draft.place(path, f"tomograms/rec_{exported.name}{suffixes[which]}.mrc")
            for which, path in tomogram_products(exported).items()
        }
        halves = (placed["even"], placed["odd"]) if {"even", "odd"} <= placed.keys() else None
        return {"tomogram_name": placed.get("tomogram"), "half_names": halves}
