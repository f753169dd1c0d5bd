"""What is needed to invert a field of any tool: its affine part, and the inverse at single points.

`jaxreg.geometry.resampling.invert_field` inverts on a whole grid.
"""

import numpy as np

from jaxreg.geometry.grid import transform
from jaxreg.geometry.volume import DisplacementField

CONVERGED_MM = 0.01  # |T(T^-1(q)) - q| above which an inverse counts as not found
_SAMPLES = 20  # along each axis, to fit an affine map
_STEPS = 60
_H = 1e-3  # voxels, of differences


def affine_part(field: DisplacementField) -> np.ndarray:
    """Returns the affine map nearest to T(x) = x + d(x), least squares over the grid, (4, 4)."""
    axes = [np.unique(np.linspace(0, n - 1, _SAMPLES).round().astype(int)) for n in field.shape]
    voxels = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    points = field.grid.world_from_voxel(voxels)
    moved = points + field.data[tuple(voxels.T)]
    centre = points.mean(axis=0)
    known = np.column_stack([points - centre, np.ones(len(points))])
    solution = np.linalg.lstsq(known, moved, rcond=None)[0].T
    matrix = np.eye(4)
    matrix[:3, :3] = solution[:, :3]
    matrix[:3, 3] = solution[:, 3] - solution[:, :3] @ centre
    return matrix if np.linalg.det(matrix[:3, :3]) > 1e-3 else np.eye(4)


def invert_at_points(field: DisplacementField, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The points x with T(x) = q, by Newton's method with steps halved where they do not help.

    Args:
        field: T(x) = x + d(x), world mm; continued outside of its grid by its edge value.
        points: q, (N, 3), RAS mm.

    Returns:
        x, (N, 3), RAS mm, and the error |T(x) - q| in mm, (N,), above CONVERGED_MM where no x was
        found.
    """
    q = np.asarray(points, np.float64)
    x = transform(np.linalg.inv(affine_part(field)), q)
    residual = q - field.transform_points(x)
    error = np.linalg.norm(residual, axis=1)
    length = np.ones(len(q))
    for _ in range(_STEPS):
        if error.max(initial=0.0) < 1e-6:
            break
        tried = (
            x + length[:, None] * np.linalg.solve(_slopes(field, x), residual[..., None])[..., 0]
        )
        left = q - field.transform_points(tried)
        better = np.linalg.norm(left, axis=1) < error
        x = np.where(better[:, None], tried, x)
        residual = np.where(better[:, None], left, residual)
        error = np.linalg.norm(residual, axis=1)
        length = np.where(better, 1.0, 0.5 * length)
    return x, error


def _slopes(field: DisplacementField, x: np.ndarray) -> np.ndarray:
    """dT/dx by central differences, (N, 3, 3); the identity where T is flat, so that it inverts."""
    columns = []
    for axis in range(3):
        h = np.zeros(3)
        h[axis] = _H * min(field.spacing_mm)
        ends = [field.transform_points(x + sign * h) for sign in (1.0, -1.0)]
        columns.append((ends[0] - ends[1]) / (2 * h[axis]))
    slopes = np.stack(columns, axis=-1)
    flat = ~(np.abs(np.linalg.det(slopes)) > 1e-6)
    return np.where(flat[:, None, None], np.eye(3), slopes)
