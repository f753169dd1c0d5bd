"""Jacobian of y = x + u against loops, closed forms and finite differences."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized
from jax.test_util import check_grads

from jaxreg.ops.jacobian import fold_count, jacobian, jacobian_determinant

SHAPE = (7, 6, 5)
RANDOM = np.random.default_rng(2)
U = RANDOM.normal(size=(*SHAPE, 3)).astype(np.float32)
MATRIX = np.array([[0.2, -0.1, 0.3], [0.4, 0.1, -0.2], [-0.5, 0.3, -0.15]])


def jacobian_by_loop(u):
    """I + du/dx: central differences inside, one-sided at the border."""
    result = np.zeros((*u.shape, 3))
    for x in np.ndindex(u.shape[:3]):
        for axis in range(3):
            low, high = list(x), list(x)
            low[axis], high[axis] = max(x[axis] - 1, 0), min(x[axis] + 1, u.shape[axis] - 1)
            step = high[axis] - low[axis]
            for c in range(3):
                slope = (u[(*high, c)] - u[(*low, c)]) / step
                result[(*x, c, axis)] = slope + (c == axis)
    return result


def sine_field(shape):
    """u in voxels on a grid over the unit cube, and det of x + u in closed form."""
    size = np.array(shape)
    p = (np.stack(np.indices(shape), axis=-1) + 0.5) / size
    a, b, c = 0.05, 0.07, 0.04
    waves = [a * np.sin(3 * p[..., 1]), b * np.sin(4 * p[..., 2] + 1), c * np.sin(5 * p[..., 0])]
    # du_c/dp_a has one entry a row, at (0, 1), (1, 2), (2, 0): det(I + .) = 1 + their product.
    product = (
        3 * a * np.cos(3 * p[..., 1])
        * 4 * b * np.cos(4 * p[..., 2] + 1)
        * 5 * c * np.cos(5 * p[..., 0])
    )  # fmt: skip
    return np.stack(waves, axis=-1) * size, 1.0 + product


class Variants(parameterized.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    def test_jacobian_equals_loop(self):
        values = self.variant(jacobian)(U)
        np.testing.assert_allclose(values, jacobian_by_loop(U), rtol=1e-5, atol=1e-5)

    @chex.variants(with_jit=True, without_jit=True)
    def test_determinant_equals_numpy(self):
        values = self.variant(jacobian_determinant)(U)
        expected = np.linalg.det(jacobian_by_loop(U))
        np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-4)

    @chex.variants(with_jit=True, without_jit=True)
    def test_fold_count(self):
        determinant = RANDOM.normal(size=SHAPE).astype(np.float32)
        determinant[0, 0, :3] = [np.nan, 0.0, -np.inf]
        mask = RANDOM.uniform(size=SHAPE) < 0.5
        mask[0, 0, :3] = True
        expected = np.sum(mask & ~(determinant > 0))
        assert int(self.variant(fold_count)(determinant, mask)) == expected
        half = mask.astype(np.float32) / 2  # a smoothed mask counts wherever it is not 0
        assert int(self.variant(fold_count)(determinant, half)) == expected


@pytest.mark.parametrize("shape", [SHAPE, (2, 3, 2)])
def test_linear_map(shape):
    u = (np.stack(np.indices(shape), axis=-1) @ MATRIX.T).astype(np.float32)
    expected = np.linalg.det(np.eye(3) + MATRIX)
    np.testing.assert_allclose(jax.jit(jacobian_determinant)(u), expected, rtol=1e-4)
    matrices = jax.jit(jacobian)(u)
    np.testing.assert_allclose(matrices[0, -1, 1], np.eye(3) + MATRIX, atol=1e-5)


def test_translation_and_identity_have_determinant_one():
    u = np.broadcast_to(np.array([3.0, -1.0, 0.5], np.float32), (*SHAPE, 3))
    np.testing.assert_array_equal(jax.jit(jacobian_determinant)(u), 1.0)


def test_sine_field_converges_with_order_two():
    def error(n):
        with jax.enable_x64(True):
            u, expected = sine_field((4 * n, 3 * n, 2 * n))
            values = np.asarray(jax.jit(jacobian_determinant)(jnp.asarray(u)))
            return float(np.abs(values - expected)[1:-1, 1:-1, 1:-1].max())

    errors = np.array([error(n) for n in (4, 8, 16)])
    np.testing.assert_allclose(np.log2(errors[:-1] / errors[1:]), 2.0, atol=0.35)
    assert errors[-1] < 1e-3


def test_determinant_is_the_same_in_voxels_and_millimetres():
    spacing_mm = (0.7, 1.1, 2.5)
    u_mm = U * np.array(spacing_mm)
    slopes = [np.gradient(u_mm, spacing_mm[axis], axis=axis) for axis in range(3)]
    expected = np.linalg.det(np.eye(3) + np.stack(slopes, axis=-1))
    values = jax.jit(jacobian_determinant)(U)
    np.testing.assert_allclose(values, expected, rtol=1e-4, atol=1e-4)


def test_mean_is_one_where_the_border_stays():
    """The volume of the grid is kept: det is a divergence, whose sum telescopes.

    Exactly so for products of two central differences, hence for a field within a plane.
    """
    shape = (14, 12, 11)
    u = np.zeros((*shape, 3), np.float32)
    u[3:-3, 3:-3, 3:-3, [0, 2]] = RANDOM.normal(size=(8, 6, 5, 2))
    with jax.enable_x64(True):
        determinant = np.asarray(jax.jit(jacobian_determinant)(jnp.asarray(u, jnp.float64)))
    assert np.std(determinant) > 0.1
    np.testing.assert_allclose(np.mean(determinant), 1.0, rtol=1e-12)


def test_mirrored_axis_is_folded_everywhere():
    u = np.zeros((*SHAPE, 3), np.float32)
    u[..., 1] = -2.0 * np.arange(SHAPE[1])[None, :, None]
    determinant = jax.jit(jacobian_determinant)(u)
    np.testing.assert_allclose(determinant, -1.0, rtol=1e-6)
    mask = np.zeros(SHAPE, bool)
    mask[2:4, 1:3] = True
    assert int(fold_count(determinant, mask)) == mask.sum()
    assert int(fold_count(determinant, np.zeros(SHAPE, bool))) == 0


def test_stencil_is_blind_to_zigzag():
    """Central differences skip the voxel itself; the docstring says so, the certificate sees it."""
    u = np.zeros((*SHAPE, 3), np.float32)
    u[1:-1, ..., 0] = np.where(np.arange(5) % 2, 0.8, -0.8)[:, None, None]
    assert np.diff(u[2:5, 0, 0, 0] + np.arange(3)).min() < 0  # y runs backwards
    np.testing.assert_array_equal(jacobian_determinant(u)[2:-2], 1.0)


def test_derivatives_equal_finite_differences():
    with jax.enable_x64(True):
        u = jnp.asarray(U, jnp.float64)
        check_grads(jax.jit(jacobian_determinant), (u,), order=1, rtol=1e-6, atol=1e-6)


def test_vmap_equals_one_by_one():
    fields = np.stack([U, U[::-1]])
    together = jax.jit(jax.vmap(jacobian_determinant))(fields)
    for b in range(2):
        np.testing.assert_allclose(
            together[b], np.linalg.det(jacobian_by_loop(fields[b])), rtol=1e-4, atol=1e-4
        )
