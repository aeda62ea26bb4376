"""A session of tilt series made of product files, with a bead drawn where each tilt sees it.

What the exporters say of a series can so be held against its very images.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import mrcfile
import numpy as np
import starfile
from sqlalchemy import Connection, insert

from tomofly.imaging.tomogram_picking import TomogramPicks
from tomofly.services.home import Home
from tomofly.services.sessions import create_session, session_info
from tomofly.stages.tilts.files import AlignmentFile, CtfFile, SeriesFile, View
from tomofly.stages.tilts.tomogram_file import TomogramFile
from tomofly.stages.tilts.tomogram_picks_run import coordinate_table
from tomofly.store import tables as t

FULL_YX = (200, 240)
REDUCED_YX = (50, 60)
FULL_PIXEL, PIXEL = 2.5, 10.0
VOLUME_ZYX = (24, 60, 50)
DOSE = 3.1


@dataclass(frozen=True)
class Shot:
    """One exposure: nominal angle, place in the order of exposure, and what is wrong with it."""

    angle: float
    order: int
    excluded: str = ""
    aligned: bool = True


SHOTS = (
    Shot(-48.0, 8), Shot(-32.0, 5), Shot(-16.0, 4, excluded="dark"), Shot(-15.9, 9), Shot(0.0, 0),
    Shot(16.0, 1), Shot(32.0, 2, aligned=False), Shot(32.1, 3, excluded="by_hand"),
    Shot(48.0, 6), Shot(60.0, 7),
)  # fmt: skip


@dataclass(frozen=True)
class Specimen:
    """The truth of one series. ``bead_xyz``: from the middle of the volume, in full pixels.

    ``shift_xy``: of each exposure, in full pixels, to be applied.
    """

    name: str = "TS_1"
    bead_xyz: tuple[float, float, float] = (31.0, -42.0, 19.0)
    axis_deg: float = 84.2
    offset_deg: float = 2.3
    x_tilt_deg: float = 4.4
    hand: int = -1
    shots: tuple[Shot, ...] = SHOTS
    seed: int = 3
    in_one_file: bool = False
    with_ctf: bool = True
    with_tomogram: bool = True
    volume_zyx: tuple[int, int, int] = VOLUME_ZYX
    with_doses: bool = True
    provisional: bool = False
    states: Mapping[str, str] = field(default_factory=dict)

    @property
    def used(self) -> list[int]:
        return [n for n, shot in enumerate(self.shots) if not shot.excluded]

    @property
    def shift_xy(self) -> np.ndarray:
        return np.random.default_rng(self.seed).normal(0, 9, (len(self.shots), 2))

    @property
    def axis(self) -> np.ndarray:
        return self.axis_deg + np.random.default_rng(self.seed + 1).normal(0, 0.3, len(self.shots))

    @property
    def tilt(self) -> np.ndarray:
        return np.array([shot.angle for shot in self.shots]) + self.offset_deg

    def seen_xy(self, n: int) -> np.ndarray:
        """Where an exposure shows the bead, from the middle of the image (index n // 2), in full pixels."""
        x, y, z = self.bead_xyz
        a, b, c = np.deg2rad([self.x_tilt_deg, self.tilt[n], self.axis[n]])
        y, z = y * np.cos(a) - z * np.sin(a), y * np.sin(a) + z * np.cos(a)
        x = x * np.cos(b) + z * np.sin(b)
        x, y = x * np.cos(c) - y * np.sin(c), x * np.sin(c) + y * np.cos(c)
        return np.array([x, y]) - self.shift_xy[n]


def picture(shape_yx: Sequence[int], at_xy: Sequence[float], sigma: float) -> np.ndarray:
    """A bead in an image, at a place from its middle."""
    y, x = (np.arange(size) - size // 2 for size in shape_yx)
    spot = np.exp(-((y[:, None] - at_xy[1]) ** 2 + (x[None, :] - at_xy[0]) ** 2) / (2 * sigma**2))
    return spot.astype(np.float32)


def bead_in(image: np.ndarray) -> np.ndarray:
    """The index (x, y), from 0, at which an image shows the bead."""
    weight = image.astype(np.float64)
    y, x = np.indices(image.shape)
    return np.array([(x * weight).sum(), (y * weight).sum()]) / weight.sum()


def tilt_session(home: Home, folder: Path, specimens: Sequence[Specimen], name: str = "tilts") -> Path:
    """Make a session with the products of these series; give its folder."""
    create_session(
        home,
        name,
        kind="tomo",
        folder=folder,
        assignments=[f"microscope.pixel_size_angstrom={FULL_PIXEL / 2}"],
    )
    session = session_info(home, name).row.id
    with home.database.begin() as connection:
        for specimen in specimens:
            _add_series(connection, session, folder, specimen)
    return folder


def replace_series(home: Home, folder: Path, specimen: Specimen, name: str = "tilts") -> None:
    """Put other products in the place of those of a series."""
    session = session_info(home, name).row.id
    with home.database.begin() as connection:
        items = t.items.c
        key = [items.session_id == session, items.key.startswith(specimen.name, autoescape=True)]
        connection.execute(t.items.delete().where(*key))
        _add_series(connection, session, folder, specimen)


def _add_series(connection: Connection, session: int, folder: Path, specimen: Specimen) -> None:
    images = [picture(FULL_YX, specimen.seen_xy(n), 2.0) for n in range(len(specimen.shots))]
    if specimen.in_one_file:
        _add_tilt(connection, session, folder, specimen.name, np.stack(images))
    for n, image in enumerate(images):
        if not specimen.in_one_file:
            _add_tilt(connection, session, folder, _key(specimen, n), image, n)
    item = _item(connection, session, "tilt series", specimen.name)
    small = np.array([REDUCED_YX[1] / FULL_YX[1], REDUCED_YX[0] / FULL_YX[0]])
    stack = np.stack([picture(REDUCED_YX, specimen.seen_xy(n) * small, 1.2) for n in specimen.used])
    products = {"series": f"compose/{specimen.name}.json"}
    _file(folder / products["series"])
    _series(specimen).write(folder / products["series"])
    for product, suffix in (("stack", ""), ("even", "_even"), ("odd", "_odd")):
        products[product] = f"compose/{specimen.name}{suffix}.st"
        _write(folder / products[product], stack, PIXEL)
    _task(connection, session, item, "compose", products, specimen, {"tilts": float(len(specimen.used))})
    path = f"series_alignment/{specimen.name}_alignment.json"
    _file(folder / path)
    _alignment(specimen).write(folder / path)
    _task(connection, session, item, "series_alignment", {"alignment": path}, specimen, {"x_tilt_deg": 4.4})
    if specimen.with_ctf:
        path = f"series_ctf/{specimen.name}_ctf.json"
        _file(folder / path)
        _ctf(specimen).write(folder / path)
        _task(connection, session, item, "series_ctf", {"ctf": path}, specimen)
    if specimen.with_tomogram:
        _add_tomogram(connection, session, item, folder, specimen)


def _add_tomogram(connection: Connection, session: int, item: int, folder: Path, specimen: Specimen) -> None:
    x, y, z = np.array(specimen.bead_xyz) * FULL_PIXEL / PIXEL
    size = specimen.volume_zyx
    depth = np.exp(-((np.arange(size[0]) - size[0] // 2 - z) ** 2) / 2.88)
    volume = depth[:, None, None].astype(np.float32) * picture(size[1:], (x, y), 1.2)
    products = {name: f"tomogram/{specimen.name}{suffix}.mrc" for name, suffix in
                (("tomogram", ""), ("even", "_even"), ("odd", "_odd"))}  # fmt: skip
    for path in products.values():
        _write(folder / path, volume, PIXEL)
    _task(connection, session, item, "tomogram", products, specimen)
    _add_picks(connection, session, item, folder, specimen)


def _add_picks(connection: Connection, session: int, item: int, folder: Path, specimen: Specimen) -> None:
    """The bead picked, written as the stage writes its picks."""
    index = np.array(specimen.bead_xyz) * FULL_PIXEL / PIXEL + np.array(specimen.volume_zyx[::-1]) // 2
    record = TomogramFile(
        name=specimen.name, size_zyx=specimen.volume_zyx, voxel_size_angstrom=PIXEL, thickness_angstrom=None,
        tilts=len(specimen.used),
    )  # fmt: skip
    table = coordinate_table(TomogramPicks(index[None, ::-1], np.array([9.5]), 3.0), record)
    path = f"tomogram_picks/{specimen.name}_picks.star"
    starfile.write({"particles": table}, _file(folder / path))
    candidates = f"tomogram_picks/{specimen.name}_candidates.csv"
    x, y, z = index
    lines = ["x_voxel,y_voxel,z_voxel,score", f"{x},{y},{z},9.5", f"{x + 3},{y - 2},{z + 1},4.5"]
    _file(folder / candidates).write_text("\n".join(lines) + "\n")
    products = {"coordinates": path, "candidates": candidates}
    _task(connection, session, item, "tomogram_picks", products, specimen)


def _key(specimen: Specimen, n: int) -> str:
    return f"{specimen.name}_{specimen.shots[n].order:03d}_{specimen.shots[n].angle:.1f}"


def _add_tilt(
    connection: Connection, session: int, folder: Path, key: str, image: np.ndarray, n: int | None = None
) -> None:
    item = _item(connection, session, "movie", key)
    products = {}
    for product, suffix in (("average", ""), ("even", "_EVN"), ("odd", "_ODD")):
        products[product] = f"tilt_motion/{key}{suffix}.mrc"
        _write(folder / products[product], image, FULL_PIXEL)
    if n is not None:
        movie = f"transfer/{key}.tiff"
        _file(folder / movie).write_bytes(b"movie")
        _task(connection, session, item, "transfer", {"movie": movie}, Specimen())
        products["shifts"] = f"tilt_motion/{key}.star"
        (folder / products["shifts"]).write_text(f"\ndata_general\n\n_rlnMicrographMovieName {n}.tiff\n")
    else:
        products = {"average": products["average"]}
    metrics = {"total_motion_angstrom": 2.0, "frames_used": 8.0}
    _task(connection, session, item, "tilt_motion", products, Specimen(), metrics)


def _series(specimen: Specimen) -> SeriesFile:
    views = []
    for n, shot in enumerate(specimen.shots):
        dose = DOSE if specimen.with_doses else None
        views.append(
            View(
                key=specimen.name if specimen.in_one_file else _key(specimen, n),
                section=n if specimen.in_one_file else None, tilt_angle_deg=shot.angle, order=shot.order,
                dose_e_per_a2=dose, accumulated_dose_e_per_a2=None if dose is None else dose * shot.order,
                target_defocus_angstrom=40000.0, excluded=shot.excluded, reason=shot.excluded,
            )
        )  # fmt: skip
    return SeriesFile(
        name=specimen.name, views=tuple(views), axis_angle_deg=85.0, axis_source="mdoc",
        pixel_size_angstrom=PIXEL, full_pixel_size_angstrom=FULL_PIXEL, shape_yx=REDUCED_YX,
        full_shape_yx=FULL_YX, provisional=specimen.provisional,
    )  # fmt: skip


def _alignment(specimen: Specimen) -> AlignmentFile:
    used = specimen.used
    shift = specimen.shift_xy[used] * FULL_PIXEL / PIXEL
    return AlignmentFile(
        method="patches", tilt_angle_deg=tuple(specimen.tilt[used]),
        axis_angle_deg=tuple(specimen.axis[used]),
        shift_y_px=tuple(shift[:, 1]), shift_x_px=tuple(shift[:, 0]), shift_error_px=(0.1,) * len(used),
        residual_angstrom=(float("nan"),) * len(used),
        aligned=tuple(specimen.shots[n].aligned for n in used), x_tilt_deg=specimen.x_tilt_deg,
        tilt_offset_deg=specimen.offset_deg, pixel_size_angstrom=PIXEL, thickness_angstrom=150.0,
    )  # fmt: skip


def _ctf(specimen: Specimen) -> CtfFile:
    order = np.array([specimen.shots[n].order for n in specimen.used])
    return CtfFile(
        defocus_u_angstrom=tuple(40000.0 + 100 * order), defocus_v_angstrom=tuple(39500.0 + 100 * order),
        astigmatism_angle_deg=(30.0,) * len(order), defocus_error_angstrom=(50.0,) * len(order),
        fit_resolution_angstrom=(8.0, *(float("nan"),) * (len(order) - 1)), hand=specimen.hand,
        hand_verdict="inverted",
    )  # fmt: skip


def _file(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _write(path: Path, pixels: np.ndarray, pixel: float) -> None:
    with mrcfile.new(_file(path), overwrite=True) as file:
        file.set_data(pixels)
        file.voxel_size = pixel


def _item(connection: Connection, session: int, kind: str, key: str) -> int:
    row = {"session_id": session, "kind": kind, "key": key, "attributes": {}, "detected_at": time.time()}
    (item,) = connection.execute(insert(t.items).values(**row)).inserted_primary_key or (0,)
    return int(item)


def _task(
    connection: Connection,
    session: int,
    item: int,
    stage: str,
    products: Mapping[str, str],
    specimen: Specimen,
    metrics: Mapping[str, float] | None = None,
) -> None:
    state = specimen.states.get(stage, "done")
    row = {"session_id": session, "item_id": item, "stage": stage, "state": state, "fingerprint": "f" * 32,
           "reason": "it is too thick" if state == "failed" else ""}  # fmt: skip
    (task,) = connection.execute(insert(t.tasks).values(**row)).inserted_primary_key or (0,)
    for name, path in products.items():
        connection.execute(insert(t.products).values(task_id=task, name=name, path=path, bytes=1))
    for name, value in (metrics or {}).items():
        own = {"task_id": task, "session_id": session, "item_id": item, "stage": stage}
        connection.execute(insert(t.metrics).values(**own, name=name, value=value))
