"""NTNDArray, the form in which EPICS sends images over PVAccess: read, and made to be served."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from p4p import Value
from p4p.nt import NTNDArray

from tomofly.formats.ntndarray_codecs import decompress
from tomofly.model.errors import BadInput

TYPE_ID = "epics:nt/NTNDArray:1.0"

# What the codec's parameter says of the numbers before compression: pvData's numbers of scalar types.
_PVDATA_TYPES: dict[int, str] = {
    0: "?", 1: "i1", 2: "i2", 3: "i4", 4: "i8", 5: "u1", 6: "u2", 7: "u4", 8: "u8", 9: "f4", 10: "f8",
}  # fmt: skip
_PVDATA_NUMBER = {np.dtype(code): number for number, code in _PVDATA_TYPES.items()}
_UNION_FIELD = {
    np.dtype("?"): "booleanValue", np.dtype("i1"): "byteValue", np.dtype("i2"): "shortValue",
    np.dtype("i4"): "intValue", np.dtype("i8"): "longValue", np.dtype("u1"): "ubyteValue",
    np.dtype("u2"): "ushortValue", np.dtype("u4"): "uintValue", np.dtype("u8"): "ulongValue",
    np.dtype("f4"): "floatValue", np.dtype("f8"): "doubleValue",
}  # fmt: skip
_TYPE = NTNDArray.buildType()
# Larger than any detector; a dimension beyond it is nonsense and must not become an allocation.
_MOST_PIXELS = 1 << 31


@dataclass(frozen=True, eq=False)
class NDFrame:
    """An NTNDArray, decompressed.

    `image` has the axes in numpy's order, slowest first: (y, x), or (z, y, x); colours where its mode puts
    them. It is read-only where it is the received memory itself, which nobody writes again. Times are POSIX
    seconds, NaN where the sender set none: `data_time` is the driver's, `time` the EPICS time stamp.
    """

    image: NDArray[Any]
    unique_id: int
    time: float
    data_time: float
    attributes: Mapping[str, object]
    color_mode: int
    codec: str

    @property
    def taken_at(self) -> float:
        """When it was taken, as well as the sender says: POSIX seconds, NaN where it says nothing."""
        return self.data_time if math.isnan(self.time) else self.time


def parse_ndarray(value: Value) -> NDFrame:
    """Read an NTNDArray received with ``nt=False``, of any numeric type, compressed or not.

    Raises BadInput for another structure, an empty image, a codec nobody knows, or sizes that contradict
    each other.
    """
    try:
        pixels, dimensions = value.value, value.dimension
        unique_id = int(value.uniqueId)
    except (AttributeError, KeyError) as error:
        raise BadInput(
            f"the channel does not send images (NTNDArray) but {value.getID() or 'another structure'}",
            "name the channel of the camera's PVA plugin, such as 2bmSP2:Pva1:Image",
        ) from error
    if pixels is None or not isinstance(pixels, np.ndarray) or not len(dimensions):
        raise BadInput("an image without pixels", "start the camera's PVA plugin")
    shape = _shape(dimensions)
    codec, parameter = _codec(value)
    image = _image(value, pixels, shape, codec, parameter)
    attributes = parse_attributes(value.get("attribute") or ())
    mode = attributes.get("ColorMode", 0)
    return NDFrame(
        image=image,
        unique_id=unique_id,
        time=_seconds(value, "timeStamp"),
        data_time=_seconds(value, "dataTimeStamp"),
        attributes=attributes,
        color_mode=int(mode) if isinstance(mode, int | float) else 0,
        codec=codec,
    )


def has_pixels(value: Value) -> bool:
    """Whether anything was sent but the empty structure that a server shows before its first image."""
    pixels = value.get("value")
    return pixels is not None and np.size(pixels) > 0


def peek_unique_id(value: Value) -> tuple[int, float]:
    """The id and the time (POSIX seconds, NaN if unset) of an array whose image may be unreadable."""
    unique_id = value.get("uniqueId", 0)
    taken = _seconds(value, "timeStamp")
    return int(unique_id), _seconds(value, "dataTimeStamp") if math.isnan(taken) else taken


def parse_attributes(attributes: Iterable[Value]) -> dict[str, object]:
    """The attributes by name; a value that was sent inside a structure is taken out of it."""
    return {str(attribute.name): _plain(attribute.value) for attribute in attributes}


def _plain(value: Any) -> object:
    return value.get("value") if isinstance(value, Value) else value


def _shape(dimensions: Iterable[Value]) -> tuple[int, ...]:
    sizes = [int(dimension.size) for dimension in dimensions]
    if min(sizes) < 1 or math.prod(sizes) > _MOST_PIXELS:
        raise BadInput(f"an image of {' x '.join(map(str, sizes))} pixels")
    return tuple(reversed(sizes))


def _codec(value: Value) -> tuple[str, object]:
    codec = value.get("codec")
    return (str(codec.name), _plain(codec.parameters)) if codec is not None else ("", None)


def _image(
    value: Value, pixels: NDArray[Any], shape: tuple[int, ...], codec: str, parameter: object
) -> NDArray[Any]:
    """The image in its shape, after every size that the sender gives has been compared."""
    packed, unpacked = int(value.get("compressedSize", 0)), int(value.get("uncompressedSize", 0))
    # Senders that never set a size leave it at 0.
    if packed and packed != pixels.nbytes:
        raise BadInput(f"{pixels.nbytes} bytes of pixels came, {packed} were announced (compressedSize)")
    dtype = _numbers_before_compression(parameter, pixels.dtype) if codec else pixels.dtype
    count = math.prod(shape)
    if unpacked and unpacked != count * dtype.itemsize:
        raise BadInput(
            f"the size announced (uncompressedSize {unpacked}) is not that of {shape[::-1]} pixels of {dtype}"
        )
    if codec:
        return decompress(codec, pixels.view(np.uint8), dtype, shape)
    if pixels.size != count:
        raise BadInput(f"{pixels.size} pixels came for an image of {' x '.join(map(str, shape[::-1]))}")
    return pixels.reshape(shape)


def _numbers_before_compression(parameter: object, sent: np.dtype[Any]) -> np.dtype[Any]:
    if parameter is None:  # some senders keep the true type of the union instead
        return sent
    if not isinstance(parameter, int) or parameter not in _PVDATA_TYPES:
        raise BadInput(f"the codec's parameter {parameter!r} names no type of number")
    return np.dtype(_PVDATA_TYPES[parameter])


def _seconds(value: Value, field: str) -> float:
    stamp = value.get(field)
    if stamp is None or not stamp.secondsPastEpoch:
        return math.nan
    return float(stamp.secondsPastEpoch) + 1e-9 * float(stamp.nanoseconds)


def make_ndarray(
    image: NDArray[Any],
    *,
    unique_id: int,
    time: float,
    data_time: float | None = None,
    attributes: Mapping[str, object] | None = None,
) -> Value:
    """An NTNDArray of an image (y, x) or a volume (z, y, x) in shades of grey, with every field set.

    `time` and `data_time` (the same where None) are POSIX seconds. `unique_id` is wrapped to 32 bits.
    Integers among the attributes go out with 32 bits where they fit, as areaDetector sends them; None goes
    out as an empty string. Raises ValueError for a type of number or of attribute that cannot be sent.
    """
    if image.dtype not in _UNION_FIELD or not 1 <= image.ndim <= 3 or not image.size:
        raise ValueError(f"an array of {image.dtype} with the shape {image.shape} cannot be sent as an image")
    stamp = _stamp(time)
    facts: dict[str, object] = {"ColorMode": 0, **(attributes or {})}
    return Value(
        _TYPE,
        {
            "value": (_UNION_FIELD[image.dtype], np.ascontiguousarray(image).reshape(-1)),
            # The structure itself must be there: ImageJ's viewer stops without it.
            "codec": {"name": "", "parameters": ("i", _PVDATA_NUMBER[image.dtype])},
            "compressedSize": image.nbytes,
            "uncompressedSize": image.nbytes,
            "uniqueId": (unique_id + 2**31) % 2**32 - 2**31,
            "timeStamp": stamp,
            "dataTimeStamp": stamp if data_time is None else _stamp(data_time),
            "dimension": [_dimension(size) for size in reversed(image.shape)],
            "attribute": [_attribute(name, fact) for name, fact in facts.items()],
        },
    )


def _dimension(size: int) -> dict[str, object]:
    return {"size": size, "offset": 0, "fullSize": size, "binning": 1, "reverse": False}


def _stamp(seconds: float) -> dict[str, int]:
    whole = math.floor(seconds)
    nanoseconds = min(round((seconds - whole) * 1e9), 10**9 - 1)
    return {"secondsPastEpoch": whole, "nanoseconds": nanoseconds}


def _attribute(name: str, fact: object) -> dict[str, object]:
    return {"name": name, "value": _sendable(name, fact), "descriptor": name, "source": "tomofly"}


def _sendable(name: str, fact: object) -> object:
    if isinstance(fact, np.generic):
        fact = fact.item()
    if fact is None:
        return ""
    if isinstance(fact, bool | str):
        return fact
    if isinstance(fact, int):
        return ("i" if -(2**31) <= fact < 2**31 else "l", int(fact))
    if isinstance(fact, float):
        return ("d", fact)
    if isinstance(fact, np.ndarray) and fact.ndim == 1 and fact.dtype in _UNION_FIELD:
        return fact
    raise ValueError(f"the attribute {name} of type {type(fact).__name__} cannot be sent")
