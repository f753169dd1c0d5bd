"""Which lungs a linear map is fitted to, and which of several maps fits the tissue in them best."""

import numpy as np
from scipy import ndimage

from jaxreg.config import PrealignmentConfig
from jaxreg.geometry.volume import Volume, resample


def common_lungs(fixed_mask: Volume, moving_mask: Volume, remnant: float) -> tuple[Volume, Volume]:
    """Boolean masks of the lungs to align.

    All of both masks, or the lung of one label, whichever makes the volumes more alike: a mask may
    lack a lung, have little of it, or not tell right from left.

    Args:
        fixed_mask: labels of the lungs, nonzero inside.
        moving_mask: the same of the moving image, on its own grid.
        remnant: logarithm of the ratio of volumes above which one lung counts as cut off.

    Returns:
        Masks of the fixed and of the moving image.

    Raises:
        ValueError: a mask is empty.
    """
    masks = (fixed_mask, moving_mask)
    for mask, name in zip(masks, ("fixed_mask", "moving_mask"), strict=True):
        if not mask.data.any():
            raise ValueError(
                f"{name}: expected a lung mask with voxels that are not 0, got only zeros. "
                "Pass another mask, or none to have the lungs found."
            )
    first, second = (np.unique(mask.data[mask.data != 0]) for mask in masks)
    chances = [_pair(masks, np.union1d(first, second))]
    chances += [_pair(masks, np.array([label])) for label in np.intersect1d(first, second)]
    # With the same labels in both masks, only a lung cut to a remnant is worth leaving out.
    bias = remnant if np.array_equal(first, second) else 0.0
    costs = [abs(np.log(_volume_mm3(f) / _volume_mm3(m))) + bias for f, m in chances]
    costs[0] -= bias
    return chances[int(np.argmin(costs))]


def single_lungs(
    fixed_mask: Volume, moving_mask: Volume, lopsided: float
) -> list[tuple[Volume, Volume]]:
    """Each lung alone, where one changed its volume by much more than the other.

    Lungs breathe together. Fluid in one of them shifts its outline, which a linear map of both
    would follow; which of the two is diseased is decided later, by how well the maps agree.

    Args:
        fixed_mask: labels of the lungs, nonzero inside.
        moving_mask: the same of the moving image, on its own grid.
        lopsided: logarithm of the ratio of the volume changes above which this is so.

    Returns:
        Boolean masks of the fixed and of the moving image for each lung; none where the lungs
        changed alike, or are not two.
    """
    masks = (fixed_mask, moving_mask)
    labels = [np.unique(mask.data[mask.data != 0]) for mask in masks]
    if len(labels[0]) != 2 or not np.array_equal(labels[0], labels[1]):
        return []
    alone = [_pair(masks, np.array([label])) for label in labels[0]]
    change = [np.log(_volume_mm3(first) / _volume_mm3(second)) for first, second in alone]
    return alone if abs(change[0] - change[1]) > lopsided else []


def boolean(mask: Volume) -> Volume:
    """Where a mask is not 0."""
    return Volume(mask.data != 0, mask.affine)


def _pair(masks: tuple[Volume, Volume], labels: np.ndarray) -> tuple[Volume, Volume]:
    """Where each mask has one of the labels."""
    first, second = (Volume(np.isin(mask.data, labels), mask.affine) for mask in masks)
    return first, second


def _volume_mm3(mask: Volume) -> float:
    return float(np.count_nonzero(mask.data) * abs(np.linalg.det(mask.affine[:3, :3])))


def local_correlation(
    fixed: Volume,
    moving: Volume,
    fixed_lungs: Volume,
    moving_lungs: Volume,
    matrix: np.ndarray,
    *,
    config: PrealignmentConfig = PrealignmentConfig(),
) -> float:
    """Mean local correlation of the lungs' tissue under a linear map, where both images show lung.

    Unlike the NCC of the fit, which a wrong map raises by bringing a lung's air onto the other's,
    it counts vessels alone.

    Args:
        fixed: chest CT, HU, reduced to a few millimetres.
        moving: the same of the moving image.
        fixed_lungs: nonzero inside, on the grid of `fixed`.
        moving_lungs: the same on the grid of `moving`.
        matrix: (4, 4), fixed world to moving world, RAS mm.
        config: settings.

    Returns:
        -1 to 1; 0 where the lungs do not meet.
    """
    warped = resample(moving, fixed.affine, fixed.shape, matrix=matrix, fill=config.window_hu[0])
    reached = resample(moving_lungs, fixed.affine, fixed.shape, matrix=matrix, fill=0.0, order=0)
    both = ((fixed_lungs.data > 0) & (reached.data > 0)).astype(np.float32)
    if not both.any():
        return 0.0

    def mean(image: np.ndarray) -> np.ndarray:
        sums = ndimage.uniform_filter(image * both, size=config.window)
        return sums / np.maximum(ndimage.uniform_filter(both, size=config.window), 1e-6)

    first, second = (np.clip(image.data, *config.window_hu) for image in (fixed, warped))
    first, second = first - mean(first), second - mean(second)
    power = (mean(first**2) + config.noise_hu**2) * (mean(second**2) + config.noise_hu**2)
    correlation = mean(first * second) / np.sqrt(power)
    return float((correlation * both).sum() / both.sum())
