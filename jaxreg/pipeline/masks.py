"""Masks that are given with images, on the grids of these."""

from collections.abc import Sequence

from jaxreg.geometry.labels import OTHER_GRID, labels_on_image
from jaxreg.geometry.volume import Volume
from jaxreg.trust.findings import Finding


def masks_on_images(
    images: Sequence[Volume],
    masks: Sequence[Volume | None],
    *,
    names: Sequence[str] = ("fixed_mask", "moving_mask"),
    image_names: Sequence[str] = ("fixed", "moving"),
) -> tuple[list[Volume | None], list[Finding]]:
    """Brings masks to the grids of their images, as the command line does with files.

    Args:
        images: one or more.
        masks: of each image, on any grid that overlaps with it; None where there is none.
        names: of the masks, for messages.
        image_names: of the images, for messages.

    Returns:
        The masks, and a finding "other-grid" for each that was on another lattice.

    Raises:
        ValueError: a mask does not overlap with its image, or is on the grid of another one.
    """
    brought: list[Volume | None] = []
    findings = []
    grids = {name: image.grid for name, image in zip(image_names, images, strict=True)}
    for mask, name, image in zip(masks, names, image_names, strict=True):
        doubt = None
        if mask is not None:
            others = {other: grid for other, grid in grids.items() if other != image}
            mask, doubt = labels_on_image(mask, grids[image], name, others=others)
        if doubt is not None:
            findings.append(Finding(OTHER_GRID, f"{name}: {doubt}"))
        brought.append(mask)
    return brought, findings
