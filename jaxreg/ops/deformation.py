"""Displacement fields: the conventions of the whole package, and what is done with fields.

Axes: (X, Y, Z) are NIfTI voxel indices (i, j, k); component c of a vector runs along array axis c.
Direction: y(x) = x + u(x) takes a point of the *fixed* grid to the *moving* image, so that
    warped(x) = moving(y(x)), and a fixed landmark p belongs to p + u(p) in the moving image.
Units: voxels of the grid the array lives on. Millimetres only in affines, in landmarks at the
    edges, in TRE and in smoothness energies; such a variable ends in `_mm`.
Composition: compose(outer, inner)(x) = inner(x) + outer(x + inner(x)). In the cascade `outer` is
    the coarse field found first: warp(warp(m, u1), u2) ~ warp(m, compose(u1, u2)).
Grids: voxel-centred. `resize_displacement` moves a field between grids over one extent and scales
    its vectors by the same factor, so that millimetres stay.
Boundary: sampling outside returns the edge value; `inside` says where y(x) lies in the image.
Batch: none; use `jax.vmap`.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float

from jaxreg.ops.interpolation import resize, sample
from jaxreg.ops.types import AnyArray, Displacement, Image, Points, Shape


def identity_grid(shape: Shape) -> Displacement:
    """Voxel coordinates of every voxel.

    Args:
        shape: (X, Y, Z).

    Returns:
        Array g with g[i, j, k] = (i, j, k), float32, (X, Y, Z, 3).
    """
    axes = (jnp.arange(n, dtype=jnp.float32) for n in shape)
    return jnp.stack(jnp.meshgrid(*axes, indexing="ij"), axis=-1)


def target_points(u: Displacement) -> Displacement:
    """The points y(x) = x + u(x), in voxels, (X, Y, Z, 3)."""
    shape = (*u.shape[:3], 1)
    # split and joined again, so that XLA reads and differentiates each coordinate by itself
    parts = jax.lax.split(u, (1, 1, 1), axis=3)
    points = [part + jax.lax.broadcasted_iota(u.dtype, shape, a) for a, part in enumerate(parts)]
    return jnp.concatenate(points, axis=3)


def warp(moving: Float[AnyArray, "A B C"], u: Displacement) -> Image:
    """Image moving(x + u(x)) on the grid of `u`, trilinear.

    Args:
        moving: (X', Y', Z'), on the same voxel lattice as `u` (its size may differ).
        u: displacement in voxels, (X, Y, Z, 3).

    Returns:
        Warped image, (X, Y, Z).
    """
    return sample(moving, target_points(u))


def compose(outer: Displacement, inner: Displacement) -> Displacement:
    """Displacement of y_outer o y_inner: inner(x) + outer(x + inner(x)).

    Args:
        outer: displacement applied second, voxels, (X, Y, Z, 3).
        inner: displacement applied first, voxels, same grid.

    Returns:
        Displacement in voxels, (X, Y, Z, 3).
    """
    return inner + sample(outer, target_points(inner))


def transform_points(u: Displacement, points: Points) -> Points:
    """Moving points p + u(p) of fixed points p.

    Args:
        u: displacement in voxels, (X, Y, Z, 3).
        points: fixed points in voxels, 0-based, (N, 3).

    Returns:
        Points in the moving image, voxels, (N, 3).
    """
    return points + sample(u, points)


def resize_displacement(u: Displacement, shape: Shape) -> Float[AnyArray, "x y z 3"]:
    """Displacement on a grid of another shape over the same extent, vectors scaled with it.

    A displacement that is constant in millimetres stays so.

    Args:
        u: displacement in voxels of its grid, (X, Y, Z, 3).
        shape: new (x, y, z).

    Returns:
        Displacement in voxels of the new grid, (x, y, z, 3).
    """
    factor = jnp.array([new / old for new, old in zip(shape, u.shape[:3], strict=True)], u.dtype)
    return resize(u, shape) * factor[None, None, None]


def inside(u: Displacement, moving_shape: Shape) -> Bool[AnyArray, "X Y Z"]:
    """Where x + u(x) lies between the outermost voxel centres of the moving image.

    Args:
        u: displacement in voxels, (X, Y, Z, 3).
        moving_shape: (X', Y', Z') of the moving image.

    Returns:
        Mask, (X, Y, Z).
    """
    found = jnp.ones(u.shape[:3], bool)
    for axis, size in enumerate(moving_shape):  # an axis at a time: XLA makes one pass of it
        y = u[..., axis] + jax.lax.broadcasted_iota(u.dtype, u.shape[:3], axis)
        found &= (y >= 0.0) & (y <= size - 1.0)
    return found
