"""A random breath for `jaxreg.training.synthetic`: v with psi(q) = q + v(q), moving to fixed.

Cranio-caudal motion with the measured profiles of `jaxreg.phantom.motion`, larger at the base
and at the back, plus random smooth parts of several sizes, weaker outside of the lungs; less its
best affine fit in the lungs, which prealignment takes away, plus a small random affine rest.
Everything is made in mm on half the network grid, whatever the level.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float, PRNGKeyArray

from jaxreg.ops.deformation import identity_grid
from jaxreg.ops.filters import binomial
from jaxreg.ops.jacobian import jacobian_determinant
from jaxreg.ops.pyramid import halve
from jaxreg.ops.types import AnyArray, Displacement, Image, Mask, Shape
from jaxreg.phantom.motion import POSTERIOR_GAIN, SUPERIOR_BY_HEIGHT_MM

PEAK_MM = (4.0, 50.0)  # of the cranio-caudal motion, uniform in its logarithm
PART = (12, 7, 4, 2)  # voxels of half the network grid between control points of the random parts
PART_MM = (3.0, 2.2, 1.3, 0.9)  # largest root mean square of each part
STEEPEST = 0.85  # most the Jacobian of v may reach in the lungs, so that nothing folds
REST_LINEAR = 0.012  # sd of the entries of the affine rest
REST_MM = 1.0  # sd of its shift
REACH = 2  # voxels of a quarter of the grid above and below the lungs that breathe with them


class Breath(NamedTuple):
    """A breath on the grid of a level.

    Attributes:
        v: moving to fixed, voxels, (X, Y, Z, 3).
        volume: how many times larger the tissue is in the fixed image, prealignment included.
    """

    v: Displacement
    volume: Image


def spread(points: Displacement, shape: Shape) -> Displacement:
    """Voxel coordinates of one grid in those of another over the same extent, `shape` voxels."""
    ratio = jnp.array([n / m for n, m in zip(shape, points.shape[:3], strict=True)])
    return (points + 0.5) * ratio[None, None, None] - 0.5


def waves(key: PRNGKeyArray, parts: Shape, shape: Shape, most: float) -> Displacement:
    """Random smooth vectors from `parts` control points, root mean square 0 to `most` each."""
    key_size, key_control = jax.random.split(key)
    size = most * jax.random.uniform(key_size, (3,))
    control = size[None, None, None] * jax.random.normal(key_control, (*parts, 3))
    return jax.image.resize(control, (*shape, 3), "cubic")


def draw_breath(
    key: PRNGKeyArray,
    lungs: Mask,
    spacing_mm: Float[AnyArray, "3"],
    shape: Shape,
    *,
    grid: Shape,
    level: int,
) -> Breath:
    """A breath drawn at random.

    Args:
        key: random key.
        lungs: on a quarter of the network grid.
        spacing_mm: millimetres a voxel of the level, (3,).
        shape: voxels of the level.
        grid: network grid.
        level: 1 (finest) to L.

    Returns:
        The breath on the grid of the level.
    """
    half = tuple(-(-n // 2) for n in grid)
    step_mm = spacing_mm * jnp.array([n / h for n, h in zip(shape, half, strict=True)])
    v = _draw_motion(key, lungs, half=half)
    v, volume = _aligned(jax.random.fold_in(key, 1), v, lungs, step_mm)
    return _at_level(v, volume, spacing_mm, grid=grid, level=level)


@functools.partial(jax.jit, static_argnames="half")
def _draw_motion(key, lungs, *, half):
    """All parts of the motion in mm."""
    keys = jax.random.split(key, 2 + len(PART))
    v = _superior(keys[0], lungs, half)
    for sub, part, most in zip(keys[2:], PART, PART_MM, strict=True):
        v += waves(sub, tuple(max(2, n // part) for n in half), half, most)
    return v * _fade(keys[1], lungs, half)[..., None]


@jax.jit
def _aligned(key, v, lungs, step_mm):
    """v in mm without folds and its affine part, and the volume change before that was taken."""
    inside = jax.image.resize(lungs.astype(jnp.float32), v.shape[:3], "linear")
    v *= _without_folds(v, inside, step_mm)
    volume = jnp.clip(jacobian_determinant(v / step_mm[None, None, None]), 0.2, 4.0)
    return _unaligned(key, v, inside, step_mm), volume


@functools.partial(jax.jit, static_argnames=("grid", "level"))
def _at_level(v, volume, spacing_mm, *, grid, level):
    """The breath brought from half the network grid to the level."""
    if level == 1:
        v = jax.image.resize(v, (*grid, 3), "cubic")
        volume = jax.image.resize(volume, grid, "linear")
    for _ in range(level - 2):
        v, volume = halve(v), halve(volume)
    return Breath(v / spacing_mm[None, None, None], volume)


def _superior(key, lungs, half):
    """Cranio-caudal motion, mm, either way (exhaling or inhaling), as vectors."""
    keys = jax.random.split(key, 6)
    x, y, z = (
        _relative(jnp.any(lungs, axis=tuple(a for a in range(3) if a != axis)), half[axis])
        for axis in range(3)
    )
    cases = SUPERIOR_BY_HEIGHT_MM / SUPERIOR_BY_HEIGHT_MM[:, :2].mean(axis=1, keepdims=True)
    shares = jax.random.dirichlet(keys[0], jnp.full(len(cases), 0.8))
    bins = jax.image.resize(shares @ jnp.asarray(cases, jnp.float32), (40,), "cubic")
    profile = jnp.interp(z, (jnp.arange(40) + 0.5) / 40, bins)
    low, high = PEAK_MM
    peak = low * (high / low) ** jax.random.uniform(keys[1])
    deep = jnp.clip((peak - 15.0) / 35.0, 0.0, 1.0)  # deep breaths move the lungs more evenly
    even = deep * jax.random.uniform(keys[5])
    profile = (1.0 - even) * profile + even * jnp.clip(1.0 - z, 0.0, 1.0)
    gain = jax.random.uniform(keys[2], minval=POSTERIOR_GAIN.min(), maxval=POSTERIOR_GAIN.max())
    front_to_back = jnp.exp(-gain * (1.0 - 0.6 * deep) * (y - 0.2))  # 1 near the back
    side = 2.0 * x - 1.0
    across = 1.0 + 0.1 * jax.random.normal(keys[3]) * jnp.tanh(2.0 * side)
    across -= 0.25 * jnp.exp(-((side / 0.35) ** 2))
    sign = jnp.where(jax.random.bernoulli(keys[4]), 1.0, -1.0)
    motion = (
        sign * peak * across[:, None, None] * front_to_back[None, :, None] * profile[None, None]
    )
    return motion[..., None] * jnp.array([0.0, 0.0, 1.0])[None, None, None]


def _relative(lung, n):
    """Place of n voxels along an axis between the first (0) and last (1) that has lung."""
    m = lung.shape[0]
    place = (jnp.arange(m) + 0.5) / m
    first = jnp.min(jnp.where(lung, place, 1.0))
    last = jnp.max(jnp.where(lung, place, 0.0))
    relative = ((jnp.arange(n) + 0.5) / n - first) / jnp.maximum(last - first, 0.1)
    return jnp.clip(relative, -0.1, 1.1)


def _fade(key, lungs, half):
    """1 in the lungs and above and below them, less (at random) in the wall beside them."""
    window = (1, 1, 2 * REACH + 1)
    near = jax.lax.reduce_window(
        lungs.astype(jnp.float32), 0.0, jax.lax.max, window, (1, 1, 1), "SAME"
    )
    near = jnp.clip(2.0 * binomial(near), 0.0, 1.0)
    strength = jnp.clip(jax.random.uniform(key, minval=-0.3), 0.0, 1.0)
    return 1.0 - strength * (1.0 - jax.image.resize(near, half, "linear"))


def _without_folds(v, inside, step_mm):
    """Factor that keeps the norm of the Jacobian of v below `STEEPEST` in the lungs."""
    slopes = [jnp.gradient(v, axis=axis) / step_mm[axis] for axis in range(3)]
    steepness = jnp.sqrt(sum(jnp.sum(slope**2, axis=-1) for slope in slopes))
    return jnp.minimum(1.0, STEEPEST / jnp.max(jnp.where(inside > 0.5, steepness, 1e-6)))


def _unaligned(key, v, inside, step_mm):
    """v less its best affine fit in the lungs, plus a small random affine map."""
    key_linear, key_shift = jax.random.split(key)
    middle = (jnp.array(v.shape[:3]) - 1.0) / 2.0
    x = (identity_grid(v.shape[:3]) - middle[None, None, None]) * step_mm[None, None, None]
    x = jnp.concatenate([x / 100.0, jnp.ones((*v.shape[:3], 1))], axis=-1)  # decimetres
    rows, weight = x.reshape(-1, 4), inside.reshape(-1, 1)
    normal = rows.T @ (weight * rows) + 1e-3 * jnp.eye(4)
    fit = jnp.linalg.solve(normal, rows.T @ (weight * v.reshape(-1, 3)))
    rest = 100.0 * REST_LINEAR * jax.random.normal(key_linear, (3, 3))
    rest = jnp.concatenate([rest, REST_MM * jax.random.normal(key_shift, (1, 3))])
    return v + x @ (rest - fit)
