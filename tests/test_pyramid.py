"""Moves between grids against explicit loops, on ramps, and against resizing."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized
from jax.test_util import check_grads

from jaxreg.ops.interpolation import resize
from jaxreg.ops.pyramid import double, halve, mean_2x2x2

RANDOM = np.random.default_rng(3)
IMAGE = RANDOM.normal(size=(8, 7, 5)).astype(np.float32)  # even and odd axes
CHANNELS = RANDOM.normal(size=(8, 7, 5, 2)).astype(np.float32)


def halve_by_loop(image):
    """Voxel by voxel: weights [1, 3, 3, 1] / 8 on 2i - 1 .. 2i + 2, edge values outside."""
    weights = np.array([1, 3, 3, 1]) / 8
    shape = image.shape[:3]
    result = np.zeros((*(-(-n // 2) for n in shape), *image.shape[3:]))
    for x in np.ndindex(result.shape[:3]):
        for offset in np.ndindex(4, 4, 4):
            old = tuple(
                min(max(2 * i - 1 + o, 0), n - 1) for i, o, n in zip(x, offset, shape, strict=True)
            )
            result[x] += np.prod(weights[list(offset)]) * image[old]
    return result


class Variants(parameterized.TestCase):
    @chex.variants(with_jit=True, without_jit=True)
    def test_halve_equals_loop(self):
        np.testing.assert_allclose(
            self.variant(halve)(IMAGE), halve_by_loop(IMAGE), rtol=1e-5, atol=1e-6
        )


def test_halve_equals_loop_for_every_channel():
    expected = halve_by_loop(CHANNELS)
    np.testing.assert_allclose(jax.jit(halve)(CHANNELS), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_new_voxel_centres_lie_between_two_old_ones(axis):
    ramp = np.indices((12, 10, 8), dtype=np.float32)[axis]
    line = np.moveaxis(np.asarray(jax.jit(halve)(ramp)), axis, 0)[1:-1, 1, 1]
    np.testing.assert_allclose(line, 2.0 * np.arange(1, len(line) + 1) + 0.5, rtol=1e-6)


def test_halving_is_resizing_to_half_inside():
    """Both smooth by the same triangle, so that images and displacements share their grids."""
    image = RANDOM.normal(size=(12, 10, 8)).astype(np.float32)
    inner = (slice(1, -1),) * 3
    resized = jax.jit(resize, static_argnums=1)(image, (6, 5, 4))
    np.testing.assert_allclose(jax.jit(halve)(image)[inner], resized[inner], atol=1e-5)


def test_constant_stays_constant():
    image = np.full((7, 1, 6), -1000.0, np.float32)  # an axis of one voxel as well
    np.testing.assert_array_equal(jax.jit(halve)(image), np.full((4, 1, 3), -1000.0))


def test_derivatives_equal_finite_differences():
    with jax.enable_x64(True):
        image = jnp.asarray(CHANNELS, jnp.float64)
        check_grads(jax.jit(halve), (image,), order=1, modes="rev", rtol=1e-6)


def test_vmap_equals_one_by_one():
    images = np.stack([IMAGE, IMAGE[::-1]])
    together = jax.jit(jax.vmap(halve))(images)
    for b in range(2):
        np.testing.assert_allclose(together[b], halve_by_loop(images[b]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(6, 4, 8), (2, 10, 4)])
def test_mean_2x2x2_is_the_mean_of_blocks_and_double_the_linear_resize(shape):
    image = RANDOM.normal(size=shape).astype(np.float32)
    x, y, z = shape
    blocks = image.reshape(x // 2, 2, y // 2, 2, z // 2, 2).mean(axis=(1, 3, 5))
    np.testing.assert_allclose(mean_2x2x2(image), blocks, atol=1e-6)
    field = RANDOM.normal(size=(3, *shape)).astype(np.float32)
    fine = tuple(2 * n for n in shape)
    for component, expected in zip(double(field), field, strict=True):
        np.testing.assert_allclose(component, resize(expected, fine), atol=1e-5)
