"""A run of dark or flat frames becomes one field: its mean, its noise, and whether it can be right."""

import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tomofly.live.frames import Frame, FrameKind

# More pixels than these at the end of the camera's range, and a field says nothing.
_MOST_SATURATED = 0.01
# Noise is the same everywhere: every so-manieth pixel is enough to know it.
_NOISE_STRIDE = 7


@dataclass(frozen=True, eq=False)
class FieldVersion:
    """A dark or flat: `mean` (y, x) float32 of `count` frames, valid for frames from `valid_from` on.

    `noise`: standard deviation of one frame, in counts, NaN for a single frame. `saturated`: share of pixels
    at the end of the camera's range. `dtype`: of the camera's images, as one of 8 bits counts otherwise than
    one of 16; None where nobody said. `raw` (frame, y, x): frames as they were, or None; their `angles_deg`.
    """

    kind: FrameKind
    mean: NDArray[np.float32]
    count: int
    noise: float
    valid_from: int
    lens: int | None = None
    exposure_s: float | None = None
    taken_at: float = math.nan
    saturated: float = 0.0
    dtype: str | None = None
    raw: NDArray[np.generic] | None = field(default=None, repr=False)
    angles_deg: NDArray[np.float64] | None = field(default=None, repr=False)

    @property
    def key(self) -> tuple[object, ...]:
        """What versions have in common that follow each other."""
        return self.kind, self.lens, self.exposure_s, self.mean.shape, self.dtype

    def without_raw(self) -> "FieldVersion":
        """The same, less the single frames."""
        return replace(self, raw=None, angles_deg=None)


class FieldRun:
    """Dark or flat frames, one after the other."""

    def __init__(self, first: Frame, raw_frames: int) -> None:
        self._first, self._raw_frames = first, raw_frames
        self._sum = np.zeros(first.image.shape, np.float64)
        self._count = 0
        self._raw: list[Frame] = []
        self._variances: list[float] = []
        self._sample: NDArray[np.float64] | None = None
        self.add(first)

    def continues_with(self, frame: Frame) -> bool:
        """Whether the frame is of the same sort."""
        first = self._first
        return (
            (frame.kind, frame.lens, frame.exposure_s) == (first.kind, first.lens, first.exposure_s)
            and frame.image.shape == first.image.shape
            and frame.image.dtype == first.image.dtype
        )

    def add(self, frame: Frame) -> None:
        """Take one more frame."""
        self._sum += frame.image
        self._count += 1
        if len(self._raw) < self._raw_frames:
            self._raw.append(frame)
        sample = frame.image[::_NOISE_STRIDE, ::_NOISE_STRIDE].astype(np.float64)
        if self._sample is not None:
            # Of differences, so that neither the pattern of the field nor its drift count as noise.
            self._variances.append(float(np.var(sample - self._sample)) / 2)
        self._sample = sample

    def version(self) -> FieldVersion:
        """The field of all frames so far."""
        first = self._first
        raw = [frame.image for frame in self._raw]
        return FieldVersion(
            kind=first.kind,
            mean=(self._sum / self._count).astype(np.float32),
            count=self._count,
            noise=math.sqrt(np.mean(self._variances)) if self._variances else math.nan,
            valid_from=first.number,
            lens=first.lens,
            exposure_s=first.exposure_s,
            taken_at=first.acquired_at,
            saturated=_saturated(first.image),
            dtype=str(first.image.dtype),
            raw=np.stack(raw) if raw else None,
            angles_deg=np.array([frame.angle_deg for frame in self._raw]) if raw else None,
        )


def unusable(version: FieldVersion, opposite: FieldVersion | None) -> str:
    """Why a field cannot be right, given the flat or dark that goes with it; empty where it can."""
    name = f"the {version.kind.name.lower()} field from frame {version.valid_from}"
    mean = version.mean
    if not np.isfinite(mean).all():
        return f"{name} has pixels that are no numbers"
    if version.saturated > _MOST_SATURATED:
        return f"{name} is saturated in {version.saturated:.0%} of its pixels: shorten the exposure"
    if version.kind is FrameKind.FLAT and not mean.any():
        return f"{name} is zero everywhere: is the shutter open?"
    if opposite is not None:
        dark, flat = (mean, opposite.mean) if version.kind is FrameKind.DARK else (opposite.mean, mean)
        if np.mean(flat > dark) < 0.5:
            return (
                f"{name} makes the dark field as bright as the flat field (means {dark.mean():.1f} and "
                f"{flat.mean():.1f}): take both again, and look at the shutter"
            )
    return ""


def _saturated(image: NDArray[np.generic]) -> float:
    """The share of pixels at the end of the camera's range, whether or not it fills that of the type."""
    if not np.issubdtype(image.dtype, np.integer):
        return 0.0
    highest = int(image.max())
    return float(np.mean(image == highest)) if _is_a_ceiling(highest, image.dtype) else 0.0


def _is_a_ceiling(count: int, dtype: np.dtype[Any]) -> bool:
    """Whether a converter of 8 to 16 bits ends here: 4095, say, or 65520 where its bits are shifted up."""
    limit = int(np.iinfo(dtype).max) + 1
    below = limit - count
    return (count >= 255 and (count + 1).bit_count() == 1) or (below <= 64 and below.bit_count() == 1)
