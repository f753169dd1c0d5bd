"""A registered pair on the grid on which agreement means the same for all pairs."""

import dataclasses
import functools

import jax.numpy as jnp
import numpy as np

from jaxreg.config import RegistrationConfig
from jaxreg.geometry.grid import Grid
from jaxreg.ops.deformation import resize_displacement, warp
from jaxreg.ops.interpolation import resize
from jaxreg.ops.jacobian import jacobian_determinant
from jaxreg.ops.programs import Kept
from jaxreg.ops.types import Displacement, Image, Shape
from jaxreg.pipeline.align import AlignedPair
from jaxreg.trust.agreement import Agreement, agreement


@dataclasses.dataclass(frozen=True, eq=False)
class Compared:
    """Images and lungs on one grid, and on half of it the displacement between them.

    Attributes:
        fixed: HU, (X, Y, Z), all even, float32.
        warped: the moving image after the registration, HU, (X, Y, Z), float32.
        fixed_lungs: labels of the lungs, (X, Y, Z).
        moving_lungs: the same of the moving image, after the prealignment alone.
        grid: of these.
        u: displacement, voxels of `half`, (X/2, Y/2, Z/2, 3), float32.
        log_volume: |log det| of the Jacobian of the displacement, on `half`, float32.
        half: the grid of half as many voxels along each axis.
    """

    fixed: np.ndarray
    warped: np.ndarray
    fixed_lungs: np.ndarray
    moving_lungs: np.ndarray
    grid: Grid
    u: np.ndarray
    log_volume: np.ndarray
    half: Grid


def compared(pair: AlignedPair, u: Displacement, *, config: RegistrationConfig) -> Compared:
    """A pair under a displacement, on the grid `trust.shape`.

    Args:
        pair: both images on the lung grid.
        u: displacement, voxels of that grid, (X, Y, Z, 3).
        config: settings; with `grid.shape` the lung grid is kept, made even.

    Returns:
        What is compared.
    """
    x, y, z = pair.grid.shape if config.grid.shape is not None else config.trust.shape
    half_shape = ((x + 1) // 2, (y + 1) // 2, (z + 1) // 2)
    warped, log_volume, half_u = map(np.asarray, _under(pair.moving, u, half_shape=half_shape))
    on_grid = dataclasses.replace(pair, moving=warped).resized((x + x % 2, y + y % 2, z + z % 2))
    return Compared(
        fixed=on_grid.fixed,
        warped=on_grid.moving,
        fixed_lungs=on_grid.fixed_lungs,
        moving_lungs=on_grid.moving_lungs,
        grid=on_grid.grid,
        u=half_u,
        log_volume=log_volume,
        half=on_grid.grid.reshaped(half_shape),
    )


@functools.partial(Kept, static=("half_shape",))
def _under(moving: Image, u: Displacement, *, half_shape: Shape):
    """The moving image under u, and on half of the grid |log det| and u."""
    change = jnp.abs(jnp.log(jnp.maximum(jacobian_determinant(u), 1e-3)))
    return warp(moving, u), resize(change, half_shape), resize_displacement(u, half_shape)


def agreement_of(pair: Compared, *, config: RegistrationConfig = RegistrationConfig()) -> Agreement:
    """How well a registered pair agrees around each voxel (`agreement`).

    Args:
        pair: what is compared.
        config: settings.

    Returns:
        The agreement, on `half`.
    """
    return agreement(
        pair.fixed,
        pair.warped,
        pair.fixed_lungs > 0,
        pair.moving_lungs > 0,
        pair.u,
        rim=config.optimiser.rim,
        config=config.trust,
    )
