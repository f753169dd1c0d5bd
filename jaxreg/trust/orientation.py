"""Whether the moving image fits better when its axes are turned round, as a wrong header does."""

import dataclasses
import itertools

import numpy as np

from jaxreg.config import PrealignmentConfig
from jaxreg.engine.prealignment import at_spacing, linear_similarity, prealign
from jaxreg.geometry.volume import Volume

Signs = tuple[int, int, int]


def similarity_by_orientation(
    fixed: Volume,
    moving: Volume,
    fixed_mask: Volume,
    moving_mask: Volume,
    *,
    config: PrealignmentConfig = PrealignmentConfig(),
) -> dict[Signs, float]:
    """Similarity after a linear fit, for the moving image as it is and turned round in seven ways.

    All on the coarsest grid of the prealignment.

    Args:
        fixed: CT, HU.
        moving: CT, HU, on any grid.
        fixed_mask: lungs, nonzero inside.
        moving_mask: the same of the moving image.
        config: of the prealignment.

    Returns:
        NCC by the signs of the moving image's world axes, right, anterior, superior; (1, 1, 1) is
        the image as it is, (-1, -1, 1) half a turn about the axis of the body.
    """
    coarse = dataclasses.replace(config, spacings_mm=config.spacings_mm[:1])
    spacing_mm = coarse.spacings_mm[0]
    fixed, moving, fixed_mask, moving_mask = (
        at_spacing(volume, spacing_mm) for volume in (fixed, moving, fixed_mask, moving_mask)
    )
    lungs = moving.world_from_voxel(np.argwhere(moving_mask.data > 0))
    middle = lungs.mean(axis=0)
    found = {}
    for signs in itertools.product((1, -1), repeat=3):
        turn = np.diag([*map(float, signs), 1.0])
        turn[:3, 3] = middle - turn[:3, :3] @ middle
        turned, turned_mask = (Volume(v.data, turn @ v.affine) for v in (moving, moving_mask))
        volumes = (fixed, turned, fixed_mask, turned_mask)
        matrix, _ = prealign(*volumes, config=coarse)
        found[signs] = linear_similarity(*volumes, matrix, config=coarse)
    return found
