"""Local means, local standardisation and gradients of images.

Images are (X, Y, Z); use `jax.vmap` for channels. Each function states what it assumes outside.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxreg.ops.types import AnyArray, Image, Number, Spacing


def box_mean(image: Image, *, radius: int) -> Image:
    """Mean over the window of 2 radius + 1 voxels a side, cut off at the border of the image.

    The cost grows little with the radius: one pass along each axis.

    Args:
        image: (X, Y, Z).
        radius: voxels, at least 0.

    Returns:
        Means, (X, Y, Z).
    """
    for axis, size in enumerate(image.shape):
        window = [1, 1, 1]
        window[axis] = 2 * radius + 1
        index = np.arange(size)
        count = 1 + np.minimum(index, radius) + np.minimum(index[::-1], radius)
        count = np.expand_dims(count.astype(np.float32), [a for a in range(3) if a != axis])
        image = jax.lax.reduce_window(image, 0.0, jax.lax.add, window, (1, 1, 1), "SAME") / count
    return image


def binomial(image: Float[AnyArray, "X Y Z *C"]) -> Float[AnyArray, "X Y Z *C"]:
    """Image smoothed by [1, 2, 1] / 4 along each axis; edge values continue outside.

    It halves the noise and keeps the vessels.

    Args:
        image: (X, Y, Z) or (X, Y, Z, C).

    Returns:
        Image of the same shape.
    """
    for axis in range(3):
        size = image.shape[axis]
        pad = [(int(a == axis),) * 2 for a in range(image.ndim)]
        padded = jnp.pad(image, pad, mode="edge")
        far = [jax.lax.slice_in_dim(padded, start, start + size, axis=axis) for start in (0, 2)]
        image = 0.5 * image + 0.25 * (far[0] + far[1])
    return image


def standardise(image: Image, *, radius: int, noise: Number) -> Image:
    """Image less its local mean, over its local standard deviation and that of noise.

    (I - m) / sqrt(s^2 + noise^2), with mean m and standard deviation s of the window around each
    voxel (`box_mean`): 0 where the image is flat.

    Args:
        image: HU, (X, Y, Z).
        radius: of the window, voxels.
        noise: standard deviation of noise, HU; less contrast counts as none.

    Returns:
        No unit, (X, Y, Z).
    """
    return standardise_by(functools.partial(box_mean, radius=radius), image, noise=noise)


def standardise_by(mean: Callable[[Image], Image], image: Image, *, noise: Number) -> Image:
    """`standardise` with another local mean.

    Args:
        mean: local mean of an image, on the same grid.
        image: HU, (X, Y, Z).
        noise: standard deviation of noise, HU.

    Returns:
        No unit, (X, Y, Z).
    """
    middle = mean(image)
    variance = jnp.maximum(mean(image**2) - middle**2, 0.0)
    return (image - middle) / jnp.sqrt(variance + noise**2)


def image_gradient(
    image: Image, *, spacing: Spacing = (1.0, 1.0, 1.0)
) -> Float[AnyArray, "3 X Y Z"]:
    """Central differences, one-sided at the border.

    Args:
        image: (X, Y, Z), at least two voxels along each axis.
        spacing: voxel size, (3,); per voxel as it is, per millimetre with millimetres.

    Returns:
        Slopes along each axis, (3, X, Y, Z).
    """
    slopes = jnp.stack([jnp.asarray(jnp.gradient(image, axis=axis)) for axis in range(3)])
    return slopes / jnp.asarray(spacing, slopes.dtype)[:, None, None, None]
