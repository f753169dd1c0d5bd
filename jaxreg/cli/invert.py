"""`jaxreg invert`: the inverse of a displacement field."""

import json
from pathlib import Path

import click

from jaxreg.cli import options
from jaxreg.cli.compilation import keep_compiled_programs
from jaxreg.cli.files import prepare_file
from jaxreg.cli.progress import stages


@click.command("invert")
@options.field_file
@options.output
@click.option(
    "--to", type=options.FILE, help="Image whose grid is wanted, the moving one; else the field's."
)
@options.as_json
@options.quiet
def command(field: Path, out: Path, to: Path | None, as_json: bool, quiet: bool | None) -> int:
    """Invert a displacement field.

    Writes the field of the map from the moving to the fixed image, and prints the
    inverse-consistency error |T(T^-1(q)) - q|.

    \b
    Example:
      jaxreg invert DIR/displacement.nii.gz --to moving.nii.gz --out inverse.nii.gz
    \f
    Returns:
        Exit status.
    """
    import numpy as np

    from jaxreg.geometry.inversion import CONVERGED_MM, affine_part
    from jaxreg.geometry.resampling import invert_field
    from jaxreg.geometry.volume import Volume
    from jaxreg.geometry.warping import warp_volume
    from jaxreg.io.images import read_displacement, read_grid
    from jaxreg.io.nifti import write_displacement

    prepare_file(out, (field, to))
    keep_compiled_programs()
    with stages(quiet=quiet) as stage:
        stage("reading")
        forward = read_displacement(field)
        if min(forward.shape) < 3:
            raise ValueError(
                f"{field}: expected three voxels or more along each axis, got {forward.shape}. "
                "Write it on a whole image's grid."
            )
        grid = forward.grid if to is None else read_grid(to)
        stage("inverting")
        inverse, error = invert_field(forward, grid, matrix=affine_part(forward))
        inner = np.pad(np.ones([n - 2 for n in forward.shape], np.uint8), 1)
        inside = (
            warp_volume(Volume(inner, forward.affine), inverse, fill=0, sampling="nearest").data > 0
        )
        if not inside.any():
            raise ValueError(
                f"--to: expected a grid that the field reaches, got {grid}. Give the moving image."
            )
        stage("writing")
        write_displacement(out, inverse)
    found = error.data[inside]
    wrong = np.argwhere((error.data > CONVERGED_MM) & inside)
    if len(wrong):
        low, high = (grid.world_from_voxel(end) for end in (wrong.min(axis=0), wrong.max(axis=0)))
        box = " to ".join(", ".join(f"{mm:.0f}" for mm in end) for end in (low, high))
        click.echo(
            f"warning: no inverse was found (error above {CONVERGED_MM:g} mm) at {len(wrong)} "
            f"voxels between {box} mm RAS. The field may fold there: jaxreg check {field}.",
            err=True,
        )
    if as_json:
        error_mm = {"50": float(np.median(found)), "100": float(found.max())}
        counts = {"voxels": inside.size, "measured_voxels": len(found), "lost_voxels": len(wrong)}
        click.echo(json.dumps({"inverse_consistency_mm": error_mm, **counts}, indent=2))
        return 0
    click.echo(
        f"inverse-consistency error: {np.median(found):.4f} mm (median), {found.max():.4f} mm "
        f"(maximum), at {len(found)} of {inside.size} voxels; the others come from the border of "
        "the field's grid or from outside"
    )
    click.echo(f"written to {out}")
    return 0
