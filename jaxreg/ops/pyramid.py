"""Grids of half the resolution, over the same extent and voxel-centred."""

import jax
import jax.numpy as jnp
from jaxtyping import Float

from jaxreg.ops.types import AnyArray, Image


def _halve_axis(image, axis):
    """[1, 3, 3, 1] / 8 along one axis at every other place; edge values continue outside."""
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


def pyramid(image: Image, *, levels: int) -> list[Float[AnyArray, "_ _ _"]]:
    """The image at resolutions 1, 1/2, ..., 1/2^(levels-1), finest first.

    Args:
        image: (X, Y, Z).
        levels: number of resolutions, at least 1.

    Returns:
        List of images; element l-1 is level l of the cascade.
    """
    images: list[AnyArray] = [jnp.asarray(image)]
    for _ in range(levels - 1):
        images.append(halve(images[-1]))
    return images
