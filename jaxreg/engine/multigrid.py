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

    stencil = _stencil(shape, spacing_mm)

    def smoothness(field):
        return weight * _laplacian(_laplacian(field, stencil), stencil)

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


def laplacian(field: Field, *, spacing_mm: Vector) -> Field:
    """Seven-point Laplacian of each component, free at the border.

    Args:
        field: mm, (3, X, Y, Z).
        spacing_mm: of the grid, mm, (3,).

    Returns:
        Laplacian, 1/mm, (3, X, Y, Z).
    """
    return _laplacian(field, _stencil(field.shape[1:], spacing_mm))


class _Stencil(NamedTuple):
    """Seven-point Laplacian, free at the border; planes across the first axis are flat.

    Attributes:
        along_x: 1/h^2 of the first axis.
        shifts: in a flat plane to the neighbours along the other axes.
        weights: 1/h^2 to these neighbours, 0 over the border, (Y Z,) each.
        middle: sum of the weights of all neighbours, (Y Z,).
    """

    along_x: Scalar
    shifts: tuple[int, ...]
    weights: tuple[Float[AnyArray, "YZ"], ...]
    middle: Float[AnyArray, "YZ"]


def _stencil(shape, spacing_mm) -> _Stencil:
    _, n_y, n_z = shape
    y, z = np.divmod(np.arange(n_y * n_z), n_z)
    shifts = (n_z, -n_z, 1, -1)
    within = (y < n_y - 1, y > 0, z < n_z - 1, z > 0)
    along_x, *others = 1 / spacing_mm**2
    inverse_squares = (others[0], others[0], others[1], others[1])
    weights = tuple(
        jnp.asarray(inner, jnp.float32) * inverse_square
        for inner, inverse_square in zip(within, inverse_squares, strict=True)
    )
    return _Stencil(along_x, shifts, weights, 2 * along_x + sum(weights))


def _laplacian(field, stencil):
    """Laplacian per mm^2, (3, X, Y, Z).

    Written on flat planes, where neighbours are plain shifts and the weights of one plane serve
    all: several times as fast with XLA on a CPU as shifts of three-dimensional arrays. The first
    and the last plane are their own neighbours.
    """
    planes = field.reshape(*field.shape[:2], -1)
    _, size, length = planes.shape
    margin = max(stencil.shifts)
    padded = jnp.concatenate([planes[:, :1], planes, planes[:, -1:]], axis=1)
    padded = jnp.pad(padded, ((0, 0), (0, 0), (margin, margin)))
    padded = jax.lax.optimization_barrier(padded)  # or XLA pads anew for each neighbour

    def at(plane, shift):
        start = (0, 1 + plane, margin + shift)
        return jax.lax.slice(padded, start, (3, 1 + plane + size, margin + shift + length))

    total = stencil.along_x * (at(1, 0) + at(-1, 0)) - stencil.middle[None, None] * planes
    for weight, shift in zip(stencil.weights, stencil.shifts, strict=True):
        total += weight[None, None] * at(0, shift)
    return total.reshape(field.shape)
