"""Points of one image in a CSV file: the columns x, y, z and any others.

# space: LPS
label,x,y,z
nodule,-5.682,163.308,-353.713
"""

import csv
import io
import os
from pathlib import Path

import numpy as np

from jaxreg.io.comments import is_comment, note_points, write_rows
from jaxreg.io.labelled import SIGNS, PointList, written
from jaxreg.io.points import stated_space
from jaxreg.io.values import located

_FORMAT = "csv"


def read(path: str | os.PathLike) -> PointList:
    """Returns the points in a CSV file.

    Raises:
        ValueError: no columns x, y, z, no statement of RAS or LPS, or what is no number.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected CSV text, got binary data. Check the name.") from error
    comments = [line for line in lines if is_comment(line)]
    rows = list(csv.reader(x for x in lines if x.strip() and not is_comment(x)))
    names = [name.strip().lower() for name in rows[0]] if rows else []
    if not {"x", "y", "z"} <= set(names):
        raise ValueError(
            f"{path}: expected the columns x, y and z, got '{','.join(names)[:200]}'. Name the "
            "columns in the first line; pairs of points have fixed_x to moving_z."
        )
    space = stated_space(path, comments)
    columns = [names.index(axis) for axis in "xyz"]
    note_points(path, comments, len(names), columns)
    for row in rows[1:]:
        if len(row) != len(names) or not all(_is_number(row[column]) for column in columns):
            raise ValueError(
                f"{path}: expected {len(names)} values with numbers as x, y, z, got "
                f"'{','.join(row)[:80]}'. Correct or remove the line."
            )
    values = np.array([[float(row[column]) for column in columns] for row in rows[1:]])
    with located(path):
        return PointList(
            values.reshape(-1, 3) * SIGNS[space],
            _column(names, rows, ("id",)),
            _column(names, rows, ("label", "name", "kind")),
            space,
            (_FORMAT, (comments, rows, columns)),
        )


def text(points: PointList, moved: np.ndarray) -> str:
    """The content of a CSV file; a list that was read from one keeps all columns.

    Args:
        points: the list, as it was read.
        moved: new positions, (N, 3), RAS mm.

    Returns:
        Lines of text, in the space of the list.
    """
    stream = io.StringIO()
    numbers = written(moved, points.space)
    if points.source[0] == _FORMAT:
        comments, rows, columns = points.source[1]
        stream.write("".join(f"{comment}\n" for comment in comments))
        write_rows(stream, rows[:1])
        for row, xyz in zip(rows[1:], numbers, strict=True):
            replaced = list(row)
            for column, number in zip(columns, xyz, strict=True):
                replaced[column] = f"{number:.4f}"
            write_rows(stream, [replaced])
        return stream.getvalue()
    stream.write(f"# space: {points.space}\n")
    write_rows(stream, [("id", "label", "x", "y", "z")])
    for name, label, xyz in zip(points.ids, points.labels, numbers, strict=True):
        write_rows(stream, [(name, label, *(f"{number:.4f}" for number in xyz))])
    return stream.getvalue()


def _column(names: list[str], rows: list[list[str]], wanted: tuple[str, ...]) -> tuple[str, ...]:
    """The first of some columns that is there, or empty words."""
    column = next((names.index(name) for name in wanted if name in names), None)
    return tuple("" if column is None else row[column].strip() for row in rows[1:])


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
