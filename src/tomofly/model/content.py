"""What an item's ``content`` says: ``<size>:<mtime_ns>`` of its file, and a tag for each file beside it.

A tag is ``+`` and twelve hexadecimal digits: four that stand for the name, eight for size and time.
"""

import hashlib
from collections.abc import Mapping

MAX_TAGS = 12
"""The column that holds a content takes no more."""


def own_content(content: str) -> str:
    """Give the part that is about the item's file alone."""
    return content.partition("+")[0]


def companion_tags(content: str) -> dict[str, str]:
    """Give what a content says of the files beside: a digest of the content by a digest of the name."""
    return {tag[:4]: tag[4:] for tag in content.split("+")[1:]}


def companion_tag(name: str, size: int, mtime_ns: int) -> tuple[str, str]:
    """Give the digests of a companion's name and content."""
    return _digest(name, 2), _digest(f"{size}:{mtime_ns}", 4)


def with_companions(own: str, tags: Mapping[str, str]) -> str:
    """Put a content together."""
    return "".join([own, *(f"+{name}{tags[name]}" for name in sorted(tags)[:MAX_TAGS])])


def _digest(text: str, size: int) -> str:
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=size).hexdigest()
