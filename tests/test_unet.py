"""The U-Net: size, layers against explicit ones, flat images, gradients."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg.network.unet import UNet, _pool, _Up, instance_norm

SMALL = UNet(widths=(2, 3), convs=1)


@pytest.fixture(scope="module")
def variables():
    return jax.jit(SMALL.init)(jax.random.key(1), jnp.zeros((2, 2, 2, 2)))


apply = jax.jit(SMALL.apply)


def test_paper_network_has_the_expected_number_of_weights(key):
    shapes = jax.eval_shape(UNet().init, key, jnp.zeros((8, 8, 8, 2)))
    # 3x3x3 kernels down and up, with scale and offset; 2x2x2 transposed ones; the head.
    kernels = [(2, 16), (16, 16), (16, 32), (32, 32), (32, 64), (64, 64), (64, 128), (128, 128)]
    kernels += [(128, 64), (64, 64), (64, 32), (32, 32), (32, 16), (16, 16)]
    expected = sum(27 * c * f + 2 * f for c, f in kernels)
    expected += sum(8 * c * f for c, f in [(128, 64), (64, 32), (32, 16)]) + 16 * 3 + 3
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == expected


@pytest.mark.parametrize("shape", [(8, 4, 12), (7, 5, 9), (1, 1, 1)])
def test_any_size_gives_a_displacement_that_is_nearly_zero(key, variables, shape):
    images = 500.0 * jax.random.normal(key, (*shape, 2)) - 500.0
    u = apply(variables, images)
    assert u.shape == (*shape, 3) and u.dtype == jnp.float32
    assert float(jnp.abs(u).max()) < 0.1


def test_odd_sizes_are_continued_by_the_edge(key, variables):
    images = 500.0 * jax.random.normal(key, (7, 5, 9, 2)) - 500.0
    whole = jnp.pad(images, ((0, 1), (0, 1), (0, 1), (0, 0)), mode="edge")
    got = apply(variables, images)
    np.testing.assert_array_equal(got, apply(variables, whole)[:7, :5, :9])


def test_flat_images_give_finite_values_and_gradients(variables):
    def size(variables, images):
        return jnp.sum(SMALL.apply(variables, images) ** 2)

    gradients = jax.jit(jax.grad(size, (0, 1)))(variables, jnp.full((8, 4, 8, 2), -700.0))
    assert all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(gradients))


def test_instance_norm_by_hand(key):
    x = 3.0 * jax.random.normal(key, (4, 3, 5, 2)) + 7.0
    scale, offset = jnp.array([2.0, 0.5]), jnp.array([-1.0, 4.0])
    expected = np.asarray(x, np.float64)
    deviation = np.sqrt(expected.var((0, 1, 2)) + 1e-5)
    expected = (expected - expected.mean((0, 1, 2))) / deviation * [2.0, 0.5] + [-1.0, 4.0]
    np.testing.assert_allclose(instance_norm(x, scale, offset), expected, rtol=1e-4, atol=1e-4)
    flat = instance_norm(jnp.full((4, 3, 5, 2), 1.5), scale, offset)
    np.testing.assert_allclose(flat, np.broadcast_to([-1.0, 4.0], flat.shape), atol=1e-3)


def test_pooling_by_hand(key):
    x = jax.random.normal(key, (4, 2, 6, 3))
    expected = np.zeros((2, 1, 3, 3))
    for i, j, k in np.ndindex(2, 1, 3):
        cell = x[2 * i : 2 * i + 2, 2 * j : 2 * j + 2, 2 * k : 2 * k + 2]
        expected[i, j, k] = np.mean(cell, axis=(0, 1, 2))
    np.testing.assert_allclose(_pool(x), expected, atol=1e-6)


def test_up_is_a_transposed_convolution(key):
    x = jax.random.normal(key, (3, 2, 4, 5))
    up = _Up(6, "float32")
    variables = up.init(key, x)
    reference = nn.ConvTranspose(
        6, (2, 2, 2), strides=(2, 2, 2), use_bias=False, transpose_kernel=False
    )
    # flax correlates the dilated input with the kernel, which turns it round
    kernel = jnp.flip(variables["params"]["kernel"], (0, 1, 2))
    expected = reference.apply({"params": {"kernel": kernel}}, x[None])[0]
    np.testing.assert_allclose(up.apply(variables, x), expected, atol=1e-5)


def test_bfloat16_is_near_float32(key, variables):
    images = 300.0 * jax.random.normal(key, (8, 8, 12, 2)) - 600.0
    exact = apply(variables, images)
    rough = jax.jit(SMALL.clone(precision="bfloat16").apply)(variables, images)
    assert rough.dtype == jnp.float32
    error = jnp.linalg.norm(rough - exact) / jnp.linalg.norm(exact)
    assert 0.0 < float(error) < 0.05


def test_memory_is_that_of_a_few_feature_maps(key):
    shape = (48, 40, 48)
    network = UNet()
    variables = jax.eval_shape(network.init, key, jnp.zeros((8, 8, 8, 2)))
    images = jax.ShapeDtypeStruct((*shape, 2), jnp.float32)
    memory = jax.jit(network.apply).lower(variables, images).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 6 * 4 * np.prod(shape) * network.widths[0]


def test_gradient_against_finite_differences(key, variables):
    images = 300.0 * jax.random.normal(key, (4, 8, 4, 2)) - 600.0

    @jax.jit
    def loss(variables):
        return jnp.sum(jnp.sin(30.0 * SMALL.apply(variables, images)))

    gradient = jax.jit(jax.grad(loss))(variables)
    direction = jax.tree.map(lambda g: g / jnp.linalg.norm(g.ravel()), gradient)
    step = 1e-3
    plus, minus = (
        loss(jax.tree.map(lambda p, d, s=s: p + s * d, variables, direction)) for s in (step, -step)
    )
    slope = sum(
        jnp.sum(g * d)
        for g, d in zip(jax.tree.leaves(gradient), jax.tree.leaves(direction), strict=True)
    )
    np.testing.assert_allclose((plus - minus) / (2 * step), slope, rtol=2e-2)
