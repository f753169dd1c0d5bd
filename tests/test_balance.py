"""The weight of curvature that follows a pair, against closed forms."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxreg.engine.balance import balance, bending


def test_bending_is_that_of_a_parabola_in_the_lungs():
    spacing = np.array([2.0, 3.0, 2.5], np.float32)
    index = np.indices((8, 6, 10), np.float32)
    x = index[0] * spacing[0]
    u = np.stack([0.01 * x**2, 0.03 * x**2, np.zeros_like(x)])
    weight = np.zeros((8, 6, 10), np.float32)
    weight[2:-2, 2:-2, 2:-2] = 1.0
    found = bending(u, weight / weight.sum(), spacing)
    assert found == pytest.approx(15.0 ** (2 / 3) * (0.02**2 + 0.06**2), rel=1e-3)
    shortest = (-1.0) ** index.sum(axis=0)  # waves of two voxels are noise more than motion
    with_noise = bending(u + shortest, weight / weight.sum(), spacing)
    assert with_noise == pytest.approx(float(found), rel=1e-3)


def test_a_linear_field_on_an_odd_grid_does_not_bend():
    index = np.indices((9, 9, 11), np.float32)
    weight = np.zeros((9, 9, 11), np.float32)
    weight[2:4, 2:4, 2:4] = 1 / 8
    u = np.stack([0.1 * index[0], 0.2 * index[2], -0.1 * index[1]])
    assert bending(u, weight, np.ones(3, np.float32)) < 1e-10
    assert bending(u + 0.1 * index[:1] ** 2, weight, np.ones(3, np.float32)) > 0.01


@pytest.mark.parametrize(
    ("remainder", "bent", "factor"),
    [
        (0.1, 0.001, 1.0),  # at the ratio of the settings
        (0.4, 0.001, 2.0),  # four times the noise
        (0.1, 0.004, 0.5),  # four times the curvature
        (9.0, 0.001, 3.0),
        (0.0, 0.001, 1 / 3),
        (0.1, 0.0, 1.0),  # nothing is known of the curvature yet
        (0.0, 0.0, 1.0),
    ],
)
def test_weight_follows_the_pair_within_bounds(remainder, bent, factor):
    found = balance(jnp.float32(remainder), jnp.float32(bent), at=100.0, most=3.0)
    assert found == pytest.approx(factor, rel=1e-5)


def test_weight_is_the_same_for_all_pairs_at_zero():
    assert balance(jnp.float32(9.0), jnp.float32(0.001), at=0.0, most=3.0) == 1.0
