"""The linear system of a Gauss-Newton step with curvature regularisation.

Fields are (3, X, Y, Z) in millimetres, matrices (6, X, Y, Z) as in `jaxreg.ops.symmetric`. Solved
by conjugate gradients (CG), preconditioned voxel by voxel, started from the solution on the grid of
twice the voxel size, and so on down: cascadic multigrid (Bornemann and Deuflhard 1996, Numer Math
75). CG converges slowly only for low frequencies, which a half-resolution grid resolves at one
eighth of the cost.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxreg.ops import symmetric
from jaxreg.ops.millimetres import Field, Vector
from jaxreg.ops.pyramid import double, mean_2x2x2
from jaxreg.ops.types import AnyArray, Scalar

Matrices = Float[AnyArray, "6 X Y Z"]

COARSEST_VOXELS = 8  # no grid has fewer along an axis


def solve(
    a: Matrices,
    b: Field,
    u: Field,
    *,
    weight: Scalar,
    spacing_mm: Vector,
    steps: tuple[int, int, int] = (8, 20, 50),
) -> Field:
    """The step v of (A + S) v = b - S u, with S = weight (Laplace)^2, free at the border.

    Args:
        a: positive definite in each voxel, 1/mm^2, (6, X, Y, Z).
        b: 1/mm, (3, X, Y, Z).
        u: the field so far, mm, (3, X, Y, Z).
        weight: of curvature, mm^2.
        spacing_mm: of the grid, mm, (3,).
        steps: of conjugate gradients on this grid, on each coarser one, and on the coarsest, which
            has nothing to start from.

    Returns:
        v, nearly (conjugate gradients end after a fixed number of steps), mm, (3, X, Y, Z).
    """
    return _solve(a, b, u, weight, spacing_mm, steps, steps[0])


def _solve(a, b, u, weight, spacing_mm, steps, count):
    shape = u.shape[1:]
    v = jnp.zeros_like(u)
    if all(n % 2 == 0 and n >= 2 * COARSEST_VOXELS for n in shape):
        coarse = (mean_2x2x2(a), mean_2x2x2(b), mean_2x2x2(u), weight, 2 * spacing_mm)
        v = double(_solve(*coarse, steps, steps[1]))
    else:
        count = steps[2]

    links = _links(shape, spacing_mm)

    def smoothness(field):
        return weight * _laplacian(_laplacian(field, links), links)

    # The middle of the stencil of the squared Laplacian, away from the border.
    middle = jnp.sum(2 / spacing_mm**2) ** 2 + jnp.sum(2 / spacing_mm**4)
    preconditioner = symmetric.inverse(a + weight * middle * symmetric.IDENTITY)
    residual = b - smoothness(u + v) - symmetric.multiply(a, v)
    direction = symmetric.multiply(preconditioner, residual)

    def body(_, state):
        v, residual, direction, product = state
        image = symmetric.multiply(a, direction) + smoothness(direction)
        length = product / (jnp.sum(direction * image) + 1e-30)
        v, residual = v + length * direction, residual - length * image
        z = symmetric.multiply(preconditioner, residual)
        new = jnp.sum(residual * z)
        return v, residual, z + new / (product + 1e-30) * direction, new

    start = (v, residual, direction, jnp.sum(residual * direction))
    return jax.lax.fori_loop(0, count, body, start)[0]


class _Links(NamedTuple):
    """1/h^2 between each voxel and the next along an axis, 0 over the border; flat, padded."""

    weights: list[Float[AnyArray, "padded"]]
    steps: tuple[int, int, int]  # to the next voxel along each axis in the flat array


def _links(shape, spacing_mm) -> _Links:
    steps = (shape[1] * shape[2], shape[2], 1)
    weights = []
    for axis in range(3):
        inner = np.ones(shape, np.float32)
        inner[tuple(-1 if a == axis else slice(None) for a in range(3))] = 0
        weights.append(jnp.pad(jnp.asarray(inner.ravel()) / spacing_mm[axis] ** 2, steps[0]))
    return _Links(weights, steps)


def _laplacian(field, links):
    """Seven-point Laplacian per mm^2: over each link, what flows in less what flows out.

    Written on flat arrays, where neighbours are plain shifts: several times as fast with XLA on a
    CPU as shifts of three-dimensional arrays.
    """
    flat = field.reshape(3, -1)
    size, margin = flat.shape[1], links.steps[0]
    padded = jnp.pad(flat, ((0, 0), (margin, margin)))

    def at(array, step):
        return jax.lax.slice_in_dim(array, margin + step, margin + step + size, axis=-1)

    total = jnp.zeros_like(flat)
    for weight, step in zip(links.weights, links.steps, strict=True):
        total += at(weight, 0)[None] * (at(padded, step) - flat)
        total -= at(weight, -step)[None] * (flat - at(padded, -step))
    return total.reshape(field.shape)
