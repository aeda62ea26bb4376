"""The reference, written from the declarations: stages, settings and commands say what they are themselves.

Before each build the pages go to ``docs/reference/generated``; only pages that changed are written.
"""

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import typer
from sphinx.application import Sphinx
from typer.models import ArgumentInfo, OptionInfo

from tomofly.cli.main import app as commands
from tomofly.flow.graph import SHARED_SECTIONS
from tomofly.model import Stage, StageParams
from tomofly.model.loading import LoadedOnCall
from tomofly.services.status import MEANINGS
from tomofly.stages.registry import installed_stages

OWN_PACKAGE = "tomofly"
LIMITS = {"minimum": "≥ {}", "exclusiveMinimum": "> {}", "maximum": "≤ {}", "exclusiveMaximum": "< {}"}


def setup(sphinx: Sphinx) -> dict[str, bool]:
    """Have the pages written before Sphinx looks for its sources."""
    sphinx.connect("builder-inited", lambda app: write_pages(Path(app.srcdir) / "reference" / "generated"))
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def pages() -> dict[str, str]:
    """Give the text of every generated page by its name."""
    stages = [installed.stage for installed in installed_stages() if installed.package == OWN_PACKAGE]
    return {f"stage-{stage.name}": stage_page(stage) for stage in stages} | {
        "settings-shared": shared_page(),
        "commands": commands_page(),
        "session-states": table(("state", "meaning"), MEANINGS.items()),
    }


def write_pages(folder: Path) -> None:
    """Write all generated pages, and delete those of stages that are gone."""
    written = pages()
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob("*.md"):
        if path.stem not in written:
            path.unlink()
    for name, text in written.items():
        path = folder / f"{name}.md"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def stage_page(stage: Stage) -> str:
    """Describe one stage: what it takes and gives, its parameters, metrics, previews and resources."""
    text = [f"# {stage.name}", "", f"{stage.summary}.", "", table(("", ""), _facts(stage))]
    text += ["## What it does", "", inspect.getdoc(_function(stage)) or "", ""]
    text += ["## Parameters", "", parameter_table(stage.name, stage.params)]
    if stage.metrics:
        rows = [(f"`{m.name}`", m.unit, m.good, m.help) for m in stage.metrics]
        text += ["## Metrics", "", table(("metric", "unit", "better when", "meaning"), rows)]
    return "\n".join(text)


def _function(stage: Stage) -> object:
    run = stage.run  # type: ignore[attr-defined]
    return run.function if isinstance(run, LoadedOnCall) else run


def _facts(stage: Stage) -> Iterator[tuple[str, str]]:
    yield "shape", stage.shape.value
    yield "version", stage.version
    yield "session kinds", ", ".join(stage.session_kinds)
    yield "track", f"`{stage.track}`"
    yield "takes", _and_results(stage.consumes, stage.needs)
    yield "makes", stage.produces
    reads = [f"`{section}.{name}`" for section, names in stage.reads.items() for name in names]
    yield "also depends on", ", ".join(reads) or "nothing else"
    yield "previews", ", ".join(f"`{name}`" for name in stage.previews) or "none"
    need = stage.resources
    cores = f"{need.cores} core" + ("s" if need.cores != 1 else "")
    gpus = f", {need.gpus} GPU" if need.gpus else ""
    yield "resources", f"{cores}, {need.memory_gb:g} GB{gpus}, from the pool `{need.slot}`"
    yield "tried again", f"{stage.retries} times at most"


def _and_results(kind: str, needs: Sequence[str]) -> str:
    return kind + (f", with the results of {', '.join(f'`{need}`' for need in needs)}" if needs else "")


def shared_page() -> str:
    """Describe the sections of the settings that belong to no single stage."""
    text = ["# Shared settings", ""]
    for name, model in SHARED_SECTIONS.items():
        text += [f"## {name}", "", inspect.getdoc(model) or "", "", parameter_table(name, model)]
    return "\n".join(text)


def parameter_table(section: str, model: type[StageParams]) -> str:
    """Make a table of a section's parameters, in the order in which they are declared."""
    rows = [_parameter(section, name, model, prop) for name, prop in _properties(model)]
    if not rows:
        return "There is nothing to set.\n"
    return table(("parameter", "type", "unit", "range", "default", "meaning"), rows)


def _properties(model: type[StageParams]) -> Iterable[tuple[str, Mapping[str, Any]]]:
    properties: Mapping[str, Mapping[str, Any]] = model.model_json_schema().get("properties", {})
    return properties.items()


