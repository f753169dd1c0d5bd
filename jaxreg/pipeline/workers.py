"""Work spread over processes by Dask: few tasks ahead of the workers, lost workers replaced."""

import contextlib
import logging
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from distributed import Client

Item = TypeVar("Item")

_ATTEMPTS = 3  # of a task whose worker died
_SILENCED = ("distributed", "tornado", "tornado.application")
_AHEAD = 1  # tasks a worker: one that waits with a worker that dies would count as tried, too
_CLOSING_SECONDS, _ENDING_SECONDS, _CONNECTING_SECONDS = 20, 5, 20


def require_dask() -> None:
    """Raises ImportError with the command that installs Dask, where it is missing."""
    try:
        import cryptography  # noqa: F401  # encrypts and authenticates the messages to workers
        import distributed  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"cohort: expected Dask (dask.distributed), got '{error}'. Install it: "
            "pip install 'jaxreg[cohort]'."
        ) from error


def free_cores() -> int:
    """Number of cores that this process may use, limits of containers included."""
    from dask.system import CPU_COUNT

    return max(1, CPU_COUNT)


def free_bytes() -> int:
    """Memory that is free now, limits of containers included."""
    import psutil
    from distributed.system import MEMORY_LIMIT

    return min(MEMORY_LIMIT, psutil.virtual_memory().available)


@contextlib.contextmanager
def local_workers(
    count: int, *, threads: int, on_loss: Callable[[], None] = lambda: None
) -> "Iterator[Client]":
    """Yields a client of new worker processes on this machine, which end with the block.

    Args:
        count: processes; each does one task at a time.
        threads: that XLA uses in each.
        on_loss: called when a worker died and another one is started.

    Yields:
        The client. No worker is ended for the memory that it takes.
    """
    import dask.config
    from distributed import Client, LocalCluster

    settings = {
        "distributed.scheduler.allowed-failures": _ATTEMPTS - 1,
        "distributed.scheduler.worker-ttl": None,
        "distributed.scheduler.http.routes": [],
        "distributed.nanny.pre-spawn-environ.DASK_LOGGING__DISTRIBUTED": "critical",
    }
    options: dict[str, Any] = {
        "n_workers": 0,  # started below, where they can be ended
        "threads_per_worker": 1,
        "processes": True,
        "memory_limit": 0,  # none
        "scheduler_kwargs": {"dashboard": False, "dashboard_address": "127.0.0.1:0"},
        "security": True,  # other users of the machine cannot send work
        "silence_logs": False,  # done by _telling
        "env": {"NPROC": str(threads)},  # XLA's thread pool
    }
    with dask.config.set(settings), _telling(on_loss):
        with _interrupts_held():  # Ctrl-C is for this process: its children inherit that
            cluster = LocalCluster(**options)
        try:
            cluster.scale(count)
            with Client(cluster) as client:
                yield client
        except BaseException:  # Ctrl-C, too, must leave no process behind
            _end(cluster)
            raise
        cluster.close(timeout=_CLOSING_SECONDS)


@contextlib.contextmanager
def workers_of(address: str) -> "Iterator[Client]":
    """Yields a client of a scheduler that runs elsewhere.

    Raises:
        OSError: nothing answers there.
    """
    from distributed import Client

    with _telling(lambda: None):
        try:
            client = Client(address, name="jaxreg cohort", timeout=_CONNECTING_SECONDS)
        except (OSError, ValueError, TypeError, ImportError) as error:
            raise OSError(
                f"--scheduler: expected the address of a Dask scheduler such as "
                f"tcp://10.0.0.1:8786, got '{address}' ({' '.join(str(error).split())[:120]}). "
                "Start one with `dask scheduler`."
            ) from error
        with client:
            yield client


def finished(
    client: "Client", work: Callable[[Item], Any], items: Iterable[Item], *, expected: int
) -> Iterator[tuple[Item, Any]]:
    """Does work on the workers, a few tasks ahead of them; yields results as they come.

    Args:
        client: of the workers.
        work: a function that the workers can import.
        items: arguments.
        expected: workers that there will be, at least; tasks wait for so many.

    Yields:
        Item and result; the result is an exception where the work raised it, or where its worker
        died each time.

    Raises:
        OSError: the scheduler is gone.
    """
    from distributed import as_completed

    waiting, running, done = iter(items), {}, as_completed(loop=client.loop)

    def fill() -> None:
        workers: Any = client.nthreads()
        room = _AHEAD * max(expected, len(workers))
        while len(running) < room:
            item = next(waiting, None)
            if item is None:
                return
            future = client.submit(work, item, pure=False)
            running[future.key] = item
            done.add(future)

    fill()
    for future in done:
        if future.cancelled() or future.status == "lost":
            raise OSError(
                "the connection to the scheduler was lost. Run the same command again: it goes on "
                "with the pairs that are missing."
            )
        item, error = running.pop(future.key), future.exception()
        yield item, future.result() if error is None else error
        fill()


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """Holds SIGINT back, also from threads begun meanwhile, and for ever from their children."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    _start_tracker()  # when it starts later, it lets SIGINT through again
    former = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)


def _start_tracker() -> None:
    """Starts Python's tracker of what processes leave behind; it need not print what it removes."""
    former = os.environ.get("PYTHONWARNINGS")
    os.environ["PYTHONWARNINGS"] = "ignore"
    try:
        resource_tracker.ensure_running()
    finally:
        del os.environ["PYTHONWARNINGS"]
        if former is not None:
            os.environ["PYTHONWARNINGS"] = former


def _end(cluster: Any) -> None:
    """Kills the workers at once, in the middle of whatever they do, even of their start."""
    for nanny in list(cluster.workers.values()):
        nanny.close_gracefully()  # no new one is started
    for process in multiprocessing.active_children():
        if process.name.startswith("Dask Worker"):
            process.kill()
    with contextlib.suppress(Exception):  # what is half started cannot be closed
        cluster.close(timeout=_ENDING_SECONDS)
    cluster.shutdown_on_close = False  # not again when Python ends, where it would wait


class _Listener(logging.Handler):
    """Passes on that a worker is started anew; everything else that Dask says is kept quiet."""

    def __init__(self, on_loss: Callable[[], None]):
        super().__init__()
        self._on_loss = on_loss

    def emit(self, record: logging.LogRecord) -> None:
        """Passes one record on."""
        if str(record.msg).startswith("Restarting worker"):
            self._on_loss()


@contextlib.contextmanager
def _telling(on_loss: Callable[[], None]) -> Iterator[None]:
    """Puts a listener in the place of Dask's own lines, for good where the block is broken off."""
    loggers = [logging.getLogger(name) for name in _SILENCED]
    former = [(logger, logger.handlers[:], logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.handlers, logger.propagate = [_Listener(on_loss)], False
    try:
        yield
    except Exception:  # not after Ctrl-C: threads of Dask write lines for a while
        _restore(former)
        raise
    _restore(former)


def _restore(former: Iterable[tuple[logging.Logger, list[logging.Handler], bool]]) -> None:
    for logger, handlers, propagate in former:
        logger.handlers, logger.propagate = handlers, propagate
