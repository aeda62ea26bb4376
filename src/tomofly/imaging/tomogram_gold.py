"""Gold beads in a tomogram."""

import numpy as np
import numpy.typing as npt

from tomofly.imaging.tomogram_picking import ball_response, binned_volume, peaks_above

FloatArray = npt.NDArray[np.float64]

# A bead takes away some 0.003 of the electrons for each Å of its height, by this measure; protein takes at
# most a fifth of that.
_GOLD_PER_ANGSTROM = 0.0014
# Beads this wide are seen well enough: a finer volume is binned.
_ENOUGH_VOXELS = 5
FEWEST_VOXELS = 3


def find_gold(
    volume: npt.NDArray[np.float32],
    voxel_size_angstrom: float,
    diameter_angstrom: float,
    *,
    threads: int = 1,
) -> FloatArray:
    """Give the voxel indices (bead, 3) of gold of about a diameter in a tomogram (z, y, x), darkest first.

    The tomogram is of contrast (counts over their mean, less 1), scaled as ``reconstruct_tomogram`` does:
    gold is told from all else by how dark it is. Raises ValueError for beads below three voxels.
    """
    diameter = diameter_angstrom / voxel_size_angstrom
    if diameter < FEWEST_VOXELS:
        raise ValueError(
            f"gold of {diameter_angstrom} Å is {diameter:.1f} voxels wide; it takes at least {FEWEST_VOXELS}"
        )
    binning = max(1, min(int(diameter / _ENOUGH_VOXELS), *volume.shape))
    darkness = -ball_response(binned_volume(volume, binning), diameter / binning, threads=threads)
    everywhere = np.ones(darkness.shape, dtype=np.bool_)
    least = _GOLD_PER_ANGSTROM * voxel_size_angstrom
    places = peaks_above(darkness, everywhere, least, diameter / binning)
    return np.asarray(places * binning + (binning - 1) / 2, dtype=np.float64)
