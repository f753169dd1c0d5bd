"""Keypoints of two images in the world."""

import warnings
from collections.abc import Callable

import numpy as np

from jaxreg.config import RegistrationConfig
from jaxreg.engine.keypoints import find_keypoints
from jaxreg.geometry.grid import transform
from jaxreg.geometry.volume import Volume
from jaxreg.io.notes import FileWarning
from jaxreg.io.points import Landmarks
from jaxreg.ops.precision import in_32_bits
from jaxreg.pipeline.align import AlignedPair, align
from jaxreg.pipeline.masks import masks_on_images


@in_32_bits
def match_volumes(
    fixed: Volume,
    moving: Volume,
    *,
    fixed_mask: Volume | None = None,
    moving_mask: Volume | None = None,
    config: RegistrationConfig = RegistrationConfig(),
    progress: Callable[[str], None] = lambda stage: None,
) -> Landmarks:
    """Thousands of points in the fixed lungs and the corresponding points of the moving image.

    Lung masks and linear prealignment as in `register_volumes`, then `jaxreg.engine.keypoints`.

    Args:
        fixed: CT in HU.
        moving: CT in HU, on any grid.
        fixed_mask: lungs, nonzero inside; found automatically if None. On another grid than
            `fixed`, each voxel takes the nearest label, with a FileWarning "other-grid".
        moving_mask: the same for `moving`.
        config: settings.
        progress: called with the name of each stage when it begins.

    Returns:
        Points of kind "keypoint", RAS mm.

    Raises:
        ValueError: as `align`; or no corresponding point is found.
    """
    (fixed_mask, moving_mask), doubts = masks_on_images((fixed, moving), (fixed_mask, moving_mask))
    for doubt in doubts:
        warnings.warn(FileWarning(doubt.code, doubt.text), stacklevel=2)
    pair = align(
        fixed,
        moving,
        fixed_mask=fixed_mask,
        moving_mask=moving_mask,
        config=config,
        progress=progress,
    )
    progress("keypoints")
    points = pair_keypoints(pair, config=config)
    if len(points.fixed) == 0:
        raise ValueError(
            "fixed and moving: expected lungs of one subject, got images in which no corresponding "
            "points were found. Check the images and their masks."
        )
    return points


def pair_keypoints(
    pair: AlignedPair, *, config: RegistrationConfig = RegistrationConfig()
) -> Landmarks:
    """Keypoints of an aligned pair, found by matching.

    Args:
        pair: images and lungs on the lung grid.
        config: settings.

    Returns:
        Corresponding points, RAS mm; none where nothing matches.
    """
    points, matched = find_keypoints(
        pair.fixed,
        pair.moving,
        pair.fixed_lungs > 0,
        spacing_mm=pair.spacing_mm,
        config=config.keypoints,
    )
    return Landmarks(
        pair.grid.world_from_voxel(points),
        transform(pair.matrix, pair.grid.world_from_voxel(matched)),
        np.full(len(points), "keypoint"),
    )
