"""Solver of a Gauss-Newton step against dense matrices; moves between grids in closed form."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg.engine import multigrid as solver
from jaxreg.engine.multigrid import double, halve, solve
from jaxreg.ops.interpolation import resize

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


@pytest.mark.parametrize("shape", [(6, 4, 8), (2, 10, 4)])
def test_halve_is_the_mean_of_blocks_and_double_the_linear_resize(shape):
    image = RANDOM.normal(size=shape).astype(np.float32)
    x, y, z = shape
    blocks = image.reshape(x // 2, 2, y // 2, 2, z // 2, 2).mean(axis=(1, 3, 5))
    np.testing.assert_allclose(halve(image), blocks, atol=1e-6)
    field = RANDOM.normal(size=(3, *shape)).astype(np.float32)
    fine = tuple(2 * n for n in shape)
    for component, expected in zip(double(field), field, strict=True):
        np.testing.assert_allclose(component, resize(expected, fine), atol=1e-5)
