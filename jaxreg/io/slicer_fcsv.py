"""Slicer's fiducial files, .fcsv (slicer.readthedocs.io, developer guide, Markups).

    # Markups fiducial file version = 4.13
    # CoordinateSystem = LPS
    # columns = id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID
    1,-19.9067,13.9347,29.4430,0,0,0,1,1,1,0,F-1,,

Earlier versions of Slicer have numbers for the coordinate system: 0 is RAS, 1 is LPS.
"""

import csv
import io
import os
from pathlib import Path

import numpy as np

from jaxreg.io.comments import is_comment, write_rows
from jaxreg.io.labelled import SIGNS, PointList, written
from jaxreg.io.values import located

_FORMAT = "fcsv"
_SPACES = {"0": "RAS", "1": "LPS", "RAS": "RAS", "LPS": "LPS"}
_LABEL = 11
_COLUMNS = "id,x,y,z,ow,ox,oy,oz,vis,sel,lock,label,desc,associatedNodeID"


def read(path: str | os.PathLike) -> PointList:
    """Returns the points in a .fcsv file.

    Raises:
        ValueError: no statement of RAS or LPS, other columns, or what is no number.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: expected text, got binary data. Check the name.") from error
    header = [line for line in lines if is_comment(line)]
    fields = [line.lstrip("# ").partition("=") for line in header]
    said = {name.strip().lower(): value.strip() for name, equals, value in fields if equals}
    space = _SPACES.get(said.get("coordinatesystem", "").upper())
    if space is None:
        raise ValueError(
            f"{path}: expected '# CoordinateSystem = LPS' or RAS (1 or 0 of earlier versions), got "
            f"'{said.get('coordinatesystem', 'none')}'. Save the points with Slicer, or add the "
            "line."
        )
    if not said.get("columns", _COLUMNS).replace(" ", "").startswith("id,x,y,z"):
        raise ValueError(
            f"{path}: expected the columns {_COLUMNS}, got '{said['columns'][:80]}'. Slicer knows "
            "no other order: save the points with Slicer."
        )
    rows = list(csv.reader(line for line in lines if line.strip() and not is_comment(line)))
    try:
        points = np.array([[float(word) for word in row[1:4]] for row in rows]).reshape(-1, 3)
    except ValueError as error:
        raise ValueError(
            f"{path}: expected id,x,y,z in each line, got '{error}'. Correct the file."
        ) from error
    labels = tuple(row[_LABEL] if len(row) > _LABEL else "" for row in rows)
    with located(path):
        return PointList(
            points * SIGNS[space],
            *(tuple(row[0] for row in rows), labels, space, (_FORMAT, (header, rows))),
        )


def text(points: PointList, moved: np.ndarray) -> str:
    """The content of a .fcsv file; a list that was read from one keeps all but positions.

    Args:
        points: the list, as it was read.
        moved: new positions, (N, 3), RAS mm.

    Returns:
        Lines of text, in the space of the list.
    """
    if points.source[0] == _FORMAT:
        header, rows = points.source[1]
    else:
        header = [
            "# Markups fiducial file version = 4.13",
            f"# CoordinateSystem = {points.space}",
            f"# columns = {_COLUMNS}",
        ]
        named = enumerate(zip(points.ids, points.labels, strict=True), 1)
        rows = [[i or str(n), *"xyz000111", "0", label, "", ""] for n, (i, label) in named]
    stream = io.StringIO()
    stream.write("".join(f"{line}\n" for line in header))
    for row, xyz in zip(rows, written(moved, points.space), strict=True):
        write_rows(stream, [[row[0], *(f"{number:.4f}" for number in xyz), *row[4:]]])
    return stream.getvalue()
