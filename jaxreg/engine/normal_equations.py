"""The normal equations of a least squares step, on half of the grid of the images."""

import jax
import jax.numpy as jnp
from jaxtyping import Float

from jaxreg.ops.symmetric import outer
from jaxreg.ops.types import AnyArray, Image


def normal_equations(
    slopes: Float[AnyArray, "3 X Y Z"], residual: Image, weight: Image
) -> tuple[Float[AnyArray, "6 X//2 Y//2 Z//2"], Float[AnyArray, "3 X//2 Y//2 Z//2"]]:
    """A and b of a step v that minimises the mean of w (r - s . v)^2, for a v of half the grid.

    Args:
        slopes: s, along each axis, (3, X, Y, Z), all even.
        residual: r, (X, Y, Z).
        weight: w, (X, Y, Z).

    Returns:
        Means over each 2x2x2 voxels of w s s^T, as in `jaxreg.ops.symmetric`, (6, X/2, Y/2, Z/2),
        and of w s r, (3, X/2, Y/2, Z/2).
    """
    parts = [_octants(image) for image in (slopes, residual, weight)]
    parts = jax.lax.optimization_barrier(parts)  # or they are picked anew for each product
    a = sum(w[None] * outer(s) for s, _, w in zip(*parts, strict=True))
    b = sum((w * r)[None] * s for s, r, w in zip(*parts, strict=True))
    return 0.125 * jnp.asarray(a), 0.125 * jnp.asarray(b)


def _octants(image: Float[AnyArray, "*C X Y Z"]) -> list[Float[AnyArray, "*C X//2 Y//2 Z//2"]]:
    """The voxels of each of the eight places within 2x2x2 voxels."""
    starts = [(i, j, k) for i in (0, 1) for j in (0, 1) for k in (0, 1)]
    return [image[..., i::2, j::2, k::2] for i, j, k in starts]
