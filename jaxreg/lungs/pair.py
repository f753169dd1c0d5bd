"""The lungs of both images of a pair: those given, checked, or found."""

import functools
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from jaxreg.config import LungConfig
from jaxreg.geometry.volume import Volume, check_ct, require_same_grid
from jaxreg.lungs.segmentation import lung_mask


def lungs_of_pair(
    fixed: Volume,
    moving: Volume,
    *,
    fixed_mask: Volume | None = None,
    moving_mask: Volume | None = None,
    config: LungConfig = LungConfig(),
) -> tuple[Volume, Volume]:
    """Lungs of both images, each given or found, both images at the same time.

    Args:
        fixed: chest CT in HU, (X, Y, Z), any orientation and spacing.
        moving: the same, on its own grid.
        fixed_mask: lungs, nonzero inside, on the grid of `fixed`; found if None.
        moving_mask: the same for `moving`.
        config: of the segmentation.

    Returns:
        Masks on the grids of `fixed` and `moving`: 1 patient's right and 2 left, or whatever labels
        the masks given have. If one given has a single label, which does not tell right from left
        and so says nothing of a missing lung, both are 1 in either lung (uint8).

    Raises:
        ValueError: an image is no CT in HU, a mask is empty or on another grid, or no lung is
            found; the text begins with the name of the image or mask.
    """
    check_ct(fixed, "fixed")
    check_ct(moving, "moving")
    given = (fixed_mask, moving_mask)
    with ThreadPoolExecutor() as pool:
        find = functools.partial(_lungs, config=config)
        fixed_lungs, moving_lungs = pool.map(find, (fixed, moving), given, ("fixed", "moving"))
    if any(mask is not None and _one_label(mask) for mask in given):
        fixed_lungs, moving_lungs = map(_either, (fixed_lungs, moving_lungs))
    return fixed_lungs, moving_lungs


def _lungs(image: Volume, mask: Volume | None, name: str, config: LungConfig) -> Volume:
    if mask is None:
        try:
            return lung_mask(image, config=config)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
    require_same_grid(image, mask, (name, f"{name}_mask"))
    if not np.any(mask.data > 0):
        raise ValueError(
            f"{name}_mask: expected lungs, got no voxel above 0. Leave the mask away to have the "
            "lungs found automatically."
        )
    return mask


def _one_label(mask: Volume) -> bool:
    return len(np.unique(mask.data[mask.data > 0])) == 1


def _either(mask: Volume) -> Volume:
    return Volume((mask.data > 0).astype(np.uint8), mask.affine)
