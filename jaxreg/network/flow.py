"""Local least-squares flow: what a few voxels around each voxel say about the displacement.

Both images are made comparable (local mean 0, local deviation 1 in the window of the lungs), and
in a small neighbourhood the displacement is found that explains their difference to first order
(Lucas and Kanade 1981; Baker and Matthews 2004, Int J Comput Vis 56(3), section 3). It has nothing
to be trained, is right for motion well below the size of the neighbourhood, and is small where the
images are flat. A network of the cascade starts from it.
"""

import jax.numpy as jnp
from jaxtyping import Float

from jaxreg.ops.interpolation import resize
from jaxreg.ops.pyramid import binomial, halve
from jaxreg.ops.types import AnyArray, Displacement, Image

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
    x, y, z = jnp.gradient(0.5 * (f + w))
    d = f - w
    products = (x * x, x * y, x * z, y * y, y * z, z * z, x * d, y * d, z * d)
    products = jnp.moveaxis(_mean(jnp.stack(products, axis=-1)), -1, 0)
    u = _solve(products[:6], products[6:])
    return resize(u, fixed.shape)


def normalised(image: Image, *, window: tuple[float, float]) -> Image:
    """(image - local mean) / sqrt(local variance + noise^2), of the image clipped to the window.

    Args:
        image: HU, (X, Y, Z).
        window: lowest and highest HU.

    Returns:
        Image without unit, about -2 to 2, (X, Y, Z).
    """
    image = jnp.clip(image, *window)
    moments = resize(_mean(jnp.stack([image, image**2], axis=-1)), image.shape)
    mean = moments[..., 0]
    variance = jnp.maximum(moments[..., 1] - mean**2, 0.0)
    return (image - mean) / jnp.sqrt(variance + NOISE_HU**2)


def _mean(values):
    """Means over neighbourhoods, (X, Y, Z, C), at half the resolution."""
    values = halve(values)
    for _ in range(SMOOTHING):
        values = binomial(values)
    return values


def _solve(matrix: Float[AnyArray, "6 x y z"], right: Float[AnyArray, "3 x y z"]):
    """(A + damping) u = right by Cramer's rule, A symmetric, (x, y, z, 3)."""
    xx, xy, xz, yy, yz, zz = matrix
    xx, yy, zz = xx + DAMPING, yy + DAMPING, zz + DAMPING
    a, b, c = yy * zz - yz * yz, xz * yz - xy * zz, xy * yz - xz * yy
    d, e, f = xx * zz - xz * xz, xy * xz - xx * yz, xx * yy - xy * xy
    determinant = xx * a + xy * b + xz * c
    rows = ((a, b, c), (b, d, e), (c, e, f))
    u = [sum(m * r for m, r in zip(row, right, strict=True)) for row in rows]
    return jnp.stack(u, axis=-1) / determinant[..., None]
