"""Local least-squares flow: what a few voxels around each voxel say about the displacement.

Both images are made comparable (local mean 0, local deviation 1 in the window of the lungs), and
in a small neighbourhood the displacement is found that explains their difference to first order
(Lucas and Kanade 1981; Baker and Matthews 2004, Int J Comput Vis 56(3), section 3). It has nothing
to be trained, is right for motion well below the size of the neighbourhood, and is small where the
images are flat. A network of the cascade starts from it.
"""

import jax.numpy as jnp

from jaxreg.ops.filters import binomial, image_gradient, standardise_by
from jaxreg.ops.interpolation import resize
from jaxreg.ops.pyramid import halve
from jaxreg.ops.symmetric import IDENTITY, outer, solve
from jaxreg.ops.types import Displacement, Image

NOISE_HU = 50.0  # local deviations well below it count as flat
DAMPING = 0.02  # added to the squared slopes, per squared voxel
SMOOTHING = 1  # binomial passes at half the resolution: a neighbourhood of 1.7 voxels' deviation


def local_flow(fixed: Image, warped: Image, *, window: tuple[float, float]) -> Displacement:
    """Displacement that explains the difference of two images to first order, voxel by voxel.

    It minimises, over the neighbourhood N of each voxel, sum of (W + grad . u - F)^2 +
    damping |u|^2, with F and W the normalised images and grad the mean of their gradients.

    Args:
        fixed: HU, (X, Y, Z).
        warped: moving image warped by the field found so far, same grid.
        window: HU outside of it are clipped, lowest and highest.

    Returns:
        Displacement in voxels, (X, Y, Z, 3).
    """
    f, w = normalised(fixed, window=window), normalised(warped, window=window)
    slopes = image_gradient(0.5 * (f + w))
    products = jnp.concatenate([outer(slopes), slopes * (f - w)[None]])
    products = jnp.moveaxis(_mean(jnp.moveaxis(products, 0, -1)), -1, 0)
    u = solve(products[:6] + DAMPING * IDENTITY, products[6:])
    return resize(jnp.moveaxis(u, 0, -1), fixed.shape)


def normalised(image: Image, *, window: tuple[float, float]) -> Image:
    """(image - local mean) / sqrt(local variance + noise^2), of the image clipped to the window.

    Args:
        image: HU, (X, Y, Z).
        window: lowest and highest HU.

    Returns:
        Image without unit, about -2 to 2, (X, Y, Z).
    """
    image = jnp.clip(image, *window)
    return standardise_by(lambda values: resize(_mean(values), image.shape), image, noise=NOISE_HU)


def _mean(values):
    """Means over neighbourhoods, at half the resolution."""
    values = halve(values)
    for _ in range(SMOOTHING):
        values = binomial(values)
    return values
