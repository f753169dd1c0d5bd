"""Random residual motion for `jaxreg.training.synthetic`: psi(q) = q + v(q), moving to fixed.

What respiration leaves after prealignment has a smooth part, here a cubic polynomial and measured
cranio-caudal profiles, larger at the base and at the back, and a part of random waves of several
lengths. Both lose their best affine fit in the lungs; the whole is brought to a root mean square
that is drawn, and a small affine map is added, as prealignment is not perfect. Everything is made
in mm on half the network grid, whatever the level.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float, PRNGKeyArray

from jaxreg.config import SyntheticConfig
from jaxreg.ops.deformation import identity_grid
from jaxreg.ops.jacobian import jacobian_determinant
from jaxreg.ops.pyramid import halve
from jaxreg.ops.types import AnyArray, Displacement, Image, Mask, Shape
from jaxreg.phantom.motion import POSTERIOR_GAIN, SUPERIOR_BY_HEIGHT_MM

AXES = (0.35, 0.8, 1.0)  # size of the polynomial along x, y and z
_VOLUME = (0.2, 4.0)  # least and greatest growth of tissue


class RespiratoryMotion(NamedTuple):
    """Motion on the grid of a level.

    Attributes:
        v: moving to fixed, voxels, (X, Y, Z, 3).
        volume: how many times larger the tissue is in the fixed image, prealignment included.
    """

    v: Displacement
    volume: Image


def spread(points: Displacement, shape: Shape) -> Displacement:
    """Voxel coordinates of one grid in those of another over the same extent.

    Args:
        points: voxels of the grid (X, Y, Z) that they lie on, (X, Y, Z, 3).
        shape: voxels of the other grid.

    Returns:
        Points, voxels of the other grid, (X, Y, Z, 3).
    """
    ratio = jnp.array([n / m for n, m in zip(shape, points.shape[:3], strict=True)])
    return (points + 0.5) * ratio[None, None, None] - 0.5


def waves(key: PRNGKeyArray, parts: Shape, shape: Shape, most: float) -> Displacement:
    """Random smooth vectors, interpolated from control points.

    Args:
        key: random key.
        parts: control points along each axis.
        shape: voxels along each axis.
        most: root mean square of a component is drawn from 0 to this.

    Returns:
        Vectors in the unit of `most`, (X, Y, Z, 3).
    """
    key_size, key_control = jax.random.split(key)
    size = most * jax.random.uniform(key_size, (3,))
    control = size[None, None, None] * jax.random.normal(key_control, (*parts, 3))
    return jax.image.resize(control, (*shape, 3), "cubic")


def draw_motion(
    key: PRNGKeyArray,
    lungs: Mask,
    spacing_mm: Float[AnyArray, "3"],
    shape: Shape,
    *,
    grid: Shape,
    level: int,
    config: SyntheticConfig,
) -> RespiratoryMotion:
    """Respiratory motion drawn at random.

    Args:
        key: random key.
        lungs: on a quarter of the network grid.
        spacing_mm: millimetres a voxel of the level, (3,).
        shape: voxels of the level.
        grid: network grid.
        level: 1 (finest) to L.
        config: settings of the stream.

    Returns:
        The motion on the grid of the level.
    """
    half = tuple(-(-n // 2) for n in grid)
    step_mm = spacing_mm * jnp.array([n / h for n, h in zip(shape, half, strict=True)])
    v, volume = _draw_residual(key, lungs, step_mm, half=half, config=config)
    return _at_level(v, volume, spacing_mm, grid=grid, level=level)


@functools.partial(jax.jit, static_argnames=("half", "config"))
def _draw_residual(key, lungs, step_mm, *, half, config):
    """The residual in mm and the volume change."""
    keys = jax.random.split(key, 7)
    inside = jax.image.resize(lungs.astype(jnp.float32), half, "linear")
    relative = [
        _relative(jnp.any(lungs, axis=tuple(a for a in range(3) if a != axis)), half[axis])
        for axis in range(3)
    ]
    smooth = _unit(_polynomial(keys[0], relative), inside, step_mm)
    smooth += _unit(_superior(keys[1], relative), inside, step_mm)
    smooth = _unit(smooth, inside, step_mm)
    rough = _unit(_rough(keys[2], half, config), inside, step_mm)
    power = jax.random.uniform(keys[3], minval=config.smooth[0], maxval=config.smooth[1])
    v = jnp.sqrt(power) * smooth + jnp.sqrt(1.0 - power) * rough
    low, high = config.residual_mm
    v = low * (high / low) ** jax.random.uniform(keys[4]) * v
    v *= _without_folds(v, inside, step_mm, config.steepest)
    linear = config.breath * jax.random.normal(keys[5], (3, 3)) * jnp.eye(3)
    x_mm = _centred_mm(half, step_mm)
    volume = jacobian_determinant((v + x_mm @ linear) / step_mm[None, None, None])
    key_linear, key_shift = jax.random.split(keys[6])
    left = config.linear * jax.random.normal(key_linear, (3, 3))
    shift_mm = config.shift_mm * jax.random.normal(key_shift, (3,))
    return v + x_mm @ left + shift_mm[None, None, None], jnp.clip(volume, *_VOLUME)


@functools.partial(jax.jit, static_argnames=("grid", "level"))
def _at_level(v, volume, spacing_mm, *, grid, level):
    """The motion brought from half the network grid to the level."""
    if level == 1:
        v = jax.image.resize(v, (*grid, 3), "cubic")
        volume = jax.image.resize(volume, grid, "linear")
    for _ in range(level - 2):
        v, volume = halve(v), halve(volume)
    return RespiratoryMotion(v / spacing_mm[None, None, None], volume)


def _polynomial(key, relative):
    """Random polynomials of degree three in the position in the lungs' box."""
    powers = [(i, j, k) for i in range(4) for j in range(4 - i) for k in range(4 - i - j)]
    powers = [power for power in powers if sum(power) >= 2]
    x, y, z = ([(2.0 * place - 1.0) ** n for n in range(4)] for place in relative)
    size = jnp.array(AXES)[None] * jax.random.normal(key, (len(powers), 3))
    terms = [x[i][:, None, None] * y[j][None, :, None] * z[k][None, None] for i, j, k in powers]
    return sum(t[..., None] * c[None, None, None] for t, c in zip(terms, size, strict=True))


