"""Lists of points with labels, of one image: CSV, Slicer's .fcsv and Slicer's markups .mrk.json.

A list keeps the file that it was read from, so that what it does not understand (colours, flags,
descriptions, other columns) is in the file that is written from it. In memory points are RAS
millimetres, whatever the file says.
"""

import os
from pathlib import Path

import numpy as np

from jaxreg.io import point_tables, slicer_fcsv, slicer_markups
from jaxreg.io.atomic import replacing
from jaxreg.io.labelled import PointList

ENDINGS = (".csv", ".fcsv", ".mrk.json", ".json")


def read_points(path: str | os.PathLike) -> PointList:
    """Returns the points in a file, by the ending of its name.

    Raises:
        FileNotFoundError: no such file.
        ValueError: another format, no statement of RAS or LPS, or no points.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: expected a file of points, got none. Check the name.")
    return _format(path).read(path)


def write_points(path: str | os.PathLike, points: PointList, moved: np.ndarray) -> None:
    """Writes a list at other positions, in its own space, by the ending of the name.

    Args:
        path: file to write.
        points: the list, as it was read.
        moved: new positions, (N, 3), RAS mm.

    Raises:
        OSError: the folder cannot be written.
        ValueError: another ending than .csv, .fcsv and .mrk.json.
    """
    text = _format(path).text(points, np.asarray(moved, np.float64))
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _format(path: str | os.PathLike):
    """The module that reads and writes files of this name."""
    name = Path(path).name.lower()
    for ending, module in zip(
        ENDINGS, (point_tables, slicer_fcsv, slicer_markups, slicer_markups), strict=True
    ):
        if name.endswith(ending):
            return module
    raise ValueError(
        f"{path}: expected points in a file ending in {', '.join(ENDINGS)}, got "
        f"'{Path(path).suffix or name}'. Convert or rename it."
    )
