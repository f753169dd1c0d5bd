"""`jaxreg keypoints`: corresponding points of two images in a CSV file."""

import json
import time
from pathlib import Path

import click

from jaxreg.cli import options
from jaxreg.cli.compilation import keep_compiled_programs
from jaxreg.cli.files import PairFiles, prepare_folder, read_pair
from jaxreg.cli.progress import stages


@click.command("keypoints")
@options.pair
@click.option("--out", type=options.FILE, required=True, help="CSV file, world millimetres.")
@click.option(
    "--space",
    type=click.Choice(("RAS", "LPS")),
    default="RAS",
    show_default=True,
    help="Axes of the file.",
)
@options.given_settings
@options.as_json
@options.quiet
def command(
    files: PairFiles,
    out: Path,
    space: str,
    registering: options.Registering,
    as_json: bool,
    quiet: bool | None,
) -> int:
    """Find corresponding points of two images.

    Writes thousands of points in the lungs of FIXED and their positions in MOVING.
    \f
    Returns:
        Exit status.
    """
    from jaxreg.io.points import write_landmarks
    from jaxreg.pipeline.keypoints import match_volumes

    if out.is_dir():
        raise ValueError(f"--out: expected a CSV file, got the folder {out}. Name a file.")
    settings = registering.settings()
    keep_compiled_programs()
    prepare_folder(out.parent)
    with stages(quiet=quiet) as stage:
        stage("reading")
        images = read_pair(files)
        began = time.perf_counter()
        points = match_volumes(
            images.fixed,
            images.moving,
            fixed_mask=images.fixed_mask,
            moving_mask=images.moving_mask,
            config=settings,
            progress=stage,
        )
        seconds = time.perf_counter() - began
    write_landmarks(out, points, space=space)
    if as_json:
        click.echo(json.dumps({"keypoints": len(points.fixed), "seconds": seconds}, indent=2))
    else:
        click.echo(f"{len(points.fixed)} keypoints in {seconds:.1f} s, written to {out}")
    return 0
