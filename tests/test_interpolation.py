"""Sampling between voxels against scipy, explicit loops, closed forms and finite differences."""

import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from absl.testing import parameterized
from jax.test_util import check_grads

from jaxreg.ops.interpolation import resize, sample, sample_nearest

SHAPE = (7, 6, 5)
RANDOM = np.random.default_rng(0)
IMAGE = RANDOM.normal(size=SHAPE).astype(np.float32)
CHANNELS = RANDOM.normal(size=(*SHAPE, 2)).astype(np.float32)
POINTS = RANDOM.uniform(-3.0, 10.0, size=(40, 3)).astype(np.float32)  # many of them outside
INNER = RANDOM.integers(0, np.array(SHAPE) - 1, (8, 3)) + RANDOM.uniform(0.2, 0.8, (8, 3))


def scipy_sample(image, points):
    return scipy.ndimage.map_coordinates(image, np.moveaxis(points, -1, 0), order=1, mode="nearest")


def trilinear_by_loop(image, point):
    """Weighted sum over the eight corners of the cell, edge value outside."""
    last = np.array(image.shape[:3]) - 1
    point = np.clip(point, 0, last)
    lower = np.minimum(np.floor(point), np.maximum(last - 1, 0)).astype(int)
    value = 0.0
    for corner in itertools.product((0, 1), repeat=3):
        weight = 1.0
        for axis in range(3):
            fraction = point[axis] - lower[axis]
            weight *= fraction if corner[axis] else 1.0 - fraction
        value = value + weight * image[tuple(np.minimum(lower + corner, last))]
    return value


class Variants(parameterized.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    def test_sample_equals_loop(self):
        values = self.variant(sample)(IMAGE, POINTS)
        expected = [trilinear_by_loop(IMAGE.astype(np.float64), p) for p in POINTS]
        np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-5)

    @chex.variants(with_jit=True, without_jit=True)
    def test_an_image_of_integers_gives_the_same_values(self):
        image = RANDOM.integers(-1024, 3000, SHAPE).astype(np.int16)
        values = self.variant(sample)(image, POINTS)
        np.testing.assert_array_equal(
            values, self.variant(sample)(image.astype(np.float32), POINTS)
        )
        assert values.dtype == jnp.float32

    @chex.variants(with_jit=True, without_jit=True)
    def test_sample_nearest_equals_scipy(self):
        labels = RANDOM.integers(0, 5, SHAPE).astype(np.int16)
        values = self.variant(sample_nearest)(labels, POINTS)
        expected = scipy.ndimage.map_coordinates(labels, POINTS.T, order=0, mode="nearest")
        assert values.dtype == jnp.int16
        np.testing.assert_array_equal(values, expected)

    @chex.variants(with_jit=True, without_jit=True)
    def test_resize_equals_weight_matrices(self):
        new = (9, 3, 8)  # grows, shrinks, grows
        values = self.variant(lambda image: resize(image, new))(IMAGE)
        expected = IMAGE
        for axis, (old_n, new_n) in enumerate(zip(SHAPE, new, strict=True)):
            expected = np.moveaxis(
                np.tensordot(resize_matrix(old_n, new_n), expected, (1, axis)), 0, axis
            )
        np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-5)


def resize_matrix(old, new):
    """Rows of normalised triangle weights around the new voxel centres."""
    ratio = old / new
    centre = (np.arange(new) + 0.5) * ratio - 0.5
    distance = np.abs(np.arange(old)[None] - centre[:, None]) / max(ratio, 1.0)
    weights = np.maximum(0.0, 1.0 - distance)
    return weights / weights.sum(axis=1, keepdims=True)


def test_sample_equals_scipy_for_every_channel():
    values = jax.jit(sample)(CHANNELS, POINTS)
    expected = np.stack([scipy_sample(CHANNELS[..., c], POINTS) for c in range(2)], axis=-1)
    np.testing.assert_allclose(values, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 6, 5), (7, 1, 5), (7, 6, 1), (1, 1, 5), (1, 1, 1)])
def test_axes_of_one_voxel(shape):
    image = IMAGE[tuple(slice(n) for n in shape)]
    value, slope = jax.jit(jax.value_and_grad(lambda p: jnp.sum(sample(image, p))))(POINTS)
    np.testing.assert_allclose(value, scipy_sample(image, POINTS).sum(), rtol=1e-4, atol=1e-4)
    assert np.all(np.isfinite(slope))
    for axis in range(3):
        if shape[axis] == 1:
            np.testing.assert_array_equal(slope[:, axis], 0.0)


def test_a_constant_stays_exactly_constant():
    """Flat background must stay flat to the last bit, or its gradient direction is noise."""
    constant = np.full(SHAPE, -1000.1, np.float32)
    np.testing.assert_array_equal(jax.jit(sample)(constant, POINTS), constant[0, 0, 0])


def test_voxel_centres_are_returned_exactly():
    centres = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), axis=-1)
    np.testing.assert_array_equal(jax.jit(sample)(IMAGE, centres.astype(np.float32)), IMAGE)


