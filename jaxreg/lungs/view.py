"""The field of view of a scan: what is padding around it, and how far it cuts the lungs."""

import numpy as np

from jaxreg.config import LungConfig
from jaxreg.geometry.volume import Volume
from jaxreg.lungs.sides import in_ras


def padding_value(hu: np.ndarray) -> float:
    """The value that fills most of the sides of a volume, which may be padding.

    Args:
        hu: (X, Y, Z), the first two axes across the body.

    Returns:
        HU.
    """
    faces = np.concatenate([hu[[0, -1]].ravel(), hu[:, [0, -1]].ravel()])
    values, counts = np.unique(faces, return_counts=True)
    return float(values[np.argmax(counts)])


def cut_fraction(image: Volume, mask: Volume, *, config: LungConfig = LungConfig()) -> float:
    """Fraction of the lungs' surface at which the scan ends: at its sides or at padding.

    Args:
        image: CT in HU.
        mask: lungs, nonzero inside, on the grid of `image`.
        config: settings.

    Returns:
        0 to 1, of the voxel faces between the lungs and what is not lung.
    """
    hu, lungs = image.data, mask.data > 0
    outside = hu < config.void_hu
    padding = padding_value(in_ras(image)[0])
    if padding < config.lung_hu:
        outside |= hu == padding
    outside &= ~lungs
    surface = cut = 0
    for axis in range(3):
        low, high = ([slice(None)] * 3 for _ in range(2))
        low[axis], high[axis] = slice(0, -1), slice(1, None)
        for one, other in ((low, high), (high, low)):
            inner = lungs[tuple(one)]
            surface += np.count_nonzero(inner & ~lungs[tuple(other)])
            cut += np.count_nonzero(inner & outside[tuple(other)])
        ends = np.count_nonzero(lungs.take([0, -1], axis))
        surface, cut = surface + ends, cut + ends
    return float(cut / max(surface, 1))
