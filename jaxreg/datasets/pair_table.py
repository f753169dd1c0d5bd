"""A user's own pairs as a table: CSV with a row a pair, as spreadsheets write it.

    id,fixed,moving,fixed_mask,landmarks
    patient-1,1/insp.nii.gz,1/exp.nii.gz,1/insp_lungs.nii.gz,1/points.csv

The columns are the attributes of `jaxreg.datasets.manifest.Pair`, in any order; id, fixed and
moving are required, and other columns are left alone. Cells are separated by commas, semicolons or
tabs. Paths are relative to the table.
"""

import csv
import dataclasses
import difflib
import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from jaxreg.datasets.manifest import Pair

_KNOWN = tuple(field.name for field in dataclasses.fields(Pair))
_REQUIRED = ("id", "fixed", "moving")
_DELIMITERS = (",", ";", "\t")
_SHOWN = 10  # problems, of all that there are


class PairTable(NamedTuple):
    """The pairs of a table, in its order; no file of theirs was looked at.

    Attributes:
        pairs: each with an id of its own.
        unused: columns that mean nothing here.
    """

    pairs: tuple[Pair, ...]
    unused: tuple[str, ...]


class _Line(NamedTuple):
    """A row: the line of the file that it ends in, and its cells."""

    number: int
    cells: list[str]


def read_pair_table(path: str | os.PathLike) -> PairTable:
    """Returns the pairs in a CSV file.

    Raises:
        OSError: no such file.
        ValueError: no CSV, or lists what is wrong with its rows, by line.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path}: expected a table of pairs, got no such file. Check the name."
        )
    header, *lines = _lines(path, _text(path))
    names = [cell.lower() for cell in header.cells]
    _check_header(path, names)
    problems = [f"line {line.number}: {text}" for line in lines for text in _wrong(names, line)]
    problems += _repeated(names, lines)
    if problems:
        more = f" and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise ValueError(
            f"{path}: expected complete rows, got {len(problems)} problems. Mend "
            f"{'; '.join(problems[:_SHOWN])}{more}."
        )
    if not lines:
        raise ValueError(f"{path}: expected pairs, got none. Add a row for each.")
    pairs = tuple(_pair(path.parent, names, line) for line in lines)
    return PairTable(pairs, tuple(name for name in names if name and name not in _KNOWN))


def _text(path: Path) -> str:
    """The text of a file; a spreadsheet's mark of UTF-8 and its line "sep=;" are left out."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path}: expected CSV in UTF-8, got other bytes (line "
            f"{error.object[: error.start].count(10) + 1}). Save the sheet as 'CSV UTF-8'."
        ) from error
    if "\0" in text:
        raise ValueError(
            f"{path}: expected CSV in UTF-8, got binary data. Save the sheet as 'CSV UTF-8'."
        )
    return text


def _lines(path: Path, text: str) -> list[_Line]:
    """The header and the rows that are not empty; at least the header."""
    first = text.partition("\n")[0].strip()
    told = first[4:5] if first.lower().startswith("sep=") else ""
    content = text.partition("\n")[2] if told else text
    head = next((line for line in content.splitlines() if line.strip()), "")
    delimiter = told or max(_DELIMITERS, key=head.count)
    reader = csv.reader(io.StringIO(content, newline=""), delimiter=delimiter)
    try:
        rows = [
            _Line(reader.line_num + bool(told), [cell.strip() for cell in row]) for row in reader
        ]
    except csv.Error as error:
        raise ValueError(
            f"{path}: expected CSV, got '{error}' in line {reader.line_num}. Correct the file."
        ) from error
    return [row for row in rows if any(row.cells)] or [_Line(1, [])]


def _check_header(path: Path, names: Sequence[str]) -> None:
    """Refuses a table without the required columns, with one twice, or with one misspelt."""
    missing = [name for name in _REQUIRED if name not in names]
    if missing:
        raise ValueError(
            f"{path}: expected the columns {', '.join(_REQUIRED)}, got "
            f"'{', '.join(names)[:200]}'. Name the columns in the first line."
        )
    for name in names:
        if name in _KNOWN and names.count(name) > 1:
            raise ValueError(
                f"{path}: expected one column {name}, got several. Remove all but one."
            )
        near = difflib.get_close_matches(name.replace(" ", "_"), _KNOWN, n=1, cutoff=0.8)
        if near and name not in _KNOWN and near[0] not in names:
            raise ValueError(
                f"{path}: expected columns such as {near[0]}, got '{name}'. Correct the name, or "
                "remove the column."
            )


def _wrong(names: Sequence[str], line: _Line) -> Iterator[str]:
    """What is wrong with a row by itself."""
    if any(line.cells[len(names) :]):
        yield f"expected {len(names)} cells, got {len(line.cells)}; quote a cell that has commas"
    cells = dict(zip(names, line.cells, strict=False))
    for name in _REQUIRED:
        if not cells.get(name):
            yield f"expected {name}, got an empty cell"
    space = cells.get("space")
    if space and space.upper() not in ("RAS", "LPS"):
        yield f"space: expected RAS or LPS, got '{space}'"


def _repeated(names: Sequence[str], lines: Sequence[_Line]) -> Iterator[str]:
    """Ids that several rows have."""
    column = names.index("id")
    at: dict[str, list[int]] = {}
    for line in lines:
        if len(line.cells) > column and line.cells[column]:
            at.setdefault(line.cells[column], []).append(line.number)
    for name, numbers in at.items():
        if len(numbers) > 1:
            yield f"lines {', '.join(map(str, numbers))}: expected unique ids, got '{name}' again"


def _pair(folder: Path, names: Sequence[str], line: _Line) -> Pair:
    cells = {
        name: cell for name, cell in zip(names, line.cells, strict=False) if cell and name in _KNOWN
    }
    paths = {name: folder / cell for name, cell in cells.items() if name not in ("id", "space")}
    return Pair(id=cells["id"], space=cells.get("space"), **paths)
