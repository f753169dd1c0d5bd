"""Local correlation against the definition of LNCC, and its steps on shifted images."""

import jax.numpy as jnp
import numpy as np
from scipy import ndimage

from jaxreg.engine.lncc import linearised_lncc
from jaxreg.ops.filters import standardise

SPACING = np.array([1.0, 1.5, 2.5], np.float32)


def window(image, voxel, radius):
    return image[tuple(slice(max(0, i - radius), i + radius + 1) for i in voxel)]


def linearised(fixed, warped, *, radius=2):
    spacing = jnp.asarray(SPACING)
    standard, moved = (
        standardise(jnp.asarray(image), radius=radius, noise=40.0) for image in (fixed, warped)
    )
    return linearised_lncc(standard, moved, radius=radius, gain_floor=1e-3, spacing_mm=spacing)


def smooth_image(shift=0.0):
    """A smooth texture, displaced by `shift` voxels along y, of contrast far above noise."""
    x, y, z = np.indices((20, 22, 18))
    texture = np.sin(0.7 * x) + np.cos(0.5 * (y + shift) + 0.3 * x) + np.sin(0.6 * z)
    return (2000.0 * texture).astype(np.float32)


def test_residual_is_zero_for_images_that_differ_by_brightness_and_contrast():
    image = smooth_image()
    residual = linearised(image, 0.6 * image - 300).residual
    assert np.sqrt(np.mean(np.square(residual))) < 0.01


def test_mean_square_residual_is_close_to_one_minus_lncc_squared():
    """The standardisation voxel by voxel stands for that of each window (module docstring).

    It makes the residual smaller, by about a quarter: 0.767 to 0.777 with other images. A wrong
    gain or a lost factor would be outside of 0.7 to 0.8.
    """
    random = np.random.default_rng(1)
    fixed, other = (ndimage.gaussian_filter(random.normal(size=(24, 22, 20)), 1) for _ in range(2))
    fixed, warped = (1e4 * image.astype(np.float32) for image in (fixed, fixed + 0.5 * other))
    lncc = []
    for voxel in np.ndindex(fixed.shape):
        f, w = (window(i.astype(np.float64), voxel, 2).ravel() for i in (fixed, warped))
        lncc.append(1 - np.corrcoef(f, w)[0, 1] ** 2)
    mean = float(np.mean(np.square(linearised(fixed, warped).residual)))
    assert 0.7 < mean / np.mean(lncc) < 0.8


def test_step_goes_most_of_the_way_of_a_small_shift_and_not_beyond():
    """One vector for the whole image; it falls short since the gain takes a part."""
    residual, slopes = linearised(smooth_image(), smooth_image(shift=-0.2))
    inner = (slice(None), slice(4, -4), slice(4, -4), slice(4, -4))
    j = np.asarray(slopes)[inner].reshape(3, -1)
    r = np.asarray(residual)[inner[1:]].ravel()
    x, y, z = np.linalg.solve(j @ j.T, j @ r) / SPACING
    assert 0.1 < y < 0.2
    assert abs(x) < 0.02 and abs(z) < 0.02
