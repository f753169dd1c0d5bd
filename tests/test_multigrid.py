"""Solver of a Gauss-Newton step against dense matrices."""

import jax.numpy as jnp
import numpy as np

from jaxreg.engine import multigrid as solver
from jaxreg.engine.multigrid import solve

SHAPE = (6, 5, 4)
SPACING = np.array([1.0, 1.5, 2.0])
WEIGHT = 0.3
RANDOM = np.random.default_rng(0)


def laplacian_matrix(shape):
    """Seven-point Laplacian per mm^2 as a dense matrix, by a loop over pairs of neighbours."""
    place = np.arange(np.prod(shape)).reshape(shape)
    matrix = np.zeros((place.size, place.size))
    for voxel in np.ndindex(shape):
        for axis in range(3):
            neighbour = tuple(np.add(voxel, np.eye(3, dtype=int)[axis]))
            if neighbour[axis] < shape[axis]:
                i, j = place[voxel], place[neighbour]
                for row, column in ((i, j), (j, i)):
                    matrix[row, column] += 1 / SPACING[axis] ** 2
                    matrix[row, row] -= 1 / SPACING[axis] ** 2
    return matrix


def system():
    """Random slopes j in each voxel, so that A = j j^T + 1/10, and random b and u."""
    j = RANDOM.normal(size=(3, *SHAPE))
    full = j[:, None] * j[None] + 0.1 * np.eye(3)[:, :, None, None, None]
    packed = np.stack([full[i, k] for i, k in ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))])
    return full, packed, RANDOM.normal(size=(3, *SHAPE)), RANDOM.normal(size=(3, *SHAPE))


def test_step_solves_the_dense_system():
    full, packed, b, u = system()
    count = np.prod(SHAPE)
    laplacian = laplacian_matrix(SHAPE)
    curvature = np.kron(np.eye(3), WEIGHT * laplacian @ laplacian)
    dense = np.block([[np.diag(full[i, k].ravel()) for k in range(3)] for i in range(3)])
    expected = np.linalg.solve(dense + curvature, b.ravel() - curvature @ u.ravel())
    assert dense.shape == (3 * count, 3 * count)
    v = solve(
        *(jnp.asarray(array, jnp.float32) for array in (packed, b, u)),
        weight=jnp.float32(WEIGHT),
        spacing_mm=jnp.asarray(SPACING, jnp.float32),
    )
    np.testing.assert_allclose(v, expected.reshape(3, *SHAPE), atol=0.02)


def test_laplacian_equals_the_dense_matrix():
    field = RANDOM.normal(size=(3, *SHAPE)).astype(np.float32)
    links = solver._links(SHAPE, jnp.asarray(SPACING, jnp.float32))
    expected = field.reshape(3, -1) @ laplacian_matrix(SHAPE).T
    np.testing.assert_allclose(
        solver._laplacian(field, links).reshape(3, -1), expected, rtol=1e-4, atol=1e-4
    )
