"""`jaxreg jacobian`: local volume change of a displacement field."""

import json
from pathlib import Path

import click

from jaxreg.cli import options
from jaxreg.cli.compilation import keep_compiled_programs
from jaxreg.cli.files import prepare_file
from jaxreg.cli.measures import determinant_lines, determinant_measures


@click.command("jacobian")
@options.field_file
@options.output
@options.mask
@options.as_json
def command(field: Path, out: Path, mask: Path | None, as_json: bool) -> int:
    """Write the Jacobian determinant of a displacement field.

    Above 1 the volume grows from the fixed to the moving image; 0 or less is a fold. By central
    differences. Prints percentiles and folds, within a mask if one is given.

    \b
    Example:
      jaxreg jacobian DIR/displacement.nii.gz --mask lungs.nii.gz --out jacobian.nii.gz
    \f
    Returns:
        Exit status.
    """
    from jaxreg.io.images import read_displacement
    from jaxreg.io.nifti import write_volume

    prepare_file(out, (field, mask))
    keep_compiled_programs()
    determinant, measures = determinant_measures(read_displacement(field), field, mask)
    write_volume(out, determinant)
    if as_json:
        click.echo(json.dumps(measures, indent=2))
    else:
        click.echo("\n".join(determinant_lines(measures, masked=mask is not None)))
        click.echo(f"written to {out}")
    return 0
