"""Solver of a Gauss-Newton step against dense matrices."""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse

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
    found = solver.laplacian(field, spacing_mm=jnp.asarray(SPACING, jnp.float32))
    expected = field.reshape(3, -1) @ laplacian_matrix(SHAPE).T
    np.testing.assert_allclose(found.reshape(3, -1), expected, rtol=1e-4, atol=1e-4)


def sparse_laplacian(shape):
    """The same Laplacian as a sparse matrix, the sum over the axes of Kronecker products."""
    total = 0
    for axis, n in enumerate(shape):
        line = scipy.sparse.diags([np.ones(n - 1), np.ones(n - 1)], [-1, 1])
        line = line - scipy.sparse.diags(np.asarray(line.sum(axis=1)).ravel())
        before, after = (int(np.prod(part)) for part in (shape[:axis], shape[axis + 1 :]))
        whole = scipy.sparse.kron(scipy.sparse.identity(before), line)
        whole = scipy.sparse.kron(whole, scipy.sparse.identity(after))
        total = total + whole / SPACING[axis] ** 2
    return total.tocsr()


def test_a_long_wave_comes_from_the_coarsest_of_three_grids():
    """The right side of a known step; the few steps on finer grids reach no wave so long.

    The error is 0.024; without the coarser grids it is 0.95, without the coarsest of them 0.27.
    """
    shape = (32, 36, 40)  # then (16, 18, 20) and (8, 9, 10)
    laplacian = sparse_laplacian(shape)
    np.testing.assert_allclose(sparse_laplacian(SHAPE).toarray(), laplacian_matrix(SHAPE))
    x, y, z = np.meshgrid(*((np.arange(n) + 0.5) / n for n in shape), indexing="ij")
    x, y, z = (np.cos(np.pi * places) for places in (x, y, z))
    expected = np.stack([x * z, y * z, x * y])
    u = 0.3 * expected[::-1]
    slopes = 0.1 * np.random.default_rng(0).normal(size=(3, *shape))
    full = slopes[:, None] * slopes[None] + 1e-3 * np.eye(3)[:, :, None, None, None]
    packed = np.stack([full[i, k] for i, k in ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))])
    curved = [WEIGHT * laplacian @ (laplacian @ part.ravel()) for part in expected + u]
    b = np.einsum("ijxyz,jxyz->ixyz", full, expected) + np.reshape(curved, u.shape)
    arrays = (jnp.asarray(array, jnp.float32) for array in (packed, b, u, WEIGHT, SPACING))

    @jax.jit
    def run(a, b, u, weight, spacing_mm):
        return solve(a, b, u, weight=weight, spacing_mm=spacing_mm, steps=(4, 4, 50))

    error = np.linalg.norm(run(*arrays) - expected) / np.linalg.norm(expected)
    assert error < 0.05
