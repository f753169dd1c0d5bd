"""`jaxreg check`: whether a displacement field, as it was written, is free of folds."""

import json
from pathlib import Path
from typing import Any

import click

from jaxreg.cli import options
from jaxreg.cli.compilation import keep_compiled_programs
from jaxreg.cli.measures import determinant_lines, determinant_measures

NOT_CERTIFIED = 3  # exit status


@click.command("check")
@options.field_file
@options.mask
@options.as_json
def command(field: Path, mask: Path | None, as_json: bool) -> int:
    """Check a displacement field of any tool for folds.

    Reads the file as it was written. Every cell between eight voxels is certified free of folds, or
    not; the exit status is 0 if all are and 3 if not. A field without folds can still be wrong.

    \b
    Example:
      jaxreg check DIR/displacement.nii.gz
    \f
    Returns:
        Exit status.
    """
    import numpy as np

    from jaxreg.io.images import read_displacement
    from jaxreg.ops.verification import verify

    keep_compiled_programs()
    given = read_displacement(field)
    _, measures = determinant_measures(given, field, mask)
    verified = verify(given.to_voxels())
    measures |= {
        "cells": verified.cells,
        "uncertified_cells": verified.uncertified,
        "smallest_bound": verified.smallest,
        "largest_displacement_mm": float(np.linalg.norm(given.data, axis=-1).max()),
    }
    if as_json:
        click.echo(json.dumps(measures, indent=2))
    else:
        click.echo(f"{field}: {given.grid}")
        click.echo("\n".join(_lines(measures, masked=mask is not None)))
    return NOT_CERTIFIED if measures["uncertified_cells"] else 0


def _lines(measures: dict[str, Any], *, masked: bool) -> list[str]:
    cells, uncertified = measures["cells"], measures["uncertified_cells"]
    verdict = (
        f"not certified: the field may fold in {uncertified} of {cells} cells"
        if uncertified
        else f"certified: the field does not fold, in any of {cells} cells between voxels"
    )
    return [
        f"{verdict} (lower bound of the determinant {measures['smallest_bound']:.4f})",
        *determinant_lines(measures, masked=masked),
        f"largest displacement: {measures['largest_displacement_mm']:.2f} mm",
        "This says nothing about whether the field is right: corresponding points may still be "
        "wrong.",
    ]
