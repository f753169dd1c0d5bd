"""`jaxreg warp`: an image or labels through a displacement field."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from jaxreg.cli import options
from jaxreg.cli.compilation import keep_compiled_programs
from jaxreg.cli.files import prepare_file
from jaxreg.cli.progress import stages

if TYPE_CHECKING:
    from jaxreg.geometry.volume import DisplacementField, Volume

_SAMPLES = 500_000  # voxels that are looked at
_MOST_LABELS = 32  # different values: an image of so few is a label map
_CT_AIR_HU = -900.0  # no image but a CT has values so low


@click.command("warp")
@click.argument("image", type=options.FILE)
@options.field
@options.output
@click.option("--to", type=options.FILE, help="Image whose grid is wanted; the field's if none.")
@click.option("--labels", is_flag=True, help="IMAGE is a label map: take the nearest voxel.")
@click.option(
    "--soft-labels",
    is_flag=True,
    help="IMAGE is a label map: interpolate each label, take the largest. Keeps thin structures "
    "connected.",
)
@click.option(
    "--fill",
    type=float,
    default=0.0,
    show_default=True,
    help="Value outside of IMAGE. Pass -1024 for a CT in HU.",
)
@click.option("--inverse", is_flag=True, help="Warp by the inverse field; needs --to MOVING.")
@click.option(
    "--series", help="DICOM series in the folder IMAGE: its number or the end of its UID."
)
@options.orientation
@options.as_json
@options.quiet
def command(
    image: Path,
    field: Path,
    out: Path,
    to: Path | None,
    labels: bool,
    soft_labels: bool,
    fill: float,
    inverse: bool,
    series: str | None,
    orientation: str | None,
    as_json: bool,
    quiet: bool | None,
) -> int:
    """Warp an image through a displacement field.

    IMAGE lies in the space of the moving image and comes to the grid of the fixed one. With
    --inverse it lies in the space of the fixed image and comes to the grid of the moving one.

    \b
    Example:
      jaxreg warp moving.nii.gz --field DIR/displacement.nii.gz --fill -1024 --out w.nii.gz
    \f
    Returns:
        Exit status.
    """
    from jaxreg.geometry.warping import warp_volume
    from jaxreg.io.images import read_displacement, read_image, read_labels
    from jaxreg.io.nifti import write_volume

    if labels and soft_labels:
        raise ValueError("--labels, --soft-labels: expected one of the two, got both. Choose one.")
    if inverse and to is None:
        raise ValueError(
            "--inverse: expected --to IMAGE, the grid to warp to, got none. Give the moving image."
        )
    whole = labels or soft_labels
    if whole and fill != int(fill):
        raise ValueError(f"--fill: expected a whole number for labels, got {fill:g}. Round it.")
    prepare_file(out, (image, field, to))
    keep_compiled_programs()
    with stages(quiet=quiet) as stage:
        stage("reading")
        read = read_labels if whole else read_image
        volume = read(image, series=series, orientation=orientation)
        _tell_doubts(volume, field, labels=whole, inverse=inverse)
        map_ = _field_to(read_displacement(field), to, inverse=inverse)
        stage("warping")
        sampling = "majority" if soft_labels else "nearest" if labels else "linear"
        warped = warp_volume(volume, map_, fill=int(fill) if whole else fill, sampling=sampling)
        outside = _tell_outside(volume, map_, fill, whole=whole)
        stage("writing")
        write_volume(out, warped)
    if as_json:
        measures = {"voxels": warped.data.size, "outside_voxels": outside}
        click.echo(json.dumps(measures, indent=2))
    else:
        click.echo(f"written to {out}")
    return 0


def _tell_doubts(volume: "Volume", field: Path, *, labels: bool, inverse: bool) -> None:
    """Says on stderr where an image lies in the space that it is to be warped to, or is labels."""
    import numpy as np

    from jaxreg.pipeline.recorded import record_of, sides_of

    wanted, other = ("fixed", "moving") if inverse else ("moving", "fixed")
    record = record_of(field)
    if record is not None and sides_of(volume.grid, record) == (other,):
        how = "with --inverse" if inverse else "without --inverse"
        remedy = "To bring it to the moving one, add --inverse --to MOVING"
        if inverse:
            remedy = "To bring it to the fixed one, leave out --inverse"
        click.echo(
            f"warning: IMAGE lies on the grid of the {other} image; {how} it must lie in the space "
            f"of the {wanted} one. {remedy}.",
            err=True,
        )
    values = np.ravel(volume.data)[:: max(1, volume.data.size // _SAMPLES)]
    whole = not labels and np.array_equal(values, np.rint(values))
    if whole and 1 < len(np.unique(values)) <= _MOST_LABELS:
        click.echo(
            "warning: IMAGE looks like a label map: few different values, all whole. Add --labels, "
            "or its values are interpolated.",
            err=True,
        )


def _field_to(field: "DisplacementField", to: Path | None, *, inverse: bool) -> "DisplacementField":
    """The field, or its inverse, on the grid of an image."""
    import numpy as np

    from jaxreg.geometry.inversion import CONVERGED_MM, affine_part
    from jaxreg.geometry.resampling import invert_field
    from jaxreg.io.images import read_grid

    grid = field.grid if to is None else read_grid(to)
    if not inverse:
        return field if grid.matches(field.grid) else field.on_grid(grid)
    found, error = invert_field(field, grid, matrix=affine_part(field))
    wrong = int(np.count_nonzero(error.data > CONVERGED_MM))
    if wrong:
        click.echo(
            f"warning: the inverse was not found at {wrong} of {error.data.size} voxels (largest "
            f"error {error.data.max():.2f} mm). Look there with jaxreg invert.",
            err=True,
        )
    return found


def _tell_outside(volume: "Volume", field: "DisplacementField", fill: float, *, whole: bool) -> int:
    """Number of voxels that end outside of an image.

    Says on stderr where they make a CT continue by a value that is not air.

    Raises:
        ValueError: no voxel lies within the image.
    """
    import numpy as np

    from jaxreg.geometry.volume import Volume
    from jaxreg.geometry.warping import warp_volume

    ones = Volume(np.ones(volume.shape, np.uint8), volume.affine)
    outside = np.count_nonzero(warp_volume(ones, field, fill=0, sampling="nearest").data == 0)
    if outside == field.data[..., 0].size:
        raise ValueError(
            f"IMAGE: expected an image that the field reaches, got {volume.grid}, in which no "
            "voxel ends. Check that it lies in the moving space (with --inverse: the fixed one)."
        )
    if outside and not whole and volume.data.min() <= _CT_AIR_HU and fill > _CT_AIR_HU:
        click.echo(
            f"warning: {outside} voxels outside of IMAGE are {fill:g}. It looks like a CT in HU: "
            "--fill -1024 makes them air.",
            err=True,
        )
    return int(outside)
