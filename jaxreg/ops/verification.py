"""Verification that a displacement field, as it is given, is free of folds between its voxels too.

Independent of `jaxreg.ops.certificate`, which repairs fields: another derivation, in float64, so
that an error in one does not hide in the other. In a cell of eight neighbouring voxels det dy/dx of
the trilinear map is a polynomial of degree 2 in each coordinate; here its values at the 27 nodes
{0, 1/2, 1}^3 are computed and converted to Bernstein coefficients, along each axis

    b_0 = f(0),    b_1 = 2 f(1/2) - (f(0) + f(1)) / 2,    b_2 = f(1).

The determinant is nowhere below the least of the 27 coefficients (Johnen, Remacle, Geuzaine 2013, J
Comput Phys 233). A cell whose least coefficient is positive is certified. The converse does not
hold: a cell may be free of folds and not be certified.

Most cells are far from the smallest coefficient of the field, which a cheaper bound shows. Each
coefficient is a mean of determinants of one edge of the cell along each axis. Edges a, b, c that
differ from the mean ones by at most r_a, r_b, r_c change the determinant of those by at most

    (|a| + r_a) (|b| + r_b) (|c| + r_c) - |a| |b| |c|,

which follows from its linearity in each column and Hadamard's inequality. The coefficients are
worked out of some cells first, then of all others whose cheap bound is less than the least of them.
"""

import functools
import itertools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxreg.ops.programs import Kept
from jaxreg.ops.slabs import over_blocks
from jaxreg.ops.types import AnyArray, Displacement

ROUNDING = 1e-9  # of coefficients in float64, generously: no more is certified
TOLERANCE = 1e-4  # of the smallest coefficient
EDGE = 32  # cells, of a block that is checked at once
_EVERY = 4  # cells along each axis, of which one is worked out first
_BATCH = 16384  # cells worked out at once
_ROUNDING_32 = 1e-5  # of determinants in float32, relative, generously
_NOT_NEAR_ZERO = 1e-6  # cells with a lesser cheap bound are worked out in any case
NODES = (0.0, 0.5, 1.0)


class Verification(NamedTuple):
    """What `verify` found.

    Attributes:
        cells: between voxels, in all.
        uncertified: cells that are not proven free of folds.
        smallest: lower bound of the Jacobian determinant over all cells, to 1e-4; not a number
            where the field is not.
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
    basis = np.eye(3) if voxel_from_vector is None else np.linalg.inv(voxel_from_vector)
    layers, rows, columns = (n - 1 for n in u.shape[:3])
    some = np.meshgrid(*(np.arange(0, n - 1, _EVERY) for n in u.shape[:3]), indexing="ij")
    smallest = _bounds(u, [index.ravel() for index in some], basis).min()
    least = max(0.0 if np.isnan(smallest) else smallest - TOLERANCE, _NOT_NEAR_ZERO)
    found: list[tuple[int, float]] = []

    def check(block: tuple[slice, ...]) -> None:
        part = u[tuple(slice(side.start, side.stop + 1) for side in block)]
        with jax.enable_x64(True):  # float64 stays so
            bound = np.array(_cheap_bound(jnp.asarray(part), jnp.asarray(basis, part.dtype)))
        for axis, side in enumerate(block):  # cells of the block before
            np.moveaxis(bound, axis, 0)[: -side.start % bound.shape[axis]] = np.inf
        cells = np.nonzero(~(bound >= least))
        bounds = _bounds(part, cells, basis)
        found.append((int(np.sum(~(bounds > ROUNDING))), bounds.min(initial=np.inf)))

    over_blocks(check, (layers, rows, columns), EDGE)
    uncertified, least_bounds = zip(*found, strict=True)
    return Verification(
        layers * rows * columns, sum(uncertified), float(np.min([smallest, *least_bounds]))
    )


def _bounds(u: np.ndarray, cells, basis: np.ndarray) -> np.ndarray:
    """Least Bernstein coefficients of chosen cells of a field, float64, (N,)."""
    x, y, z = cells
    bounds = np.empty(len(x))
    for first in range(0, len(x), _BATCH):
        part = slice(first, min(first + _BATCH, len(x)))
        index = np.minimum(np.arange(first, first + _BATCH), len(x) - 1)  # one shape, one program
        corners = [
            u[x[index] + i, y[index] + j, z[index] + k]
            for i, j, k in itertools.product((0, 1), repeat=3)
        ]
        with jax.enable_x64(True):
            cubes = np.stack(corners, axis=-2).reshape(-1, 2, 2, 2, 3)
            values = _lower_bounds(jnp.asarray(cubes, jnp.float64), jnp.asarray(basis))
            bounds[part] = np.asarray(values)[: part.stop - first]
    return bounds


@functools.partial(Kept, static=())
def _cheap_bound(u, basis):
    """A lower bound of the least coefficient in each cell, less what rounding takes."""
    columns = [[basis[c, axis] for c in range(3)] for axis in range(3)]
    volume = jnp.abs(_triple_product(*columns))
    sign = jnp.sign(_triple_product(*columns))
    means, radii = zip(*(_mean_edge(u, axis, columns[axis]) for axis in range(3)), strict=True)
    lengths = [jnp.sqrt(sum(c * c for c in mean)) for mean in means]
    most = math.prod(length + radius for length, radius in zip(lengths, radii, strict=True))
    least = sign * _triple_product(*means) - (most - math.prod(lengths)) - _ROUNDING_32 * most
    return least / volume


def _mean_edge(u, axis, column):
    """Mean of a cell's four edges along an axis, in three arrays, and how far one is from it."""
    others = [a for a in range(3) if a != axis]
    mean, squares = [], [0.0] * 4
    for c in range(3):
        edge = jnp.diff(u[..., c], axis=axis)
        edges = [edge]
        for other in others:
            size = edge.shape[other]
            edges = [
                jax.lax.slice_in_dim(e, low, size - 1 + low, axis=other)
                for e in edges
                for low in (0, 1)
            ]
        middle = sum(edges) / 4
        squares = [square + (e - middle) ** 2 for square, e in zip(squares, edges, strict=True)]
        mean.append(middle + column[c])
    return mean, jnp.sqrt(functools.reduce(jnp.maximum, squares))


@functools.partial(Kept, static=())
def _lower_bounds(cubes, basis):
    """Least Bernstein coefficient of cells given by their corners, (N, 2, 2, 2, 3) -> (N,)."""
    return jax.vmap(lambda u: _lower_bound(u, basis)[0, 0, 0])(cubes)


def _lower_bound(u: Displacement, basis) -> Float[AnyArray, "X-1 Y-1 Z-1"]:
    """Least Bernstein coefficient of the determinant in each cell."""
    x, y, z = (_slopes(u, axis, basis[:, axis]) for axis in range(3))
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
    volume = _triple_product(*basis.T)
    return functools.reduce(jnp.minimum, (value / volume for value in values.values()))


def _slopes(u, axis, column):
    """dy/dx_axis of the trilinear map in each cell, at the nodes of the two other coordinates."""
    edges = [jnp.diff(u[..., c], axis=axis) + column[c] for c in range(3)]
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
