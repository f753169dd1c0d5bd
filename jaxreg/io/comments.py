"""Comments in CSV files of points: lines whose first character is "#".

A value that begins with "#" is no comment where quotes are around it.
"""

import csv
import io
import math
import os
from collections.abc import Iterable, Sequence

from jaxreg.io.notes import note


def is_comment(line: str) -> bool:
    """Returns whether a line is a comment."""
    return line.startswith("#")


def write_rows(stream: io.StringIO, rows: Iterable[Sequence[object]]) -> None:
    """Writes lines of values, with quotes where a line would be a comment without.

    Args:
        stream: to write to.
        rows: values of each line.
    """
    plain = csv.writer(stream, lineterminator="\n")
    quoted = csv.writer(stream, lineterminator="\n", quoting=csv.QUOTE_ALL)
    for row in rows:
        (quoted if is_comment(str(row[0])) else plain).writerow(row)


def note_points(
    path: str | os.PathLike, comments: Sequence[str], count: int, columns: Sequence[int]
) -> None:
    """Warns of comments that look like points: names that begin with "#" may lack their quotes.

    Args:
        path: of the file, for the message.
        comments: of the file.
        count: of values in a line of a point.
        columns: of those that are numbers.
    """
    alike = [line for line in comments if _is_point(line, count, columns)]
    if alike:
        note(
            path,
            "points-in-comments",
            f"{len(alike)} lines that begin with # have the values of points, such as "
            f"{alike[0][:40]!r}; they are left out as comments. Put quotes around a name that "
            "begins with #.",
        )


def _is_point(line: str, count: int, columns: Sequence[int]) -> bool:
    values = line.split(",")
    try:
        numbers = [float(values[column]) for column in columns]
    except (ValueError, IndexError):
        return False
    return len(values) == count and all(map(math.isfinite, numbers))
