"""`jaxreg register`: two images registered, the results in a folder."""

import importlib
import json
import threading
from collections.abc import Sequence
from pathlib import Path

import click

from jaxreg.cli import options
from jaxreg.cli.compilation import keep_compiled_programs
from jaxreg.cli.files import PairFiles, prepare_folder, register_files
from jaxreg.cli.progress import Stage, stages


@click.command("register")
@options.pair
@options.folder
@options.field_spacing
@options.settings
@click.option(
    "--outputs",
    metavar="NAME,...",
    help="Files to write beside summary.json, some of displacement, warped, jacobian, quality, "
    "valid, inverse_consistency and report; all if not given.",
)
@options.strict
@options.as_json
@options.quiet
def command(
    files: PairFiles,
    out: Path,
    registering: options.Registering,
    outputs: str | None,
    strict: bool,
    as_json: bool,
    quiet: bool | None,
) -> int:
    """Register two CT images of the lungs.

    Computes, for every point of FIXED, the corresponding point of MOVING.
    \f
    Returns:
        Exit status.
    """
    chosen = _chosen(outputs)
    keep_compiled_programs()
    prepare_folder(out)
    settings = registering.settings()
    if not quiet:
        _tell_replaced(out)
    with stages(quiet=quiet, told="registering, which takes about a minute ...") as stage:
        if "report" in chosen:
            stage = _importing_meanwhile("jaxreg.figures.pair", stage)
        result, noted = register_files(files, settings=settings, stage=stage)
        stage("writing")
        result.save(out, outputs=chosen)
    for warning in result.warnings[noted:]:  # those of files were shown at once
        click.echo(f"warning: {warning['text']}", err=True)
    if as_json:
        click.echo(json.dumps(result.summary, indent=2))
    else:
        click.echo("\n".join(result.lines()))
        click.echo(f"written to {out}" + (": look at report.png" if "report" in chosen else ""))
    return options.WARNED if strict and result.warnings else 0


def _importing_meanwhile(module: str, stage: Stage) -> Stage:
    """Imports a module beside the longest stage, in which compiled programs run."""

    def begin(name: str) -> None:
        stage(name)
        if name in ("cascade", "optimiser"):
            threading.Thread(target=importlib.import_module, args=(module,), daemon=True).start()

    return begin


def _tell_replaced(out: Path) -> None:
    """Says on stderr, before the work, which result in the folder will be replaced."""
    from jaxreg.io.documents import read_json
    from jaxreg.io.source import described

    if not (out / "summary.json").is_file():
        return
    try:
        names = described(read_json(out / "summary.json").get("images", {}))
    except (OSError, ValueError, AttributeError, TypeError):  # damaged, or another file
        names = {}
    of = "; ".join(f"{side}: {name}" for side, name in names.items())
    click.echo(f"replacing the result in {out}" + (f" ({of})" if of else ""), err=True)


def _chosen(outputs: str | None) -> Sequence[str]:
    """The names of --outputs, all if it was not given; checked before the work."""
    from jaxreg.pipeline.result import OUTPUTS, check_outputs

    if outputs is None:
        return OUTPUTS
    names = [name.strip() for name in outputs.split(",") if name.strip()]
    check_outputs(names)
    return names
