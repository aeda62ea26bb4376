"""How well found positions agree with known ones."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import maximum_bipartite_matching
from scipy.spatial import cKDTree


@dataclass(frozen=True)
class Matching:
    """A one-to-one pairing of found and true positions; pairs are rows (found index, true index)."""

    pairs: NDArray[np.intp]
    distance_px: NDArray[np.float64]
    found_count: int
    truth_count: int

    @property
    def precision(self) -> float:
        """The part of what was found that is true; 1 where nothing was found."""
        return len(self.pairs) / self.found_count if self.found_count else 1.0

    @property
    def recall(self) -> float:
        """The part of the truth that was found; 1 where there was nothing to find."""
        return len(self.pairs) / self.truth_count if self.truth_count else 1.0

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall."""
        total = self.found_count + self.truth_count
        return 2.0 * len(self.pairs) / total if total else 1.0


def match_picks(found_yx_px: ArrayLike, truth_yx_px: ArrayLike, radius_px: float) -> Matching:
    """Pair found positions (n, 2) with true ones (m, 2) at most ``radius_px`` apart, as many as can be.

    Each position is used once. The number of pairs is the largest possible (Hopcroft & Karp 1973).
    """
    found = np.asarray(found_yx_px, dtype=np.float64).reshape(-1, 2)
    truth = np.asarray(truth_yx_px, dtype=np.float64).reshape(-1, 2)
    if not radius_px > 0:
        raise ValueError(f"the matching radius must be above 0 pixels, not {radius_px}")
    if not len(found) or not len(truth):
        return Matching(np.zeros((0, 2), np.intp), np.zeros(0), len(found), len(truth))
    near = cKDTree(found).sparse_distance_matrix(cKDTree(truth), radius_px, output_type="coo_matrix")
    ones = np.ones(near.row.size, dtype=np.int8)
    graph = coo_array((ones, (near.row, near.col)), shape=(len(found), len(truth))).tocsr()
    partner = maximum_bipartite_matching(graph, perm_type="column")
    index = np.flatnonzero(partner >= 0)
    pairs = np.stack([index, partner[index]], axis=1).astype(np.intp)
    apart = np.linalg.norm(found[pairs[:, 0]] - truth[pairs[:, 1]], axis=1)
    return Matching(pairs, apart, len(found), len(truth))
