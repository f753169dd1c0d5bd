"""Progress on the terminal: the stage that runs, and the seconds of those that are done."""

import contextlib
import time
from collections.abc import Callable, Iterator

Stage = Callable[[str], None]  # called with the name of a stage as it begins


@contextlib.contextmanager
def stages(*, quiet: bool = False) -> Iterator[Stage]:
    """Yields a function to call with the name of each stage as it begins.

    A spinner beside the name runs until the next call or the end of the block; then a line with the
    name and its seconds stays. Nothing is written where stderr is no terminal, or if `quiet`.
    """
    from rich.console import Console

    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield lambda name: None
        return
    running: list[tuple[str, float]] = []
    with console.status("") as status:

        def end() -> None:
            if running:
                name, began = running.pop()
                console.print(f"{name} {time.perf_counter() - began:.1f} s", highlight=False)

        def begin(name: str) -> None:
            end()
            running.append((name, time.perf_counter()))
            status.update(f"{name} ...")

        yield begin
        end()
