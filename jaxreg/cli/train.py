"""`jaxreg train`: the levels of the cascade trained, coarsest first."""

import logging
from pathlib import Path

import click

from jaxreg.cli import options
from jaxreg.cli.compilation import keep_compiled_programs


class _Levels(click.ParamType):
    """Levels of "2" or "1..3", coarsest first."""

    name = "level"

    def convert(self, value, param, ctx) -> list[int]:
        if isinstance(value, list):
            return value
        first, _, last = value.partition("..")
        try:
            low, high = sorted((int(first), int(last or first)))
        except ValueError:
            self.fail(f"expected a level or a range like 1..3, got {value!r}", param, ctx)
        return list(range(high, low - 1, -1))


@click.command("train")
@click.option("--level", type=_Levels(), help="3, or 1..3 for several; default: all.")
@click.option(
    "--config",
    "config_name",
    default="cascade",
    show_default=True,
    help="A Python file, or the name of a configuration that ships.",
)
@click.option("--data", default="phantom", show_default=True, help="phantom, or a manifest.json.")
@click.option(
    "--anatomies", type=options.FILE, help="manifest.json of images to deform beside the phantoms."
)
@click.option(
    "--validation",
    type=options.FILE,
    help="manifest.json of pairs held out: they choose the checkpoint that is kept.",
)
@click.option(
    "--start",
    help="Weights to go on from: a name of those that ship, or a .npz file. Each level begins with "
    "its own; coarser levels that WORKDIR lacks are taken from there.",
)
@click.option("--workdir", type=options.FILE, help="Default: runs/NAME OF THE CONFIGURATION.")
def command(
    level: list[int] | None,
    config_name: str,
    data: str,
    anatomies: Path | None,
    validation: Path | None,
    start: str | None,
    workdir: Path | None,
) -> int:
    """Train the cascade, coarsest level first.

    Levels count as in the paper: 3 is the coarsest, 1 the finest. A run that was stopped resumes by
    itself. The trained networks are written to WORKDIR/weights.npz.
    \f
    Returns:
        Exit status.
    """
    from jaxreg.config import load_config
    from jaxreg.configs import config_path
    from jaxreg.training.run import train

    keep_compiled_programs()
    logging.basicConfig(
        level=logging.WARNING, format="%(asctime)s %(message)s", datefmt="%H:%M:%S", force=True
    )
    logging.getLogger("jaxreg").setLevel(logging.INFO)
    path = config_path(config_name)
    train(
        load_config(path),
        workdir or Path("runs") / path.stem,
        levels=level,
        data=data,
        anatomies=anatomies,
        validation=validation,
        start=start,
    )
    return 0
