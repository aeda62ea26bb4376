"""The live program on a terminal: its state in a few lines, its slices as small pictures of half blocks."""

import json
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, redirect_stderr
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import NDArray
from rich.columns import Columns
from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from tomofly.cli.output import duration_text, tell
from tomofly.live.status import gigabytes

if TYPE_CHECKING:
    from tomofly.live.live_slices import LiveSlices

PICTURE_COLUMNS = 36
UPPER_HALF = "▀"
CONTRAST_PERCENT = (1.0, 99.0)
COLOURS = {"problem": "red", "warning": "yellow"}


def is_terminal() -> bool:
    """Tell whether pictures can be shown."""
    return Console(stderr=True).is_terminal


def status_lines(status: Mapping[str, Any]) -> Iterator[str]:
    """Give the state in lines for people, what is wrong first."""
    for alert in status["alerts"]:
        told = " ".join(f"{part.rstrip('.')}." for part in (alert["what"], alert["do"]) if part)
        yield f"{alert['level'].upper()}: {told}"
    collection, camera, frames = status["collection"], status["camera"], status["frames"]
    said = "" if collection["message"] == "Done" else f" ({collection['message']})"
    yield f"collection  {collection['phase']}{said}   {collection['elapsed']}   {collection['scan_type']}"
    size = "×".join(map(str, camera["shape_yx"])) if camera["shape_yx"] else "no frames"
    yield f"camera      {size} {camera['dtype']}   {camera['frames_per_s']:.1f} frames/s"
    lost = sum(frames["lost"].values())
    yield f"frames      {frames['received']} in, {frames['missing']} missing, {lost} lost later"
    yield from _of_reconstruction(status["reconstruction"])
    yield from _of_fields(status["fields"])
    yield from _of_capture(status["capture"])
    for trigger in status["triggers"]:
        dry = ", all as a dry run" if trigger["dry_run"] and trigger["captures"] else ""
        yield f"trigger     {trigger['name']}: {trigger['state']}, {trigger['captures']} captures{dry}"


def _of_reconstruction(recon: Mapping[str, Any]) -> Iterator[str]:
    centre = "no centre" if recon["centre"] is None else f"centre {recon['centre']:.2f}"
    yield (
        f"slices      {recon['state']} on {recon['backend']}   {centre}   "
        f"{recon['projections']} projections, {recon['coverage_percent']:.0f} % of 180°"
    )
    yield (
        f"            {recon['updates_per_s']:.1f}/s   latency p50 {1e3 * recon['latency_p50_s']:.0f} ms, "
        f"p95 {1e3 * recon['latency_p95_s']:.0f} ms   sharpness z {recon['sharpness']['z']:.2f}"
    )


def _of_fields(fields: Mapping[str, Any]) -> Iterator[str]:
    told = []
    for kind in ("dark", "flat"):
        field = fields[kind]
        age = "none" if not field["version"] else f"version {field['version']}"
        told.append(f"{kind} {age}" + (f", {duration_text(field['age_s'])} old" if field["age_s"] else ""))
    yield "fields      " + "   ".join(told)


def _of_capture(capture: Mapping[str, Any]) -> Iterator[str]:
    free = "" if capture["free_gb"] is None else f"   {gigabytes(capture['free_gb'])} free"
    ring = f"ring {capture['ring_frames']} frames, {capture['ring_s']:.1f} s"
    yield f"capture     {capture['state']} {capture['captured']}/{capture['wanted']}   {ring}{free}"
    if capture["file"]:
        yield f"            {capture['file']}"
    if capture["problem"] and capture["state"] != "Failed":  # which is an alert
        yield f"            {capture['problem']}"


def picture(image: NDArray[np.float32], columns: int = PICTURE_COLUMNS) -> Text:
    """Draw a slice (rows, columns) in grey by half blocks, two rows to a line; percentiles are the ends."""
    grey = _grey(_shrunk(np.asarray(image, np.float32), columns))
    if len(grey) % 2:
        grey = np.vstack([grey, np.zeros((1, grey.shape[1]), np.uint8)])
    text = Text(no_wrap=True)
    for upper, lower in zip(grey[::2], grey[1::2], strict=True):
        for above, below in zip(upper, lower, strict=True):
            text.append(UPPER_HALF, style=f"rgb({above},{above},{above}) on rgb({below},{below},{below})")
        text.append("\n")
    return text


