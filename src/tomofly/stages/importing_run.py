"""Import, at work: read headers, a few frames and the metadata, and compare them with the settings."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tomofly.formats.eer import EerRendering, plan_fractions
from tomofly.formats.epu import EpuMetadata, read_epu_xml
from tomofly.formats.errors import BadFile
from tomofly.formats.movie import MovieHeader, read_frames, read_header
from tomofly.model import (
    BadInput,
    Flag,
    GainParams,
    ItemRef,
    MicroscopeParams,
    Outcome,
    StageContext,
    fingerprint,
)
from tomofly.stages.faults import blamed_on_input
from tomofly.stages.gain_reference import gain_shape, recorded_gain, require_gain_fits
from tomofly.stages.gain_test import GainTest, check_gain_orientation
from tomofly.stages.importing import ImportParams
from tomofly.stages.sections import gain_of, microscope_of

# More of the pixels than this at the largest number that they can hold: the frame is lost, or worth a look.
LOST_IF_SATURATED = 0.5
SATURATED_FLAG = 0.001
PIXEL_SIZE_TOLERANCE = 0.01
DOSE_TOLERANCE = 0.2
# What programs write into an MRC header when they do not know better.
UNKNOWN_PIXEL_ANGSTROM = 1.0


@dataclass(frozen=True)
class FrameSample:
    """Statistics of some whole frames, and their mean (y, x)."""

    mean_frame: npt.NDArray[np.float32]
    mean_counts: float
    zero_fraction: float
    saturated_fraction: float


def import_movie(item: ItemRef, params: ImportParams, ctx: StageContext) -> Outcome:
    """Check one movie and collect what is known of it; reads headers and a few frames, writes nothing."""
    microscope, gain = microscope_of(ctx), gain_of(ctx)
    products = ctx.inputs["transfer"].products
    with blamed_on_input("The movie cannot be read", "Transfer it again"):
        header = read_header(products["movie"])
    _require_expected(header, params)
    _require_matching_gain(header, gain)
    metadata, flags = _read_metadata(products.get("xml"))
    with blamed_on_input("The movie cannot be read", "Transfer it again"):
        sample = sample_movie(header, params.sample_frames)
    _require_counts(sample)
    test = _test_gain(sample, gain) if params.test_gain_orientation else None
    flags += [*_header_flags(header), *_agreement_flags(header, metadata, microscope)]
    flags += [*_sample_flags(sample), *(test.flags if test else ())]
    dose = _dose_per_frame(header, metadata, microscope)
    if dose is None and header.frames > 1:
        message = "Neither the settings nor the metadata give the dose: no dose weighting"
        flags.append(Flag("dose_unknown", message))
    metrics = _metrics(header, sample, test, dose, metadata)
    ctx.log.info("%s: %d frames of %d x %d", item.key, header.frames, *header.shape_yx[::-1])
    # What later stages take from here, so that they are not redone when only a check has changed.
    content = fingerprint("import", header.frames, list(header.shape_yx), dose)
    return Outcome(metrics=metrics, flags=tuple(flags), content=content)


def sample_movie(header: MovieHeader, count: int) -> FrameSample:
    """Look at ``count`` frames spread over the movie. Raises BadFile, and ValueError for NaN."""
    rendering = EerRendering() if header.format == "eer" else None
    available = header.frames
    if rendering is not None:
        available = plan_fractions(header.frames, rendering.fractions).count
    chosen = sorted({round(i) for i in np.linspace(0, available - 1, min(count, available))})
    total: npt.NDArray[np.float32] | None = None
    zeros = saturated = 0
    for index in chosen:
        frame = read_frames(header.path, frame_range=(index, index + 1), eer=rendering)[0]
        _require_numbers(frame, index)
        zeros += frame.size - int(np.count_nonzero(frame))
        saturated += _saturated(frame)
        total = frame.astype(np.float32) if total is None else total + frame
    assert total is not None  # noqa: S101 - a movie has at least one frame
    pixels = total.size * len(chosen)
    mean = total / np.float32(len(chosen))
    return FrameSample(mean, float(mean.mean(dtype=np.float64)), zeros / pixels, saturated / pixels)


def _require_numbers(frame: npt.NDArray[Any], index: int) -> None:
    if frame.dtype.kind != "f" or np.isfinite(frame.sum(dtype=np.float64)):
        return
    broken = frame.size - int(np.count_nonzero(np.isfinite(frame)))
    raise ValueError(
        f"frame {index + 1} has {broken} of {frame.size} pixels that are no numbers (NaN or infinite)"
    )


def _saturated(frame: npt.NDArray[Any]) -> int:
    if frame.dtype.kind == "f":
        return 0
    return int(np.count_nonzero(frame == np.iinfo(frame.dtype).max))


def _require_expected(header: MovieHeader, params: ImportParams) -> None:
    rows, columns = header.shape_yx
    if min(rows, columns) < params.minimum_side_px:
        raise BadInput(
            f"The movie has frames of {columns} x {rows} pixels, import.minimum_side_px asks for "
            f"{params.minimum_side_px} at least",
            "Narrow the pattern to movies, or lower that setting",
        )
    if header.frames < params.minimum_frames:
        raise BadInput(
            f"The movie has {header.frames} frames, import.minimum_frames asks for {params.minimum_frames}",
            "Leave the movie out, or lower that setting",
        )
    if params.expected_size_px not in (None, header.shape_yx):
        height, width = params.expected_size_px or (0, 0)
        raise BadInput(
            f"The movie has frames of {columns} x {rows} pixels, "
            f"import.expected_size_px says {width} x {height}",
            "Leave the movie out, or correct that setting (height, width)",
        )


def _require_matching_gain(header: MovieHeader, gain: GainParams) -> None:
    shape = gain_shape(gain)
    if shape is not None:
        require_gain_fits(gain, shape, header.shape_yx)


def _require_counts(sample: FrameSample) -> None:
    low, high = float(sample.mean_frame.min()), float(sample.mean_frame.max())
    if low == high == 0:
        raise BadInput("All pixels of the movie are zero", "Check the beam, the shutter and the camera")
    if low == high:
        raise BadInput(f"All pixels of the movie have the value {low:g}", "Check the beam and the camera")
    if sample.saturated_fraction > LOST_IF_SATURATED:
        raise BadInput(
            f"{100 * sample.saturated_fraction:.0f} % of the pixels are saturated",
            "Lower the dose rate, or write frames with more bits",
        )


def _read_metadata(path: Path | None) -> tuple[EpuMetadata | None, list[Flag]]:
    """The XML beside the movie; what is wrong with it is no reason to lose the movie."""
    if path is None:
        return None, []
    try:
        return read_epu_xml(path), []
    except BadFile as error:
        return None, [Flag("metadata_unreadable", f"{path.name} {error.what}: the movie is used without it")]


def _header_flags(header: MovieHeader) -> Iterator[Flag]:
    if header.trailing_bytes:
        message = f"The file is {header.trailing_bytes} bytes longer than its header says; they are not used"
        yield Flag("trailing_bytes", message)


def _sample_flags(sample: FrameSample) -> Iterator[Flag]:
    if sample.saturated_fraction > SATURATED_FLAG:
        yield Flag("saturated", f"{100 * sample.saturated_fraction:.2g} % of the pixels are saturated")


def _agreement_flags(
    header: MovieHeader, metadata: EpuMetadata | None, microscope: MicroscopeParams
) -> Iterator[Flag]:
    """Where the settings and what came with the movie contradict each other; the settings are used."""
    yield from _pixel_size_flag(header, metadata, microscope.pixel_size_angstrom)
    if metadata is None:
        return
    voltage = metadata.voltage_kv
    if voltage is not None and abs(voltage - microscope.voltage_kv) > 1:
        message = f"The settings say {microscope.voltage_kv:g} kV, the metadata {voltage:g} kV"
        yield Flag("voltage_differs", f"{message}; the settings are used")
    dose = metadata.dose_e_per_angstrom2
    asked = microscope.dose_per_frame_e_per_a2 * header.frames
    if dose and asked and abs(asked / dose - 1) > DOSE_TOLERANCE:
        message = (
            f"The settings say {asked:.3g} e⁻/Å² in {header.frames} frames, the metadata {dose:.3g} e⁻/Å²"
        )
        yield Flag("dose_differs", f"{message}; the settings are used")
    if metadata.doses_agree is False:
        yield Flag(
            "dose_contradicts", "The dose at the specimen and that on the camera do not agree in the metadata"
        )


def _pixel_size_flag(header: MovieHeader, metadata: EpuMetadata | None, asked: float) -> Iterator[Flag]:
    said = {
        "the file's header": None if _says_nothing(header) else header.pixel_size_angstrom,
        "the metadata": metadata.pixel_size_angstrom if metadata else None,
    }
    differing = {who: value for who, value in said.items() if value and _differ(value, asked)}
    if not differing:
        return
    words = ", ".join(f"{who} {value:.4g} Å" for who, value in differing.items())
    factors = (value / asked for value in differing.values())
    doubled = any(not _differ(factor, 2.0) or not _differ(factor, 0.5) for factor in factors)
    hint = " (a factor of 2: one of them may be for super-resolution)" if doubled else ""
    message = f"The settings say {asked:.4g} Å per pixel, {words}{hint}; the settings are used"
    yield Flag("pixel_size_differs", message)


def _says_nothing(header: MovieHeader) -> bool:
    return header.format == "mrc" and header.pixel_size_angstrom == UNKNOWN_PIXEL_ANGSTROM


def _differ(a: float, b: float) -> bool:
    return abs(a / b - 1) > PIXEL_SIZE_TOLERANCE


def _test_gain(sample: FrameSample, gain: GainParams) -> GainTest | None:
    recorded = recorded_gain(gain)
    if recorded is None:
        return None
    with blamed_on_input("The gain reference cannot be compared with the movie", "Check gain.path"):
        return check_gain_orientation(sample.mean_frame, recorded, gain)


def _dose_per_frame(
    header: MovieHeader, metadata: EpuMetadata | None, microscope: MicroscopeParams
) -> float | None:
    """e⁻/Å² per recorded frame: the settings' where they give one, else the metadata's."""
    if microscope.dose_per_frame_e_per_a2 > 0:
        return microscope.dose_per_frame_e_per_a2
    if metadata is None or not metadata.dose_e_per_angstrom2:
        return None
    return metadata.dose_e_per_angstrom2 / header.frames


def _metrics(
    header: MovieHeader,
    sample: FrameSample,
    test: GainTest | None,
    dose: float | None,
    metadata: EpuMetadata | None,
) -> dict[str, float]:
    """Everything that is known; what is not is left out."""
    stage = metadata.stage_xyz_um if metadata else None
    beam = metadata.beam_shift_xy if metadata else None
    acquired = metadata.acquired_at if metadata else None
    defocus = metadata.applied_defocus_angstrom if metadata else None
    known: dict[str, float | None] = {
        "frames": header.frames,
        "height_px": header.shape_yx[0],
        "width_px": header.shape_yx[1],
        "file_size_mb": header.file_bytes / 1e6,
        "recorded_pixel_size_angstrom": header.pixel_size_angstrom,
        "dose_per_frame_e_per_a2": dose,
        "total_dose_e_per_a2": None if dose is None else dose * header.frames,
        "mean_counts": sample.mean_counts,
        "zero_fraction": sample.zero_fraction,
        "saturated_fraction": sample.saturated_fraction,
        "gain_correlation": test.correlation if test else None,
        "gain_z_score": test.z_score if test else None,
        "stage_x_um": stage[0] if stage else None,
        "stage_y_um": stage[1] if stage else None,
        "stage_z_um": stage[2] if stage else None,
        "tilt_deg": metadata.tilt_deg if metadata else None,
        "beam_shift_x": beam[0] if beam else None,
        "beam_shift_y": beam[1] if beam else None,
        "applied_defocus_angstrom": defocus,
        "acquired_unix_s": acquired.timestamp() if acquired else None,
    }
    return {name: float(value) for name, value in known.items() if value is not None}
