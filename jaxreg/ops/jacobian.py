"""Jacobian of y(x) = x + u(x), its determinant, and folds.

Stencil: second-order central differences inside, first-order one-sided at the border, as
`numpy.gradient`. Fold counts depend on the stencil: this one misses folds within a voxel, which
`jaxreg.ops.certificate` does not. The determinant is the same in voxels and in millimetres when
u is in voxels of an orthogonal grid, since the spacings cancel.
"""

from typing import cast

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from jaxreg.ops.types import AnyArray, Displacement, Image, Mask


def _slopes(u: Displacement) -> list[jax.Array]:
    """du/dx, du/dy, du/dz, each (X, Y, Z, 3)."""
    return [cast(jax.Array, jnp.gradient(u, axis=axis)) for axis in range(3)]


def jacobian(u: Displacement) -> Float[AnyArray, "X Y Z 3 3"]:
    """Jacobian matrix J[c, a] = dy_c / dx_a = delta_ca + du_c / dx_a.

    Args:
        u: displacement in voxels, (X, Y, Z, 3), at least two voxels along each axis.

    Returns:
        Matrices, (X, Y, Z, 3, 3).
    """
    return jnp.stack(_slopes(u), axis=-1) + jnp.eye(3, dtype=u.dtype)[None, None, None]


def jacobian_determinant(u: Displacement, *, basis: Float[AnyArray, "3 3"] | None = None) -> Image:
    """det(I + du/dx): local volume change, 1 where nothing changes, <= 0 where folded.

    Args:
        u: displacement in voxels, (X, Y, Z, 3), at least two voxels along each axis; or in another
            unit, such as world mm.
        basis: takes voxels to that unit, the 3x3 part of an affine; the identity if None.

    Returns:
        Determinant, (X, Y, Z).
    """
    basis = jnp.eye(3, dtype=u.dtype) if basis is None else jnp.asarray(basis, u.dtype)
    # d (basis x + u) / dx, whose determinant is that of the basis where u is constant
    columns = [
        [slope[..., c] + basis[c, axis] for c in range(3)] for axis, slope in enumerate(_slopes(u))
    ]
    return _determinant(columns) / _determinant([list(column) for column in basis.T])


def _determinant(columns):
    """Written out: jnp.linalg.det goes through an LU factorisation for each voxel."""
    (a, d, g), (b, e, h), (c, f, i) = columns
    return a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)


def fold_count(determinant: Image, mask: Mask) -> Int[AnyArray, ""]:
    """Number of voxels of the mask with determinant <= 0 (or not a number).

    Args:
        determinant: (X, Y, Z).
        mask: where to count, (X, Y, Z).

    Returns:
        Count, ().
    """
    return jnp.sum(~(determinant > 0.0) & (jnp.asarray(mask) > 0))
