"""Texts as waveforms of characters."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tomofly.live.records.waveform_text import as_text, as_waveform


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_a_text_comes_back(text: str) -> None:
    waveform = as_waveform(text)
    assert (waveform.dtype, waveform[-1]) == (np.uint8, 0)
    assert as_text(waveform) == text


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int32", "float64"])
def test_what_comes_after_the_zero_is_no_part_of_it(dtype: str) -> None:
    assert as_text(np.array([111, 107, 0, 33, 33], dtype)) == "ok"


def test_bytes_that_are_no_text_cost_nothing_else() -> None:
    assert as_text(np.array([0xC3, 0x28, 111], np.uint8)) == "\N{REPLACEMENT CHARACTER}(o"
    assert as_text(np.zeros(0, np.uint8)) == ""
