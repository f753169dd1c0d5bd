"""Displacement fields: direction, composition, grids, inverse, and their derivatives."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from absl.testing import parameterized
from jax.test_util import check_grads

from jaxreg.ops.deformation import (
    compose,
    identity_grid,
    inside,
    resize_displacement,
    target_points,
    transform_points,
    warp,
)

SHAPE = (7, 6, 5)
RANDOM = np.random.default_rng(1)
IMAGE = RANDOM.normal(size=SHAPE).astype(np.float32)
GRID = np.stack(np.indices(SHAPE), axis=-1).astype(np.float32)
U = RANDOM.uniform(-2.0, 2.0, size=(*SHAPE, 3)).astype(np.float32)
V = RANDOM.uniform(-2.0, 2.0, size=(*SHAPE, 3)).astype(np.float32)
ZERO = np.zeros((*SHAPE, 3), np.float32)
MATRIX = np.array([[0.05, -0.1, 0.02], [0.08, 0.1, -0.06], [-0.04, 0.03, -0.07]], np.float32)


def sample_by_scipy(image, points):
    """Trilinear values of an image, or of each component of a field, at points (..., 3)."""
    if image.ndim == 4:
        return np.stack([sample_by_scipy(image[..., c], points) for c in range(3)], axis=-1)
    return scipy.ndimage.map_coordinates(image, np.moveaxis(points, -1, 0), order=1, mode="nearest")


def smooth_field(shape, amplitude, phase=0.0):
    """Sines over the grid, `amplitude` times the grid's size, the same for every resolution."""
    size = np.array(shape)
    x = (np.stack(np.indices(shape), axis=-1) + 0.5) / size
    waves = np.sin(2.0 * (x @ np.array([[1, 2, 1], [2, 1, 1], [1, 1, 2]])) + phase + np.arange(3))
    return (amplitude * size * waves).astype(np.float32)


def constant(vector, shape=SHAPE):
    return np.broadcast_to(np.array(vector, np.float32), (*shape, 3))


class Variants(parameterized.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    def test_warp(self):
        values = self.variant(warp)(IMAGE, U)
        np.testing.assert_allclose(values, sample_by_scipy(IMAGE, GRID + U), rtol=1e-5, atol=1e-5)

    @chex.variants(with_jit=True, without_jit=True)
    def test_compose(self):
        expected = V + sample_by_scipy(U, GRID + V)
        np.testing.assert_allclose(self.variant(compose)(U, V), expected, rtol=1e-5, atol=1e-5)

    @chex.variants(with_jit=True, without_jit=True)
    def test_transform_points(self):
        points = RANDOM.uniform(-1.0, 7.0, (9, 3)).astype(np.float32)
        expected = points + sample_by_scipy(U, points)
        values = self.variant(transform_points)(U, points)
        np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-5)

    @chex.variants(with_jit=True, without_jit=True)
    def test_inside(self):
        moving_shape = (5, 8, 4)
        y = GRID + U
        expected = np.all((y >= 0) & (y <= np.array(moving_shape) - 1), axis=-1)
        values = self.variant(lambda u: inside(u, moving_shape))(U)
        np.testing.assert_array_equal(values, expected)


def test_identity_grid():
    np.testing.assert_array_equal(identity_grid(SHAPE), GRID)
    assert identity_grid(SHAPE).dtype == jnp.float32
    np.testing.assert_array_equal(target_points(U), GRID + U)


def test_zero_displacement_changes_nothing():
    np.testing.assert_array_equal(jax.jit(warp)(IMAGE, ZERO), IMAGE)
    np.testing.assert_array_equal(jax.jit(compose)(U, ZERO), U)
    np.testing.assert_array_equal(jax.jit(compose)(ZERO, U), U)


@pytest.mark.parametrize("shift", [(2, 0, 0), (0, -3, 0), (1, 2, -1)])
def test_integer_shift_is_slicing(shift):
    """warped[x] = moving[x + shift]; beyond the border the edge voxel continues."""
    index = np.ix_(
        *(np.clip(np.arange(n) + s, 0, n - 1) for n, s in zip(SHAPE, shift, strict=True))
    )
    u = constant(shift)
    np.testing.assert_array_equal(jax.jit(warp)(IMAGE, u), IMAGE[index])


def test_points_and_images_move_in_the_same_direction():
    """A blob at p + u(p) in the moving image appears at p in the warped one."""
    shape, spot = (24, 20, 18), np.array([10.0, 9.0, 8.0], np.float32)
    u = constant([3.0, -2.0, 1.5], shape) + smooth_field(shape, 0.01)
    target = np.asarray(jax.jit(transform_points)(u, spot[None]))[0]
    grid = np.stack(np.indices(shape), axis=-1)
    moving = np.exp(-np.sum((grid - target) ** 2, axis=-1) / (2 * 1.5**2)).astype(np.float32)
    warped = np.asarray(jax.jit(warp)(moving, u))
    centre = np.tensordot(warped, grid, 3) / warped.sum()
    assert np.linalg.norm(target - spot) > 3.0
    np.testing.assert_allclose(centre, spot, atol=0.15)


def test_translations_add():
    together = jax.jit(compose)(constant([1.5, 0.0, -2.0]), constant([0.25, 3.0, 1.0]))
    np.testing.assert_allclose(together, constant([1.75, 3.0, -1.0]), atol=1e-6)


