"""Symmetric 3x3 matrices against numpy's linear algebra."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg.ops import symmetric

SHAPE = (4, 3, 5)
RANDOM = np.random.default_rng(3)
ROOTS = RANDOM.normal(size=(*SHAPE, 3, 3))
FULL = ROOTS @ np.swapaxes(ROOTS, -1, -2) + 0.1 * np.eye(3)  # (X, Y, Z, 3, 3)
VECTORS = RANDOM.normal(size=(3, *SHAPE))


def pack(full):
    """(X, Y, Z, 3, 3) to (6, X, Y, Z), float32."""
    return jnp.asarray(np.stack([full[..., i, j] for i, j in symmetric.INDICES]), jnp.float32)


def test_inverse_determinant_and_cofactors_are_those_of_numpy():
    packed = pack(FULL)
    cofactors = symmetric.cofactors(packed)
    determinant = np.linalg.det(FULL)
    expected = np.linalg.inv(FULL)
    np.testing.assert_allclose(symmetric.determinant(packed, cofactors), determinant, rtol=2e-4)
    np.testing.assert_allclose(symmetric.inverse(packed), pack(expected), rtol=5e-4, atol=1e-4)
    adjugate = determinant[..., None, None] * expected
    np.testing.assert_allclose(cofactors, pack(adjugate), rtol=1e-4, atol=1e-4)


def test_multiply_solve_and_outer_are_those_of_numpy():
    product = np.einsum("xyzij,jxyz->ixyz", FULL, VECTORS)
    packed, right = pack(FULL), jnp.asarray(product, jnp.float32)
    vectors = jnp.asarray(VECTORS, jnp.float32)
    np.testing.assert_allclose(symmetric.multiply(packed, vectors), product, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(symmetric.solve(packed, right), VECTORS, rtol=2e-3, atol=2e-3)
    outer = np.einsum("ixyz,jxyz->xyzij", VECTORS, VECTORS)
    np.testing.assert_allclose(symmetric.outer(vectors), pack(outer), rtol=1e-5)


@pytest.mark.parametrize("axis", range(3))
def test_identity_leaves_each_axis(axis):
    vector = np.zeros((3, 1, 1, 1), np.float32)
    vector[axis] = 2.0
    np.testing.assert_array_equal(symmetric.multiply(symmetric.IDENTITY, vector), vector)
