"""Real scans replayed as a live stream: the centre is found, and the slices are a batch reconstruction's."""

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import numpy.typing as npt
import pytest
import tifffile

from tomofly.imaging.xray.angular_weights import angular_weights
from tomofly.imaging.xray.filters import filter_rows
from tomofly.imaging.xray.level_slices import level_slice
from tomofly.imaging.xray.normalisation import absorption, make_reference
from tomofly.imaging.xray.slices import Views
from tomofly.live.frames import Frame, FrameKind
from tomofly.live.live_slices import LiveSlices
from tomofly.live.parameters import LiveParameters
from tomofly.live.reconstruction import LiveReconstructor
from tomofly.live.slicer import Room

pytestmark = pytest.mark.real_data
ROOM = Room(memory_bytes=300 * 2**20, most_slots=300, backend="cpu", threads=2)


@dataclass(frozen=True, eq=False)
class Scan:
    dark: npt.NDArray[np.float32]
    flat: npt.NDArray[np.float32]
    projections: list[npt.NDArray[np.generic]]
    angle_deg: npt.NDArray[np.float64]
    flat_scale: float = 1.0


def diamond(folder: Path) -> Scan:
    dark, flat = (
        tifffile.imread(folder / f"{name}_00001.tiff").astype(np.float32) for name in ("dark", "flat")
    )
    projections = [tifffile.imread(path) for path in sorted((folder / "tiffs").glob("raw_*.tiff"))]
    return Scan(dark, flat, projections, np.loadtxt(folder / "angles.txt")[10:101])


def tooth(folder: Path) -> Scan:
    with h5py.File(folder / "tooth.h5") as file:
        data = {name: file["exchange"][name][:] for name in ("data", "data_white", "data_dark", "theta")}
    dark, flat = (data[name].mean(axis=0).astype(np.float32) for name in ("data_dark", "data_white"))
    return Scan(dark, flat, list(data["data"]), data["theta"].astype(float))


def replayed(scan: Scan, row: int) -> LiveSlices:
    with LiveReconstructor(
        lambda _: scan,
        LiveParameters(auto_centre=True, filter="hann", ortho_z=row),
        room=ROOM,
        most_per_second=1000,
    ) as live:
        for number, (image, angle) in enumerate(zip(scan.projections, scan.angle_deg, strict=True)):
            assert live.put(Frame(number, number, image, FrameKind.PROJECTION, float(angle), 0.0, 0.0))
            # A frame at a time, so that none of this is about queues.
            assert live.drain(60)
        assert live.latest is not None
        return live.latest


def batch(scan: Scan, row: int, centre: float, first: int) -> npt.NDArray[np.float32]:
    reference = make_reference(scan.dark, scan.flat)
    rows = np.stack([absorption(image, reference)[row] for image in scan.projections[first:]])
    angles = scan.angle_deg[first:]
    views = Views(np.arange(len(rows)), angles, angular_weights(angles), centre, rows.shape[1])
    return level_slice(filter_rows(rows), views, "hann")


def difference(one: npt.NDArray[np.float32], other: npt.NDArray[np.float32]) -> float:
    offset = np.arange(len(one)) - len(one) // 2
    inside = np.hypot(offset[:, None], offset[None, :]) < 0.4 * len(one)
    return float(np.sqrt(((one - other)[inside] ** 2).mean() / (other[inside] ** 2).mean()))


def test_a_diamond_scan(real_data: Path) -> None:
    scan = diamond(real_data / "xct_dls_24737")
    output = replayed(scan, 60)
    assert output.found_centre is not None
    assert output.found_centre.centre == pytest.approx(85.5, abs=0.5)
    assert output.centre == pytest.approx(85.5, abs=0.5)
    # The last projection, half a turn after the first, took its place.
    assert output.projections == 90
    assert difference(output.z, batch(scan, 60, output.centre, 1)) < 0.05


def test_the_tooth(real_data: Path) -> None:
    scan = tooth(real_data / "xct_aps_tooth")
    output = replayed(scan, 1)
    assert output.found_centre is not None
    assert output.found_centre.centre == pytest.approx(296, abs=0.5)
    assert output.projections == 181
    assert difference(output.z, batch(scan, 1, output.centre, 0)) < 0.05
    assert output.y.shape == output.x.shape == (2, 640)
