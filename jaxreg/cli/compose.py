"""`jaxreg compose`: two displacement fields, one after the other."""

import json
from pathlib import Path

import click

from jaxreg.cli import options
from jaxreg.cli.compilation import keep_compiled_programs
from jaxreg.cli.files import prepare_file
from jaxreg.cli.progress import stages


@click.command("compose")
@click.argument("first", type=options.FIELD)
@click.argument("second", type=options.FIELD)
@options.output
@options.as_json
@options.quiet
def command(first: Path, second: Path, out: Path, as_json: bool, quiet: bool | None) -> int:
    """Compose two displacement fields: the map x -> SECOND(FIRST(x)).

    FIRST is applied to points first: it takes image A to image B, SECOND takes B to C, and the
    result takes A to C. It is on the grid of FIRST, the grid of A.

    \b
    Example:
      jaxreg compose a_to_b.nii.gz b_to_c.nii.gz --out a_to_c.nii.gz
    \f
    Returns:
        Exit status.
    """
    import numpy as np

    from jaxreg.geometry.resampling import compose_fields
    from jaxreg.geometry.volume import Volume
    from jaxreg.geometry.warping import warp_volume
    from jaxreg.io.images import read_displacement
    from jaxreg.io.nifti import write_displacement

    prepare_file(out, (first, second))
    keep_compiled_programs()
    with stages(quiet=quiet) as stage:
        stage("reading")
        inner, outer = read_displacement(first), read_displacement(second)
        stage("composing")
        ones = Volume(np.ones(outer.shape, np.uint8), outer.affine)
        inside = warp_volume(ones, inner, fill=0, sampling="nearest").data > 0
        if not inside.any():
            raise ValueError(
                f"{second}: expected a field that the first one leads into, got {outer.grid}. "
                "Check the order: FIRST goes from A to B, SECOND from B to C."
            )
        composed = compose_fields(outer, inner)
        stage("writing")
        write_displacement(out, composed)
    if not inside.all():
        click.echo(
            f"warning: {np.count_nonzero(~inside)} of {inside.size} voxels end outside of SECOND's "
            "grid and take its edge value.",
            err=True,
        )
    if as_json:
        outside = int(np.count_nonzero(~inside))
        click.echo(json.dumps({"voxels": inside.size, "outside_voxels": outside}, indent=2))
        return 0
    click.echo(f"x -> SECOND(FIRST(x)) written to {out}")
    return 0
