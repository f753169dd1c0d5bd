"""What a person may have meant by a path that does not exist."""

import itertools
import os
from pathlib import Path

from jaxreg.config.suggestions import close_names

_MOST = 10_000  # names of a folder that are compared


def missing(path: str | os.PathLike) -> str:
    """The message about a path that does not exist, with names that are like it.

    Args:
        path: of a file or a folder.

    Returns:
        One line.
    """
    path = Path(path)
    folder = path.parent
    if not folder.is_dir():
        return f"{path}: expected a file or folder, got no folder {folder}. Check the name."
    text = f"{path}: expected a file or folder, got no such file or folder."
    near = close_names(path.name, _names_in(folder))
    return f"{text} {near or 'Check the name.'}"


def _names_in(folder: Path) -> list[str]:
    try:
        return [path.name for path in itertools.islice(folder.iterdir(), _MOST)]
    except OSError:
        return []
