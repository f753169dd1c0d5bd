"""Grids of half and of twice the resolution, over the same extent and voxel-centred."""

import jax
import jax.numpy as jnp
from jaxtyping import Float

from jaxreg.ops.types import AnyArray


def _halve_axis(image, axis):
    """[1, 3, 3, 1] / 8 along one axis at every other voxel; edge values continue outside."""
    size = image.shape[axis]
    odd = size % 2
    pad = [(0, 0)] * image.ndim
    pad[axis] = (1, 1 + odd)
    padded = jnp.pad(image, pad, mode="edge")
    half = (size + odd) // 2

    def shifted(offset):
        index = [slice(None)] * image.ndim
        index[axis] = slice(offset, offset + 2 * half - 1, 2)
        return padded[tuple(index)]

    outer, inner = shifted(0) + shifted(3), shifted(1) + shifted(2)
    return 0.125 * outer + 0.375 * inner


def halve(image: Float[AnyArray, "X Y Z *C"]) -> Float[AnyArray, "x y z *C"]:
    """Image at half the resolution: binomial smoothing [1, 2, 1] / 4, then the 2x2x2 mean.

    Both together are the weights [1, 3, 3, 1] / 8 along each axis. New voxel i covers old voxels
    2i and 2i + 1, so its centre lies at 2i + 1/2. An odd axis is first continued by its edge value.

    Args:
        image: (X, Y, Z) or (X, Y, Z, C).

    Returns:
        Image, (ceil(X/2), ceil(Y/2), ceil(Z/2)) or with C.
    """
    image = jnp.asarray(image)
    for axis in range(3):
        image = _halve_axis(image, axis)
    return image


def mean_2x2x2(image: Float[AnyArray, "*C X Y Z"]) -> Float[AnyArray, "*C X//2 Y//2 Z//2"]:
    """Mean of each 2x2x2 voxels, without smoothing; the last three axes are halved.

    For sums over voxels, which stay the same but for the factor 8; images want `halve`.

    Args:
        image: (..., X, Y, Z) with even X, Y and Z.

    Returns:
        Means, (..., X/2, Y/2, Z/2).
    """
    image = image[..., 0::2, :, :] + image[..., 1::2, :, :]
    image = image[..., 0::2, :] + image[..., 1::2, :]
    return 0.125 * (image[..., 0::2] + image[..., 1::2])


def double(image: Float[AnyArray, "*C X Y Z"]) -> Float[AnyArray, "*C 2*X 2*Y 2*Z"]:
    """Image on voxels of half the size, linear; beyond the outermost centres the edge value holds.

    `resize` to twice the shape, by shifts of the array.

    Args:
        image: (..., X, Y, Z).

    Returns:
        (..., 2X, 2Y, 2Z); values are not scaled.
    """
    for axis in range(image.ndim - 1, image.ndim - 4, -1):
        size = image.shape[axis]
        first = jax.lax.slice_in_dim(image, 0, 1, axis=axis)
        last = jax.lax.slice_in_dim(image, size - 1, size, axis=axis)
        padded = jnp.concatenate([first, image, last], axis)
        near = 0.75 * image
        pair = [
            near + 0.25 * jax.lax.slice_in_dim(padded, start, start + size, axis=axis)
            for start in (0, 2)
        ]
        shape = [n * (2 if a == axis else 1) for a, n in enumerate(image.shape)]
        image = jnp.stack(pair, axis + 1).reshape(shape)
    return image
