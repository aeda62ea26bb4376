"""A tomogram from an aligned tilt series."""

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tomofly.imaging.back_projection import align_views, back_project, view_grid
from tomofly.imaging.tilt_geometry import TiltGeometry
from tomofly.imaging.tilt_sirt import sirt_views
from tomofly.imaging.tilt_weighting import Filter, filter_views

Method = Literal["wbp", "sirt"]
Volume = npt.NDArray[np.float32]


def reconstruct_tomogram(
    images: npt.NDArray[Any],
    geometry: TiltGeometry,
    shape_zyx: tuple[int, int, int],
    *,
    method: Method = "wbp",
    filtering: Filter = "exact",
    iterations: int = 15,
    cutoff: tuple[float, float] = (0.35, 0.5),
    thickness_px: float | None = None,
    oversampling: int = 2,
    threads: int = 1,
) -> Volume:
    """Reconstruct a volume (z, y, x), float32, from images (tilt, y, x) sampled as the volume is.

    The volume's origin is at index ``n // 2``, y along the tilt axis, z along the beam at 0° of the geometry,
    which levels the specimen. Summed along z it is what the images show at 0°, less their mean.
    ``method``: weighted back-projection, or SIRT, which takes twice as long for each of its ``iterations``.
    ``filtering`` of 'wbp': 'exact' (Harauz & van Heel, 1986), 'ramp', or 'sirt-like' as of ``iterations``;
    its ``cutoff`` falls from 1 to 0.08 between two frequencies in cycles per pixel. ``thickness_px``: of what
    the images show, for the filter; the volume's where None.
    Raises ValueError for an empty series or shape, or an unknown method.
    """
    _check(images, shape_zyx, method)
    grid = view_grid((images.shape[1], images.shape[2]), geometry, shape_zyx)
    views = align_views(images, geometry, grid, threads=threads)
    if method == "sirt":
        return sirt_views(views, geometry, shape_zyx, iterations=iterations, threads=threads)
    thickness = float(shape_zyx[0]) if thickness_px is None else thickness_px
    fine = filter_views(
        views, filtering, geometry.tilt_angle_deg, thickness,
        oversampling=oversampling, iterations=iterations, cutoff=cutoff, threads=threads,
    )  # fmt: skip
    return back_project(fine, geometry, shape_zyx, across=grid.across, threads=threads)


def _check(images: npt.NDArray[Any], shape_zyx: tuple[int, int, int], method: str) -> None:
    if images.ndim != 3 or not images.size:
        raise ValueError(f"a tilt series has the axes (tilt, y, x); this one has the shape {images.shape}")
    if min(shape_zyx) < 1:
        raise ValueError(f"a tomogram has at least one voxel along each axis; {shape_zyx} was asked for")
    if method not in ("wbp", "sirt"):
        raise ValueError(f"the method is wbp or sirt, not {method!r}")
