"""How well two registered images agree around each voxel, from what the registration has anyway."""

import functools
from typing import NamedTuple

import jax.numpy as jnp
from jax import export
from jaxtyping import Float

from jaxreg.config import TrustConfig
from jaxreg.engine.gauss_newton import both_show
from jaxreg.ops.deformation import inside, warp
from jaxreg.ops.filters import box_mean, image_gradient, standardise
from jaxreg.ops.programs import Kept
from jaxreg.ops.pyramid import mean_2x2x2
from jaxreg.ops.symmetric import IDENTITY, inverse, outer
from jaxreg.ops.types import AnyArray, Image, Mask

_LEAST = 0.01  # square of a difference, and of a slope per voxel, of standardised images: noise


class Agreement(NamedTuple):
    """Measures around each voxel of half of the lung grid, (X, Y, Z) each.

    Attributes:
        correlation: of both images, each standardised by its surroundings, -1 to 1.
        texture: fraction of the fixed image's local variance that is more than noise, 0 to 1.
        shown: fraction of the fixed lung in a voxel where both images show lung, 0 to 1; 0 outside.
        uncertainty: standard error of a displacement that least squares fit to the surroundings,
            up to a factor, voxels.
    """

    correlation: Image
    texture: Image
    shown: Image
    uncertainty: Image


export.register_namedtuple_serialization(Agreement, serialized_name="jaxreg.Agreement")


@functools.partial(Kept, static=("config", "rim"))
def agreement(
    fixed: Image,
    warped: Image,
    fixed_mask: Mask,
    moving_mask: Mask,
    u: Float[AnyArray, "x y z 3"],
    *,
    rim: int,
    config: TrustConfig,
) -> Agreement:
    """Agreement of two registered images, on half of their grid to suppress noise.

    With f and w both images, each standardised, the uncertainty is sqrt(r trace(S^-1)), r the mean
    of (f - w)^2 around a voxel and S that of grad f grad f^T, each with 0.01 added: what is left
    of the difference could as well be a displacement of that length, in the direction in which the
    image says least.

    Args:
        fixed: HU, (X, Y, Z), all even.
        warped: HU of the moving image after the registration, on the same grid.
        fixed_mask: lungs, nonzero inside.
        moving_mask: the same of the moving image, before the registration.
        u: displacement on half of the grid, voxels of that, (X/2, Y/2, Z/2, 3).
        rim: radius of the window in which lungs are compared, voxels of half of the grid
            (`both_show`).
        config: settings.

    Returns:
        The measures.
    """
    images = [mean_2x2x2(jnp.clip(image, *config.window_hu)) for image in (fixed, warped)]
    mask, moving_lungs = (
        mean_2x2x2((jnp.asarray(m) > 0).astype(jnp.float32)) for m in (fixed_mask, moving_mask)
    )
    both = both_show(mask, warp(moving_lungs, u), radius=rim) * inside(u, mask.shape)
    shown = jnp.where(mask > 0, both, 0.0)
    f, w = (standardise(i, radius=config.radius, noise=config.noise_hu) for i in images)
    weight = mask * shown + 1e-6

    def local(product):
        return box_mean(product * weight, radius=config.radius) / box_mean(
            weight, radius=config.radius
        )

    power = jnp.sqrt(local(f**2) * local(w**2)) + 1e-3
    residual = box_mean((f - w) ** 2, radius=config.radius)
    slopes = jnp.stack(
        [box_mean(product, radius=config.radius) for product in outer(image_gradient(f))]
    )
    inverse_slopes = inverse(slopes + _LEAST * IDENTITY)
    trace = inverse_slopes[0] + inverse_slopes[3] + inverse_slopes[5]
    return Agreement(
        correlation=local(f * w) / power,
        texture=local(f**2),
        shown=shown,
        uncertainty=jnp.sqrt((residual + _LEAST) * trace),
    )
