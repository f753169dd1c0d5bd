"""The stages that deform: functions (pair, u) -> u on the grid of an aligned pair.

u is the displacement in voxels of that grid, (X, Y, Z, 3), None before the first stage.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg.config import NetworkConfig, OptimiserConfig
from jaxreg.engine.gauss_newton import continue_outside, prepare, refine
from jaxreg.ops.deformation import resize_displacement
from jaxreg.ops.interpolation import resize
from jaxreg.ops.types import Displacement, Image, Mask, Shape, Spacing
from jaxreg.pipeline.align import AlignedPair


def network_displacement(
    params: Mapping[str, Any],
    fixed: Image,
    moving: Image,
    config: NetworkConfig,
    *,
    mask: Mask | None = None,
    spacing_mm: Spacing = (1.0, 1.0, 1.0),
) -> Displacement:
    """Displacement by the networks on the grid of the images, by way of the network grid.

    Args:
        params: of the networks.
        fixed: HU, (X, Y, Z).
        moving: HU, on the same grid.
        config: of the networks.
        mask: lungs of the fixed image, 0 to 1, (X, Y, Z), in which least squares compare the
            images; everywhere if None, which is less accurate.
        spacing_mm: voxel size along each axis.

    Returns:
        u in voxels, (X, Y, Z, 3).
    """
    from jaxreg.network.cascade import cascade  # flax: only where networks take part

    small_fixed, small_moving = (resize(image, config.grid) for image in (fixed, moving))
    small_mask = None if mask is None else resize(jnp.asarray(mask, jnp.float32), config.grid)
    scale = jnp.array([n / m for n, m in zip(fixed.shape, config.grid, strict=True)])
    grid_mm = jnp.asarray(spacing_mm, jnp.float32) * scale
    u = cascade(params, small_fixed, small_moving, config, mask=small_mask, spacing_mm=grid_mm)
    return resize_displacement(u, fixed.shape)


def cascade_stage(
    pair: AlignedPair,
    params: Mapping[str, Any],
    network: NetworkConfig,
    optimiser: OptimiserConfig,
) -> Displacement:
    """The displacement that the networks find, continued smoothly outside the lungs.

    Args:
        pair: images and lungs on the lung grid.
        params: parameters of the levels, {"level_l": tree}.
        network: settings of the networks.
        optimiser: settings of the continuation.

    Returns:
        Displacement, voxels of the lung grid, (X, Y, Z, 3).
    """
    lungs = pair.fixed_lungs > 0
    u = _network_displacement(
        params,
        pair.fixed,
        pair.moving,
        config=network,
        mask=lungs,
        spacing_mm=np.array(pair.spacing_mm, np.float32),
    )
    return continue_outside(u, lungs, spacing_mm=pair.spacing_mm, config=optimiser)


def optimiser_stage(
    pair: AlignedPair, u: Displacement | None, config: OptimiserConfig
) -> Displacement:
    """The displacement that instance optimisation finds.

    Args:
        pair: images and lungs on the lung grid.
        u: displacement to begin with, voxels, (X, Y, Z, 3); None for zero.
        config: settings.

    Returns:
        Displacement, voxels of the lung grid, (X, Y, Z, 3).
    """
    lungs = pair.fixed_lungs > 0
    found = refine(
        pair.fixed,
        pair.moving,
        lungs,
        spacing_mm=pair.spacing_mm,
        moving_mask=pair.moving_lungs > 0,
        initial=u,
        config=config,
    )
    return jax.block_until_ready(found)


def prepare_optimiser(shape: Shape, *, config: OptimiserConfig) -> None:
    """Loads the programs of `optimiser_stage` for a lung grid, as far as they are on the disk.

    Args:
        shape: of the grid.
        config: settings.
    """
    if config.enabled:
        prepare(shape, config=config)


_network_displacement = jax.jit(network_displacement, static_argnames="config")
