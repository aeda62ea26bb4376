"""Compression of frames as areaDetector's codec plugin does it: lz4, bslz4 and blosc."""

from typing import Literal

import imagecodecs
import numpy as np
from numpy.typing import NDArray

CodecName = Literal["none", "lz4", "bslz4", "blosc", "unknown"]
CODECS: tuple[CodecName, ...] = ("none", "lz4", "bslz4", "blosc", "unknown")
# What the bitshuffle library takes as its block where it is not told.
BITSHUFFLE_BLOCK_BYTES = 8192
UNKNOWN_NAME = "zfp-9000"


def wire_name(codec: CodecName) -> str:
    """What codec.name says: nothing for frames that are not compressed."""
    return {"none": "", "unknown": UNKNOWN_NAME}.get(codec, codec)


def compressed(image: NDArray[np.generic], codec: CodecName) -> NDArray[np.uint8]:
    """Bytes of an image (y, x) after compression. An unknown codec's bytes are noise to everybody."""
    data = np.ascontiguousarray(image)
    if codec == "lz4":
        packed = imagecodecs.lz4_encode(data.tobytes(), header=False)
    elif codec == "bslz4":
        packed = _bitshuffled_lz4(data)
    elif codec == "blosc":
        packed = imagecodecs.blosc_encode(
            data.tobytes(), level=5, compressor="lz4", shuffle="shuffle", typesize=data.itemsize
        )
    else:
        packed = bytes(reversed(data.tobytes()[: data.nbytes // 2]))
    return np.frombuffer(packed, dtype=np.uint8)


def _bitshuffled_lz4(data: NDArray[np.generic]) -> bytes:
    """Blocks of transposed bits, each compressed, after its size in 4 bytes; then what is left, as is."""
    flat = data.ravel()
    block = max(BITSHUFFLE_BLOCK_BYTES // flat.itemsize // 8 * 8, 128)
    whole = flat.size // 8 * 8
    parts: list[bytes] = []
    for start in range(0, whole, block):
        piece = flat[start : min(start + block, whole)]
        shuffled = imagecodecs.bitshuffle_encode(piece.tobytes(), itemsize=flat.itemsize)
        packed = bytes(imagecodecs.lz4_encode(shuffled, header=False))
        parts += [len(packed).to_bytes(4, "big"), packed]
    return b"".join([*parts, flat[whole:].tobytes()])
