"""`jaxreg register`: two images registered, the results in a folder."""

from pathlib import Path

import click

from jaxreg.cli import options
from jaxreg.cli.compilation import keep_compiled_programs
from jaxreg.cli.files import prepare_folder, read_pair
from jaxreg.cli.progress import stages


@click.command("register")
@options.pair
@click.option("--out", type=options.FILE, required=True, help="Folder for the results.")
@click.option(
    "--method",
    type=click.Choice(options.METHODS),
    help="classical: optimisation on the pair (default); cascade: networks alone; "
    "full: both (default with --weights).",
)
@click.option("--weights", type=options.FILE, help="weights.npz of a training; default: shipped.")
@click.option(
    "--uncertainty",
    is_flag=True,
    help="Register the other way too; writes the inverse-consistency error, mm.",
)
@options.quiet
def command(
    fixed: Path,
    moving: Path,
    fixed_mask: Path | None,
    moving_mask: Path | None,
    series: str | None,
    out: Path,
    method: str | None,
    weights: Path | None,
    uncertainty: bool,
    quiet: bool,
) -> int:
    """Register two CT images of the lungs.

    Computes, for every point of FIXED, the corresponding point of MOVING.
    \f
    Returns:
        Exit status.
    """
    from jaxreg.network.weights import load_weights
    from jaxreg.pipeline.registration import register_volumes

    keep_compiled_programs()
    prepare_folder(out)
    params, config = load_weights(weights) if weights else (None, None)
    with stages(quiet=quiet) as stage:
        stage("reading")
        images = read_pair(fixed, moving, fixed_mask, moving_mask, series)
        stage("registering")
        result = register_volumes(
            images[0],
            images[1],
            fixed_mask=images[2][0],
            moving_mask=images[2][1],
            method=method,
            params=params,
            config=config,
            uncertainty=uncertainty,
        )
        stage("writing")
        result.save(out)
    click.echo("\n".join(result.lines()))
    files = "warped, displacement" + (", uncertainty" if uncertainty else "")
    click.echo(f"written to {out}: {files} and jacobian (.nii.gz), report.png, summary.json")
    return 0
