"""What stretched tilt images have in common if the specimen is a slab: a likelihood of their shifts.

Model: the specimen is random structure of power S(k) between z = −T/2 and T/2. Two images stretched onto its
plane then share S(k)·sinc(T·kx·(tan a − tan b)) at the frequency k, which is the projection theorem and the
Fourier transform of the slab, and each has noise of its own. All images together are one Gaussian vector at
every frequency; its likelihood weighs each pair of tilts and each frequency by what they can know of each
other, and its expected curvature gives the errors of the shifts.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import fft

FloatArray = npt.NDArray[np.float64]
FloatImages = npt.NDArray[np.float32]
ComplexBlock = npt.NDArray[np.complex64]

# Pairs of tilts closer than this tell the part of signal in the images.
_NEAR_DEG = 6.5
# What the model itself gets wrong, as a part of the signal: the edge of the field, matter in clumps.
_MODEL_ERROR = 0.1
# What lies beyond this part of the Nyquist frequency of a compressed image is interpolation, not measurement.
_TRUSTED_PART = 0.9
# A shift further than this from where it stands is not expected, pixels of the plane: a weak restraint that
# fixes translations of the whole.
_RESTRAINT_PX = 30.0
_BLIND_NOISE = 1e6


@dataclass(frozen=True)
class SlabSpectra:
    """Whitened transforms of stretched images, (kx, tilt, ky), within a band of frequencies.

    ``kx`` (kx,), ``ky`` (ky,) in cycles per pixel of the plane; ``inside`` (kx, ky): the band, each frequency
    of a real picture once; ``ring`` (kx, ky): index of |k| for radial curves. ``independence``: the share of
    the frequencies that are independent of each other under the window.
    """

    values: ComplexBlock
    kx: FloatArray
    ky: FloatArray
    inside: npt.NDArray[np.bool_]
    ring: npt.NDArray[np.int64]
    independence: float


@dataclass(frozen=True)
class SlabModel:
    """``tangent`` (tilt,) of the angles to the slab, its thickness in pixels of the plane, and the noise.

    Noise over signal is ``ring_noise`` (ring,) times ``tilt_noise`` (tilt,), and unbounded at columns
    ``blind`` (kx, tilt), which an image compressed by its tilt cannot show.
    """

    tangent: FloatArray
    thickness_px: float
    ring_noise: FloatArray
    tilt_noise: FloatArray
    blind: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class SlabFit:
    """Log-likelihood, a step (tilt, 2) as (y, x) to apply in the plane, and its covariance (2 tilt, 2 tilt).

    The covariance is ordered as the step is, flattened. ``misfit`` (tilt,): power of what the others do not
    predict of an image, over that expected; 1 if the noise of the tilt is as the model has it.
    ``expected_gain`` (tilt,): by how much the step is expected to raise the likelihood.
    """

    log_likelihood: float
    step_yx_px: FloatArray
    covariance: FloatArray
    misfit: FloatArray
    expected_gain: FloatArray


def slab_spectra(
    planes: FloatImages, window: FloatImages, lowest: float, highest: float, threads: int = 1
) -> SlabSpectra:
    """Transform and whiten images (tilt, y, x) in the specimen's plane, between two frequencies per pixel."""
    size = planes.shape[1:]
    kx = np.asarray(np.fft.rfftfreq(size[1]), dtype=np.float64)
    ky = np.asarray(np.fft.fftfreq(size[0]), dtype=np.float64)
    take_x, take_y = np.flatnonzero(kx <= highest), np.flatnonzero(np.abs(ky) <= highest)
    half = fft.rfft(planes * window, axis=2, workers=threads)[:, :, take_x]
    values = fft.fft(half, axis=1, workers=threads)[:, take_y].transpose(2, 0, 1)
    kx, ky = kx[take_x], ky[take_y]
    radius = np.hypot(kx[:, None], ky[None, :])
    inside = (radius >= lowest) & (radius <= highest) & ((kx[:, None] > 0) | (ky[None, :] > 0))
    ring = np.rint(radius * max(size) / 2).astype(np.int64)
    whitened = _whitened(values, inside, ring)
    power = window.astype(np.float64) ** 2
    return SlabSpectra(
        whitened, kx, ky, inside, ring, float(power.sum() ** 2 / np.sum(power**2) / power.size)
    )


