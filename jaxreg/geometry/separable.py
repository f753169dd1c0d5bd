"""Trilinear interpolation between grids whose axes are parallel, axis by axis.

Interpolation along one axis after the other needs no lookup of eight neighbours for each voxel, so
that a full-size grid costs little more than writing it. A few planes are made at a time.
"""

import functools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

_PLANES = 8  # planes of the result made at a time
_STRAY_VOXELS = 1e-4  # of the source, by which axes may be off at the far end


def parallel_axes(lattice: np.ndarray, shape: Sequence[int]) -> tuple[int, int, int] | None:
    """Which axis of a source grid runs along each axis of another one.

    Args:
        lattice: (4, 4), voxel of the other grid to voxel of the source.
        shape: of the other grid, (X, Y, Z).

    Returns:
        Axes of the source, a permutation of 0, 1, 2; None where axes are oblique.
    """
    reach = np.abs(lattice[:3, :3]) * np.array(shape)
    x, y, z = (int(axis) for axis in np.argmax(reach, axis=0))
    stray = reach.copy()
    stray[[x, y, z], [0, 1, 2]] = 0.0
    if sorted((x, y, z)) != [0, 1, 2] or stray.max() > _STRAY_VOXELS:
        return None
    return x, y, z


def interpolate(
    source: np.ndarray,
    lattice: np.ndarray,
    shape: tuple[int, int, int],
    axes: tuple[int, int, int],
    store: Callable[[slice, np.ndarray], None],
) -> None:
    """Interpolates images on another grid, plane by plane, on all cores.

    Outside of the source its edge values hold. The values do not depend on the number of cores.

    Args:
        source: images, (C, x, y, z), float32.
        lattice: (4, 4), voxel of the other grid to voxel of the source.
        shape: of the other grid, (X, Y, Z).
        axes: of `parallel_axes`.
        store: takes planes of the result, (C, n, Y, Z), and which along X they are.
    """
    ordered = np.transpose(source, (0, *(1 + axis for axis in axes)))
    x, y, z = (
        lattice[axis, i] * np.arange(n) + lattice[axis, 3]
        for i, (axis, n) in enumerate(zip(axes, shape, strict=True))
    )
    store_planes = functools.partial(_store_planes, ordered, (x, y, z), store)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(store_planes, range(0, shape[0], _PLANES)))


def _store_planes(source, places, store, start: int) -> None:
    x, y, z = places
    planes = x[start : start + _PLANES]
    low, _ = _cell(planes, source.shape[1])
    first, last = low.min(), low.max() + 2
    part = _along(_along(source[:, first:last], z, axis=3), y, axis=2)
    clipped = np.clip(planes, 0, source.shape[1] - 1)
    store(slice(start, start + len(planes)), _along(part, clipped - first, axis=1))


def _cell(places: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Index of the voxel below each position, and the fraction of the way to the next voxel."""
    places = np.clip(np.round(places, 9), 0, size - 1)  # what a product of affines leaves is 0
    low = places.astype(int)
    return low, (places - low).astype(np.float32)


def _along(image: np.ndarray, places: np.ndarray, *, axis: int) -> np.ndarray:
    """An image at places along one axis, linear."""
    size = image.shape[axis]
    low, weight = _cell(places, size)
    weight = weight.reshape([-1 if a == axis else 1 for a in range(image.ndim)])
    below = image.take(low, axis)
    above = image.take(np.minimum(low + 1, size - 1), axis)
    above -= below
    above *= weight
    above += below
    return above
