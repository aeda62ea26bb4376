"""A writer of small EER files, from the format's description alone: BigTIFF, run-length coded events."""

import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

METADATA = (
    '<metadata><item name="exposureTime" unit="s">3.5</item><item name="numberOfFrames">{frames}</item>'
    '<item name="sensorPixelSize.width" unit="m">7.5e-11</item></metadata>'
)


def encode_events(
    pixels: NDArray[np.int64], places_yx: NDArray[np.int64], count: int, skip_bits: int = 7
) -> bytes:
    """One frame: `pixels` are sorted indices below `count`, `places_yx` (event, 2) places in 0..3."""
    bits: list[int] = []

    def put(value: int, width: int) -> None:
        bits.extend((value >> bit) & 1 for bit in range(width))

    def skip(distance: int) -> None:
        full = (1 << skip_bits) - 1
        while distance >= full:
            put(full, skip_bits)
            distance -= full
        put(distance, skip_bits)

    previous = -1
    for pixel, (y, x) in zip(pixels, places_yx, strict=True):
        skip(int(pixel) - previous - 1)
        put(int(x) ^ 2, 2)
        put(int(y) ^ 2, 2)
        previous = int(pixel)
    skip(count - previous - 1)
    # whole 16-bit words, and one more so that a decoder that wants a full symbol at the end finds it
    bits.extend([0] * (16 + -len(bits) % 16))
    return np.packbits(np.array(bits, np.uint8), bitorder="little").tobytes()


def write_eer(path: Path, frames: list[bytes], shape_yx: tuple[int, int], compression: int = 65001) -> None:
    """BigTIFF, one page of one strip for each frame, the camera's XML on the first page."""
    metadata = METADATA.format(frames=len(frames)).encode()
    out = bytearray(b"II+\0" + struct.pack("<HHQ", 8, 0, 0))
    link = 8
    for number, frame in enumerate(frames):
        strip, _ = len(out), out.extend(frame)
        xml, _ = len(out), out.extend(metadata if number == 0 else b"")
        out.extend(bytes(-len(out) % 8))
        tags = [
            (256, 4, 1, struct.pack("<I4x", shape_yx[1])),
            (257, 4, 1, struct.pack("<I4x", shape_yx[0])),
            (258, 3, 1, struct.pack("<H6x", 1)),
            (259, 3, 1, struct.pack("<H6x", compression)),
            (262, 3, 1, struct.pack("<H6x", 1)),
            (273, 16, 1, struct.pack("<Q", strip)),
            (277, 3, 1, struct.pack("<H6x", 1)),
            (278, 4, 1, struct.pack("<I4x", shape_yx[0])),
            (279, 16, 1, struct.pack("<Q", len(frame))),
        ]
        if number == 0:
            tags.append((65001, 7, len(metadata), struct.pack("<Q", xml)))
        if compression == 65002:
            tags += [
                (tag, 3, 1, struct.pack("<H6x", value))
                for tag, value in zip((65007, 65008, 65009), (7, 2, 2), strict=True)
            ]
        struct.pack_into("<Q", out, link, len(out))
        out.extend(struct.pack("<Q", len(tags)))
        for tag, kind, values, value in tags:
            out.extend(struct.pack("<HHQ", tag, kind, values) + value)
        link = len(out)
        out.extend(bytes(8))
    path.write_bytes(out)


def random_frames(
    frames: int, shape_yx: tuple[int, int], events: int, seed: int = 0, skip_bits: int = 7
) -> tuple[list[bytes], NDArray[np.uint16]]:
    """Frames as bytes, and the truth (frame, 4 y, 4 x) at a quarter of a pixel."""
    rng = np.random.default_rng(seed)
    count = shape_yx[0] * shape_yx[1]
    truth = np.zeros((frames, 4 * shape_yx[0], 4 * shape_yx[1]), np.uint16)
    coded = []
    for number in range(frames):
        pixels = np.sort(rng.choice(count, events, replace=False))
        places = rng.integers(0, 4, (events, 2))
        coded.append(encode_events(pixels, places, count, skip_bits))
        truth[number, pixels // shape_yx[1] * 4 + places[:, 0], pixels % shape_yx[1] * 4 + places[:, 1]] += 1
    return coded, truth
