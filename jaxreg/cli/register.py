"""`jaxreg register`: two images registered, the results in a folder."""

import json
from pathlib import Path

import click

from jaxreg.cli import options
from jaxreg.cli.compilation import keep_compiled_programs
from jaxreg.cli.files import prepare_folder, register_files
from jaxreg.cli.progress import stages


@click.command("register")
@options.pair
@click.option("--out", type=options.FILE, required=True, help="Folder for the results.")
@options.settings
@options.strict
@options.as_json
@options.quiet
def command(
    fixed: Path,
    moving: Path,
    fixed_mask: Path | None,
    moving_mask: Path | None,
    series: str | None,
    out: Path,
    method: str | None,
    weights: str | None,
    inverse_consistency: bool,
    config: Path | None,
    assignments: tuple[str, ...],
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
    keep_compiled_programs()
    prepare_folder(out)
    settings = options.registration_config(
        method, weights, inverse_consistency, config, assignments
    )
    with stages(quiet=quiet) as stage:
        result, noted = register_files(
            fixed,
            moving,
            fixed_mask,
            moving_mask,
            series=series,
            settings=settings,
            stage=stage,
        )
        stage("writing")
        result.save(out)
    for warning in result.warnings[noted:]:  # those of files were shown at once
        click.echo(f"warning: {warning['text']}", err=True)
    if as_json:
        click.echo(json.dumps(result.summary, indent=2))
    else:
        click.echo("\n".join(result.lines()))
        click.echo(f"written to {out}: look at report.png")
    return options.WARNED if strict and result.warnings else 0
