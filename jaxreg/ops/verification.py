"""Verification that a displacement field, as it is given, is free of folds between its voxels too.

Independent of `jaxreg.ops.certificate`, which repairs fields: another derivation, in float64, so
that an error in one does not hide in the other. In a cell of eight neighbouring voxels det dy/dx of
the trilinear map is a polynomial of degree 2 in each coordinate; here its values at the 27 nodes
{0, 1/2, 1}^3 are computed and converted to Bernstein coefficients, along each axis

    b_0 = f(0),    b_1 = 2 f(1/2) - (f(0) + f(1)) / 2,    b_2 = f(1).

The determinant is nowhere below the least of the 27 coefficients (Johnen, Remacle, Geuzaine 2013, J
Comput Phys 233). A cell whose least coefficient is positive is certified. The converse does not
hold: a cell may be free of folds and not be certified.
"""

import functools
import itertools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxreg.ops.types import AnyArray, Displacement

ROUNDING = 1e-9  # of coefficients in float64, generously: no more is certified
SLAB_CELLS = 500_000  # checked at once, in about 0.2 GB
NODES = (0.0, 0.5, 1.0)


class Verification(NamedTuple):
    """What `verify` found.

    Attributes:
        cells: between voxels, in all.
        uncertified: cells that are not proven free of folds.
        smallest: lower bound of the Jacobian determinant over all cells; not a number where the
            field is not.
    """

    cells: int
    uncertified: int
    smallest: float


def verify(
    u: Displacement, *, voxel_from_vector: Float[np.ndarray, "3 3"] | None = None
) -> Verification:
    """Checks every cell of a field; the field is not changed. Not for use under `jit`.

    Args:
        u: displacement in voxels, (X, Y, Z, 3), at least two voxels along each axis; as it was
            read back, where a file is to be verified.
        voxel_from_vector: takes the vectors of `u` to voxels, where they are of another unit.

    Returns:
        Number of cells, how many are not certified, and the lower bound of the determinant.

    Raises:
        ValueError: the field has no cells.
    """
    u = np.asarray(u)
    if u.ndim != 4 or u.shape[3] != 3 or min(u.shape[:3]) < 2:
        raise ValueError(
            "u: expected (X, Y, Z, 3) with at least two voxels along each axis, got "
            f"{u.shape}. A single slice has no cells to verify."
        )
    count = u.shape[0] - 1
    layer = (u.shape[1] - 1) * (u.shape[2] - 1)
    thickness = min(count, max(1, SLAB_CELLS // layer))
    uncertified, smallest = 0, math.inf
    for start in range(0, count, thickness):
        first = min(start, count - thickness)  # all slabs of one shape: one compiled program
        with jax.enable_x64(True):
            slab = u[first : first + thickness + 1].astype(np.float64)
            slab = slab if voxel_from_vector is None else slab @ voxel_from_vector.T
            bound = np.asarray(_lower_bound(jnp.asarray(slab)))[start - first :]
        uncertified += int(np.count_nonzero(~(bound > ROUNDING)))
        smallest = float(np.minimum(smallest, bound.min()))
    return Verification(count * layer, uncertified, smallest)


@jax.jit
def _lower_bound(u: Displacement) -> Float[AnyArray, "X-1 Y-1 Z-1"]:
    """Least Bernstein coefficient of the determinant in each cell."""
    x, y, z = (_slopes(u, axis) for axis in range(3))
    values = {
        (i, j, k): _triple_product(x[j, k], y[i, k], z[i, j])
        for i, j, k in itertools.product(range(3), repeat=3)
    }
    for axis in range(3):
        for i, j, k in (node for node in values if node[axis] == 1):
            others = [n for a, n in enumerate((i, j, k)) if a != axis]
            ends = []
            for end in (0, 2):
                x_index, y_index, z_index = others[:axis] + [end] + others[axis:]
                ends.append(values[x_index, y_index, z_index])
            values[i, j, k] = 2.0 * values[i, j, k] - 0.5 * (ends[0] + ends[1])
    return functools.reduce(jnp.minimum, values.values())


def _slopes(u, axis):
    """dy/dx_axis of the trilinear map in each cell, at the nodes of the two other coordinates."""
    edges = [jnp.diff(u[..., c], axis=axis) + (1.0 if c == axis else 0.0) for c in range(3)]
    others = [a for a in range(3) if a != axis]

    def at(edge, weights):
        for other, t in zip(others, weights, strict=True):
            size = edge.shape[other]
            low = jax.lax.slice_in_dim(edge, 0, size - 1, axis=other)
            edge = (1.0 - t) * low + t * jax.lax.slice_in_dim(edge, 1, size, axis=other)
        return edge

    nodes = itertools.product(enumerate(NODES), repeat=2)
    return {(b, c): [at(edge, (t, s)) for edge in edges] for (b, t), (c, s) in nodes}


def _triple_product(a, b, c):
    """a . (b x c) of vectors as lists of three arrays."""
    x = b[1] * c[2] - b[2] * c[1]
    y = b[2] * c[0] - b[0] * c[2]
    z = b[0] * c[1] - b[1] * c[0]
    return a[0] * x + a[1] * y + a[2] * z
