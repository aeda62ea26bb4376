"""Whose fault it is when a file or its pixels cannot be used: the item's, or the moment's."""

from collections.abc import Iterator
from contextlib import contextmanager

from tomofly.formats.errors import BadFile
from tomofly.model import BadInput


@contextmanager
def blamed_on_input(what: str, do: str) -> Iterator[None]:
    """Turn what readers and the mathematics say of bad data into BadInput, which is not tried again.

    ``what`` names what was attempted, ``do`` says what to do where the error itself does not. A file that is
    missing or forbidden just now raises the OSError itself, for that may pass.
    """
    try:
        yield
    except BadFile as error:
        if isinstance(error.__cause__, OSError):
            raise error.__cause__ from error
        raise BadInput(f"{error.path.name}: {error.what}", error.do) from error
    except ValueError as error:
        raise BadInput(f"{what}: {error}", do) from error
