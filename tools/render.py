"""Makes the pages of results, settings and commands, and figures of the README: `make results`.

docs/results/NAME.json is a record of a benchmark, as `python benchmarks/... --json` writes it. The
templates in tools/templates (Jinja2) turn the records into pages; a record that does not exist yet
leaves its section out. Figures that are quoted elsewhere stand between two comments, such as

    <!-- figures: readme -->
    <!-- end of figures -->

and are made by the template of that name in tools/templates/figures.
"""

import dataclasses
import importlib
import inspect
import json
import re
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import jinja2

from jaxreg import config
from jaxreg.benchmark.table import markdown
from jaxreg.cli.app import COMMANDS
from jaxreg.config import Config, RegistrationConfig, SearchConfig

ROOT = Path(__file__).resolve().parents[1]
TEMPLATES = ROOT / "tools" / "templates"
RECORDS = ROOT / "docs" / "results"
WIDTH = 100
QUOTED = re.compile(r"(<!-- figures: (\S+) -->\n)(.*?)(<!-- end of figures -->)", re.DOTALL)
_MADE = "<!-- Made by `make results`; edit {source} instead. -->\n\n"

Record = dict[str, Any]


def main() -> None:
    """Writes every page that has changed."""
    for path, text in pages().items():
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(f"written: {path.relative_to(ROOT)}")


def pages() -> dict[Path, str]:
    """Text of every page that is made, by its path."""
    render = renderer(records())
    found = {}
    for template in sorted(TEMPLATES.glob("pages/*/*.md")):
        source = template.relative_to(ROOT).as_posix()
        text = render(template.relative_to(TEMPLATES).as_posix())
        found[ROOT / "docs" / template.relative_to(TEMPLATES / "pages")] = (
            _MADE.format(source=source) + text
        )
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        if page not in found and QUOTED.search(text := page.read_text(encoding="utf-8")):
            found[page] = QUOTED.sub(
                lambda m: f"{m[1]}\n{render(f'figures/{m[2]}.md').strip()}\n\n{m[4]}", text
            )
    return found


def records() -> dict[str, Record]:
    """Every stored record by the name of its file, "-" as "_"."""
    return {
        path.stem.replace("-", "_"): json.loads(path.read_text(encoding="utf-8"))
        for path in sorted(RECORDS.glob("*.json"))
    }


