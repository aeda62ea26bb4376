"""What is known of a scan once it has been taken in: a small file that people and later stages read."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class ScanRecord:
    """A scan: its file, frames and instrument. What is not known is None."""

    file: str
    layout: str
    sample: str
    started: str
    projections: int
    shape_yx: tuple[int, int]
    first_angle_deg: float
    last_angle_deg: float
    pixel_size_um: float | None
    energy_kev: float | None
    distance_mm: float | None
    exposure_s: float | None
    normalised: bool

    def write(self, path: Path) -> None:
        """Write it as JSON."""
        path.write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read_record(path: Path) -> ScanRecord:
    """Read what ``write`` wrote."""
    content = json.loads(path.read_text(encoding="utf-8"))
    content["shape_yx"] = tuple(content["shape_yx"])
    return ScanRecord(**content)
