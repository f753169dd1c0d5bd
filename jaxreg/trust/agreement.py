"""How well two registered images agree around each voxel, from what the registration has anyway."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float

from jaxreg.config import TrustConfig
from jaxreg.engine.gauss_newton import both_show
from jaxreg.ops.deformation import inside, warp
from jaxreg.ops.filters import box_mean, standardise
from jaxreg.ops.pyramid import mean_2x2x2
from jaxreg.ops.types import AnyArray, Image, Mask


class Agreement(NamedTuple):
    """Measures around each voxel of half of the lung grid, (X, Y, Z) each.

    Attributes:
        correlation: of both images, each standardised by its surroundings, -1 to 1.
        texture: fraction of the fixed image's local variance that is more than noise, 0 to 1.
        shown: fraction of the fixed lung in a voxel where both images show lung, 0 to 1; 0 outside.
    """

    correlation: Image
    texture: Image
    shown: Image


@functools.partial(jax.jit, static_argnames=("config", "rim"))
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
    return Agreement(correlation=local(f * w) / power, texture=local(f**2), shown=shown)
