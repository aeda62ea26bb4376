"""Exhaustive search for defocus and astigmatism on sector averages of a power spectrum."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tomofly.imaging.ctf import CtfOptics
from tomofly.imaging.ctf_ring import FloatVector, ThonRing, spline_basis
from tomofly.imaging.spectrum import taper_coherence

ComplexTable = npt.NDArray[np.complex128]

SECTORS = 24
DEFOCUS_STEP_ANGSTROM = 50.0
ASTIGMATISM_STEP_ANGSTROM = 200.0
LARGEST_HALF_ASTIGMATISM_ANGSTROM = 1600.0
# How far from zero half the astigmatism is expected before the data have spoken.
HALF_ASTIGMATISM_PRIOR_ANGSTROM = 300.0
# Fall-offs of the modulation that are tried, as B factors in Å²: from weak, thick ice to the best data.
ENVELOPES_ANGSTROM2 = (30.0, 150.0, 500.0)
# A candidate that is worse than this, by both measures, cannot become the best.
HOPELESS_FRACTION = 0.6
HOPELESS_GAP = 20.0


@dataclass(frozen=True)
class CtfCandidate:
    """One starting point for the refinement; `evidence` is the gain in log likelihood over no rings."""

    mean_defocus_angstrom: float
    astigmatism_cos_angstrom: float
    astigmatism_sin_angstrom: float
    phase_shift_deg: float
    evidence: float


def search_ctf(
    ring: ThonRing,
    optics: CtfOptics,
    defocus_range_angstrom: tuple[float, float],
    phase_shift_range_deg: tuple[float, float],
    candidates: int = 4,
) -> list[CtfCandidate]:
    """The best distinct starting points, best first.

    Every sector's average is correlated with -cos(2 chi) at every defocus; a defocus that varies with
    direction then only shifts the sectors' tables against each other before they are added.
    """
    margin = LARGEST_HALF_ASTIGMATISM_ANGSTROM
    low, high = defocus_range_angstrom
    grid = np.arange(low - margin, high + margin + DEFOCUS_STEP_ANGSTROM, DEFOCUS_STEP_ANGSTROM)
    sector_sums, counts = _sector_averages(ring)
    ripples = _ripple_templates(ring, counts, grid, optics)
    best = _empty_table(grid.size)
    for b_factor in ENVELOPES_ANGSTROM2:
        envelope = np.exp(-0.25 * b_factor * ring.bin_frequency**2)
        templates = _without_smooth_part(ripples * envelope, counts)
        table = sector_sums @ templates.T
        norm = (np.square(templates.real) @ counts).clip(1e-12)
        _add_astigmatism(best, table, ring.samples_dof / norm, phase_shift_range_deg)
    return _peaks(best, grid, defocus_range_angstrom, candidates)


def _sector_averages(ring: ThonRing) -> tuple[FloatVector, FloatVector]:
    """Sums of (power - 1) by sector and radial bin, (sector, bin), and the samples in each bin, (bin,)."""
    bins = ring.bin_frequency.size
    sector = np.floor(ring.azimuth_rad / np.pi * SECTORS + 0.5).astype(np.int64) % SECTORS
    excess = np.minimum(ring.power - 1.0, 6.0 / np.sqrt(ring.single_dof))
    sums = np.bincount(sector * bins + ring.radial_bin, excess, minlength=SECTORS * bins)
    counts = np.bincount(ring.radial_bin, minlength=bins).astype(np.float64)
    return sums.reshape(SECTORS, bins).astype(np.float64), counts


def _ripple_templates(
    ring: ThonRing, counts: FloatVector, grid: FloatVector, optics: CtfOptics
) -> ComplexTable:
    """-exp(2i chi) at each defocus and radial bin, faded where a tile is too short to resolve it."""
    squared = ring.bin_frequency**2
    chi = optics.defocus_coefficient * grid[:, None] * squared - optics.spherical_coefficient * squared**2
    chi += optics.amplitude_phase_rad
    lag = np.abs(
        2.0 * optics.defocus_coefficient * grid[:, None] * ring.bin_frequency
        - 4.0 * optics.spherical_coefficient * ring.bin_frequency**3
    )
    coherence = taper_coherence(lag / np.pi / ring.tile_length_angstrom)
    return np.asarray(-np.exp(2j * chi) * coherence * (counts > 0))


def _without_smooth_part(templates: ComplexTable, counts: FloatVector) -> ComplexTable:
    """Remove from each template what a smooth background could imitate."""
    used = np.flatnonzero(counts).astype(np.float64)
    position = np.arange(counts.size, dtype=np.float64)
    basis = spline_basis(position, used[0], used[-1], 5)
    weighted = basis * counts[:, None]
    coefficients = np.linalg.solve(basis.T @ weighted, (templates @ weighted).T)
    return np.asarray(templates - (basis @ coefficients).T * (counts > 0))


def _empty_table(size: int) -> FloatVector:
    """Rows: evidence, astigmatism cos, astigmatism sin, phase shift; one column for each mean defocus."""
    table = np.zeros((4, size))
    table[0] = -np.inf
    return table


def _add_astigmatism(
    best: FloatVector, table: ComplexTable, gain: FloatVector, phase_range_deg: tuple[float, float]
) -> None:
    """Keep in `best` the best astigmatism, in the (cos, sin) plane, at each mean defocus."""
    azimuth = np.pi * np.arange(SECTORS) / SECTORS
    margin = round(LARGEST_HALF_ASTIGMATISM_ANGSTROM / DEFOCUS_STEP_ANGSTROM)
    span = slice(margin, table.shape[1] - margin)
    radius = LARGEST_HALF_ASTIGMATISM_ANGSTROM / ASTIGMATISM_STEP_ANGSTROM
    steps = np.arange(-int(radius), int(radius) + 1)
    fixed_phase = phase_range_deg[0] == phase_range_deg[1]
    # Without a phase search only the real part counts, at half the cost.
    rotated = table * np.exp(2j * np.deg2rad(phase_range_deg[0]))
    rows = rotated.real if fixed_phase else rotated
    for i in steps:
        for j in steps[np.hypot(i, steps) <= radius]:
            c, s = i * ASTIGMATISM_STEP_ANGSTROM, j * ASTIGMATISM_STEP_ANGSTROM
            delta = c * np.cos(2 * azimuth) + s * np.sin(2 * azimuth)
            shift = np.rint(delta / DEFOCUS_STEP_ANGSTROM).astype(int)
            total = sum(row[margin + d : row.size - margin + d] for row, d in zip(rows, shift, strict=True))
            match, phase = (total, 0.0) if fixed_phase else _best_phase(total, phase_range_deg)
            evidence = 0.5 * np.maximum(match, 0.0) ** 2 * gain[span]
            evidence -= 0.5 * (c * c + s * s) / HALF_ASTIGMATISM_PRIOR_ANGSTROM**2
            better = evidence > best[0, span]
            for row, value in zip(best, (evidence, c, s, phase + phase_range_deg[0]), strict=True):
                row[span] = np.where(better, value, row[span])


def _best_phase(total: ComplexTable, phase_range_deg: tuple[float, float]) -> tuple[FloatVector, FloatVector]:
    """The match at the best phase shift within the range, and that shift in degrees above its start."""
    width = phase_range_deg[1] - phase_range_deg[0]
    phase = (-0.5 * np.rad2deg(np.angle(total))) % 180.0
    # Outside the range the nearer end is best; 0 and 180 degrees are the same end of the circle.
    outside = np.where(phase - width < 180.0 - phase, width, 0.0)
    phase = np.where(phase <= width, phase, outside)
    return (total * np.exp(2j * np.deg2rad(phase))).real, phase


def _peaks(
    best: FloatVector, grid: FloatVector, defocus_range: tuple[float, float], count: int
) -> list[CtfCandidate]:
    """The highest local maxima over the mean defocus."""
    evidence = np.where((grid >= defocus_range[0]) & (grid <= defocus_range[1]), best[0], -np.inf)
    padded = np.concatenate(([-np.inf], evidence, [-np.inf]))
    local = np.flatnonzero((evidence >= padded[:-2]) & (evidence >= padded[2:]) & np.isfinite(evidence))
    order = local[np.argsort(-evidence[local], kind="stable")][:count]
    found = [CtfCandidate(*(float(value) for value in (grid[i], *best[1:, i], best[0, i]))) for i in order]
    hopeless = min(HOPELESS_FRACTION * found[0].evidence, found[0].evidence - HOPELESS_GAP)
    return [candidate for candidate in found if candidate.evidence > hopeless]
