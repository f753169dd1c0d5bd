"""`jaxreg points`: points through a displacement field."""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from jaxreg.cli import options
from jaxreg.cli.files import prepare_file

if TYPE_CHECKING:
    import numpy as np

    from jaxreg.geometry.volume import DisplacementField


@click.command("points")
@click.argument("points", type=options.FILE)
@options.field
@click.option(
    "--out", type=options.FILE, required=True, help="File to write: .csv, .fcsv or .mrk.json."
)
@click.option("--inverse", is_flag=True, help="From the moving image to the fixed one.")
@options.as_json
def command(points: Path, field: Path, out: Path, inverse: bool, as_json: bool) -> int:
    """Map points of the fixed image to the moving one.

    POINTS is a CSV file, or a .fcsv or .mrk.json of Slicer. The output keeps space (RAS or LPS),
    labels and ids. A CSV file has columns x, y, z, or pairs of points as jaxreg keypoints writes
    them: then the moving points (with --inverse the fixed ones) are replaced by the mapped ones,
    and their distance is printed.

    \b
    Example:
      jaxreg points nodules.fcsv --field DIR/displacement.nii.gz --out moved.fcsv
    \f
    Returns:
        Exit status.
    """
    from jaxreg.io.images import read_displacement
    from jaxreg.io.point_lists import ENDINGS, read_points, write_points
    from jaxreg.io.points import read_landmarks, space_of_pairs, write_landmarks

    prepare_file(out, (points, field), endings=ENDINGS)
    space = space_of_pairs(points)
    if space is not None:
        if not out.name.lower().endswith(".csv"):
            raise ValueError(
                f"--out: expected a name ending in .csv for pairs, got {out}. Rename it."
            )
        pairs = read_landmarks(points)
        start, end = ("moving", "fixed") if inverse else ("fixed", "moving")
        moved = _mapped(read_displacement(field), getattr(pairs, start), inverse=inverse)
        apart = _distances(moved, getattr(pairs, end))
        write_landmarks(out, dataclasses.replace(pairs, **{end: moved}), space=space)
    else:
        given = read_points(points)
        moved = _mapped(read_displacement(field), given.points, inverse=inverse)
        write_points(out, given, moved)
        apart = {}
    if as_json:
        click.echo(json.dumps({"points": len(moved), "distance_mm": apart}, indent=2))
        return 0
    if apart:
        click.echo(
            f"distance of the mapped points from those in the file: mean {apart['mean']:.2f} mm, "
            f"median {apart['50']:.2f} mm, 95th percentile {apart['95']:.2f} mm"
        )
    click.echo(f"{len(moved)} points written to {out}")
    return 0


def _mapped(field: "DisplacementField", points: "np.ndarray", *, inverse: bool) -> "np.ndarray":
    """Points through a field or its inverse; says on stderr where that is doubtful."""
    import numpy as np

    from jaxreg.geometry.inversion import CONVERGED_MM, invert_at_points

    if inverse:
        moved, error = invert_at_points(field, points)
        lost = int(np.count_nonzero(error > CONVERGED_MM))
        if lost:
            click.echo(
                f"warning: no inverse was found of {lost} of {len(points)} points (largest error "
                f"{error.max():.2f} mm). The field may fold there: jaxreg check.",
                err=True,
            )
    else:
        moved = field.transform_points(points)
    voxels = field.grid.voxel_from_world(moved if inverse else points)
    inside = np.all((voxels >= -0.5) & (voxels <= np.array(field.shape) - 0.5), axis=1)
    if not inside.all():
        click.echo(
            f"warning: {np.count_nonzero(~inside)} of {len(points)} points lie outside of the "
            "field's grid and take its edge value. Check that they belong to the image, and RAS "
            "or LPS.",
            err=True,
        )
    return moved


def _distances(moved: "np.ndarray", given: "np.ndarray") -> dict[str, float]:
    """Mean and percentiles of the distances of points from others, mm."""
    import numpy as np

    apart = np.linalg.norm(moved - given, axis=1)
    ranks = {str(rank): float(np.percentile(apart, rank)) for rank in (50, 95)}
    return {"mean": float(apart.mean()), **ranks}