def _whitened(
    values: ComplexBlock, inside: npt.NDArray[np.bool_], ring: npt.NDArray[np.int64]
) -> ComplexBlock:
    """Divide every image by its root power in rings; what lies outside of the band becomes 0."""
    whitened = np.zeros(values.shape, dtype=np.complex64)
    rings, count = ring[inside], np.bincount(ring[inside], minlength=ring.max() + 1)
    for tilt in range(values.shape[1]):
        power = np.bincount(rings, np.abs(values[:, tilt][inside]) ** 2, minlength=len(count))
        mean = power / np.maximum(count, 1)
        scale = np.divide(1.0, np.sqrt(mean), out=np.zeros_like(mean), where=mean > 0)
        whitened[:, tilt] = np.where(inside, values[:, tilt] * scale[ring], 0)
    return whitened


def moved(spectra: SlabSpectra, shift_yx_px: FloatArray) -> SlabSpectra:
    """Give the spectra with a shift (tilt, 2) applied to every image."""
    along_y = np.exp(-2j * np.pi * shift_yx_px[:, 0, None] * spectra.ky[None, :]).astype(np.complex64)
    along_x = np.exp(-2j * np.pi * spectra.kx[:, None] * shift_yx_px[None, :, 1]).astype(np.complex64)
    values = spectra.values * along_x[:, :, None] * along_y[None]
    return SlabSpectra(values, spectra.kx, spectra.ky, spectra.inside, spectra.ring, spectra.independence)


def coherence(kx: FloatArray, tangent: FloatArray, thickness_px: float) -> FloatArray:
    """Give the correlation (kx, tilt, tilt) of images of a slab without noise."""
    return np.asarray(
        np.sinc(thickness_px * kx[:, None, None] * (tangent[None, :, None] - tangent[None, None, :]))
    )


def slab_model(
    spectra: SlabSpectra,
    tilt_angle_deg: FloatArray,
    compression: FloatArray,
    thickness_px: float,
    step: float = 1.0,
) -> SlabModel:
    """Measure the noise from what neighbouring tilts share.

    ``compression`` (tilt,): by how much an image is shorter than the plane, the cosine of its tilt;
    ``step``: pixels of the image per pixel of the plane at zero tilt.
    """
    tangent = np.tan(np.deg2rad(tilt_angle_deg))
    blind = spectra.kx[:, None] > 0.5 * _TRUSTED_PART * np.abs(compression)[None, :] * step
    first, second = _near_pairs(tilt_angle_deg)
    if len(first) == 0:
        return SlabModel(tangent, thickness_px, np.ones(spectra.ring.max() + 1), np.ones(len(tangent)), blind)
    expected = np.sinc(thickness_px * spectra.kx[:, None] * (tangent[first] - tangent[second]))
    expected[blind[:, first] | blind[:, second]] = 0.0
    shared = np.real(spectra.values[:, first] * np.conj(spectra.values[:, second]))
    shared *= expected[:, :, None].astype(np.float32)
    share_of_ring = _signal_share(spectra, shared.sum(axis=1), np.sum(expected**2, axis=1))
    ring_noise = (1 - share_of_ring) / share_of_ring + _MODEL_ERROR
    return SlabModel(tangent, thickness_px, ring_noise, np.ones(len(tangent)), blind)