def test_linear_maps_multiply_in_the_right_order():
    """y_outer(y_inner(x)) = (I + A)(I + B) x, which differs from (I + B)(I + A) x."""
    a, b = MATRIX, MATRIX.T @ MATRIX + 0.05
    together = np.asarray(jax.jit(compose)(GRID @ a.T, GRID @ b.T))
    expected = GRID @ ((np.eye(3) + a) @ (np.eye(3) + b) - np.eye(3)).T
    other = GRID @ ((np.eye(3) + b) @ (np.eye(3) + a) - np.eye(3)).T
    stays = np.asarray(inside(GRID @ b.T, SHAPE))
    assert stays.sum() > 50
    np.testing.assert_allclose(together[stays], expected[stays], atol=1e-5)
    assert np.abs(other[stays] - expected[stays]).max() > 0.01


def test_warping_twice_is_warping_by_the_composition_to_second_order():
    def difference(n):
        shape = (4 * n, 3 * n, 2 * n)
        x = (np.stack(np.indices(shape), axis=-1) + 0.5) / np.array(shape)
        moving = np.sin(x @ np.array([3.0, 2.0, 2.5])).astype(np.float32)
        u1, u2 = smooth_field(shape, 0.03), smooth_field(shape, 0.04, phase=1.0)
        # Away from the border, where the edge value is no interpolation.
        inner = tuple(slice(size // 4, -(size // 4)) for size in shape)

        @jax.jit
        def rms():
            error = warp(warp(moving, u1), u2) - warp(moving, compose(u1, u2))
            return jnp.sqrt(jnp.mean(error[inner] ** 2))

        return float(rms())

    coarse, fine = difference(6), difference(24)
    assert coarse > 1e-3
    np.testing.assert_allclose(np.log2(coarse / fine) / 2, 2.0, atol=0.3)


def test_moving_image_of_another_size():
    moving = RANDOM.normal(size=(4, 9, 6)).astype(np.float32)
    values = jax.jit(warp)(moving, U)
    np.testing.assert_allclose(values, sample_by_scipy(moving, GRID + U), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("new", [(14, 9, 5), (3, 4, 10)])
def test_displacement_constant_in_mm_stays_so(new):
    spacing_mm = np.array([1.0, 1.1, 2.5])
    new_spacing_mm = spacing_mm * np.array(SHAPE) / np.array(new)
    vector_mm = np.array([4.0, -3.0, 2.0])
    u = jax.jit(resize_displacement, static_argnums=1)(constant(vector_mm / spacing_mm), new)
    assert u.shape == (*new, 3)
    np.testing.assert_allclose(np.asarray(u) * new_spacing_mm, constant(vector_mm, new), rtol=1e-5)


def test_resized_displacement_keeps_the_map():
    """A linear map about the corner of the grid is the same linear map on a finer grid."""
    new = (14, 12, 15)
    factor = np.array(new) / np.array(SHAPE)

    def displacement(shape, matrix):
        return ((np.stack(np.indices(shape), axis=-1) + 0.5) @ matrix.T).astype(np.float32)

    fine_matrix = np.diag(factor) @ MATRIX @ np.diag(1 / factor)
    resized = jax.jit(resize_displacement, static_argnums=1)
    fine = np.asarray(resized(displacement(SHAPE, MATRIX), new))
    inner = (slice(2, -2),) * 3
    np.testing.assert_allclose(fine[inner], displacement(new, fine_matrix)[inner], atol=1e-5)


def test_derivatives_equal_finite_differences():
    kinks_away = np.round(U) + RANDOM.uniform(0.2, 0.8, U.shape)
    with jax.enable_x64(True):
        moving, u = jnp.asarray(IMAGE, jnp.float64), jnp.asarray(kinks_away)
        outer = jnp.asarray(smooth_field(SHAPE, 0.05), jnp.float64)
        check_grads(jax.jit(warp), (moving, u), order=1, modes="rev", rtol=1e-6, atol=1e-6)
        check_grads(jax.jit(compose), (outer, u), order=1, modes="rev", rtol=1e-6, atol=1e-6)


def test_vmap_equals_one_by_one():
    images, fields = np.stack([IMAGE, IMAGE[::-1]]), np.stack([U, V])
    warped = jax.jit(jax.vmap(warp))(images, fields)
    composed = jax.jit(jax.vmap(compose))(fields, fields[::-1])
    for b in range(2):
        y = GRID + fields[b]
        expected = fields[b] + sample_by_scipy(fields[1 - b], y)  # fields[b] is the inner one
        np.testing.assert_allclose(warped[b], sample_by_scipy(images[b], y), rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(composed[1 - b], expected, rtol=1e-5, atol=1e-5)


def test_one_voxel_thin_grid():
    u = np.zeros((7, 1, 5, 3), np.float32)
    u[..., 0] = 1.0
    image = IMAGE[:, :1]
    warped, slope = jax.jit(jax.value_and_grad(lambda u: jnp.sum(warp(image, u)[:-1])))(u)
    np.testing.assert_allclose(warped, image[1:].sum(), rtol=1e-5)
    assert np.all(np.isfinite(slope)) and not np.any(slope[..., 1])


def test_same_bits_every_time():
    loss = jax.jit(jax.value_and_grad(lambda m: jnp.sum(warp(m, U) ** 2)))
    first, second = loss(IMAGE), loss(IMAGE)
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])
