"""Masks that are given with images, on the grids of these."""

from collections.abc import Sequence

from jaxreg.geometry.labels import OTHER_GRID, labels_on_image
from jaxreg.geometry.volume import Volume
from jaxreg.trust.findings import Finding

MASKS = ("fixed_mask", "moving_mask")


def masks_on_images(
    images: Sequence[Volume], masks: Sequence[Volume | None], names: Sequence[str]
) -> tuple[list[Volume | None], list[Finding]]:
    """Brings masks to the grids of their images, as the command line does with files.

    Args:
        images: one or more.
        masks: of each image, on any grid that overlaps with it; None where there is none.
        names: of the masks, for messages.

    Returns:
        The masks, and a finding "other-grid" for each that was on another lattice.

    Raises:
        ValueError: a mask does not overlap with its image.
    """
    brought: list[Volume | None] = []
    findings = []
    for image, mask, name in zip(images, masks, names, strict=True):
        doubt = None
        if mask is not None:
            mask, doubt = labels_on_image(mask, image.grid, name)
        if doubt is not None:
            findings.append(Finding(OTHER_GRID, f"{name}: {doubt}"))
        brought.append(mask)
    return brought, findings
