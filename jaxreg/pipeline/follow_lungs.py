"""The lungs around lesions: without them for the registration, and how it fares there."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxreg.config import FollowConfig
from jaxreg.geometry.volume import Volume
from jaxreg.lungs.morphology import distance_mm
from jaxreg.metrics.lesions import Outline, on_grid
from jaxreg.pipeline.assess import MEASURED
from jaxreg.pipeline.result import Registration


class Around(NamedTuple):
    """The registration of the lung around a lesion.

    Attributes:
        jacobian: mean of the determinant, volume in the moving image over that in the fixed one;
            None where nothing was measured.
        quality: mean of the estimated probability of an error below 2 mm.
    """

    jacobian: float | None
    quality: float


def without_lesions(
    lungs: Volume,
    outlines: Sequence[Outline | None],
    labels: Volume | None,
    margin_mm: float,
) -> Volume:
    """Lungs out of which lesions are cut.

    Args:
        lungs: nonzero inside.
        outlines: lesions.
        labels: lesions as they were marked, nonzero inside, on the grid of `lungs`.
        margin_mm: cut out around them.

    Returns:
        The lungs.
    """
    data = np.array(lungs.data)
    for outline in outlines:
        if outline is not None:
            box, inside = on_grid(_shell(outline.mask, -1.0, margin_mm), lungs.grid)
            data[box][inside] = 0
    if labels is not None:
        outside_mm = distance_mm(labels.data == 0, np.array(labels.spacing_mm))
        data[outside_mm <= margin_mm] = 0
    return Volume(data, lungs.affine)


def _shell(mask: Volume, least_mm: float, most_mm: float) -> Volume:
    """What lies between two distances of a small mask, nonzero inside."""
    pad = int(np.ceil(most_mm / mask.spacing_mm[0])) + 1
    outside_mm = distance_mm(np.pad(mask.data, pad) == 0, np.array(mask.spacing_mm))
    affine = np.array(mask.affine)
    affine[:3, 3] = mask.world_from_voxel(np.full(3, -pad))
    inside = (outside_mm > least_mm) & (outside_mm <= most_mm)
    return Volume(inside.astype(np.uint8), affine)


def around(
    registration: Registration,
    mask: Volume,
    *,
    shift_mm: np.ndarray,
    config: FollowConfig = FollowConfig(),
) -> Around:
    """The registration of the lung around a lesion.

    Args:
        registration: with `valid` and `quality`.
        mask: of the lesion, nonzero inside.
        shift_mm: from where the mask is to where it is meant to be, (3,).
        config: settings.

    Returns:
        Its measures, where both images show lung.
    """
    assert registration.valid is not None and registration.quality is not None
    affine = np.array(mask.affine)
    affine[:3, 3] += shift_mm
    mask = Volume(mask.data, affine)
    shell = _shell(mask, config.margin_mm, config.margin_mm + config.shell_mm)
    box, inside = on_grid(shell, registration.fixed.grid)
    measured = inside & (registration.valid.data[box] == MEASURED)
    if not measured.any():
        return Around(None, 0.0)
    determinant = registration.determinant_in(box).data[measured]
    quality = registration.quality.data[box][measured]
    return Around(float(determinant.mean()), float(quality.mean()))
