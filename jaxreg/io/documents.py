"""JSON files, written by hand or by other tools."""

import json
import os
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
