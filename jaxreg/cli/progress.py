"""Progress on the terminal: the stage that runs, or how many of many things are done."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import click

Stage = Callable[[str], None]  # called with the name of a stage as it begins


@contextlib.contextmanager
def stages(*, quiet: bool | None = None, told: str = "") -> Iterator[Stage]:
    """Yields a function to call with the name of each stage as it begins.

    A spinner beside the name runs until the next call or the end of the block; then a line with the
    name and its seconds stays.

    Args:
        quiet: write nothing. Where stderr is no terminal, the lines are written if it is False, and
            `told` alone if it is None.
        told: line that is written there as the second stage begins, once files have been read.

    Yields:
        The function.
    """
    from rich.console import Console

    console = Console(stderr=True)
    if quiet or (quiet is None and not console.is_terminal):
        yield _once_read("" if quiet else told)
        return
    running: list[tuple[str, float]] = []
    with console.status("") if console.is_terminal else contextlib.nullcontext() as status:

        def end() -> None:
            if running:
                name, began = running.pop()
                console.print(f"{name} {time.perf_counter() - began:.1f} s", highlight=False)

        def begin(name: str) -> None:
            end()
            running.append((name, time.perf_counter()))
            if status is not None:
                status.update(f"{name} ...")

        yield begin
        end()


def _once_read(line: str) -> Stage:
    """Writes a line as the second stage begins, and nothing else."""
    begun: list[str] = []

    def begin(name: str) -> None:
        begun.append(name)
        if line and len(begun) == 2:
            _echo(line)

    return begin


class Count(NamedTuple):
    """Lines beside the count of many things.

    Attributes:
        say: shows a line.
        done: shows a line for one of the things, which is finished.
    """

    say: Callable[[str], None]
    done: Callable[[str], None]


@contextlib.contextmanager
def counted(total: int, *, quiet: bool | None = None) -> Iterator[Count]:
    """Yields functions that show a line, and a line for each of many things as it is done.

    The lines go to stderr. On a terminal a bar with the time left stays below them.

    Args:
        total: number of things.
        quiet: write nothing.

    Yields:
        The functions.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as TimeLeft

    console = Console(stderr=True)
    if quiet:
        yield Count(lambda line: None, lambda line: None)
        return
    if not console.is_terminal:
        yield Count(_echo, _echo)
        return
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("time left"), TimeLeft())
    with Progress(*columns, console=console, speed_estimate_period=math.inf) as progress:
        task = progress.add_task("", total=total)

        def say(line: str) -> None:
            console.print(line, highlight=False, markup=False, soft_wrap=True)

        def done(line: str) -> None:
            say(line)
            progress.advance(task)

        yield Count(say, done)


def _echo(line: str) -> None:
    click.echo(line, err=True)
