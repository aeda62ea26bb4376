"""Names for results, made from what made them."""

import hashlib
import json
from typing import Any


def fingerprint(*parts: Any) -> str:
    """Name a result by everything that it depends on: 32 hexadecimal digits.

    The parts are JSON values (numbers, strings, lists, dicts with string keys); their order matters,
    the order of keys inside a dict does not.
    """
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
