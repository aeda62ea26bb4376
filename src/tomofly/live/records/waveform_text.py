"""Texts of any length as EPICS has them: waveforms of characters, ended by a zero."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


def as_waveform(text: str) -> NDArray[np.uint8]:
    """Give a text as the bytes (character,) that a waveform PV takes."""
    return np.frombuffer(text.encode() + b"\0", np.uint8)


def as_text(waveform: ArrayLike | Any) -> str:
    """Read the text of a waveform PV, up to the zero."""
    return bytes(np.asarray(waveform).astype(np.uint8)).split(b"\0", 1)[0].decode(errors="replace")
