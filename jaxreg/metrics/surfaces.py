"""Distances between the surfaces of two masks, in millimetres, with unequal spacing.

A voxel of a mask is on its surface if one of its six neighbours is outside of it, or outside of the
image; distances run between voxel centres. Nearest neighbours come from a KD-tree, on the host.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy import ndimage
from scipy.spatial import KDTree

from jaxreg.metrics.landmarks import OtherGrid, require_shape
from jaxreg.ops.types import Mask, Spacing


class Distances(NamedTuple):
    """Distances of two surfaces, mm.

    Attributes:
        a_to_b: from each surface voxel of a to the surface of b, (P,).
        b_to_a: the other way round, (Q,).
    """

    a_to_b: Float[np.ndarray, "P"]
    b_to_a: Float[np.ndarray, "Q"]


def surface_distances(a: Mask, b: OtherGrid, *, spacing_mm: Spacing) -> Distances:
    """Distances from each surface voxel of `a` to the surface of `b`, and the other way round.

    Args:
        a: mask.
        b: mask on the same grid.
        spacing_mm: voxel size.

    Returns:
        Distances between voxel centres, mm: (P,) from a to b, (Q,) from b to a.

    Raises:
        ValueError: a mask is empty, or their shapes differ.
    """
    require_shape(a, b)
    points = [_surface_points(mask, spacing_mm) for mask in (a, b)]
    for name, found in zip("ab", points, strict=True):
        if len(found) == 0:
            raise ValueError(
                f"{name}: expected a mask with at least one voxel, got an empty one. "
                "Leave this label out of the surface distances."
            )
    a_to_b = KDTree(points[1]).query(points[0])[0]
    b_to_a = KDTree(points[0]).query(points[1])[0]
    return Distances(np.asarray(a_to_b), np.asarray(b_to_a))


def asd(distances: Distances) -> float:
    """Symmetric average surface distance, mm: mean of the distances of both directions.

    (sum d(p, B) + sum d(q, A)) / (|A| + |B|), p on the surface A and q on the surface B.
    """
    return float(np.concatenate(distances).mean())


def hd(distances: Distances) -> float:
    """Hausdorff distance of the two surfaces, mm: greatest of the distances."""
    return float(np.concatenate(distances).max())


def hd95(distances: Distances) -> float:
    """Robust Hausdorff distance, mm: the greater 95th percentile of the two directions.

    Each surface voxel counts once; the surface-distance package that Learn2Reg calls weights them
    by area instead and takes every voxel as 1 mm.
    """
    return float(max(np.percentile(one_way, 95) for one_way in distances))


def _surface_points(mask, spacing_mm):
    """World-scaled positions (P, 3) of the voxels with a face to the outside."""
    inside = np.asarray(mask) > 0
    box = ndimage.find_objects(inside.astype(np.uint8))
    if not box:
        return np.zeros((0, 3))
    inside = inside[box[0]]
    core = np.asarray(ndimage.binary_erosion(inside), bool)
    points = np.argwhere(inside & ~core)
    corner = np.array([axis.start for axis in box[0]])
    return (points + corner[None, :]) * np.asarray(spacing_mm, np.float64)[None, :]
