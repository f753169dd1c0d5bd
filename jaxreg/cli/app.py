"""The program `jaxreg`: its commands, and how errors end it.

python -m jaxreg register FIXED MOVING --out DIR

Each command is a module of `jaxreg.cli` that imports its work when it runs, so that `--help` and a
wrong call answer at once.
"""

import atexit
import gc
import importlib
import io
import sys
from collections.abc import Sequence

import click

from jaxreg.cli import session
from jaxreg.cli.memory import share_arenas
from jaxreg.config.suggestions import close_names

COMMANDS = (  # in the order of --help
    *("register", "warp", "points", "invert", "compose", "jacobian", "check", "export"),
    *("series", "cohort", "ventilation", "follow", "keypoints", "demo", "train", "evaluate"),
)


class _Program(click.Group):
    """A group whose commands are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        return importlib.import_module(f"jaxreg.cli.{cmd_name}").command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Names the commands that are like one that does not exist."""
        near = "" if args[0] in COMMANDS else close_names(args[0], COMMANDS)
        if near:
            ctx.fail(f"No such command {args[0]!r}. {near}")
        return super().resolve_command(ctx, args)


@click.command(cls=_Program)
@click.version_option(package_name="jaxreg")
def _program() -> None:
    """Deformable registration of lung CT."""


def main(*, arguments: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        arguments: words of the command line; those of the process if None.

    Returns:
        Exit status: 0; 1 after one line that says what is wrong; 2 after a wrong call; 3 where a
        command was called with --strict and there are warnings, or `check` did not certify; 130 or
        143 after a signal.
    """
    share_arenas()
    atexit.register(gc.freeze)  # or Python looks through all objects once more as it ends
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal may be unable to show "±"
    words = None if arguments is None else list(arguments)
    try:
        with session.terminable(), session.warnings_as_lines():
            return _program.main(words, prog_name="jaxreg", standalone_mode=False) or 0
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return _fail("interrupted.", status=130)
    except session.Terminated:
        return _fail("terminated.", status=143)
    except (ValueError, OSError, ImportError, FloatingPointError) as error:
        return _fail(" ".join(str(error).split()))
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return _fail("out of memory. Crop the images to the chest.")


def _fail(message: str, *, status: int = 1) -> int:
    click.echo(f"jaxreg: {message}", err=True)
    return status
