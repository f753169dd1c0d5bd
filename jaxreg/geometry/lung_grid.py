"""The lung grid: the one grid on which a pair is registered.

It has axes parallel to RAS and covers the lungs of both images, the moving ones brought over by
the prealignment. Any orientation, size and field of view of the two images end here, so that
networks and refinement see lungs in one pose and one order of axes.
"""

from collections.abc import Iterable, Sequence

import numpy as np

from jaxreg.config import LungGridConfig
from jaxreg.geometry.grid import Box, Grid, transform
from jaxreg.geometry.volume import Volume, resample

AIR_HU = -1024.0  # least value of a CT; scanners pad the outside of their field of view below it


def voxel_box(inside: np.ndarray) -> Box:
    """The least box of voxels that holds a mask.

    Args:
        inside: true or not 0 in the mask, (X, Y, Z).

    Returns:
        The box.

    Raises:
        ValueError: the mask is empty.
    """
    along_x = inside.any(axis=(1, 2))
    rest = inside[along_x.argmax() :].any(axis=0)
    found = [np.flatnonzero(line) for line in (along_x, np.any(rest, axis=1), np.any(rest, axis=0))]
    if len(found[0]) == 0:
        raise ValueError(
            "mask: expected lungs, got no voxel above 0. Check that the mask belongs to the image."
        )
    x, y, z = (slice(int(line[0]), int(line[-1]) + 1) for line in found)
    return x, y, z


def lung_box(mask: Volume, *, matrix: np.ndarray | None = None) -> np.ndarray:
    """Lower and upper corner of the mask in world RAS mm.

    Args:
        mask: lungs, nonzero inside.
        matrix: (4, 4) applied to the world positions first; the identity if None.

    Returns:
        Corners, (2, 3), over voxel centres.

    Raises:
        ValueError: the mask is empty.
    """
    inside = mask.data != 0
    box = voxel_box(inside)
    inside, mask = inside[box], mask.part(box)
    columns = np.argwhere(inside.any(axis=2))
    # a linear function is extreme at the ends of a column
    first = inside.argmax(axis=2)
    last = inside.shape[2] - 1 - inside[..., ::-1].argmax(axis=2)
    ends = [np.column_stack([columns, end[tuple(columns.T)]]) for end in (first, last)]
    voxels = np.concatenate(ends)
    points = mask.world_from_voxel(voxels)
    points = points if matrix is None else transform(matrix, points)
    return np.stack([points.min(axis=0), points.max(axis=0)])


def grid_around_lungs(
    fixed_mask: Volume,
    moving_mask: Volume,
    matrix: np.ndarray,
    *,
    voxels_mm: Iterable[Sequence[float]],
    config: LungGridConfig,
) -> Grid:
    """Grid around the lungs of both images, axes parallel to RAS.

    Args:
        fixed_mask: lungs of the fixed image.
        moving_mask: lungs of the moving image.
        matrix: (4, 4), prealignment, fixed world to moving world, RAS mm.
        voxels_mm: voxel size of each image, three lengths.
        config: number of voxels, whose size follows from the box, and margin of the box.

    Returns:
        The box of the lungs with a margin on each side.
    """
    moving_box = lung_box(moving_mask, matrix=np.linalg.inv(matrix))
    boxes = lung_box(fixed_mask), moving_box
    return grid_around_boxes(boxes, voxels_mm=voxels_mm, config=config)


def grid_around_boxes(
    boxes: Sequence[np.ndarray], *, voxels_mm: Iterable[Sequence[float]], config: LungGridConfig
) -> Grid:
    """Grid around boxes of lungs, axes parallel to RAS.

    Args:
        boxes: lower and upper corner of each in world RAS mm, (2, 3).
        voxels_mm: voxel size of each image, three lengths.
        config: number of voxels, whose size follows from the boxes, and margin around them.

    Returns:
        The box of all of them with a margin on each side.
    """
    lower = np.min([box[0] for box in boxes], axis=0) - config.margin_mm
    upper = np.max([box[1] for box in boxes], axis=0) + config.margin_mm
    shape = config.shape or _suiting(upper - lower, voxels_mm, config)
    spacing = (upper - lower) / np.array(shape)
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = lower + spacing / 2.0
    return Grid(shape, affine)


def _suiting(
    edges_mm: np.ndarray, voxels_mm: Iterable[Sequence[float]], config: LungGridConfig
) -> tuple[int, int, int]:
    """The coarsest shape whose voxels are fine enough for the coarser image, or the finest one."""
    coarsest = max(np.prod(lengths) for lengths in voxels_mm) * config.per_voxel**3
    for shape in config.shapes:
        if np.prod(edges_mm) / np.prod(shape) <= coarsest:
            return shape
    return config.shapes[-1]


def image_on_grid(image: Volume, grid: Grid, *, matrix: np.ndarray | None = None) -> np.ndarray:
    """CT on another grid by cubic interpolation, at least that of air; air outside of the image.

    Args:
        image: HU.
        grid: where to.
        matrix: (4, 4), world of the grid to world of the image; the identity if None.

    Returns:
        HU, float32, (X, Y, Z) of the grid.
    """
    image = Volume(np.maximum(image.data, np.float32(AIR_HU)), image.affine)
    found = resample(image, grid.affine, grid.shape, matrix=matrix, order=3, fill=AIR_HU).data
    return np.maximum(found, np.float32(AIR_HU))


def labels_on_grid(labels: Volume, grid: Grid, *, matrix: np.ndarray | None = None) -> np.ndarray:
    """Label map on another grid by nearest neighbour, 0 outside.

    Args:
        labels: label map.
        grid: to sample on.
        matrix: (4, 4), world mm of `grid` to those of `labels`; None for the identity.

    Returns:
        Labels, (X, Y, Z).
    """
    return resample(labels, grid.affine, grid.shape, matrix=matrix, order=0, fill=0.0).data


def points_on_grid(
    points: np.ndarray, grid: Grid, *, matrix: np.ndarray | None = None
) -> np.ndarray:
    """Voxel coordinates of world points on a grid.

    Args:
        points: RAS mm, (N, 3), of the fixed image, or of the moving one if `matrix` is given.
        grid: where to.
        matrix: (4, 4), prealignment, fixed world to moving world; its inverse is applied.

    Returns:
        Voxels of the grid, float32, (N, 3).
    """
    points = points if matrix is None else transform(np.linalg.inv(matrix), points)
    return grid.voxel_from_world(points).astype(np.float32)
