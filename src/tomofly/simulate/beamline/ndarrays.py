"""Frames as NTNDArray structures, as areaDetector's PVA plugin sends them."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from p4p import Type, Value
from p4p.nt import NTNDArray

from tomofly.simulate.beamline.codecs import CodecName, compressed, wire_name

Attribute = int | float
# pvData's ScalarType numbers, which codec.parameters holds, and members of the value's union.
SCALAR_TYPES = {"uint8": 5, "uint16": 6, "float32": 9}
MEMBERS = {"uint8": "ubyteValue", "uint16": "ushortValue", "float32": "floatValue"}
# NDAttrSource of areaDetector: the driver itself.
SOURCE_DRIVER = 0


@dataclass(frozen=True)
class CameraFrame:
    """One exposure, begun at the POSIX time `began_at`: `image` (y, x); `number` from 1, without wrap."""

    number: int
    image: NDArray[np.generic]
    began_at: float
    attributes: Mapping[str, Attribute]
    binning: int = 1
    offset_yx: tuple[int, int] = (0, 0)


def image_type() -> Type:
    """The structure of the image channel."""
    return NTNDArray.buildType()


def to_value(kind: Type, frame: CameraFrame, unique_id: int, codec: CodecName) -> Value:
    """Build the structure of one frame: dimensions are (x, y), and codec.parameters is always set."""
    image = frame.image
    name = image.dtype.name
    if codec == "none":
        member, data = MEMBERS[name], image.ravel()
    else:
        member, data = "ubyteValue", compressed(image, codec)
    seconds = int(frame.began_at)
    stamp = {"secondsPastEpoch": seconds, "nanoseconds": int((frame.began_at - seconds) * 1e9)}
    return Value(
        kind,
        {
            "value": (member, data),
            "codec": {"name": wire_name(codec), "parameters": SCALAR_TYPES[name]},
            "compressedSize": data.nbytes,
            "uncompressedSize": image.nbytes,
            "uniqueId": unique_id,
            "dataTimeStamp": stamp,
            "timeStamp": stamp,
            "dimension": [_dimension(frame, axis) for axis in (1, 0)],
            "attribute": [_attribute(key, value) for key, value in frame.attributes.items()],
        },
    )


def _dimension(frame: CameraFrame, axis: int) -> dict[str, int | bool]:
    size = frame.image.shape[axis]
    return {
        "size": size,
        "offset": frame.offset_yx[axis],
        "fullSize": size,
        "binning": frame.binning,
        "reverse": False,
    }


def _attribute(name: str, value: Attribute) -> dict[str, object]:
    return {"name": name, "value": value, "descriptor": name, "sourceType": SOURCE_DRIVER, "source": "camera"}
