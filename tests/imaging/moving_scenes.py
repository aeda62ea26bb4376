"""Movies with known motion, made without the package: splines on a random structure, and counting noise."""

from dataclasses import dataclass

import numpy as np
from scipy import fft, ndimage

MARGIN = 48


@dataclass(frozen=True)
class MovingScene:
    """Raw frames (frame, y, x) and the shift to apply at coordinates, relative to frame 0."""

    frames: np.ndarray
    drift_yx_px: np.ndarray
    local_px: float
    decay: np.ndarray

    def shift_field(self, y, x):
        """Shift to apply (frame, len(y), len(x), 2)."""
        v, u = np.meshgrid(
            (np.asarray(y) + 0.5) / self.frames.shape[1] - 0.5,
            (np.asarray(x) + 0.5) / self.frames.shape[2] - 0.5,
            indexing="ij",
        )
        field = -self.drift_yx_px[:, None, None, :] - self.decay[:, None, None, None] * local_field(
            v, u, self.local_px
        )
        return field - field[0]


def local_field(v, u, size_px):
    """Displacement (..., 2) of the specimen at relative places v (y) and u (x) once all motion is over."""
    return size_px * np.stack([u + 1.5 * v * v - 0.5 * v, 1.2 * v - 1.5 * u * v], axis=-1)


def random_structure(shape, rng, contrast=0.1, softness_px=40.0, bfactor_px2=100.0):
    """A zero-mean random picture with most power at low frequencies, as ice with particles has."""
    spectrum = fft.rfft2(rng.standard_normal(shape))
    k2 = np.fft.fftfreq(shape[0])[:, None] ** 2 + np.fft.rfftfreq(shape[1]) ** 2
    spectrum *= np.exp(-0.25 * bfactor_px2 * k2) / (1 + softness_px**2 * k2)
    spectrum[0, 0] = 0
    picture = fft.irfft2(spectrum, s=shape)
    return contrast * picture / picture.std()


def moving_scene(
    shape=(392, 340),
    n_frames=16,
    dose=1.0,
    drift=(9.0, -6.0),
    local_px=0.0,
    contrast=0.15,
    seed=0,
    counting=True,
):
    """Take a movie of a moving structure; the specimen moves by +drift, so -drift is to be applied."""
    rng = np.random.default_rng(seed)
    structure = random_structure(tuple(size + 2 * MARGIN for size in shape), rng, contrast)
    spline = ndimage.spline_filter(structure, order=3)
    t = np.arange(n_frames)
    path = np.outer(t / n_frames, drift) + np.outer(1 - np.exp(-t / 2.0), [2.0, 1.5])
    decay = 1 - np.exp(-t / (0.2 * n_frames))
    y, x = np.mgrid[: shape[0], : shape[1]].astype(float)
    local = local_field((y + 0.5) / shape[0] - 0.5, (x + 0.5) / shape[1] - 0.5, local_px)
    frames = np.empty((n_frames, *shape), dtype=np.uint8 if counting else np.float32)
    for i in range(n_frames):
        seen = [
            y + MARGIN - path[i, 0] - decay[i] * local[..., 0],
            x + MARGIN - path[i, 1] - decay[i] * local[..., 1],
        ]
        picture = dose * (1 + ndimage.map_coordinates(spline, seen, order=3, prefilter=False))
        frames[i] = rng.poisson(np.maximum(picture, 0)) if counting else picture
    return MovingScene(frames, path, local_px, decay)


def shift_error(measured, truth):
    """Return errors (frame, ..., 2) with each place's mean over frames removed, which no sum can see."""
    error = measured - truth
    return error - error.mean(axis=0)


def rms(values):
    """Root mean square."""
    return float(np.sqrt(np.mean(np.square(values))))
