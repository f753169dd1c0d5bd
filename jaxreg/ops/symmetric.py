"""Symmetric 3x3 matrices, one in each voxel.

Stored as (6, ...) in the order xx, xy, xz, yy, yz, zz; vectors as (3, ...). Everything is written
out by cofactors, which XLA fuses into one pass over the voxels.
"""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxreg.ops.types import AnyArray

Matrices = Float[AnyArray, "6 *shape"]
Vectors = Float[AnyArray, "3 *shape"]

IDENTITY = np.array([1, 0, 0, 1, 0, 1], np.float32)[:, None, None, None]
INDICES = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))  # row and column of each entry


def outer(v: Vectors) -> Matrices:
    """v v^T, (6, ...)."""
    return jnp.stack([v[i] * v[j] for i, j in INDICES])


def multiply(a: Matrices, v: Vectors) -> Vectors:
    """A v.

    Args:
        a: symmetric matrices A, (6, ...).
        v: vectors, (3, ...).

    Returns:
        Vectors, (3, ...).
    """
    xx, xy, xz, yy, yz, zz = a
    x, y, z = v
    return jnp.stack([xx * x + xy * y + xz * z, xy * x + yy * y + yz * z, xz * x + yz * y + zz * z])


def cofactors(a: Matrices) -> Matrices:
    """Cofactor matrices: det(A) A^-1 where A can be inverted, (6, ...)."""
    xx, xy, xz, yy, yz, zz = a
    first = [yy * zz - yz * yz, xz * yz - xy * zz, xy * yz - xz * yy]
    return jnp.stack([*first, xx * zz - xz * xz, xy * xz - xx * yz, xx * yy - xy * xy])


def determinant(a: Matrices, cofactor: Matrices) -> Float[AnyArray, "*shape"]:
    """det A.

    Args:
        a: symmetric matrices A, (6, ...).
        cofactor: their `cofactors`, (6, ...).

    Returns:
        Determinants, (...).
    """
    return a[0] * cofactor[0] + a[1] * cofactor[1] + a[2] * cofactor[2]


def inverse(a: Matrices) -> Matrices:
    """A^-1, (6, ...); infinite or not a number where A is singular."""
    cofactor = cofactors(a)
    return cofactor / determinant(a, cofactor)[None]


def solve(a: Matrices, b: Vectors) -> Vectors:
    """x of A x = b by Cramer's rule.

    Args:
        a: symmetric matrices A, (6, ...).
        b: vectors, (3, ...).

    Returns:
        Vectors x, (3, ...).
    """
    cofactor = cofactors(a)
    return multiply(cofactor, b) / determinant(a, cofactor)[None]
