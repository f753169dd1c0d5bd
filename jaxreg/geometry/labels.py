"""Labels and masks brought to the grid of the image that they belong to."""

from collections.abc import Mapping
from types import MappingProxyType

from jaxreg.geometry.grid import Grid
from jaxreg.geometry.volume import Volume, resample

OTHER_GRID = "other-grid"  # code of the warning


def labels_on_image(
    labels: Volume, grid: Grid, name: str, *, others: Mapping[str, Grid] = MappingProxyType({})
) -> tuple[Volume, str | None]:
    """Labels on the grid of their image: 0 where they do not reach.

    Another order of axes and a part of the lattice change no label. On another lattice each voxel
    takes the nearest one.

    Args:
        labels: label map or mask, on any grid that overlaps.
        grid: of the image.
        name: of the labels, with which the message begins.
        others: grids of images that the labels do not belong to, by the images' names, such as
            "moving".

    Returns:
        The labels, and what a person should know of it (a warning "other-grid"); None where no
        label changed.

    Raises:
        ValueError: the labels do not overlap with the image, or are on the grid of another one.
    """
    if grid.matches(labels.grid):
        return labels, None
    _require_not_of_another(labels.grid, grid, name, others)
    if not grid.overlaps(labels.grid):
        raise ValueError(
            f"{name}: expected labels that overlap with the image, got {labels.grid} beside "
            f"{grid}. Check that they belong to this image."
        )
    doubt = None
    if not grid.has_lattice_of(labels.grid):
        doubt = (
            f"these labels are on another grid than their image ({labels.grid}, not {grid}); each "
            "voxel takes the nearest label."
        )
    return resample(labels, grid.affine, grid.shape, order=0, fill=0.0), doubt


def _require_not_of_another(found: Grid, grid: Grid, name: str, others: Mapping[str, Grid]) -> None:
    """Refuses labels that have the voxels of another image, and not those of their own."""
    if grid.has_voxels_of(found):
        return
    for image, other in others.items():
        if other.has_voxels_of(found):
            raise ValueError(
                f"{name}: expected labels on the grid of their image ({grid}), got labels on the "
                f"grid of the {image} image ({other}). Give them as those of the {image} image, or "
                "exchange the images. If they belong here all the same, resample them to the grid "
                "of their image."
            )