def test_affine_function_is_exact_inside():
    i, j, k = np.meshgrid(*map(np.arange, SHAPE), indexing="ij")
    ramp = (2.0 + 1.0 * i - 3.0 * j + 0.5 * k).astype(np.float32)
    expected = 2.0 + INNER @ np.array([1.0, -3.0, 0.5])
    values = jax.jit(sample)(ramp, INNER.astype(np.float32))
    np.testing.assert_allclose(values, expected, rtol=1e-5)


def test_edge_value_outside():
    outside = np.array([[-5.0, -1.0, -0.1], [99.0, 5.0, 7.0], [3.0, -2.0, 2.0]], np.float32)
    expected = [IMAGE[0, 0, 0], IMAGE[6, 5, 4], IMAGE[3, 0, 2]]
    np.testing.assert_array_equal(jax.jit(sample)(IMAGE, outside), expected)


@pytest.mark.parametrize("image", [IMAGE, CHANNELS], ids=["image", "channels"])
def test_derivatives_equal_finite_differences(image):
    with jax.enable_x64(True):
        image, points = jnp.asarray(image, jnp.float64), jnp.asarray(INNER)
        check_grads(jax.jit(sample), (image, points), order=1, rtol=1e-6, atol=1e-6)


def test_derivative_with_respect_to_one_argument():
    """The rule for derivatives treats each argument apart: both must agree with the joint one."""
    loss = jax.jit(lambda image, p: jnp.sum(jnp.sin(sample(image, p))))
    points = INNER.astype(np.float32)
    both = jax.grad(loss, argnums=(0, 1))(IMAGE, points)
    np.testing.assert_allclose(jax.grad(loss, 0)(IMAGE, points), both[0], rtol=1e-6)
    np.testing.assert_allclose(jax.grad(loss, 1)(IMAGE, points), both[1], rtol=1e-6)


def test_no_derivative_outside():
    outside = np.array([[-5.0, 2.5, 2.5], [3.5, 9.0, 2.5], [3.5, 2.5, -0.1]], np.float32)
    slope = jax.jit(jax.grad(lambda p: jnp.sum(sample(IMAGE, p))))(outside)
    np.testing.assert_array_equal(np.diagonal(slope), 0.0)
    assert np.all(slope[~np.eye(3, dtype=bool)] != 0.0)


def test_vmap_equals_one_by_one():
    images = np.stack([IMAGE, -2.0 * IMAGE])
    points = np.stack([POINTS, POINTS[::-1]])
    together = jax.jit(jax.vmap(sample))(images, points)
    for b in range(2):
        np.testing.assert_allclose(
            together[b], scipy_sample(images[b], points[b]), rtol=1e-5, atol=1e-5
        )


def test_a_single_point_and_a_grid_of_points():
    grid = POINTS.reshape(5, 4, 2, 3)
    assert jax.eval_shape(sample, IMAGE, POINTS[0]).shape == ()
    assert jax.eval_shape(sample, CHANNELS, POINTS[0]).shape == (2,)
    assert jax.eval_shape(sample, CHANNELS, grid).shape == (5, 4, 2, 2)
    assert jax.eval_shape(sample_nearest, IMAGE, grid).shape == (5, 4, 2)


def test_nearest_rounds_halves_up_and_keeps_the_type():
    labels = np.zeros(SHAPE, bool)
    labels[3, 2, 1] = True
    points = np.array([[2.5, 1.5, 0.5], [3.5, 2.0, 1.0], [3.49, 2.49, 1.49]], np.float32)
    values = sample_nearest(labels, points)
    assert values.dtype == bool
    np.testing.assert_array_equal(values, [True, False, True])


@pytest.mark.parametrize(
    ("axis", "new", "tolerance"),
    # Shrinking by a ratio that is no integer, the sampled triangle is not quite symmetric.
    [(0, 48, 1e-5), (1, 31, 1e-5), (2, 12, 1e-5), (0, 8, 1e-5), (1, 10, 0.02)],
)
def test_resize_keeps_positions_of_voxel_centres(axis, new, tolerance):
    """A ramp stays the ramp of the same positions, away from the border."""
    shape, target = [3, 4, 5], [3, 4, 5]
    shape[axis], target[axis] = 24, new
    ramp = np.indices(shape, dtype=np.float32)[axis]
    resized = jax.jit(resize, static_argnums=1)(ramp, tuple(target))
    line = np.moveaxis(np.asarray(resized), axis, 0)[:, 0, 0]
    positions = (np.arange(new) + 0.5) * 24 / new - 0.5
    inner = (positions > 4) & (positions < 19)
    np.testing.assert_allclose(line[inner], positions[inner], atol=tolerance, rtol=0)


def test_resize_to_the_same_shape_changes_nothing():
    np.testing.assert_array_equal(resize(IMAGE, SHAPE), IMAGE)


def test_wrong_shapes_are_refused():
    with pytest.raises(TypeError, match="Type-check error"):
        sample(IMAGE[0], POINTS)
    with pytest.raises(TypeError, match="Type-check error"):
        sample(IMAGE, POINTS[:, :2])
