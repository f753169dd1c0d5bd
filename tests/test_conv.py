"""The convolution against explicit loops, against the stock one, and under every transformation."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg.network.conv import conv3d

SIZES = [
    ((5, 7, 6), 3, 4),
    ((1, 1, 1), 2, 3),
    ((13, 5, 11), 16, 8),
    ((22, 50, 70), 2, 3),  # several tiles a step, the last step not full
]


def _case(key, shape, features, filters):
    x_key, w_key, y_key = jax.random.split(key, 3)
    x = jax.random.normal(x_key, (*shape, features))
    w = jax.random.normal(w_key, (3, 3, 3, features, filters)) / np.sqrt(27 * features)
    return x, w, jax.random.normal(y_key, (*shape, filters))


def _stock(x, w):
    numbers = ("NXYZC", "XYZIO", "NXYZC")
    return jax.lax.conv_general_dilated(
        x[None], w, (1, 1, 1), "SAME", dimension_numbers=numbers, precision="highest"
    )[0]


@functools.partial(jax.jit, static_argnums=0)
def _with_gradients(function, x, w, dy):
    y, transposed = jax.vjp(function, x, w)
    return y, *transposed(dy)


def _relative(got, expected):
    return np.linalg.norm(got - expected) / np.linalg.norm(expected)


def test_conv3d_is_the_explicit_sum(key):
    x, w, _ = _case(key, (5, 9, 14), 2, 3)
    padded = np.pad(np.asarray(x, np.float64), ((1, 1), (1, 1), (1, 1), (0, 0)))
    expected = np.zeros((5, 9, 14, 3))
    for place in np.ndindex(5, 9, 14):
        for shift in np.ndindex(3, 3, 3):
            expected[place] += padded[tuple(np.add(place, shift))] @ np.asarray(w, float)[shift]
    assert _relative(np.asarray(conv3d(x, w), np.float64), expected) < 1e-6
    np.testing.assert_allclose(conv3d(x, w), expected, atol=1e-5)


@pytest.mark.parametrize("shape, features, filters", SIZES)
def test_conv3d_and_its_gradients_equal_the_stock_ones(key, shape, features, filters):
    x, w, dy = _case(key, shape, features, filters)
    got = _with_gradients(conv3d, x, w, dy)
    expected = _with_gradients(_stock, x, w, dy)
    for one, other in zip(got, expected, strict=True):
        assert _relative(one, other) < 1e-5


def test_kernel_of_one_voxel(key):
    x, w, _ = _case(key, (3, 4, 5), 2, 3)
    expected = np.einsum("xyzc,cf->xyzf", x, w[1, 1, 1])
    np.testing.assert_allclose(conv3d(x, w[1:2, 1:2, 1:2]), expected, rtol=1e-5, atol=1e-6)


def test_other_kernel_sizes_are_refused(key):
    with pytest.raises(ValueError, match=r"w: expected a kernel of size 1 or 3, got \(2, 2, 2\)"):
        conv3d(jnp.zeros((4, 4, 4, 1)), jnp.zeros((2, 2, 2, 1, 1)))


def test_vmap_checkpoint_and_second_use(key):
    x, w, _ = _case(key, (9, 10, 7), 3, 3)
    batch = jnp.stack([x, 2.0 * x, x - 1.0])

    def loss(w, convolution):
        def twice(x):
            return jnp.tanh(convolution(jnp.tanh(convolution(x, w)), w))

        return jnp.sum(jax.vmap(jax.checkpoint(twice))(batch) ** 2)

    value, gradient = jax.jit(jax.value_and_grad(loss), static_argnums=1)(w, conv3d)
    expected, expected_gradient = jax.jit(jax.value_and_grad(loss), static_argnums=1)(w, _stock)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    assert _relative(gradient, expected_gradient) < 1e-5


def test_vmap_over_kernels(key):
    x, w, _ = _case(key, (6, 5, 7), 2, 3)
    kernels = jnp.stack([w, -w])
    both = jax.vmap(conv3d, in_axes=(None, 0))(x, kernels)
    np.testing.assert_allclose(both[1], -conv3d(x, w), atol=1e-5)


def test_bfloat16_rounds_operands_and_results_only(key):
    case = _case(key, (13, 5, 11), 16, 8)
    rough = _with_gradients(conv3d, *(a.astype(jnp.bfloat16) for a in case))
    exact = _with_gradients(conv3d, *case)
    for one, other in zip(rough, exact, strict=True):
        assert one.dtype == jnp.bfloat16
        assert _relative(one.astype(jnp.float32), other) < 6e-3


def test_result_is_bit_identical_from_run_to_run(key):
    x, w, dy = _case(key, (22, 50, 70), 8, 8)
    first = _with_gradients(conv3d, x, w, dy)
    for _ in range(3):
        again = _with_gradients(conv3d, x, w, dy)
        for one, other in zip(first, again, strict=True):
            assert np.array_equal(one, other)


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_accelerators_get_the_stock_convolution(platform):
    x, w = jnp.zeros((9, 10, 11, 4)), jnp.zeros((3, 3, 3, 4, 5))

    def step(x, w):
        y, transposed = jax.vjp(conv3d, x, w)
        return transposed(y)

    text = jax.export.export(jax.jit(step), platforms=(platform,))(x, w).mlir_module()
    assert text.count("stablehlo.convolution") == 3
    for absent in ("stablehlo.while", "stablehlo.custom_call", "stablehlo.scatter"):
        assert absent not in text
