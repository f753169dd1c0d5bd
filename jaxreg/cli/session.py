"""What surrounds a command: signals, and warnings as lines."""

import contextlib
import re
import signal
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import click

from jaxreg.io.notes import FileWarning

_DAMAGED_ENTRY = re.compile(r"Error reading persistent compilation cache entry for '([\w.-]+)'")


class Terminated(BaseException):
    """SIGTERM came: everything that was begun is cleaned up on the way out."""


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Turns SIGTERM into Terminated, so that temporary files are removed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_):
        raise Terminated

    former = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


@contextlib.contextmanager
def warnings_as_lines() -> Iterator[None]:
    """Shows each warning as one line; a damaged entry of the cache is removed and not shown."""

    def show(message, category, filename, lineno, file=None, line=None):
        if not _discard_damaged(str(message)):
            click.echo(f"warning: {' '.join(str(message).split())}", err=True)

    with warnings.catch_warnings():
        warnings.simplefilter("always", FileWarning)
        warnings.filterwarnings("always", message=_DAMAGED_ENTRY.pattern)
        warnings.showwarning = show
        yield


@contextlib.contextmanager
def collected() -> Iterator[list[FileWarning]]:
    """Yields a list of the FileWarnings that are shown meanwhile."""
    found: list[FileWarning] = []
    show = warnings.showwarning

    def keep(message, category, *where, **named):
        if isinstance(message, FileWarning):
            found.append(message)
        show(message, category, *where, **named)

    warnings.showwarning = keep
    try:
        yield found
    finally:
        warnings.showwarning = show


def _discard_damaged(message: str) -> bool:
    """Removes the entries that a warning of JAX is about: it would read them again for ever."""
    found = _DAMAGED_ENTRY.match(message)
    if not found:  # it may come while jax itself is imported
        return False
    import jax

    folder = jax.config.values["jax_compilation_cache_dir"]
    if not folder:
        return False
    for path in Path(folder).glob(f"{found[1]}-*"):
        path.unlink(missing_ok=True)
    return True