def _near_pairs(tilt_angle_deg: FloatArray) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Give all pairs closer than some degrees, or, where tilts are sparse, each with the next."""
    order = np.argsort(tilt_angle_deg, kind="stable")
    steps = np.diff(tilt_angle_deg[order])
    reach = max(_NEAR_DEG, 1.01 * float(np.median(steps))) if len(steps) else _NEAR_DEG
    distance = np.abs(tilt_angle_deg[:, None] - tilt_angle_deg[None, :])
    first, second = np.nonzero(np.triu(distance <= reach, 1))
    return first, second


def _signal_share(spectra: SlabSpectra, shared: FloatArray, weight: FloatArray) -> FloatArray:
    """Give the part of signal (ring,) in the power of the images, smoothed over three rings."""
    inside, rings = spectra.inside, spectra.ring[spectra.inside]
    size = int(spectra.ring.max()) + 1
    total = np.bincount(rings, shared[inside], minlength=size)
    known = np.bincount(rings, np.broadcast_to(weight[:, None], inside.shape)[inside], minlength=size)
    kernel = np.array([1.0, 2.0, 1.0])
    share = np.convolve(total, kernel, "same") / np.maximum(np.convolve(known, kernel, "same"), 1e-9)
    return np.asarray(np.clip(share, 1e-4, 0.98))


def fit_slab(spectra: SlabSpectra, model: SlabModel) -> SlabFit:
    """Take one step of Fisher scoring on the likelihood of the shifts.

    With the noise of the tilts divided out, the covariance matrices of a column of frequencies share their
    eigenvectors, and the noise of a ring only adds to the eigenvalues.
    """
    tilt_noise = np.where(model.blind, _BLIND_NOISE, model.tilt_noise[None, :])
    root = np.sqrt(tilt_noise)
    scaled = coherence(spectra.kx, model.tangent, model.thickness_px) / (root[:, :, None] * root[:, None, :])
    eigenvalue, vector = np.linalg.eigh(scaled)
    noise = model.ring_noise[spectra.ring]
    power = 1 + noise[:, None, :] * tilt_noise[:, :, None]
    level = np.maximum(eigenvalue, 0.0)[:, :, None] + noise[:, None, :]
    data = spectra.values * np.sqrt(power / tilt_noise[:, :, None]).astype(np.float32)
    part = _turned(vector.transpose(0, 2, 1), data)
    predicted = _turned(vector, part / level.astype(np.float32))
    cost = np.sum(np.abs(part) ** 2 / level + np.log(level / power) + np.log(tilt_noise)[:, :, None], axis=1)
    slope = _slope(spectra)
    pull = np.imag(np.conj(data) * predicted).transpose(1, 0, 2).reshape(len(model.tangent), -1)
    information, precision = _information(slope, level, noise, vector, scaled)
    misfit = np.sum(np.abs(predicted) ** 2, axis=(0, 2)) / precision
    return _solved(
        -float(cost[spectra.inside].sum()),
        2 * pull @ slope.reshape(2, -1).T,
        information,
        spectra.independence,
        misfit,
    )


def _slope(spectra: SlabSpectra) -> FloatArray:
    """Give 2π·(ky, kx) (2, kx, ky), 0 outside of the band."""
    ky, kx = np.broadcast_arrays(spectra.ky[None, :], spectra.kx[:, None])
    return np.asarray(2 * np.pi * np.stack([ky, kx]) * spectra.inside)


def _turned(matrix: FloatArray, values: ComplexBlock) -> ComplexBlock:
    """Multiply real matrices (kx, i, tilt) with complex values (kx, tilt, ky)."""
    pairs = np.ascontiguousarray(values).view(np.float32)
    return np.asarray(matrix.astype(np.float32) @ pairs).view(np.complex64)


def _information(
    slope: FloatArray, level: FloatArray, noise: FloatArray, vector: FloatArray, scaled: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Sum 2·κκ·(C⁻¹∘C − 1) over all frequencies, the expected curvature (2, tilt, 2, tilt), and diag C⁻¹."""
    tilts = vector.shape[1]
    information = np.zeros((2, tilts, 2, tilts))
    across, squared = vector.transpose(0, 2, 1), vector**2
    relative = noise[:, None, :] / level
    for a, b in ((0, 0), (0, 1), (1, 1)):
        slope2 = (slope[a] * slope[b])[:, :, None]
        inverse = (vector * (1 / level @ slope2).transpose(0, 2, 1)) @ across
        with_noise = np.sum(squared @ (relative @ slope2), axis=(0, 2))
        curvature = np.sum(inverse * scaled, axis=0) + np.diag(with_noise - slope2.sum())
        information[a, :, b] = information[b, :, a] = 2 * curvature
    inside = (slope != 0).any(axis=0)[:, :, None].astype(np.float64)
    return information, np.sum(squared @ (1 / level @ inside), axis=(0, 2))


def _solved(
    total: float, gradient: FloatArray, information: FloatArray, independence: float, misfit: FloatArray
) -> SlabFit:
    size = gradient.size
    curvature = information.transpose(1, 0, 3, 2).reshape(size, size) * independence
    curvature = (curvature + curvature.T) / 2 + np.eye(size) / _RESTRAINT_PX**2
    covariance = np.asarray(np.linalg.inv(curvature), dtype=np.float64)
    pull = gradient.ravel() * independence
    step = covariance @ pull
    gain = 0.5 * np.sum((pull * step).reshape(-1, 2), axis=1)
    return SlabFit(total * independence, step.reshape(gradient.shape), covariance, misfit, gain)