def _shrunk(image: NDArray[np.float32], columns: int) -> NDArray[np.float32]:
    """Take means of blocks, at most so many across; an image that is small enough stays."""
    block = max(1, -(-image.shape[1] // columns))
    rows, across = (size // block for size in image.shape)
    if not rows or not across:
        return image
    cut = image[: rows * block, : across * block]
    shrunk: NDArray[np.float32] = cut.reshape(rows, block, across, block).mean(axis=(1, 3), dtype=np.float32)
    return shrunk


def _grey(image: NDArray[np.float32]) -> NDArray[np.uint8]:
    finite = image[np.isfinite(image)]
    if not finite.size:
        return np.zeros(image.shape, np.uint8)
    low, high = np.percentile(finite, CONTRAST_PERCENT)
    scaled = (np.nan_to_num(image, nan=low) - low) / max(high - low, 1e-12)
    grey: NDArray[np.uint8] = (np.clip(scaled, 0, 1) * 255).astype(np.uint8)
    return grey


class _View:
    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is held."""

    def say(self, text: str) -> None:
        """Say what goes on while there is nothing to show."""
        tell(text)


class JsonLines(_View):
    """The status, one JSON document a line, on standard output."""

    def show(self, status: Mapping[str, Any], _slices: "LiveSlices | None") -> None:
        """Write the status."""
        sys.stdout.write(json.dumps(status, default=str) + "\n")
        sys.stdout.flush()


class PlainLines(_View):
    """The state in a line now and then, and what is wrong when it begins, on standard error."""

    EVERY = 5

    def __init__(self) -> None:
        self._count = 0
        self._alerts: set[str] = set()

    def show(self, status: Mapping[str, Any], _slices: "LiveSlices | None") -> None:
        """Write what is new."""
        # The same with another number is not said again.
        now = {re.sub(r"\d+", "", alert["what"]): alert["what"] for alert in status["alerts"]}
        for new in now.keys() - self._alerts:
            tell(f"! {now[new]}")
        self._alerts = set(now)
        if self._count % self.EVERY == 0:
            frames, recon = status["frames"], status["reconstruction"]
            late_ms, phase = 1e3 * recon["latency_p95_s"], status["collection"]["phase"]
            told = f"{phase}: {frames['received']} frames in, {frames['missing']} missing"
            tell(f"{told}, {recon['updates_per_s']:.1f} slices/s, latency p95 {late_ms:.0f} ms")
        self._count += 1


class TerminalView(_View):
    """State and slices, redrawn in place.

    What EPICS and other libraries print would break the picture: it goes to the file `aside`, where one is
    given.
    """

    def __init__(self, aside: Path | None = None) -> None:
        self._aside = aside
        self._undo = ExitStack()

    def __enter__(self) -> Self:
        if self._aside is not None:
            _printed_to(self._aside, self._undo)
        self._live = Live(console=Console(file=sys.stderr, highlight=False), auto_refresh=False)
        self._undo.enter_context(self._live)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._undo.__exit__(kind, error, trace)

    def say(self, text: str) -> None:
        """Say it above what is drawn."""
        self._live.console.print(text)

    def show(self, status: Mapping[str, Any], slices: "LiveSlices | None") -> None:
        """Draw everything anew."""
        self._live.update(drawn(status, slices), refresh=True)


def _printed_to(path: Path, undo: ExitStack) -> None:
    """Let the process print into a file from here on, and Python alone to the terminal."""
    try:
        file = path.open("ab")
    except OSError:  # the log, which is beside it, will be complained of
        return
    terminal = undo.enter_context(os.fdopen(os.dup(2), "w", encoding="utf-8"))
    with file:
        for number in (1, 2):
            undo.callback(os.close, before := os.dup(number))
            undo.callback(os.dup2, before, number)
            os.dup2(file.fileno(), number)
    undo.enter_context(redirect_stderr(terminal))


def drawn(status: Mapping[str, Any], slices: "LiveSlices | None") -> Group:
    """Draw the state, and the three slices beside each other."""
    alerts = {f"{alert['level'].upper()}": COLOURS[alert["level"]] for alert in status["alerts"]}
    lines = [Text(line, style=_style(line, alerts)) for line in status_lines(status)]
    if slices is None:
        return Group(*lines)
    return Group(*lines, Columns(_pictures(slices), padding=(0, 2)))


def _style(line: str, alerts: Mapping[str, str]) -> str:
    return next((colour for word, colour in alerts.items() if line.startswith(word)), "")


def _pictures(slices: "LiveSlices") -> Sequence[Group]:
    named = zip("zyx", (slices.z, slices.y, slices.x), strict=True)
    places = dict(zip("xyz", slices.ortho_xyz, strict=True))
    return [Group(Text(f"{name} = {places[name]}", style="bold"), picture(image)) for name, image in named]
