"""The examples of a page: fenced blocks after ``<!-- run -->``, as commands and scripts that can be run."""

import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

MARKED = re.compile(r"<!-- run -->\n```(?P<language>\w+)\n(?P<body>.*?)```", re.DOTALL)
PROGRAMS = Path(sys.executable).parent


@dataclass(frozen=True)
class Example:
    """One block of a page, and the line at which it begins."""

    language: str
    body: str
    line: int

    def run(self, folder: Path) -> str:
        """Run it in ``folder``; give what it wrote. Raises AssertionError where it fails."""
        if self.language == "python":
            script = folder / f"line_{self.line}.py"
            script.write_text(self.body, encoding="utf-8")
            return run([sys.executable, str(script)], folder, self.line)
        return "".join(run(command, folder, self.line) for command in commands(self.body))


def examples(page: Path) -> list[Example]:
    """Give the marked blocks of a page in their order."""
    text = page.read_text(encoding="utf-8")
    return [
        Example(match["language"], match["body"], text.count("\n", 0, match.start()) + 1)
        for match in MARKED.finditer(text)
    ]


def commands(body: str) -> list[list[str]]:
    """Give the commands of a console block: what follows ``$``, with its continuation lines; no output."""
    found: list[str] = []
    continued = False
    for line in body.splitlines():
        if line.startswith("$ "):
            found.append(line[2:].rstrip("\\"))
        elif continued:
            found[-1] += " " + line.strip().rstrip("\\")
        continued = line.endswith("\\")
    return [shlex.split(command) for command in found]


def run(command: list[str], folder: Path, line: int) -> str:
    """Run one command as a reader would, with the programs of this environment."""
    path = os.pathsep.join([str(PROGRAMS), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "TOMOFLY_HOME": str(folder / "home")}
    environment.pop("TOMOFLY_DATABASE", None)
    done = subprocess.run(
        command, check=False, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True,
        text=True, encoding="utf-8", timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, f"line {line}: {shlex.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout
