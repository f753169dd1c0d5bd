"""Morphology of masks and label maps on the host, in millimetres.

Arrays are (X, Y, Z), `spacing_mm` (3,) the size of their voxels.
"""

import os

import edt
import numpy as np
from scipy import ndimage

from jaxreg.geometry.lung_grid import voxel_box

IN_PLANE = ndimage.generate_binary_structure(3, 1) & np.array([False, True, False])
EVERY = np.ones((3, 3, 3), bool)


def ball(radius_mm: float, spacing_mm: np.ndarray) -> np.ndarray:
    """Structuring element: the voxels within a radius of its centre.

    Args:
        radius_mm: of the ball.
        spacing_mm: voxel size, (3,).

    Returns:
        True inside, (A, B, C), each odd.
    """
    reach = (radius_mm / spacing_mm).astype(int)
    offsets = np.stack(np.meshgrid(*(np.arange(-r, r + 1) for r in reach), indexing="ij"), -1)
    return np.sum((offsets * spacing_mm) ** 2, axis=-1) <= radius_mm**2


def largest(mask: np.ndarray) -> np.ndarray:
    """Largest component of a mask."""
    components = labelled(mask)
    sizes = np.bincount(components.ravel())
    sizes[0] = 0
    return np.equal(components, np.argmax(sizes)) & mask


def labelled(mask: np.ndarray, *, neighbours: np.ndarray | None = None) -> np.ndarray:
    """Connected components of a mask.

    Args:
        mask: (X, Y, Z).
        neighbours: (3, 3, 3), which voxels are connected; those with a common face if None.

    Returns:
        Numbers from 1, 0 outside, int32, (X, Y, Z).
    """
    components = np.zeros(mask.shape, np.int32)
    ndimage.label(mask, neighbours, output=components)
    return components


def distance_mm(mask: np.ndarray, spacing_mm: np.ndarray) -> np.ndarray:
    """Distance of each voxel of a mask to the nearest voxel outside of it.

    Args:
        mask: (X, Y, Z).
        spacing_mm: voxel size, (3,).

    Returns:
        Distances in mm, 0 outside, infinite where the mask is everywhere, float32, (X, Y, Z).
    """
    solid = np.ascontiguousarray(mask, bool)
    lengths = [float(mm) for mm in spacing_mm]
    return edt.edt(solid, anisotropy=lengths, parallel=os.cpu_count() or 1)


def spread(labels: np.ndarray, spacing_mm: np.ndarray) -> np.ndarray:
    """Labels continued to all voxels: each gets that of the nearest voxel with a label.

    Args:
        labels: 0 for none, (X, Y, Z).
        spacing_mm: voxel size, (3,).

    Returns:
        Labels, (X, Y, Z).
    """
    nearest = ndimage.distance_transform_edt(
        labels == 0, sampling=spacing_mm, return_distances=False, return_indices=True
    )
    return labels[tuple(np.asarray(nearest))]


def close(
    mask: np.ndarray, radius_mm: float, spacing_mm: np.ndarray, *, hole_mm2: float = np.inf
) -> np.ndarray:
    """Closing by a ball, then holes filled in 3-D, and small ones in each axial slice.

    Args:
        mask: (X, Y, Z).
        radius_mm: of the ball.
        spacing_mm: voxel size, (3,).
        hole_mm2: the largest hole of a slice that is filled.

    Returns:
        Mask, (X, Y, Z).
    """
    if not mask.any():
        return mask
    box = voxel_box(mask)
    margin = (radius_mm / spacing_mm).astype(int) + 1
    padded = np.pad(mask[box], [(m, m) for m in margin])
    dilated = distance_mm(~padded, spacing_mm) <= radius_mm
    closed = padded | (distance_mm(dilated, spacing_mm) > radius_mm)
    closed = np.asarray(ndimage.binary_fill_holes(closed[tuple(slice(m, -m) for m in margin)]))
    filled = np.zeros_like(mask)
    filled[box] = closed | _small_holes(closed, hole_mm2 / np.prod(spacing_mm[:2]))
    return filled


def _small_holes(mask: np.ndarray, most: float) -> np.ndarray:
    """Holes of the axial slices of a mask of at most so many voxels each."""
    holes = labelled(ndimage.binary_fill_holes(mask, IN_PLANE) & ~mask, neighbours=IN_PLANE)
    kept = np.bincount(holes.ravel()) <= most
    kept[0] = False
    return kept[holes]
