"""`jaxreg check`: whether a displacement field, as it was written, is free of folds."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from jaxreg.cli import options
from jaxreg.cli.compilation import keep_compiled_programs
from jaxreg.cli.files import PairFiles, read_pair
from jaxreg.cli.measures import determinant_lines, determinant_measures

if TYPE_CHECKING:
    from jaxreg.geometry.volume import DisplacementField

NOT_CERTIFIED = 3  # exit status


@click.command("check")
@options.field_file
@options.mask
@click.option("--fixed", type=options.FILE, help="Fixed CT; with --moving, quality is estimated.")
@click.option("--moving", type=options.FILE, help="Moving CT.")
@click.option("--fixed-mask", type=options.FILE, help="Lungs of --fixed; found if not given.")
@click.option("--moving-mask", type=options.FILE, help="Lungs of --moving; found if not given.")
@options.as_json
def command(
    field: Path,
    mask: Path | None,
    fixed: Path | None,
    moving: Path | None,
    fixed_mask: Path | None,
    moving_mask: Path | None,
    as_json: bool,
) -> int:
    """Check a displacement field of any tool for folds.

    Reads the file as it was written. Every cell between eight voxels is certified free of folds, or
    not; the exit status is 0 if all are and 3 if not. A field without folds can still be wrong:
    with --fixed and --moving, quality, correlation and warnings of the pair are shown too.

    \b
    Example:
      jaxreg check DIR/displacement.nii.gz --fixed FIXED --moving MOVING
    \f
    Returns:
        Exit status.
    """
    import numpy as np

    from jaxreg.geometry.resampling import verify_field
    from jaxreg.io.images import read_displacement

    if (fixed is None) != (moving is None):
        raise ValueError("--fixed and --moving: expected both or none, got one. Give both images.")
    if fixed is None and (fixed_mask or moving_mask):
        raise ValueError(
            "--fixed-mask and --moving-mask: expected the images too. Give --fixed and --moving."
        )
    keep_compiled_programs()
    given = read_displacement(field)
    _, measures = determinant_measures(given, field, mask)
    verified = verify_field(given)
    measures |= {
        "cells": verified.cells,
        "uncertified_cells": verified.uncertified,
        "smallest_bound": verified.smallest,
        "largest_displacement_mm": float(np.linalg.norm(given.data, axis=-1).max()),
    }
    if fixed is not None and moving is not None:
        measures |= _of_pair(given, PairFiles(fixed, moving, fixed_mask, moving_mask))
    if as_json:
        click.echo(json.dumps(measures, indent=2))
    else:
        click.echo(f"{field}: {given.grid}")
        click.echo("\n".join(_lines(measures, masked=mask is not None)))
    return NOT_CERTIFIED if measures["uncertified_cells"] else 0


def _of_pair(field: "DisplacementField", files: PairFiles) -> dict[str, Any]:
    """What the images say of the field."""
    from jaxreg.pipeline.judge import registration_of_field

    images = read_pair(files)
    found = registration_of_field(
        field,
        images.fixed,
        images.moving,
        fixed_mask=images.fixed_mask,
        moving_mask=images.moving_mask,
    )
    for warning in found.warnings:
        click.echo(f"warning: {warning['text']}", err=True)
    names = ("correlation_before", "correlation_after", "lungs", "warnings")
    return {name: found.summary[name] for name in names}


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
        *_pair_lines(measures),
    ]


def _pair_lines(measures: dict[str, Any]) -> list[str]:
    if "lungs" not in measures:
        return [
            "This says nothing about whether the field is right: corresponding points may still be "
            "wrong. Give --fixed and --moving to learn more."
        ]
    before, after = measures["correlation_before"], measures["correlation_after"]
    quality = ", ".join(f"{name} {lung['quality']:.2f}" for name, lung in measures["lungs"].items())
    return [
        f"correlation in the lungs {before:.3f} before, {after:.3f} after",
        f"quality (estimated chance of an error below 2 mm): {quality}",
    ]
