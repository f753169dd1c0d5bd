"""Proof that a displacement field has no folds, between its voxels too, and repair where it has.

Between voxels a field is trilinear, as `sample` and every other tool interpolate it. In the cell of
eight neighbouring voxels the edges e_a (differences of y = x + u along axis a, four each) are
bilinear in the two other coordinates, so det dy/dx = e_x . (e_y x e_z) is a polynomial of degree 2
in each coordinate. It lies between the least and the greatest of its 27 Bernstein coefficients;
if all are positive, no point of the cell is folded (Johnen, Remacle, Geuzaine 2013, J Comput Phys
233, section 3, there for finite elements). As B_i B_j of degree 1 make B_(i+j) of degree 2 with
weight 1/2 where i + j = 1, each coefficient is the mean determinant of the triples of edges whose
indices add up to it. The converse does not hold: a cell may be free of folds and not be certified.
"""

import functools
import itertools
import math
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float
from scipy import ndimage

from jaxreg.ops.types import AnyArray, Displacement, Spacing

SLAB_CELLS = 2_000_000  # checked at once, in about 0.3 GB

Cells = Float[AnyArray, "X-1 Y-1 Z-1"]


class Repair(NamedTuple):
    """What `repair` did.

    Attributes:
        cells: that were not certified before.
        voxels: whose displacement was changed.
        largest_change_mm: length of the greatest change of a vector.
    """

    cells: int
    voxels: int
    largest_change_mm: float


def bernstein_coefficients(u: Displacement) -> Float[AnyArray, "27 X-1 Y-1 Z-1"]:
    """Bernstein coefficients of det dy/dx in each cell; index 9 a + 3 b + c for degree (a, b, c).

    The eight with a, b, c in {0, 2} are the determinants at the cell's corners.

    Args:
        u: displacement in voxels, (X, Y, Z, 3), at least two voxels along each axis.

    Returns:
        Coefficients, no unit, (27, X-1, Y-1, Z-1).
    """
    return jnp.stack(_coefficients(jnp.moveaxis(jnp.asarray(u), -1, 0)))


def smallest_coefficient(u: Displacement) -> Cells:
    """Lower bound of det dy/dx in each cell: its least Bernstein coefficient.

    Works in slabs; not for use under `jit`.

    Args:
        u: displacement in voxels, (X, Y, Z, 3), at least two voxels along each axis.

    Returns:
        Bounds, (X-1, Y-1, Z-1), host memory.

    Raises:
        ValueError: another shape, or a single slice.
    """
    u = np.asarray(u)
    if u.ndim != 4 or u.shape[3] != 3 or min(u.shape[:3]) < 2:
        raise ValueError(
            "u: expected (X, Y, Z, 3) with at least two voxels along each axis, got "
            f"{u.shape}. A single slice has no cells to certify."
        )
    bound = np.empty([n - 1 for n in u.shape[:3]], np.float32)
    for slab in _slabs(bound.shape):
        bound[slab] = _smallest(u[slab.start : slab.stop + 1])
    return bound


def uncertified_cells(u: Displacement, *, margin: float = 1e-3) -> Bool[AnyArray, "X-1 Y-1 Z-1"]:
    """Cells between voxels that are not proven free of folds.

    Args:
        u: displacement in voxels, (X, Y, Z, 3), at least two voxels along each axis.
        margin: least coefficient that is certified; as it is, above the rounding of float32, in
            millimetres and on disk too.

    Returns:
        True where the lower bound of the determinant is below `margin` (or not a number),
        (X-1, Y-1, Z-1), host memory.
    """
    return ~(smallest_coefficient(u) >= margin)


def repair(
    u: Displacement,
    *,
    spacing_mm: Spacing = (1.0, 1.0, 1.0),
    margin: float = 1e-3,
    rounds: int = 8,
) -> tuple[np.ndarray, Repair]:
    """The field, made certifiable with little change near the cells that are not.

    Around these cells u is blended with its own local mean, `rounds` times with each radius, which
    doubles from one voxel on until every cell is certified. Smoothing over the whole grid leaves
    a translation in the end; should it not be reached, the deviation from the mean displacement is
    halved until all is certified, which a small enough deviation always is.

    Args:
        u: displacement in voxels, (X, Y, Z, 3), finite.
        spacing_mm: millimetres a voxel, for the report; as it is, changes are reported in voxels.
        margin: least Bernstein coefficient of a certified cell, see `uncertified_cells`.
        rounds: of smoothing at one radius before it doubles.

    Returns:
        The field, (X, Y, Z, 3), host memory, bit for bit the given one where that is certified
        already; and what was done.

    Raises:
        ValueError: a displacement is not finite, or the shape is another.
    """
    u = np.asarray(u)
    if not np.all(np.isfinite(u)):
        raise ValueError(
            f"u: expected finite displacements, got {np.count_nonzero(~np.isfinite(u))} that are "
            "not. Look for NaN in the images."
        )
    bad = uncertified_cells(u, margin=margin)
    cells = int(np.count_nonzero(bad))
    if cells == 0:
        return u, Repair(0, 0, 0.0)
    repaired = u.copy()
    for radius in _radii(u.shape, rounds):
        for box in _boxes(bad, radius):
            _relax(repaired, bad, box, radius)
        bad = uncertified_cells(repaired, margin=margin)
        if not bad.any():
            break
    while bad.any():
        mean = repaired.mean(axis=(0, 1, 2))
        repaired = mean + 0.5 * (repaired - mean)
        bad = uncertified_cells(repaired, margin=margin)
    change = np.linalg.norm((repaired - u) * np.asarray(spacing_mm, np.float32), axis=-1)
    return repaired, Repair(cells, int(np.count_nonzero(change)), float(change.max()))


