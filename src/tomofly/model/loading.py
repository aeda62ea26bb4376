"""Functions that are loaded when they are first called, so that declarations load at once."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from tomofly.model.results import Outcome

_LOADING = threading.Lock()
"""One at a time: large packages import themselves in circles, which threads side by side cannot."""


@dataclass(frozen=True)
class LoadedOnCall:
    """A stage's function by the names of its module and itself.

    The module, with the mathematics that it needs, is loaded where the function is called: in a worker,
    and not in a command that only wants to know what stages there are.
    """

    module: str
    name: str

    @property
    def function(self) -> Callable[..., Outcome]:
        """The function itself. Raises ImportError or AttributeError where the names are wrong."""
        with _LOADING:
            found: Callable[..., Outcome] = getattr(import_module(self.module), self.name)
        return found

    def __call__(self, *given: Any) -> Outcome:
        """Call the function."""
        return self.function(*given)
