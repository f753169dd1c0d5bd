"""The cascade of least squares: learned channels and confidences in Gauss-Newton rounds.

Each level compares channels of both images (`jaxreg.network.features`) in a fixed number of rounds
and is differentiable in reverse mode. A round minimises over a small displacement v of the warped
image, h being the voxel size of v,

    mean over voxels and channels of w_k (f_k - m_k - grad . v)^2 / 2
        + h^2 / 2 mean of |Laplace (u + v)|^2,

the model of `jaxreg.engine.gauss_newton` with its solver and its balance of the two terms, for any
number of channels. Fields are (3, X, Y, Z) in millimetres on half of the images' grid.
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
from jaxtyping import Float

from jaxreg.config import NetworkConfig
from jaxreg.engine.balance import balance, bending
from jaxreg.engine.multigrid import Matrices, solve
from jaxreg.engine.normal_equations import normal_equations
from jaxreg.network.features import Channels, FeatureNet, hand_made
from jaxreg.ops import symmetric
from jaxreg.ops.deformation import inside, target_points
from jaxreg.ops.filters import image_gradient
from jaxreg.ops.interpolation import resize, sample
from jaxreg.ops.millimetres import Field, Vector, compose_fields, resize_field, voxels_last
from jaxreg.ops.pyramid import double, mean_2x2x2
from jaxreg.ops.types import AnyArray, Displacement, Image, Shape

HalfField = Float[AnyArray, "3 x y z"]  # on half of the images' grid


def least_squares_cascade(
    params: Mapping[str, Any],
    images: tuple[Image, Image, Image],
    spacing_mm: Vector,
    config: NetworkConfig,
    levels: Sequence[int],
) -> Displacement:
    """Displacement found by the levels, on the grid of the images and in its voxels.

    Args:
        params: {"level_l": tree} of the levels that are learned.
        images: fixed and moving in HU, and the weight of each voxel of the fixed one (its lungs);
            (X, Y, Z) each.
        spacing_mm: of the images; only the ratios count.
        config: network settings.
        levels: to run, in this order.

    Returns:
        Displacement in voxels, (X, Y, Z, 3).
    """
    shape = images[0].shape
    spacing_mm = spacing_mm / jnp.prod(spacing_mm) ** (1 / 3)
    extent_mm = spacing_mm * jnp.array(shape)
    pyramid = [tuple(resize(image, _even(shape, 1)) for image in images)]
    for level in range(2, max(levels) + 1):
        pyramid.append(tuple(resize(image, _even(shape, level)) for image in pyramid[-1]))
    u = jnp.zeros((3, 1, 1, 1))
    for level in levels:
        *pair, mask = pyramid[level - 1]
        level_mm = extent_mm / jnp.array(mask.shape)
        u = resize_field(u, tuple(n // 2 for n in mask.shape))
        compared = _channels(params.get(f"level_{level}"), jnp.stack(pair), config)
        count = config.rounds[level - 1]
        u = _rounds(*compared, mask, u, spacing_mm=level_mm, count=count, config=config)
    return voxels_last(resize_field(u, shape), spacing_mm)


def _channels(tree, pair, config) -> tuple[Channels, Channels]:
    """Channels of both images of a level; without parameters the hand-made one."""

    def of_one(image):
        if tree is None:
            return hand_made(image, config=config)
        return FeatureNet(config).apply({"params": tree}, image)

    both = jax.lax.map(of_one, pair)  # one program for the two of them
    fixed, moving = (jax.tree.map(lambda a, i=i: a[i], both) for i in range(2))
    return cast(Channels, fixed), cast(Channels, moving)


def _rounds(fixed, moving, mask, u, *, spacing_mm, count, config):
    """The field after `count` rounds; one program for all of them."""

    def body(u, _):
        return improve(fixed, moving, mask, u, spacing_mm=spacing_mm, config=config), None

    return jax.lax.scan(body, u, length=count)[0]


def _even(shape: Shape, level: int) -> Shape:
    """Voxels of a level: even, so that the field can have half of them."""
    return tuple(2 * -(-n // 2**level) for n in shape)


def improve(
    fixed: Channels,
    moving: Channels,
    mask: Image,
    u: HalfField,
    *,
    spacing_mm: Vector,
    config: NetworkConfig,
) -> HalfField:
    """The field after one more round.

    Args:
        fixed: channels of the fixed image, (X, Y, Z, C), X, Y and Z even.
        moving: channels of the moving image, same grid.
        mask: weight of each voxel, (X, Y, Z).
        u: field so far, mm, on half of that grid, (3, X/2, Y/2, Z/2).
        spacing_mm: of the images, (3,).
        config: network settings; `balance`, `damping` and `longest_step` are used.

    Returns:
        The field, composed with a step of at most `longest_step`, mm.
    """
    coarse_mm = 2.0 * spacing_mm
    displaced = voxels_last(double(u), spacing_mm)
    warped = _warped(moving, displaced)
    seen = mask * jax.lax.stop_gradient(inside(displaced, mask.shape))
    a, b, remainder = _normal_equations(fixed, warped, seen, spacing_mm)
    lungs = mean_2x2x2(mask)
    bent = bending(u, lungs / jnp.maximum(jnp.sum(lungs), 1e-6), coarse_mm)
    factor = balance(remainder, bent, at=config.balance, most=config.most_balance)
    weight = jnp.prod(coarse_mm) ** (2 / 3) * jax.lax.stop_gradient(factor)
    v = solve_differentiable(a + config.damping * symmetric.IDENTITY, b, u, weight, coarse_mm)
    length = jnp.sqrt(jnp.sum((v / coarse_mm[:, None, None, None]) ** 2, axis=0) + 1e-12)
    v = v / jnp.maximum(1.0, length / config.longest_step)[None]
    return compose_fields(u, v, coarse_mm)


def _warped(channels: Channels, displaced: Displacement) -> Channels:
    """Channels at the displaced voxels; values and logits are sampled at once."""
    points = target_points(displaced)
    if channels.logits is None:
        return Channels(sample(channels.values, points), None)
    both = jnp.concatenate([channels.values, channels.logits], axis=-1)
    return Channels(*jnp.split(sample(both, points), 2, axis=-1))


def _normal_equations(fixed, warped, seen, spacing_mm):
    """A and b of the step on half of the grid: mean of w J J^T and of w J r in each voxel.

    The third is the mean of w r^2 where seen, a sum over the channels.
    """

    def add(total, one):  # one channel after the other: a program and the memory of one
        f, m, logits = one
        weight = seen if logits is None else seen * jnp.exp(logits)
        residual, middle = f - m, 0.5 * (f + m)
        slopes = image_gradient(middle, spacing=spacing_mm)
        square = jnp.sum(weight * residual**2)
        found = (*normal_equations(slopes, residual, weight), square)
        return tuple(map(jnp.add, total, found)), None

    half = tuple(n // 2 for n in seen.shape)
    logits = None if fixed.logits is None else fixed.logits + warped.logits
    first = jax.tree.map(
        lambda part: jnp.moveaxis(part, -1, 0), (fixed.values, warped.values, logits)
    )
    start = (jnp.zeros((6, *half)), jnp.zeros((3, *half)), jnp.zeros(()))
    a, b, squares = jax.lax.scan(add, start, first)[0]
    return a, b, squares / jnp.maximum(jnp.sum(seen), 1e-6)


@jax.custom_vjp
def solve_differentiable(
    a: Matrices, b: Field, u: Field, weight: Float[AnyArray, ""], spacing_mm: Vector
) -> Field:
    """`jaxreg.engine.multigrid.solve` with the derivative of the exact solution.

    v = (A + S)^-1 (b - S u), so with g the derivative by v and z = (A + S)^-1 g, that by b is z,
    that by A is -z v^T, and that by u is -S z = A z - g: one more solution instead of the memory
    of all iterations. The solver ends after a fixed number of steps, so what it computes has a
    derivative that differs from this one. `weight` and `spacing_mm` are constants.

    Args:
        a: A, positive definite in each voxel, 1/mm^2, (6, X, Y, Z).
        b: 1/mm, (3, X, Y, Z).
        u: the field so far, mm, (3, X, Y, Z).
        weight: of curvature in S, mm^2, ().
        spacing_mm: of the grid, mm, (3,).

    Returns:
        v, mm, (3, X, Y, Z).
    """
    return solve(a, b, u, weight=weight, spacing_mm=spacing_mm)


def _solve_forward(a, b, u, weight, spacing_mm):
    v = solve(a, b, u, weight=weight, spacing_mm=spacing_mm)
    return v, (a, v, weight, spacing_mm)


def _solve_backward(kept, g):
    a, v, weight, spacing_mm = kept
    z = solve(a, g, jnp.zeros_like(g), weight=weight, spacing_mm=spacing_mm)
    products = [z[i] * v[j] if i == j else z[i] * v[j] + z[j] * v[i] for i, j in symmetric.INDICES]
    az = symmetric.multiply(a, z)
    return -jnp.stack(products), z, az - g, jnp.zeros_like(weight), jnp.zeros_like(spacing_mm)


solve_differentiable.defvjp(_solve_forward, _solve_backward)