def renderer(stored: Mapping[str, Record]) -> Callable[[str], str]:
    """A function from the name of a template to its text."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES, encoding="utf-8"),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.globals.update(
        **dict(table=table, pivot=pivot, made=made, groups=groups, helps=helps),
        **dict(of_tool=of_tool, least=least),
        records=stored,
        missing=missing(stored),
    )
    return lambda name: environment.get_template(name).render(**stored)


def made(record: Record) -> str:
    """The line below a table: command, date, machine, version."""
    machine = record["machine"]
    count = machine["cores"]
    cores = f"{count} core{'s' if count != 1 else ''} of {machine['cpu']}"
    if machine.get("device", "cpu") != "cpu":
        cores = f"one {machine['device']}, {cores}"
    if machine.get("load", 0) > 1:
        cores += f", other work beside it (load {machine['load']:.1f} at the start)"
    command = f"`{record['command']}`" if record.get("command") else "no command here"
    words = [command, record["date"], cores, f"jaxreg {record['version']}"]
    text = "*" + "; ".join(word for word in words if word) + ".*"
    if record.get("note"):
        text += f" {record['note']}"
    if record.get("transcribed"):
        text += f" Transcribed by hand {record['transcribed']}"
    return textwrap.fill(text, WIDTH, break_on_hyphens=False, break_long_words=False)


def table(rows: Sequence[Mapping[str, Any]], names: Mapping[str, str] | None = None) -> str:
    """Rows as a Markdown table; `names` chooses columns and says what they are called."""
    if names is not None:
        rows = [{new: row.get(old) for old, new in names.items()} for row in rows]
    return markdown(rows)


def pivot(
    rows: Sequence[Mapping[str, Any]], index: str, column: str, value: str, bracketed: str
) -> str:
    """Rows as a Markdown table of one row an index, with a column for each value of `column`."""
    table = {}
    for row in rows:
        cell = f"{row[value]:.2f} ({row[bracketed]:.2f})"
        table.setdefault(row[index], {index: row[index]})[row[column]] = cell
    return markdown(list(table.values()))


def of_tool(record: Record, pair: str, tool: str) -> Mapping[str, Any]:
    """The row of a pair and a tool."""
    return next(row for row in record["rows"] if (row["pair"], row["method"]) == (pair, tool))


def least(record: Record, pair: str, column: str) -> Mapping[str, Any]:
    """The row of the tool with the least value for a pair, jaxreg apart."""
    peers = [row for row in record["rows"] if row["pair"] == pair and row["method"] != "jaxreg"]
    return min(peers, key=lambda row: row[column])


def missing(stored: Mapping[str, Record]) -> list[tuple[str, str]]:
    """Name and command of the records that a release needs and that are not there, or by hand."""
    wanted = json.loads((TEMPLATES / "wanted.json").read_text(encoding="utf-8"))
    return [
        (name, command)
        for name, command in wanted.items()
        if stored.get(name.replace("-", "_"), {"transcribed": True}).get("transcribed")
    ]


# Reference


def helps() -> Iterator[dict[str, str]]:
    """Name and help of every command, in the order of `jaxreg --help`."""
    for name in COMMANDS:
        command = importlib.import_module(f"jaxreg.cli.{name}").command
        context = click.Context(command, info_name=f"jaxreg {name}", terminal_width=WIDTH - 4)
        yield {"name": name, "text": command.get_help(context)}


def groups() -> Iterator[dict[str, Any]]:
    """Every group of settings: prefix of its keys, what it is, its settings."""
    parts = {kind: _parts(kind()) for kind in (RegistrationConfig, Config)}
    yield _group("", RegistrationConfig, own=True)
    for name, kind in parts[RegistrationConfig].items():
        yield _group(f"{name}.", kind)
    inner = {SearchConfig, *parts, *(kind for part in parts.values() for kind in part.values())}
    for kind in vars(config).values():  # of commands, such as VentilationConfig
        if isinstance(kind, type) and dataclasses.is_dataclass(kind) and kind not in inner:
            yield _group("", kind)
    for name, kind in parts[Config].items():
        yield _group(f"{name}.", kind)


def _parts(settings: Any) -> dict[str, type]:
    """The groups within settings, by name."""
    values = {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}
    return {name: type(value) for name, value in values.items() if dataclasses.is_dataclass(value)}


def _group(prefix: str, kind: type, *, own: bool = False) -> dict[str, Any]:
    texts = attributes(kind)
    defaults = kind()
    rows = [
        {
            "setting": f"`{prefix}{field.name}`",
            "default": f"`{shown(getattr(defaults, field.name))}`",
            "what it is": texts[field.name],
        }
        for field in dataclasses.fields(kind)
        if not (own and dataclasses.is_dataclass(getattr(defaults, field.name)))
    ]
    summary = (inspect.getdoc(kind) or "").splitlines()[0]
    return {"name": kind.__name__, "prefix": prefix, "summary": summary, "rows": rows}


def shown(value: Any) -> str:
    """A value as JSON, which --set and --config read."""
    if isinstance(value, tuple):
        return "[" + ", ".join(shown(item) for item in value) + "]"
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return shown(tuple(dataclasses.asdict(value).values()))
    return json.dumps(value)


def attributes(kind: type) -> dict[str, str]:
    """Texts of the section "Attributes" of a docstring, by name."""
    section = (inspect.getdoc(kind) or "").split("Attributes:\n", 1)[1]
    entries = re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", section, re.MULTILINE)
    return {name: " ".join(text.split()).replace("|", "\\|") for name, text in entries}


if __name__ == "__main__":
    main()
