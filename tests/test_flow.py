"""Local flow: shifts are found, and nothing moves where nothing is to be seen."""

import jax
import numpy as np
import pytest
import scipy.ndimage

from jaxreg.network import flow
from jaxreg.ops.deformation import warp

SHAPE = (26, 20, 24)
WINDOW = (-1000.0, 0.0)
_local_flow = jax.jit(flow.local_flow, static_argnames="window")


def texture(seed, shape=SHAPE):
    noise = scipy.ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 1.5)
    return (-600.0 + 150.0 * noise / noise.std()).astype(np.float32)


@pytest.mark.parametrize("shift", [(0.5, 0.0, 0.0), (0.2, -0.4, 0.3)])
def test_a_shift_is_found_to_a_fraction_of_a_voxel(shift):
    moving = texture(0)
    u = np.broadcast_to(np.array(shift, np.float32), (*SHAPE, 3))
    fixed = jax.jit(warp)(moving, u)
    found = np.zeros((*SHAPE, 3), np.float32)
    for _ in range(2):  # as in the cascade; the images agree after it
        found = found + _local_flow(fixed, jax.jit(warp)(moving, found), window=WINDOW)
    inner = np.asarray(found)[5:-5, 5:-5, 5:-5]
    np.testing.assert_allclose(inner.mean((0, 1, 2)), shift, atol=0.03)
    assert np.abs(inner - np.array(shift)).max() < 0.15


def test_nothing_moves_between_equal_or_flat_images():
    image, flat = texture(1), np.full(SHAPE, -700.0, np.float32)
    for pair in ((image, image), (flat, flat), (flat, flat + 50.0)):
        np.testing.assert_allclose(_local_flow(*pair, window=WINDOW), 0.0, atol=1e-6)


def test_contrast_and_offset_do_not_matter_much():
    fixed, moving = texture(2), np.roll(texture(2), 1, axis=0)
    u = _local_flow(fixed, moving, window=WINDOW)
    other = _local_flow(fixed, 1.1 * moving + 40.0, window=WINDOW)
    inner = (slice(5, -5),) * 3
    assert np.abs(np.asarray(u - other)[inner]).mean() < 0.1 * np.abs(np.asarray(u)[inner]).mean()
