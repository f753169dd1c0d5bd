"""The stages that deform: functions (pair, u) -> u on the grid of an aligned pair.

u is the displacement in voxels of that grid, (X, Y, Z, 3), None before the first stage.
"""

from collections.abc import Mapping
from typing import Any

import jax

from jaxreg.config import NetworkConfig, OptimiserConfig
from jaxreg.engine.gauss_newton import continue_outside, refine
from jaxreg.network.cascade import cascade
from jaxreg.ops.deformation import resize_displacement
from jaxreg.ops.interpolation import resize
from jaxreg.ops.types import Displacement, Image
from jaxreg.pipeline.align import AlignedPair


def network_displacement(
    params: Mapping[str, Any], fixed: Image, moving: Image, config: NetworkConfig
) -> Displacement:
    """Displacement by the networks on the grid of the images, by way of the network grid.

    Args:
        params: of the networks.
        fixed: HU, (X, Y, Z).
        moving: HU, on the same grid.
        config: of the networks.

    Returns:
        u in voxels, (X, Y, Z, 3).
    """
    u = cascade(params, resize(fixed, config.grid), resize(moving, config.grid), config)
    return resize_displacement(u, fixed.shape)


def cascade_stage(
    pair: AlignedPair,
    params: Mapping[str, Any],
    network: NetworkConfig,
    optimiser: OptimiserConfig,
) -> Displacement:
    """The displacement that the networks find, continued smoothly outside the lungs."""
    u = _network_displacement(params, pair.fixed, pair.moving, config=network)
    return continue_outside(u, pair.fixed_lungs > 0, spacing_mm=pair.spacing_mm, config=optimiser)


def optimiser_stage(
    pair: AlignedPair, u: Displacement | None, config: OptimiserConfig
) -> Displacement:
    """The displacement that the optimiser finds from `u`, from no displacement where it is None."""
    lungs = pair.fixed_lungs > 0
    found = refine(
        pair.fixed, pair.moving, lungs, spacing_mm=pair.spacing_mm, initial=u, config=config
    )
    return jax.block_until_ready(found)


_network_displacement = jax.jit(network_displacement, static_argnames="config")
