"""Measures of agreement against explicit loops."""

import numpy as np
import pytest

from jaxreg.config import TrustConfig
from jaxreg.trust.agreement import Agreement, agreement
from jaxreg.trust.quality import model_inputs

SHAPE = (20, 16, 24)  # of the images; measures have half of it
CONFIG = TrustConfig()


def halved(image):
    x, y, z = image.shape
    return image.reshape(x // 2, 2, y // 2, 2, z // 2, 2).mean((1, 3, 5))


def windows(image):
    """The values of the window around each voxel, cut off at the border."""
    for place in np.ndindex(image.shape):
        yield place, tuple(slice(max(0, p - CONFIG.radius), p + CONFIG.radius + 1) for p in place)


def standardised(image):
    found = np.empty(image.shape)
    for place, window in windows(image):
        part = image[window]
        found[place] = (image[place] - part.mean()) / np.sqrt(part.var() + CONFIG.noise_hu**2)
    return found


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(5)
    fixed = rng.normal(-700.0, 150.0, SHAPE)
    return fixed, fixed + rng.normal(0.0, 60.0, SHAPE)


def measured(fixed, warped):
    mask = np.zeros(SHAPE)
    mask[2:-2, 2:-2, 4:-4] = 1
    u = np.zeros((*halved(fixed).shape, 3), np.float32)
    arrays = (a.astype(np.float32) for a in (fixed, warped, mask, mask))
    return Agreement(*map(np.asarray, agreement(*arrays, u, rim=2, config=CONFIG)))


def test_uncertainty_is_that_of_least_squares_in_the_window(images):
    found = measured(*images).uncertainty
    f, w = (standardised(halved(np.clip(image, *CONFIG.window_hu))) for image in images)
    slopes = np.stack(np.gradient(f), axis=-1)
    for place, window in windows(f):
        in_window = slopes[window].reshape(-1, 3)
        s = in_window.T @ in_window / len(in_window) + 0.01 * np.eye(3)
        residual = np.mean((f - w)[window] ** 2) + 0.01
        expected = np.sqrt(residual * np.trace(np.linalg.inv(s)))
        assert found[place] == pytest.approx(expected, rel=1e-3), place


def test_uncertainty_grows_with_the_difference_and_where_nothing_is_to_be_seen(images):
    fixed, warped = images
    same, different = measured(fixed, fixed).uncertainty, measured(fixed, warped).uncertainty
    assert (different > same).all()
    flat = measured(np.full(SHAPE, -800.0), np.full(SHAPE, -800.0)).uncertainty
    np.testing.assert_allclose(flat, np.sqrt(3.0), rtol=1e-4)
    assert (flat > same).all()


def test_inputs_of_the_quality_at_points_are_those_at_voxels(images):
    found = measured(*images)
    volume = np.full(found.shown.shape, 0.1)
    maps = model_inputs(found, volume, 0.8)
    at = (slice(3, 6), 4, 5)
    points = model_inputs(Agreement(*(m[at] for m in found)), volume[at], np.full(3, 0.8))
    for a, b in zip(maps, points, strict=True):
        np.testing.assert_allclose(a[at], b, rtol=1e-6)
    np.testing.assert_allclose(maps[0], 0.8 * found.shown)
    np.testing.assert_allclose(np.exp(maps[2]), found.uncertainty, rtol=1e-6)
