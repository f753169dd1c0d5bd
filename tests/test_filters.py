"""Filters against explicit loops, scipy and ramps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage

from jaxreg.ops.filters import binomial, box_mean, image_gradient, standardise, standardise_by

SHAPE = (9, 8, 7)
SPACING = np.array([1.0, 1.5, 2.5], np.float32)
RANDOM = np.random.default_rng(0)
IMAGE = RANDOM.normal(-700, 200, SHAPE).astype(np.float32)
CHANNELS = RANDOM.normal(size=(8, 7, 5, 2)).astype(np.float32)


def window(image, voxel, radius):
    return image[tuple(slice(max(0, i - radius), i + radius + 1) for i in voxel)]


@pytest.mark.parametrize("radius", [0, 1, 3])
def test_box_mean_equals_loop(radius):
    expected = np.zeros(SHAPE)
    for voxel in np.ndindex(SHAPE):
        expected[voxel] = window(IMAGE, voxel, radius).mean()
    np.testing.assert_allclose(box_mean(jnp.asarray(IMAGE), radius=radius), expected, rtol=1e-5)


def test_standardise_equals_loop_and_is_zero_where_flat():
    expected = np.zeros(SHAPE)
    for voxel in np.ndindex(SHAPE):
        values = window(IMAGE.astype(np.float64), voxel, 2)
        expected[voxel] = (IMAGE[voxel] - values.mean()) / np.sqrt(values.var() + 40.0**2)
    np.testing.assert_allclose(
        standardise(jnp.asarray(IMAGE), radius=2, noise=40.0), expected, atol=1e-4
    )
    flat = standardise(jnp.full(SHAPE, -1000.0), radius=2, noise=40.0)
    np.testing.assert_allclose(flat, 0.0, atol=1e-3)


def test_gradient_is_exact_on_a_ramp_with_unequal_spacing():
    ramp = np.indices(SHAPE).transpose(1, 2, 3, 0) * SPACING @ np.array([0.5, -1.0, 2.0])
    slopes = image_gradient(jnp.asarray(ramp, jnp.float32), spacing=SPACING)
    for axis, slope in enumerate([0.5, -1.0, 2.0]):
        np.testing.assert_allclose(slopes[axis], slope, rtol=1e-4)


def test_binomial_equals_scipy():
    kernel = np.array([0.25, 0.5, 0.25])
    for image in (IMAGE, CHANNELS):
        expected = image
        for axis in range(3):
            expected = scipy.ndimage.correlate1d(expected, kernel, axis=axis, mode="nearest")
        np.testing.assert_allclose(binomial(image), expected, rtol=1e-5, atol=1e-6)


def test_standardise_by_uses_the_mean_given():
    whole = standardise_by(lambda image: jnp.full(SHAPE, image.mean()), jnp.asarray(IMAGE), noise=3)
    expected = (IMAGE - IMAGE.mean()) / np.sqrt(IMAGE.astype(np.float64).var() + 9.0)
    np.testing.assert_allclose(whole, expected, atol=1e-3)


def test_box_mean_has_the_derivative_of_a_linear_map():
    """The adjoint of the box mean of an indicator: checked against the explicit weights."""
    voxel = (0, 3, 6)  # at two borders
    slopes = jax.grad(lambda image: box_mean(image, radius=1)[voxel])(jnp.asarray(IMAGE))
    expected = np.zeros(SHAPE)
    expected[:2, 2:5, 5:] = 1 / 12
    np.testing.assert_allclose(slopes, expected, atol=1e-7)
