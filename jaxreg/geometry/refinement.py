"""Cubic interpolation at any points, as linear interpolation on a refined lattice.

A cubic B-spline through the voxels needs 64 neighbours at each point. On a regular refinement of
the lattice it is a short filter along each axis; linear interpolation between these samples takes
eight neighbours, and is much nearer to the spline than linear interpolation between voxels, which
blurs fine vessels, and blurs them differently in two images (Unser 1999, IEEE Signal Processing
Magazine 16(6), "Splines").
"""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from jaxreg.geometry.grid import Box

_MARGIN = 6  # voxels around what is needed; the filter of the spline decays fourfold each
LONG_STEP = 1.5  # voxels; with longer ones an image must be smoothed, and needs no refinement
_MOST = 6  # samples a voxel


def refined(
    image: np.ndarray, lattice: np.ndarray, shape: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Samples of the cubic B-spline through an image, where another grid needs them.

    Along an axis they lie at least twice as dense as the voxels, and as dense as those of the other
    grid up to six a voxel; where a step of that grid is longer than `LONG_STEP`, or the image has
    one voxel, they are the voxels.

    Args:
        image: float32, (X, Y, Z).
        lattice: (4, 4), voxel of the other grid to voxel of the image.
        shape: of the other grid.

    Returns:
        Samples, float32, (A, B, C), at least one along each axis, and the lattice (4, 4) from the
        other grid to them.
    """
    box = box_below(image.shape, lattice, shape)
    part = image[box]
    steps = np.linalg.norm(lattice[:3, :3], axis=1)
    factors = [
        1 if step > LONG_STEP or size == 1 else min(_MOST, max(2, int(np.ceil(1 / step))))
        for step, size in zip(steps, part.shape, strict=True)
    ]
    for axis, factor in enumerate(factors):
        part = _along(part, factor, axis)
    scale = np.diag([*factors, 1.0])
    scale[:3, 3] = [-factor * side.start for factor, side in zip(factors, box, strict=True)]
    return part, scale @ lattice


def box_below(image_shape: Sequence[int], lattice: np.ndarray, shape: Sequence[int]) -> Box:
    """The part of an image that another grid covers, with a margin for filters and borders.

    Args:
        image_shape: of the image, (X, Y, Z).
        lattice: (4, 4), voxel of the other grid to voxel of the image.
        shape: of the other grid.

    Returns:
        At least one voxel along each axis, the nearest ones where the grid is outside.
    """
    ends = np.stack(np.meshgrid(*((0, n - 1) for n in shape), indexing="ij"), -1).reshape(-1, 3)
    reached = ends @ lattice[:3, :3].T + lattice[:3, 3]
    last = np.array(image_shape) - 1
    low = np.clip(np.floor(reached.min(axis=0)) - _MARGIN, 0, last).astype(int)
    high = np.clip(np.ceil(reached.max(axis=0)) + _MARGIN, 0, last).astype(int) + 1
    x, y, z = map(slice, low.tolist(), high.tolist())
    return x, y, z


def _along(image: np.ndarray, factor: int, axis: int) -> np.ndarray:
    """The spline along one axis, at `factor` places from each voxel to the next."""
    if factor == 1:
        return image
    coefficients = np.asarray(ndimage.spline_filter1d(image, 3, axis, mode="mirror"), np.float32)
    shape = list(image.shape)
    shape[axis] = factor * (shape[axis] - 1) + 1
    fine = np.empty(shape, np.float32)
    ordered = np.moveaxis(fine, axis, 0)
    ordered[::factor] = np.moveaxis(image, axis, 0)
    for step in range(1, factor):
        weights = _basis(step / factor)
        between = ndimage.correlate1d(coefficients, weights, axis, mode="mirror", origin=-1)
        ordered[step::factor] = np.moveaxis(between, axis, 0)[:-1]
    return fine


def _basis(t: float) -> np.ndarray:
    """Cubic B-splines of the four voxels around a point that lies t after the second."""
    inner = (3 * t**3 - 6 * t**2 + 4, 1 + 3 * t + 3 * t**2 - 3 * t**3)
    return np.array([(1 - t) ** 3, *inner, t**3]) / 6