def _parameter(section: str, name: str, model: type[StageParams], prop: Mapping[str, Any]) -> tuple[str, ...]:
    notes = [str(prop.get("description", ""))]
    notes += ["*(advanced)*"] if prop.get("advanced") else []
    notes += ["*(results do not depend on it)*"] if prop.get("affects_result") is False else []
    default = model.model_fields[name].default
    limits = " and ".join(text.format(f"{prop[key]:g}") for key, text in LIMITS.items() if key in prop)
    return (
        f"`{section}.{name}`",
        _type(prop),
        str(prop.get("unit", "")),
        limits,
        _value(default),
        " ".join(notes),
    )


def _type(prop: Mapping[str, Any]) -> str:
    if "enum" in prop:
        return " or ".join(_value(value) for value in prop["enum"])
    if "anyOf" in prop:
        return " or ".join(_type(part) for part in prop["anyOf"])
    if "prefixItems" in prop:
        return ", ".join(_type(part) for part in prop["prefixItems"])
    kind = str(prop.get("type", ""))
    if kind == "array":
        return f"list of {_type(prop.get('items', {}))}"
    return {"null": "none", "boolean": "yes or no"}.get(kind, kind)


def _value(value: Any) -> str:
    if isinstance(value, tuple):
        return f"`{','.join(f'{part:g}' if isinstance(part, float) else str(part) for part in value)}`"
    text = f"{value:g}" if isinstance(value, float) else str(value).lower() if value is None else str(value)
    return f"`{text}`" if text else "empty"


def commands_page() -> str:
    """Describe every command with its arguments and options."""
    text = ["# Commands", "", "`tomofly COMMAND --help` says the same in the terminal.", ""]
    for path, function, summary in walk(commands, ("tomofly",)):
        text += [f"{'#' * min(len(path), 3)} {' '.join(path)}", "", summary, ""]
        if function is not None:
            text += [_usage(path, function), _options(function)]
    return "\n".join(text)


def walk(app: typer.Typer, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any, str]]:
    """Give (path, function, summary) of all commands of ``app``; groups come first and have no function."""
    for command in app.registered_commands:
        if (function := command.callback) is not None:
            name = command.name or function.__name__.replace("_", "-")
            yield (*path, name), function, inspect.getdoc(function) or ""
    for group in app.registered_groups:
        if (below := group.typer_instance) is not None:
            inner = (*path, str(group.name))
            yield inner, None, str(below.info.help)
            yield from walk(below, inner)


def _declared(function: Any) -> Iterator[tuple[inspect.Parameter, Any, ArgumentInfo | OptionInfo]]:
    """Give the parameters of a command with their types and what is said of them."""
    hints = get_type_hints(function, include_extras=True)
    for name, parameter in inspect.signature(function).parameters.items():
        hint = hints[name]
        said = [m for m in get_args(hint)[1:] if isinstance(m, ArgumentInfo | OptionInfo)]
        yield parameter, get_args(hint)[0] if said else hint, said[0] if said else typer.Option()


def _usage(path: tuple[str, ...], function: Any) -> str:
    arguments = [p.name.upper() for p, _, said in _declared(function) if isinstance(said, ArgumentInfo)]
    return "\n".join(["```console", f"$ {' '.join([*path, '[OPTIONS]', *arguments])}", "```", ""])


def _options(function: Any) -> str:
    rows = [
        (_option_name(parameter, said), _option_type(kind), _option_default(parameter), said.help or "")
        for parameter, kind, said in _declared(function)
    ]
    return table(("name", "type", "default", "meaning"), rows) if rows else ""


def _option_name(parameter: inspect.Parameter, said: ArgumentInfo | OptionInfo) -> str:
    if isinstance(said, ArgumentInfo):
        return f"`{parameter.name.upper()}`"
    names = said.param_decls or (f"--{parameter.name.rstrip('_').replace('_', '-')}",)
    return ", ".join(f"`{name}`" for name in names)


def _option_type(kind: Any) -> str:
    if get_origin(kind) is Literal:
        return " or ".join(f"`{choice}`" for choice in get_args(kind))
    kinds = [part for part in get_args(kind) if part is not type(None)]
    if kinds:
        many = get_origin(kind) is list
        return _option_type(kinds[0]) + (" …" if many else "")
    return {"Path": "path", "str": "text", "bool": "", "int": "integer", "float": "number"}[kind.__name__]


def _option_default(parameter: inspect.Parameter) -> str:
    if parameter.default is inspect.Parameter.empty:
        return "required"
    nothing = parameter.default is None or parameter.default is False or parameter.default == ""
    return "" if nothing else f"`{parameter.default}`"


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Make a Markdown table."""
    lines = ["| " + " | ".join(titles) + " |", "|" + "---|" * len(titles)]
    lines += ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ")
