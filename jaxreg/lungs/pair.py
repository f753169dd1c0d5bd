"""The lungs of both images of a pair: those given, checked, or found."""

import functools
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from jaxreg.config import LungConfig
from jaxreg.geometry.volume import Volume, check_ct, require_same_grid
from jaxreg.lungs.segmentation import lung_mask
from jaxreg.lungs.sides import tell_sides


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
        Masks on the grids of `fixed` and `moving`, uint8: 1 patient's right and 2 left, by their
        positions, whatever numbers the masks given have.

    Raises:
        ValueError: an image is no CT in HU, a mask is empty or on another grid, or no lung is
            found; the text begins with the name of the image or mask.
    """
    check_ct(fixed, "fixed")
    check_ct(moving, "moving")
    given = (fixed_mask, moving_mask)
    with ThreadPoolExecutor() as pool:
        find = functools.partial(lungs_of_image, config=config)
        fixed_lungs, moving_lungs = pool.map(find, (fixed, moving), given, ("fixed", "moving"))
    return fixed_lungs, moving_lungs


def lungs_of_image(
    image: Volume, mask: Volume | None, name: str, *, config: LungConfig = LungConfig()
) -> Volume:
    """Lungs of one image, given or found, labelled as by `lungs_of_pair`.

    Args:
        image: chest CT in HU, (X, Y, Z).
        mask: lungs, nonzero inside, on its grid; found if None.
        name: of the image, with which errors begin.
        config: of the segmentation.

    Returns:
        The mask.

    Raises:
        ValueError: the mask is empty or on another grid, or no lung is found.
    """
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
    return tell_sides(image, mask, config=config)


def labels_of_pair(
    fixed_labels: Volume | None,
    moving_labels: Volume | None,
    lungs: tuple[Volume, Volume],
) -> tuple[Volume, Volume]:
    """Label maps of a pair in which one number is one structure, for losses and scores.

    Numbers of two sources are never compared. They are kept, renumbered from 1 on, where both maps
    have the same ones and each lies in the same lung in both images. Else what is left is right
    and left; and where an image shows one lung only, a lung of either side.

    Args:
        fixed_labels: lungs or lobes, above 0 inside; None where nothing was given.
        moving_labels: the same of the moving image.
        lungs: of both images by `lungs_of_pair`, on the same grids.

    Returns:
        Labels of both images, 0 outside, 1 to K, uint8.
    """
    if fixed_labels is not None and moving_labels is not None:
        names = np.unique(fixed_labels.data[fixed_labels.data > 0])
        same = np.array_equal(names, np.unique(moving_labels.data[moving_labels.data > 0]))
        if same and len(names) > 1:
            right = _in_right(fixed_labels, lungs[0], names)
            if right == _in_right(moving_labels, lungs[1], names):
                return _renumbered(fixed_labels, names), _renumbered(moving_labels, names)
    fixed_lungs, moving_lungs = lungs
    if np.array_equal(np.unique(fixed_lungs.data), np.unique(moving_lungs.data)):
        return lungs
    return _either(fixed_lungs), _either(moving_lungs)


def _in_right(mask: Volume, lungs: Volume, names: np.ndarray) -> list[bool]:
    """Whether most of each label lies in the right lung."""
    return [bool(np.mean(lungs.data[mask.data == name]) < 1.5) for name in names]


def _renumbered(mask: Volume, names: np.ndarray) -> Volume:
    numbers = np.searchsorted(names, mask.data) + 1
    return Volume(np.where(mask.data > 0, numbers, 0).astype(np.uint8), mask.affine)


def _either(mask: Volume) -> Volume:
    return Volume((mask.data > 0).astype(np.uint8), mask.affine)