def _coefficients(u):
    """The 27 coefficients of u, (3, X, Y, Z), as a list of (X-1, Y-1, Z-1)."""
    edges = [_edges(u, axis) for axis in range(3)]
    binary = [(i, j) for i in range(2) for j in range(2)]
    # cross[a, j, k]: mean of e_y[i2, k] x e_z[i3, j] over i2 + i3 = a; shared by e_x.
    cross = {
        (a, j, k): _mean_vector(_cross(edges[1][i, k], edges[2][a - i, j]) for i in _split(a))
        for a in range(3)
        for j, k in binary
    }
    triple = {
        (a, j1, k1, j3, k2): _dot(edges[0][j1, k1], cross[a, j3, k2])
        for a in range(3)
        for j1, k1 in binary
        for j3, k2 in binary
    }
    return [
        _mean(triple[a, j, k, b - j, c - k] for j in _split(b) for k in _split(c))
        for a, b, c in itertools.product(range(3), repeat=3)
    ]


def _split(total):
    """Indices i in {0, 1} with total - i in {0, 1}."""
    return [i for i in (0, 1) if 0 <= total - i <= 1]


def _edges(u, axis):
    """Edges of the cells along an axis, by their index (0 or 1) along the two other axes."""
    size = u.shape[1:]
    step = jax.lax.slice_in_dim(u, 1, None, axis=axis + 1)
    step = step - jax.lax.slice_in_dim(u, 0, size[axis] - 1, axis=axis + 1)
    edge = [step[c] + (1.0 if c == axis else 0.0) for c in range(3)]
    others = [a for a in range(3) if a != axis]

    def at(component, indices):
        for other, index in zip(others, indices, strict=True):
            stop = size[other] - 1 + index
            component = jax.lax.slice_in_dim(component, index, stop, axis=other)
        return component

    return {(i, j): [at(c, (i, j)) for c in edge] for i in range(2) for j in range(2)}


def _cross(a, b):
    return [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]


def _dot(a, b):
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _mean_vector(vectors):
    """Mean of vectors, each a list of three arrays."""
    return [_mean(components) for components in zip(*vectors, strict=True)]


def _mean(items):
    """Mean of one to four arrays."""
    items = list(items)
    return sum(items[1:], items[0]) * (1.0 / len(items))


@jax.jit
def _smallest(u):
    return functools.reduce(jnp.minimum, _coefficients(jnp.moveaxis(u, -1, 0)))


def _slabs(shape) -> Iterator[slice]:
    """Slabs of cells along the first axis, all of one thickness, so that one program serves."""
    thickness = min(shape[0], max(1, SLAB_CELLS // math.prod(shape[1:])))
    for start in range(0, shape[0], thickness):
        start = min(start, shape[0] - thickness)
        yield slice(start, start + thickness)


def _radii(shape, rounds) -> Iterator[int]:
    """1, 2, 4, ... up to the size of the grid, each `rounds` times."""
    for power in range(math.ceil(math.log2(max(shape))) + 1):
        yield from [2**power] * rounds


def _boxes(bad, radius) -> list[tuple[slice, ...]]:
    """Boxes of voxels around groups of cells, wide enough for `_relax` at this radius."""
    block = 4 * radius
    coarse = np.zeros([-(-n // block) for n in bad.shape], bool)
    coarse[tuple(np.argwhere(bad).T // block)] = True
    groups = np.empty(coarse.shape, np.int32)
    ndimage.label(coarse, np.ones((3, 3, 3)), output=groups)
    return [
        tuple(
            slice(max(0, s.start * block - block), min(n + 1, s.stop * block + block + 1))
            for s, n in zip(box, bad.shape, strict=True)
        )
        for box in ndimage.find_objects(groups)
    ]


def _relax(u, bad, box, radius) -> None:
    """Blends u in a box, in place, with its Gaussian mean: fully at bad cells, 0 at 2 radii."""
    corner = np.zeros([s.stop - s.start for s in box], bool)
    inner = tuple(slice(s.start, s.stop - 1) for s in box)
    for offset in itertools.product((0, 1), repeat=3):
        cells = zip(offset, corner.shape, strict=True)
        corner[tuple(slice(o, n - 1 + o) for o, n in cells)] |= bad[inner]
    distance = ndimage.distance_transform_edt(~corner)
    weight = np.clip(1.0 - distance / (2.0 * radius), 0.0, 1.0).astype(np.float32)
    for component in range(3):
        values = u[(*box, component)]
        mean = ndimage.gaussian_filter(values, radius, mode="nearest", truncate=2.0)
        u[(*box, component)] = values + weight * (mean - values)
