"""Images reduced by means over whole blocks of voxels, so that work is done at the size it needs.

The result is float32 and made a few planes at a time; the image itself is never copied.
"""

import functools
from collections.abc import Sequence

import numpy as np

from jaxreg.geometry.grid import Grid
from jaxreg.geometry.volume import Volume

_PLANES = 8  # planes of the result made at a time


def factors_to(grid: Grid, spacing_mm: float, *, least: int) -> tuple[int, int, int]:
    """By how many voxels along each axis an image can be reduced.

    Args:
        grid: of the image.
        spacing_mm: voxels of the reduced image are at most this large, where those of the image
            are not larger already.
        least: voxels that are left along each axis, at least.

    Returns:
        Factors, at least 1.
    """
    x, y, z = (
        max(1, min(int(spacing_mm / mm + 1e-6), n // least))
        for n, mm in zip(grid.shape, grid.spacing_mm, strict=True)
    )
    return x, y, z


def factors_between(fine: Grid, coarse: Grid) -> tuple[int, int, int]:
    """By how many voxels along each axis a grid was reduced to another.

    Args:
        fine: the grid before.
        coarse: the grid after.

    Returns:
        Three whole factors.
    """
    x, y, z = (round(b / a) for a, b in zip(fine.spacing_mm, coarse.spacing_mm, strict=True))
    return x, y, z


def reduced(volume: Volume, factors: tuple[int, int, int]) -> Volume:
    """An image by means over blocks; the last block repeats the border.

    Args:
        volume: image, (X, Y, Z).
        factors: voxels of a block along each axis.

    Returns:
        Image, float32; the volume itself where all factors are 1 and it is float32.
    """
    if max(factors) == 1:
        return Volume(volume.data.astype(np.float32, copy=False), volume.affine)
    axis = int(np.argmax(np.abs(volume.data.strides)))  # along which planes lie apart in memory
    count, factor = -(-volume.shape[axis] // factors[axis]), factors[axis]
    parts = []
    for start in range(0, count, _PLANES):
        planes = [slice(None)] * 3
        planes[axis] = slice(start * factor, (start + _PLANES) * factor)
        parts.append(block_mean(volume.data[tuple(planes)], np.array(factors)))
    result = np.concatenate(parts, axis)
    return Volume(result, block_affine(volume.affine, factors))


def reduced_labels(volume: Volume, factors: tuple[int, int, int]) -> Volume:
    """Labels of the middle voxel of each block; their type is kept.

    Args:
        volume: label map.
        factors: voxels of a block along each axis.

    Returns:
        Labels on the grid of `reduced`.
    """
    if max(factors) == 1:
        return volume
    index = [
        np.minimum(np.arange(0, n, factor) + (factor - 1) // 2, n - 1)
        for n, factor in zip(volume.shape, factors, strict=True)
    ]
    return Volume(volume.data[np.ix_(*index)], block_affine(volume.affine, factors))


def expanded(volume: Volume, grid: Grid) -> Volume:
    """The inverse of `reduced`: each voxel gets the value of its block.

    Args:
        volume: values of blocks.
        grid: that was reduced.

    Returns:
        Values on `grid`.
    """
    factors = factors_between(grid, volume.grid)
    data = volume.data
    for axis, (n, factor) in enumerate(zip(grid.shape, factors, strict=True)):
        if factor > 1:
            data = np.repeat(data, factor, axis)[(slice(None),) * axis + (slice(n),)]
    return Volume(data, grid.affine)


def block_mean(image: np.ndarray, factors: np.ndarray) -> np.ndarray:
    """Mean over blocks; the last block repeats the border.

    Args:
        image: (X, Y, Z).
        factors: voxels of a block along each axis, (3,).

    Returns:
        Means, float32, one a block.
    """
    image = image.astype(np.float32, copy=False)
    for axis, factor in enumerate(factors):
        if factor > 1:
            missing = -image.shape[axis] % factor
            if missing:
                widths = [(0, missing if a == axis else 0) for a in range(3)]
                image = np.pad(image, widths, mode="edge")
            slices = (
                image[(slice(None),) * axis + (slice(i, None, factor),)] for i in range(factor)
            )
            image = functools.reduce(np.add, slices) / np.float32(factor)
    return image


def block_affine(affine: np.ndarray, factors: Sequence[int] | np.ndarray) -> np.ndarray:
    """The affine of the grid of blocks, whose voxels lie in the middle of the blocks.

    Args:
        affine: of the grid before, voxel index to world mm, (4, 4).
        factors: voxels of a block along each axis.

    Returns:
        Block index to world mm, (4, 4).
    """
    blocks = np.diag([*factors, 1.0])
    blocks[:3, 3] = (np.array(factors) - 1) / 2  # centre of the first block
    return affine @ blocks
