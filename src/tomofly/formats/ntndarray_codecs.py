"""The compressions an areaDetector puts on an NTNDArray: jpeg, blosc, lz4, bslz4 and zlib."""

import math
import zlib
from collections.abc import Callable
from typing import Any

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from tomofly.model.errors import BadInput

# A flat array of bytes. The type hints of the decoders ask for bytes objects; what they take is any buffer.
Payload = Any

# Bitshuffle aims at blocks of 8 KiB of whole groups of 8 elements, never fewer than 128 elements.
_SHUFFLE_BYTES, _SHUFFLE_GROUP, _SHUFFLE_LEAST = 8192, 8, 128


def decompress(codec: str, payload: Payload, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """The image of this shape and type in a compressed `payload` (bytes,).

    Raises BadInput for a codec nobody knows and for a payload that does not hold so many numbers.
    """
    name = codec.lower()
    if name not in CODECS:
        raise BadInput(
            f"the images are compressed with {codec!r}, which is not known here",
            f"set the camera's codec plugin to one of {', '.join(CODECS)} or none",
        )
    try:
        count = math.prod(shape)
        flat = _jpeg(payload, shape) if name == "jpeg" else _DECODERS[name](payload, dtype, count)
    except (RuntimeError, ValueError, zlib.error) as error:
        raise BadInput(f"an image compressed with {codec} cannot be unpacked: {error}") from error
    if flat.dtype != dtype or flat.size != count:
        raise BadInput(
            f"an image compressed with {codec} unpacks to {flat.size} numbers of {flat.dtype}, "
            f"not to {count} of {dtype}"
        )
    return flat.reshape(shape)


def _from_bytes(raw: Any, dtype: np.dtype[Any]) -> NDArray[Any]:
    held = np.frombuffer(raw, np.uint8)
    if held.size % dtype.itemsize:
        raise ValueError(f"{held.size} bytes are no whole number of {dtype}")
    return held.view(dtype)


def _blosc(payload: Payload, dtype: np.dtype[Any], count: int) -> NDArray[Any]:
    # The header promises a size and knows its own length; neither may lie, or memory is read or asked for
    # that is not there.
    if payload.size < 16:
        raise ValueError("it has no blosc header")
    unpacked, _, packed = (int(number) for number in payload[4:16].view("<u4"))
    if unpacked != count * dtype.itemsize or packed != payload.size:
        raise ValueError(f"its blosc header promises {unpacked} bytes from {packed}, of {payload.size}")
    return _from_bytes(imagecodecs.blosc_decode(payload, numthreads=1), dtype)


def _lz4(payload: Payload, dtype: np.dtype[Any], count: int) -> NDArray[Any]:
    return _from_bytes(imagecodecs.lz4_decode(payload, out=count * dtype.itemsize), dtype)


def _zlib(payload: Payload, dtype: np.dtype[Any], count: int) -> NDArray[Any]:
    unpacking = zlib.decompressobj()
    raw = unpacking.decompress(payload, count * dtype.itemsize)
    if unpacking.unconsumed_tail or not unpacking.eof:
        raise ValueError("the zlib stream does not end where the image does")
    return _from_bytes(raw, dtype)


def _jpeg(payload: Payload, shape: tuple[int, ...]) -> NDArray[Any]:
    # Into memory of the right size: what a header promises may be any size.
    image: Any = np.empty(shape, np.uint8)
    return np.asarray(imagecodecs.jpeg_decode(payload, out=image)).reshape(-1)


def _bitshuffled_lz4(payload: Payload, dtype: np.dtype[Any], count: int) -> NDArray[Any]:
    """Blocks, each with its length in four big-endian bytes, then fewer than 8 numbers as they are.

    Masui et al. (2015), Astronomy and Computing 12, 181.
    """
    size = dtype.itemsize
    block = max(_SHUFFLE_BYTES // size // _SHUFFLE_GROUP * _SHUFFLE_GROUP, _SHUFFLE_LEAST) * size
    whole = (count - count % _SHUFFLE_GROUP) * size
    shuffled: Payload = np.empty(count * size, np.uint8)
    at = 0
    for start in range(0, whole, block):
        room: Payload = shuffled[start : min(start + block, whole)]
        packed = int.from_bytes(payload[at : at + 4].tobytes(), "big")
        if not 0 < packed <= payload.size - at - 4:
            raise ValueError(f"block {start // block} of its bitshuffled data is cut short")
        if len(imagecodecs.lz4_decode(payload[at + 4 : at + 4 + packed], out=room)) != room.size:
            raise ValueError(f"block {start // block} of its bitshuffled data has another length")
        at += 4 + packed
    if payload.size - at != shuffled.size - whole:
        raise ValueError("its bitshuffled data have another length than the image")
    shuffled[whole:] = payload[at:]
    # As bytes: of an array, the decoder would take the array's own size of item.
    plain = imagecodecs.bitshuffle_decode(shuffled.data, itemsize=size, blocksize=block // size)
    return _from_bytes(plain, dtype)


_DECODERS: dict[str, Callable[[Payload, np.dtype[Any], int], NDArray[Any]]] = {
    "blosc": _blosc,
    "bslz4": _bitshuffled_lz4,
    "lz4": _lz4,
    "zlib": _zlib,
}
CODECS = ("blosc", "bslz4", "jpeg", "lz4", "zlib")
