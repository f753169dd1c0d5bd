"""Displacements inside solvers: millimetres, components first, (3, X, Y, Z).

Everywhere else a displacement is in voxels of its grid, components last (`jaxreg.ops.deformation`).
A solver converts at its door.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Float

from jaxreg.ops.deformation import compose
from jaxreg.ops.interpolation import resize
from jaxreg.ops.types import AnyArray, Displacement, Shape

Field = Float[AnyArray, "3 X Y Z"]
Vector = Float[AnyArray, "3"]


def voxels_last(field: Field, spacing_mm: Vector) -> Displacement:
    """A field in millimetres as a displacement in voxels.

    Args:
        field: mm, components first, (3, X, Y, Z).
        spacing_mm: voxel size, (3,).

    Returns:
        Voxels, components last, (X, Y, Z, 3).
    """
    return jnp.moveaxis(field, 0, -1) / spacing_mm[None, None, None]


def millimetres_first(u: Displacement, spacing_mm: Vector) -> Field:
    """A displacement in voxels as a field in millimetres: the inverse of `voxels_last`.

    Args:
        u: voxels, components last, (X, Y, Z, 3).
        spacing_mm: voxel size, (3,).

    Returns:
        Mm, components first, (3, X, Y, Z).
    """
    return jnp.moveaxis(u * spacing_mm[None, None, None], -1, 0)


def resize_field(field: Field, shape: Shape) -> Float[AnyArray, "3 x y z"]:
    """A field on another grid over the same extent; millimetres stay.

    Args:
        field: mm, (3, X, Y, Z).
        shape: of the other grid, (x, y, z).

    Returns:
        Mm, (3, x, y, z).
    """
    return jax.vmap(lambda component: resize(component, shape))(field)


def compose_fields(outer: Field, inner: Field, spacing_mm: Vector) -> Field:
    """inner(x) + outer(x + inner(x)): the inner displacement first, then the outer one.

    Args:
        outer: mm, (3, X, Y, Z).
        inner: mm, on the same grid.
        spacing_mm: voxel size, (3,).

    Returns:
        Mm, (3, X, Y, Z).
    """
    both = compose(voxels_last(outer, spacing_mm), voxels_last(inner, spacing_mm))
    return millimetres_first(both, spacing_mm)
