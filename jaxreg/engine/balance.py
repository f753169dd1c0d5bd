"""The weight of curvature that suits a pair.

Of normally distributed noise and curvature the likeliest weight is the ratio of their variances.
Both are known roughly: the noise by what remains of the comparison, the curvature by the field
found so far. So the factor is the square root of that ratio, which lies between the same weight for
all pairs and the estimated one.
"""

import jax.numpy as jnp

from jaxreg.engine.multigrid import laplacian
from jaxreg.ops.millimetres import Field, Vector
from jaxreg.ops.pyramid import mean_2x2x2
from jaxreg.ops.types import Image, Scalar


def bending(u: Field, lungs: Image, spacing_mm: Vector) -> Scalar:
    """h^2 mean |Laplace u|^2 in the lungs, without unit, of u reduced to voxels of 2 h.

    Waves of two voxels, which are noise more than motion, take no part.

    Args:
        u: field, mm, (3, X, Y, Z).
        lungs: weights of its voxels, whose sum is 1, (X, Y, Z).
        spacing_mm: of the field, (3,).

    Returns:
        The mean, ().
    """
    odd = [(0, n % 2) for n in lungs.shape]  # continued, to be halved
    u, lungs = jnp.pad(u, [(0, 0), *odd], mode="edge"), jnp.pad(lungs, odd)
    square = jnp.sum(laplacian(mean_2x2x2(u), spacing_mm=2 * spacing_mm) ** 2, axis=0)
    return jnp.prod(spacing_mm) ** (2 / 3) * jnp.sum(square * mean_2x2x2(8.0 * lungs))


def balance(remainder: Scalar, bent: Scalar, *, at: float, most: float) -> Scalar:
    """Factor of the weight of curvature; 1 where the field is still straight, or `at` is 0.

    Args:
        remainder: mean squared residual in the lungs.
        bent: `bending` of the field found so far.
        at: ratio of the two at which the factor is 1.
        most: largest factor; the least is 1 / most.

    Returns:
        The factor, ().
    """
    ratio = remainder / jnp.maximum(at * bent, 1e-12)
    factor = jnp.clip(jnp.sqrt(ratio), 1.0 / most, most)
    return jnp.where((at > 0) & (bent > 0), factor, 1.0)
