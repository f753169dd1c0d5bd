"""Tables of results: Markdown to read, CSV to compute with, JSON with what made them.

A table is a list of rows, each a mapping from column to number, text or None (not measured). The
columns are those of all rows in the order of their first appearance. Markdown rounds; CSV and JSON
keep what was measured.
"""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxreg.io.atomic import replacing

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
Row = Mapping[str, float | int | str | None]


def columns(rows: Sequence[Row]) -> tuple[str, ...]:
    """Returns the columns of all rows, each once."""
    return tuple(dict.fromkeys(name for row in rows for name in row))


def markdown(rows: Sequence[Row]) -> str:
    """Returns the rows as a Markdown table padded to equal widths, for the terminal too.

    Numbers have two decimals, or two digits if they are smaller than 0.1; what was not measured is
    a dash.
    """
    names = columns(rows)
    cells = [[_cell(row.get(name)) for name in names] for row in rows]
    head = [_cell(name) for name in names]
    widths = [max(map(len, column)) for column in zip(head, *cells, strict=True)]
    numeric = [
        all(not isinstance(row.get(name), str) for row in rows) for name in names
    ]  # to the right
    rule = [
        "-" * (width - 1) + ":" if right else "-" * width
        for width, right in zip(widths, numeric, strict=True)
    ]
    lines = [
        "| "
        + " | ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, numeric, strict=True)
        )
        + " |"
        for line in (head, rule, *cells)
    ]
    return "\n".join(lines) + "\n"


def write_table(
    path: Path,
    rows: Sequence[Row],
    *,
    title: str,
    settings: Mapping[str, Any],
    legend: Mapping[str, str] | None = None,
) -> None:
    """Writes the rows as path.md, path.csv and path.json, each whole or not at all.

    Args:
        path: without an ending.
        rows: of the table.
        title: heading of the Markdown file.
        settings: what made the rows, versions included; kept in the JSON and below the Markdown.
        legend: what columns mean; those that the table has stand below the Markdown and in the
            JSON.
    """
    meaning = {name: (legend or {})[name] for name in columns(rows) if name in (legend or {})}
    document = {"title": title, "settings": settings, "columns": meaning}
    document |= {"rows": [finite(row) for row in rows]}
    notes = "".join(f"- {name}: {json.dumps(value)}\n" for name, value in settings.items())
    words = "".join(f"- {name}: {text}\n" for name, text in meaning.items())
    contents = {
        ".md": f"# {title}\n\n{markdown(rows)}\n{words}{notes}",
        ".csv": csv_text(rows, columns(rows)),
        ".json": json.dumps(document, indent=2, allow_nan=False) + "\n",
    }
    for ending, content in contents.items():
        with replacing(path.with_name(path.name + ending)) as temporary:
            temporary.write_text(content, encoding="utf-8")


def csv_text(rows: Sequence[Row], names: Sequence[str]) -> str:
    """Returns rows as CSV; what was not measured is an empty cell.

    Args:
        rows: of the table.
        names: of the columns, in their order; all that the rows have.

    Returns:
        Text with one line of column names.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _plain(value) for name, value in row.items()} for row in rows)
    return text.getvalue()


def shown(value: Any) -> str:
    """Returns a value as people read it.

    Two decimals, or two digits of what is smaller than 0.1; a dash for None, NaN and infinity.
    """
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    if isinstance(value, float):
        return f"{value:.2f}" if value == 0 or abs(value) >= 0.0995 else f"{value:.2g}"
    return str(value)


def _plain(value: Any) -> Any:
    """A value of a CSV; text that a spreadsheet would compute gets an apostrophe in front."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _cell(value: Any) -> str:
    """Text of a cell in one line, with what would end the cell escaped."""
    line = " ".join(shown(value).split())
    return line.replace("\\", "\\\\").replace("|", "\\|")


def finite(row: Row) -> dict[str, Any]:
    """The row without NaN and infinity, which JSON does not know.

    Args:
        row: of a table.

    Returns:
        The row, with None in their place.
    """
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in row.items()
    }
