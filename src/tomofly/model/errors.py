"""Errors that tell what happened, to which item, and what to do."""


class TomoflyError(Exception):
    """Something that a person must know about and can act on.

    ``what`` says what happened, ``do`` what to do about it.
    """

    def __init__(self, what: str, do: str = "") -> None:
        self.what = what.rstrip(".")
        self.do = do.rstrip(".")
        super().__init__(what, do)

    @property
    def sentences(self) -> tuple[str, ...]:
        """What happened and what to do, each as a sentence."""
        return tuple(_sentence(part) for part in (self.what, self.do) if part)

    def __str__(self) -> str:
        return " ".join(self.sentences)


def _sentence(text: str) -> str:
    return text if text.endswith(("?", "!")) else f"{text}."


class BadInput(TomoflyError):
    """The item itself is at fault: running the task again cannot help, so it is not retried."""
