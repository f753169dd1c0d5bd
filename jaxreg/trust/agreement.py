"""How well two registered images agree around each voxel, from what the registration has anyway."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxreg.config import TrustConfig
from jaxreg.engine.gauss_newton import both_show
from jaxreg.ops.deformation import inside, warp
from jaxreg.ops.filters import box_mean, standardise
from jaxreg.ops.jacobian import jacobian_determinant
from jaxreg.ops.pyramid import mean_2x2x2
from jaxreg.ops.types import Displacement, Image, Mask


class Agreement(NamedTuple):
    """Measures around each voxel of half of the lung grid, (X, Y, Z) each.

    Attributes:
        correlation: of both images, each standardised by its surroundings, -1 to 1.
        texture: fraction of the fixed image's local variance that is more than noise, 0 to 1.
        shown: fraction of the fixed lung in a voxel where both images show lung, 0 to 1; 0 outside.
        log_volume: |log det| of the deformation beside the prealignment.
    """

    correlation: Image
    texture: Image
    shown: Image
    log_volume: Image


def agreement(
    fixed: Image,
    moving: Image,
    fixed_mask: Mask,
    moving_mask: Mask,
    u: Displacement,
    *,
    rim: int,
    config: TrustConfig,
) -> Agreement:
    """Agreement of two images under a displacement, on half of their grid to suppress noise.

    Args:
        fixed: HU, (X, Y, Z), all even.
        moving: HU, on the same grid.
        fixed_mask: lungs, nonzero inside.
        moving_mask: the same of the moving image.
        u: displacement in voxels, (X, Y, Z, 3).
        rim: radius of the window in which lungs are compared, voxels (`both_show`).
        config: settings.

    Returns:
        The measures.
    """
    fine = _in_voxels(fixed, moving, fixed_mask, moving_mask, u, rim=rim, config=config)
    return _in_windows(*fine, config=config)


# Two programs: as one, XLA samples anew for each of the eight voxels of a mean.
@functools.partial(jax.jit, static_argnames=("config", "rim"))
def _in_voxels(fixed, moving, fixed_mask, moving_mask, u, *, rim, config):
    """What both images show, lungs, volume change and both images, on the grid of the images."""
    mask = (jnp.asarray(fixed_mask) > 0).astype(jnp.float32)
    warped_mask = warp((jnp.asarray(moving_mask) > 0).astype(jnp.float32), u)
    shown = mask * both_show(mask, warped_mask, radius=rim) * inside(u, moving.shape)
    images = [jnp.clip(image, *config.window_hu) for image in (fixed, warp(moving, u))]
    change = jnp.abs(jnp.log(jnp.maximum(jacobian_determinant(u), 1e-3)))
    return shown, mask, change, *images


@functools.partial(jax.jit, static_argnames="config")
def _in_windows(shown, mask, change, fixed, warped, *, config) -> Agreement:
    """The measures around each voxel of half of the grid."""
    shown, mask, change, *images = map(mean_2x2x2, (shown, mask, change, fixed, warped))
    shown = shown / jnp.maximum(mask, 1e-6)  # of the lung in a voxel, not of the voxel
    f, w = (standardise(i, radius=config.radius, noise=config.noise_hu) for i in images)
    weight = mask * shown + 1e-6

    def local(product):
        return box_mean(product * weight, radius=config.radius) / box_mean(
            weight, radius=config.radius
        )

    power = jnp.sqrt(local(f**2) * local(w**2)) + 1e-3
    return Agreement(
        correlation=local(f * w) / power,
        texture=local(f**2),
        shown=shown,
        log_volume=change,
    )
