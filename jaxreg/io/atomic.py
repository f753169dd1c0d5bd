"""Files that are whole or absent: write beside the target, then rename."""

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Yields a path in the folder of `path` that becomes `path` when the block ends well.

    The temporary name keeps the ending (.nii.gz), by which writers choose a format. If the block
    raises, the temporary file is removed and a former `path` is as it was.

    Raises:
        OSError: the folder is missing or cannot be written; the text names it.
    """
    path = Path(path)
    if path.is_dir():
        raise OSError(f"{path}: expected a file to write, got a folder. Choose a file name in it.")
    temporary = path.with_name(f".{uuid.uuid4().hex[:12]}-{path.name}")
    try:
        temporary.touch(exist_ok=False)
    except OSError as error:
        raise OSError(
            f"{path.parent}: expected a folder that can be written, got '{error.strerror}'. "
            "Create it, or choose another output folder."
        ) from error
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