def _superior(key, relative):
    """Cranio-caudal motion, either way (exhaling or inhaling), as vectors."""
    keys = jax.random.split(key, 4)
    x, y, z = relative
    cases = SUPERIOR_BY_HEIGHT_MM / SUPERIOR_BY_HEIGHT_MM[:, :2].mean(axis=1, keepdims=True)
    fractions = jax.random.dirichlet(keys[0], jnp.full(len(cases), 0.8))
    bins = jax.image.resize(fractions @ jnp.asarray(cases, jnp.float32), (40,), "cubic")
    profile = jnp.interp(z, (jnp.arange(40) + 0.5) / 40, bins)
    gain = jax.random.uniform(keys[1], minval=POSTERIOR_GAIN.min(), maxval=POSTERIOR_GAIN.max())
    front_to_back = jnp.exp(-gain * (y - 0.2))  # 1 near the back
    side = 2.0 * x - 1.0
    across = 1.0 + 0.1 * jax.random.normal(keys[2]) * jnp.tanh(2.0 * side)
    across -= 0.25 * jnp.exp(-((side / 0.35) ** 2))
    sign = jnp.where(jax.random.bernoulli(keys[3]), 1.0, -1.0)
    motion = sign * across[:, None, None] * front_to_back[None, :, None] * profile[None, None]
    return motion[..., None] * jnp.array([0.0, 0.0, 1.0])[None, None, None]


def _rough(key, half, config):
    """Waves of all lengths; the longer, the larger, and sizes at random."""
    total = jnp.zeros((*half, 3))
    for sub, length in zip(jax.random.split(key, len(config.waves)), config.waves, strict=True):
        parts = tuple(max(2, round(n / length)) for n in half)
        total += waves(sub, parts, half, length**config.roughness)
    return total


def _relative(lung, n):
    """Position of n voxels along an axis between the first (0) and last (1) that has lung."""
    m = lung.shape[0]
    place = (jnp.arange(m) + 0.5) / m
    first = jnp.min(jnp.where(lung, place, 1.0))
    last = jnp.max(jnp.where(lung, place, 0.0))
    relative = ((jnp.arange(n) + 0.5) / n - first) / jnp.maximum(last - first, 0.1)
    return jnp.clip(relative, -0.1, 1.1)


def _without_folds(v, inside, step_mm, steepest):
    """Factor that keeps the norm of the Jacobian of v below `steepest` in the lungs."""
    slopes = [jnp.gradient(v, axis=axis) / step_mm[axis] for axis in range(3)]
    steepness = jnp.sqrt(sum(jnp.sum(slope**2, axis=-1) for slope in slopes))
    return jnp.minimum(1.0, steepest / jnp.max(jnp.where(inside > 0.5, steepness, 1e-6)))


def _centred_mm(shape, step_mm):
    """Position of each voxel from the middle of the grid, mm."""
    middle = (jnp.array(shape) - 1.0) / 2.0
    return (identity_grid(shape) - middle[None, None, None]) * step_mm[None, None, None]


def _unit(v, inside, step_mm):
    """v less its best affine fit in the lungs, scaled to a root mean square of 1 there."""
    x = _centred_mm(v.shape[:3], step_mm) / 100.0  # decimetres
    x = jnp.concatenate([x, jnp.ones((*v.shape[:3], 1))], axis=-1)
    rows, weight = x.reshape(-1, 4), inside.reshape(-1, 1)
    normal = rows.T @ (weight * rows) + 1e-3 * jnp.eye(4)
    v = v - x @ jnp.linalg.solve(normal, rows.T @ (weight * v.reshape(-1, 3)))
    square = jnp.sum(inside[..., None] * v**2) / jnp.maximum(jnp.sum(inside), 1.0)
    return v / jnp.sqrt(square + 1e-12)
