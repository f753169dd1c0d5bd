"""The cascade of networks, coarse to fine (Hering et al. 2021, Med Image Anal 72, 102139, fig. 2).

The architecture "least_squares" is that of `jaxreg.network.least_squares`. In that of the paper,
"unet", level l works at 1/2^(l-1) of the network grid; L is the coarsest. The field found so far
warps the moving image on the network grid, both images are brought down to the level, and what the
level's network adds is composed with that field. Parameters are {"level_1": tree, ..., "level_L":
tree}; all levels have trees of one structure, so a finer level may start as a copy of the coarser.
Images are in HU, displacements in voxels; conventions stand in `jaxreg.ops.deformation`.
"""

import functools
from collections.abc import Mapping
from typing import Any, cast

import jax
import jax.numpy as jnp
from jaxtyping import Float

from jaxreg.config import NetworkConfig
from jaxreg.network.features import FeatureNet
from jaxreg.network.least_squares import least_squares_cascade
from jaxreg.network.unet import UNet
from jaxreg.ops.deformation import compose, resize_displacement, warp
from jaxreg.ops.pyramid import halve
from jaxreg.ops.types import AnyArray, Displacement, Image, Mask, Spacing

Params = Mapping[str, Any]


@functools.partial(jax.jit, static_argnames="config")
def init_level(key: jax.Array, config: NetworkConfig) -> Params:
    """Parameters of an untrained level, whose displacement is nearly zero.

    Args:
        key: random key.
        config: network settings.

    Returns:
        Tree of float32 arrays.
    """
    if config.architecture == "least_squares":
        return FeatureNet(config).init(key, jnp.zeros((4, 4, 4)))["params"]
    smallest = 2 ** (len(config.widths) - 1)
    images = jnp.zeros((smallest, smallest, smallest, 2))
    return _unet(config).init(key, images)["params"]


def level_displacement(
    params: Params, fixed: Image, warped: Image, config: NetworkConfig
) -> Displacement:
    """Displacement that one U-Net adds, in voxels of its grid.

    Args:
        params: of this level.
        fixed: HU on the grid of the level, (X, Y, Z).
        warped: moving image warped by the field found so far, same grid.
        config: network settings.

    Returns:
        Displacement, (X, Y, Z, 3).
    """
    images = jnp.stack([fixed, warped], axis=-1)
    return cast(Displacement, _unet(config).apply({"params": params}, images))


def cascade(
    params: Params,
    fixed: Image,
    moving: Float[AnyArray, "A B C"],
    config: NetworkConfig,
    *,
    mask: Mask | None = None,
    spacing_mm: Spacing = (1.0, 1.0, 1.0),
) -> Displacement:
    """Displacement found by the levels in `params`, on the network grid and in its voxels.

    Args:
        params: {"level_l": tree} of the levels L, L - 1, ... down to any level: training of a level
            asks for what the coarser ones find.
        fixed: HU on the network grid, (X, Y, Z), any size.
        moving: HU on the same grid.
        config: network settings.
        mask: weight of each voxel of the fixed image in the least squares, its lungs; 1 if None.
        spacing_mm: of the grid; the least squares are smooth by it.

    Returns:
        Displacement in voxels, (X, Y, Z, 3).

    Raises:
        ValueError: the shapes differ, or `params` lacks a level.
    """
    if fixed.shape != moving.shape:
        raise ValueError(
            f"fixed and moving: expected one grid, got shapes {fixed.shape} and {moving.shape}. "
            "Resample one to the grid of the other."
        )
    levels = _levels(params, config)
    if config.architecture == "least_squares":
        mask = jnp.ones(fixed.shape) if mask is None else jnp.asarray(mask, jnp.float32)
        images = (jnp.asarray(fixed), jnp.asarray(moving), mask)
        spacing = jnp.asarray(spacing_mm, jnp.float32)
        return least_squares_cascade(params, images, spacing, config, levels)
    u = None
    for level in levels:
        u = unet_level(params[f"level_{level}"], u, fixed, moving, config, level)
    assert u is not None
    return u


def unet_level(
    params: Params,
    u: Displacement | None,
    fixed: Image,
    moving: Image,
    config: NetworkConfig,
    level: int,
) -> Displacement:
    """The displacement after one U-Net more.

    Args:
        params: of the level.
        u: displacement of the coarser levels in voxels, (X, Y, Z, 3); None before the first.
        fixed: HU, (X, Y, Z).
        moving: HU, same grid.
        config: network settings.
        level: 1 works on this grid, l on 1/2^(l-1) of it.

    Returns:
        Displacement in voxels, (X, Y, Z, 3).
    """
    warped = moving if u is None else warp(moving, u)
    coarse_fixed = fixed
    for _ in range(level - 1):
        coarse_fixed, warped = halve(coarse_fixed), halve(warped)
    v = level_displacement(params, coarse_fixed, warped, config)
    v = _to_network_grid(v, level, fixed.shape)
    return v if u is None else compose(u, v)


def _unet(config):
    return UNet(
        widths=config.widths, convs=config.convs, precision=config.precision, window=config.window
    )


def _levels(params, config):
    """Levels in the order in which they run, coarsest first; those by hand have no parameters."""
    levels = list(range(config.levels, config.levels - len(params), -1))
    if not levels or sorted(params) != sorted(f"level_{level}" for level in levels):
        raise ValueError(
            f"params: expected the levels level_{config.levels} and down without a gap, got "
            f"{', '.join(sorted(params)) or 'none'}. Load the weights of this network's settings."
        )
    return levels + list(range(config.by_hand, 0, -1)) * (levels[-1] == config.by_hand + 1)


def _to_network_grid(
    v: Float[AnyArray, "x y z 3"], level: int, shape: tuple[int, ...]
) -> Displacement:
    """v on the network grid; where an odd axis was continued to be halved, it is cropped again."""
    if level == 1:
        return v
    scale = 2 ** (level - 1)
    nx, ny, nz = (scale * n for n in v.shape[:3])
    return resize_displacement(v, (nx, ny, nz))[: shape[0], : shape[1], : shape[2]]
