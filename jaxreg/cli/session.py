"""What surrounds a command: signals, and warnings as lines."""

import contextlib
import os
import re
import signal
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path

import click

from jaxreg.io.notes import FileWarning

_DROPPED_IN = ("_xla_gc_callback",)
_PUT_OFF_SECONDS = 0.05
_DAMAGED_ENTRY = re.compile(r"Error reading persistent compilation cache entry for '([\w.-]+)'")


class Terminated(BaseException):
    """SIGTERM came: everything that was begun is cleaned up on the way out."""


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Turns SIGTERM into Terminated, so that temporary files are removed.

    Python drops an exception that a signal raises within a callback of the garbage collector, such
    as that of JAX: there SIGTERM and SIGINT (Ctrl-C) are put off.

    Yields:
        Nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number, frame):
        if frame is not None and frame.f_code.co_name in _DROPPED_IN:
            threading.Timer(_PUT_OFF_SECONDS, os.kill, (os.getpid(), number)).start()
        elif number == signal.SIGTERM:
            raise Terminated
        else:
            raise KeyboardInterrupt

    numbers = [signal.SIGTERM]
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it is ignored
        numbers.append(signal.SIGINT)
    former = [(number, signal.signal(number, stop)) for number in numbers]
    try:
        yield
    finally:
        for number, handler in former:
            signal.signal(number, handler)


@contextlib.contextmanager
def warnings_as_lines(*, quiet: bool = False) -> Iterator[None]:
    """Shows each warning as one line, or none; a damaged entry of the cache is removed."""

    def show(message, category, filename, lineno, file=None, line=None):
        if not _discard_damaged(str(message)) and not quiet:
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
