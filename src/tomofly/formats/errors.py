"""The one error that a reader raises for a file it cannot use."""

from pathlib import Path


class BadFile(ValueError):
    """A file that cannot be used: which one, what is wrong with it, and what to do about it."""

    def __init__(self, path: str | Path, what: str, do: str) -> None:
        super().__init__(
            str(path), what, do
        )  # all arguments, so that it survives pickling to another process
        self.path = Path(path)
        self.what = what
        self.do = do

    def __str__(self) -> str:
        return f"{self.path.name}: {self.what}. {self.do}."
