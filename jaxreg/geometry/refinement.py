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


def spline(image: np.ndarray, lattice: np.ndarray) -> np.ndarray:
    """Coefficients of the cubic B-spline through an image, along the axes that are refined.

    Args:
        image: float32, (X, Y, Z).
        lattice: (4, 4), voxel of the other grid to voxel of the image.

    Returns:
        Coefficients, float32, (X, Y, Z).
    """
    for axis, factor in enumerate(_factors(image.shape, lattice)):
        if factor > 1:
            filtered = ndimage.spline_filter1d(image, 3, axis, mode="mirror")
            image = np.asarray(filtered, np.float32)
    return image


def refined(
    coefficients: np.ndarray, lattice: np.ndarray, shape: Sequence[int]
) -> tuple[np.ndarray, np.ndarray]:
    """Samples of a cubic B-spline where another grid, or a part of it, needs them.

    Along an axis they lie at least twice as dense as the voxels, and as dense as those of the other
    grid up to six a voxel; where a step of that grid is longer than `LONG_STEP`, or the image has
    one voxel, they are the voxels.

    Args:
        coefficients: of `spline` with the same lattice, (X, Y, Z).
        lattice: (4, 4), voxel of the other grid to voxel of the image.
        shape: of the other grid.

    Returns:
        Samples, float32, (A, B, C), at least one along each axis, and the lattice (4, 4) from the
        other grid to them.
    """
    box = box_below(coefficients.shape, lattice, shape, margin=1)
    factors = _factors(coefficients.shape, lattice)
    part = coefficients
    for axis, (factor, side) in enumerate(zip(factors, box, strict=True)):
        part = _along(part, factor, axis, side)
    scale = np.diag([*factors, 1.0])
    scale[:3, 3] = [-factor * side.start for factor, side in zip(factors, box, strict=True)]
    return part, scale @ lattice


def _factors(image_shape: Sequence[int], lattice: np.ndarray) -> list[int]:
    """Samples a voxel along each axis."""
    steps = np.linalg.norm(lattice[:3, :3], axis=1)
    return [
        1 if step > LONG_STEP or size == 1 else min(_MOST, max(2, int(np.ceil(1 / step))))
        for step, size in zip(steps, image_shape, strict=True)
    ]


def box_below(
    image_shape: Sequence[int],
    lattice: np.ndarray,
    shape: Sequence[int],
    *,
    margin: int = _MARGIN,
) -> Box:
    """The part of an image that another grid covers, with a margin around it.

    Args:
        image_shape: of the image, (X, Y, Z).
        lattice: (4, 4), voxel of the other grid to voxel of the image.
        shape: of the other grid.
        margin: voxels; by default enough for filters.

    Returns:
        At least one voxel along each axis, the nearest ones where the grid is outside.
    """
    ends = np.stack(np.meshgrid(*((0, n - 1) for n in shape), indexing="ij"), -1).reshape(-1, 3)
    reached = ends @ lattice[:3, :3].T + lattice[:3, 3]
    last = np.array(image_shape) - 1
    low = np.clip(np.floor(reached.min(axis=0)) - margin, 0, last).astype(int)
    high = np.clip(np.ceil(reached.max(axis=0)) + margin, 0, last).astype(int) + 1
    x, y, z = map(slice, low.tolist(), high.tolist())
    return x, y, z


def _along(coefficients: np.ndarray, factor: int, axis: int, side: slice) -> np.ndarray:
    """The spline along one axis, at `factor` places from each voxel of a part to the next."""
    size = side.stop - side.start
    if factor == 1:
        return coefficients.take(range(side.start, side.stop), axis)
    around = np.arange(side.start - 1, side.stop + 1)  # mirrored at the ends of the image
    last = coefficients.shape[axis] - 1
    part = coefficients.take(last - np.abs(last - np.abs(around)), axis)
    shape = list(part.shape)
    shape[axis] = factor * (size - 1) + 1
    fine = np.empty(shape, np.float32)
    ordered = np.moveaxis(fine, axis, 0)
    for step in range(factor):
        between = ndimage.correlate1d(part, _basis(step / factor), axis, origin=-1)
        ordered[step::factor] = np.moveaxis(between, axis, 0)[1 : size + (step == 0)]
    return fine


def _basis(t: float) -> np.ndarray:
    """Cubic B-splines of the four voxels around a point that lies t after the second."""
    inner = (3 * t**3 - 6 * t**2 + 4, 1 + 3 * t + 3 * t**2 - 3 * t**3)
    return np.array([(1 - t) ** 3, *inner, t**3]) / 6
