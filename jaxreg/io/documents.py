"""JSON files, written by hand or by other tools, and tables of results."""

import csv
import io
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_MAX_BYTES = 1 << 28  # a list of a million pairs is smaller


def read_json(path: str | os.PathLike) -> Any:
    """Returns what a JSON file holds.

    Raises:
        OSError: no such file.
        ValueError: no JSON, nested too deep, or of an absurd size; the text begins with the path.
    """
    size = Path(path).stat().st_size
    if size > _MAX_BYTES:
        raise ValueError(f"{path}: expected JSON, got {size} bytes. Check the name.")
    try:
        return json.loads(Path(path).read_text(encoding="utf-8-sig"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: expected JSON, got '{error}'. Correct the file.") from error
    except RecursionError as error:
        raise ValueError(
            f"{path}: expected JSON, got lists or objects nested too deep. Correct the file."
        ) from error
    except ValueError as error:  # a number of more digits than Python converts
        raise ValueError(f"{path}: expected JSON, got '{error}'. Correct the file.") from error


def table_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """A table as CSV.

    Args:
        rows: one or more of the same columns; None is empty, numbers have six figures.

    Returns:
        The text, a heading first.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(rows[0])
    writer.writerows(
        [f"{value:.6g}" if isinstance(value, float) else value for value in row.values()]
        for row in rows
    )
    return text.getvalue()
