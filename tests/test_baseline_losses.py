"""VoxelMorph's terms: explicit loops, invariances, and that the others leave them alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_losses import FIXED, MM, SPACING_MM, WARPED, U, make_example

from jaxreg.config import LossConfig
from jaxreg.training import losses
from jaxreg.training.baseline_losses import LNCC_NOISE_HU, diffusion, lncc


def lncc_by_loop(warped, fixed, radius):
    values = []
    for x in np.ndindex(fixed.shape):
        cube = tuple(slice(max(i - radius, 0), i + radius + 1) for i in x)
        w, f = (image[cube].astype(np.float64).ravel() for image in (warped, fixed))
        covariance = np.mean((w - w.mean()) * (f - f.mean()))
        noise = LNCC_NOISE_HU**2
        values.append(covariance**2 / ((w.var() + noise) * (f.var() + noise)))
    return 1.0 - np.mean(values)


@pytest.mark.parametrize("radius", [1, 2])
def test_lncc_equals_loop(radius):
    expected = lncc_by_loop(WARPED, FIXED, radius)
    assert 0.3 < expected < 1.0
    np.testing.assert_allclose(lncc(WARPED, FIXED, radius=radius), expected, rtol=1e-4)


def test_lncc_sees_linear_relations_and_survives_flat_images():
    assert float(lncc(FIXED, FIXED)) < 0.05
    assert float(lncc(-0.5 * FIXED + 80.0, FIXED)) < 0.1
    flat = np.full_like(FIXED, -1000.0)
    value, gradient = jax.value_and_grad(lncc)(jnp.asarray(flat), jnp.asarray(flat))
    assert float(value) == 1.0 and np.isfinite(gradient).all()


def diffusion_by_loop(u):
    u_mm, total = u.astype(np.float64) * MM, 0.0
    for axis in range(3):
        step = np.eye(3, dtype=int)[axis]
        inner = np.array(u.shape[:3]) - step
        slopes = [
            (u_mm[tuple(np.array(x) + step)] - u_mm[x]) / SPACING_MM[axis]
            for x in np.ndindex(*inner)
        ]
        total += np.mean(np.sum(np.square(slopes), axis=-1))
    return total


def test_diffusion_equals_loop_and_is_zero_for_translations():
    np.testing.assert_allclose(diffusion(U, spacing_mm=SPACING_MM), diffusion_by_loop(U), rtol=1e-5)
    assert float(diffusion(np.ones_like(U), spacing_mm=SPACING_MM)) == 0.0


def test_terms_hold_them_only_with_a_weight():
    example, u = make_example(), jnp.asarray(0.1 * U)
    plain = losses.terms(u, example, config=LossConfig(), level=1)
    assert {"lncc", "diffusion"}.isdisjoint(plain)
    config = LossConfig(
        similarity=0.0, masks=0.0, smoothness=0.0, volume=0.0, lncc=2.0, diffusion=3.0
    )
    loss, values = losses.total(u, example, config=config, level=3)
    expected = 2.0 * values["lncc"] + 3.0 * values["diffusion"]
    assert config.keypoints[2] == 0.0
    np.testing.assert_allclose(loss, expected, rtol=1e-6)
