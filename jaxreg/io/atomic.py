"""Files, and sets of files, that are whole or absent: write beside the target, then rename.

What a killed process leaves behind has a hidden name, `.jaxreg-*`. A process that writes holds a
lock on it, which the system drops when the process ends, so `sweep` knows left-overs from work.
"""

import contextlib
import errno
import os
import shutil
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: nothing is locked, and nothing swept
    fcntl = None

_HIDDEN = ".jaxreg-"
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Yields a path in the folder of `path` that becomes `path` when the block ends well.

    The temporary name keeps the ending (.nii.gz), by which writers choose a format. If the block
    raises, the temporary file is removed and a former `path` is as it was.

    Raises:
        OSError: the folder is missing or cannot be written, or the disk is full; the text names it.
    """
    path = Path(path)
    if path.is_dir():
        raise OSError(f"{path}: expected a file to write, got a folder. Choose a file name in it.")
    temporary = path.with_name(f"{_HIDDEN}{uuid.uuid4().hex[:12]}-{path.name}")
    with _reserved(temporary), _naming(path):
        yield temporary
        os.replace(temporary, path)


@contextlib.contextmanager
def replacing_set(folder: str | os.PathLike, names: Sequence[str]) -> Iterator[Path]:
    """Yields a hidden folder; what is written there replaces a set of files when the block ends.

    The last of `names` says that the set is whole: it is removed first and comes back last, so
    that at any moment the folder has the old set, the new one, or none. If the block raises, the
    old set is as it was. What killed processes left in the folder is removed first.

    Args:
        folder: where the set belongs; made if missing. Its other files are left alone.
        names: of all files that a set can have, the one that every set has last. A file of the old
            set that the new one lacks is removed.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
        ValueError: the block wrote a file that is not in `names`, or not the last one.
    """
    folder = Path(folder)
    with _cannot_write(folder):
        folder.mkdir(parents=True, exist_ok=True)
    sweep(folder)
    hidden = folder / f"{_HIDDEN}{uuid.uuid4().hex[:12]}"
    with _reserved(_lock_of(hidden)), _naming(folder):
        try:
            hidden.mkdir()
            yield hidden
            _move_set(hidden, folder, names)
        finally:
            shutil.rmtree(hidden, ignore_errors=True)


def sweep(folder: str | os.PathLike) -> None:
    """Removes what killed processes left in a folder; work of living processes stays."""
    if fcntl is None:
        return
    for path in Path(folder).glob(f"{_HIDDEN}*"):
        with contextlib.suppress(OSError):
            if path.is_dir() and (not _lock_of(path).exists() or _is_free(_lock_of(path))):
                shutil.rmtree(path)
                _lock_of(path).unlink(missing_ok=True)
            elif path.is_file() and _is_free(path):
                path.unlink()


def _lock_of(hidden: Path) -> Path:
    """The file that is there, and locked, as long as a process writes into a hidden folder."""
    return hidden.with_name(f"{hidden.name}.lock")


def _move_set(hidden: Path, folder: Path, names: Sequence[str]) -> None:
    written = {path.name for path in hidden.iterdir()}
    if not written <= set(names) or names[-1] not in written:
        raise ValueError(
            f"{folder}: expected files of the set {', '.join(names)}, the last one among them, got "
            f"{', '.join(sorted(written)) or 'none'}. Write only these."
        )
    (folder / names[-1]).unlink(missing_ok=True)
    for name in names:
        if name in written:
            os.replace(hidden / name, folder / name)
        else:
            (folder / name).unlink(missing_ok=True)


@contextlib.contextmanager
def _reserved(path: Path) -> Iterator[None]:
    """A new file, locked, which is removed at the end."""
    with _cannot_write(path.parent):
        file = open(path, "xb")
    try:
        if fcntl is None:
            file.close()  # Windows renames no open file
        else:
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        path.unlink(missing_ok=True)
        file.close()


def _is_free(path: Path) -> bool:
    """Whether no process holds the lock of a file."""
    assert fcntl is not None
    with open(path, "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


@contextlib.contextmanager
def _cannot_write(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OSError(
            f"{folder}: expected a folder that can be written, got '{error.strerror}'. "
            "Create it, or choose another output folder."
        ) from error


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Says which file there was no room for."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise OSError(
            f"{path}: expected room on the disk, got '{error.strerror}'. Free some, or choose "
            "another output folder."
        ) from error
