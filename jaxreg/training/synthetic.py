"""A new training pair for every step, made on the device: anatomy, respiratory motion, scan.

From an anatomy s (`jaxreg.training.anatomies`) with random smooth maps a, another shape of it, and
psi, respiratory motion, on the grid of a level:

    fixed(x) = s(a(x)),    moving(q) = s(a(psi(q))),    psi(q) = q + v(q)

so that the moving point q is the fixed point psi(q): the ground truth at voxels q is exact and
nothing has to be inverted. v (`jaxreg.training.respiratory_motion`) is on the moving grid. Lung
density follows their volume, lesions lie on the fixed grid and move with it, and each image gets
its own kernel, contrast, noise and field of view. In some pairs the wall moves less than the
lungs, which slide along it, and in some a slab of the moving image shows another phase.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from jaxreg.config import SyntheticConfig
from jaxreg.geometry.lung_grid import AIR_HU
from jaxreg.ops.deformation import identity_grid, target_points
from jaxreg.ops.filters import binomial
from jaxreg.ops.interpolation import sample, sample_nearest
from jaxreg.ops.types import Image, Mask, Shape
from jaxreg.training.anatomies import LOBES, Anatomy
from jaxreg.training.augmentation import MIRRORED
from jaxreg.training.losses import Example
from jaxreg.training.respiratory_motion import draw_motion, spread, waves

ANATOMY_LATTICE = 24  # points along an axis between which a is linear
ANATOMY_PARTS = (6, 12)  # control points along an axis at both sizes


class Box(NamedTuple):
    """Box of an anatomy that becomes the grid of a level.

    Attributes:
        lower: where the first voxel of the level lies, in voxels of the anatomy, (3,).
        step: voxels of the anatomy a voxel of the level, (3,).
        mirror: whether left and right change sides, ().
        change: control displacements of a on a coarse lattice, voxels of the anatomy, (A, B, C, 3).
        spacing_mm: millimetres a voxel of the level, (3,).
    """

    lower: jax.Array
    step: jax.Array
    mirror: jax.Array
    change: jax.Array
    spacing_mm: jax.Array


def level_shape(grid: Shape, level: int) -> Shape:
    """Voxels of a level along each axis.

    Args:
        grid: network grid.
        level: 1 is the finest, with the voxels of `grid`; each coarser one has half of them.

    Returns:
        The shape.
    """
    for _ in range(level - 1):
        grid = tuple(-(-n // 2) for n in grid)
    return grid


def draw(
    key: PRNGKeyArray, anatomies: Anatomy, *, grid: Shape, level: int, config: SyntheticConfig
) -> Example:
    """A synthetic pair, drawn at random.

    Args:
        key: random key; at every level the same anatomy and motion come from it.
        anatomies: with a leading axis, of `load_anatomies` for this level.
        grid: network grid.
        level: on whose grid the pair is, 1 (finest) to L.
        config: settings of the stream.

    Returns:
        The pair; its keypoints are moving voxels and where they are in the fixed image. Those that
        an image does not show have the weight 0.
    """
    keys = jax.random.split(key, 9)
    shape = level_shape(grid, level)
    anatomy = _pick(keys[0], anatomies)
    box = _draw_box(keys[1], anatomy, shape=shape, config=config)
    lungs = _lungs(anatomy, box, shape=shape, coarse=tuple(-(-n // 4) for n in grid))
    settings = {"grid": grid, "level": level, "config": config}
    motion = draw_motion(keys[2], lungs, box.spacing_mm, shape, **settings)
    unmoved = jnp.zeros_like(motion.v)
    slab = _draw_slab(keys[7], shape=shape, config=config)
    fixed, fixed_lobes = _sample_anatomy(anatomy, box, unmoved, level=level)
    shown = motion.v * (1.0 - (1.0 - config.other_phase) * slab)[None, None, :, None]
    wall = _draw_wall(keys[8], config)
    moving, moving_lobes = _sample_sliding(anatomy, box, shown, wall, config.wall_hu, level=level)
    lesions = _draw_lesions(keys[3], box.spacing_mm, shape=shape, config=config)
    fixed = _paint(lesions, fixed, fixed_lobes, unmoved, jnp.ones(shape))
    moving = _paint(lesions, moving, moving_lobes, shown, motion.volume)
    fixed, fixed_seen = _scan(keys[4], fixed, level=level, config=config)
    moving, moving_seen = _scan(keys[5], moving, level=level, config=config)
    seen = (fixed_seen, moving_seen & (slab == 0.0)[None, None])
    images, lobes = (fixed, moving), (fixed_lobes, moving_lobes)
    return _example(keys[6], images, lobes, seen, motion.v, box.spacing_mm, config=config)


@jax.jit
def _pick(key, anatomies) -> Anatomy:
    index = jax.random.randint(key, (), 0, anatomies.hu.shape[0])
    anatomy = jax.tree.map(lambda a: a[index], anatomies)
    return anatomy._replace(hu=jnp.asarray(anatomy.hu, jnp.float32))


@functools.partial(jax.jit, static_argnames=("shape", "config"))
def _draw_box(key, anatomy, *, shape, config):
    keys = jax.random.split(key, 5)
    least, most = config.margin_mm
    margin = jax.random.uniform(keys[0], (2, 3), minval=least, maxval=most)
    lower = anatomy.box[0] - margin[0] / anatomy.spacing_mm
    step = (anatomy.box[1] + margin[1] / anatomy.spacing_mm - lower) / jnp.array(shape)
    size = 1.0 + config.size * jax.random.uniform(keys[1], (3,), minval=-1.0)
    lattice = (ANATOMY_LATTICE,) * 3
    relative = identity_grid(lattice) / _row(jnp.array(lattice) - 1.0) - 0.5  # -1/2 to 1/2
    extent_mm = jnp.array(shape) * step * anatomy.spacing_mm
    change = (relative * _row(extent_mm)) @ (config.turn * jax.random.normal(keys[2], (3, 3)))
    sizes = zip(jax.random.split(keys[3]), ANATOMY_PARTS, config.anatomy_mm, strict=True)
    for sub, parts, most in sizes:
        change += waves(sub, (parts,) * 3, lattice, most)
    return Box(
        lower=lower + 0.5 * step,
        step=step,
        mirror=jax.random.bernoulli(keys[4]),
        change=change / _row(anatomy.spacing_mm),
        spacing_mm=step * anatomy.spacing_mm * size,
    )


@functools.partial(jax.jit, static_argnames=("shape", "config"))
def _draw_slab(key, *, shape, config):
    """1 in the slices of the moving image that show another phase, 0 elsewhere, (Z,)."""
    keys = jax.random.split(key, 3)
    z = (jnp.arange(shape[2]) + 0.5) / shape[2]
    first = jax.random.uniform(keys[0])
    thickness = jax.random.uniform(keys[1], minval=config.slab[0], maxval=config.slab[1])
    there = jax.random.bernoulli(keys[2], config.binning)
    return (there & (z > first) & (z < first + thickness)).astype(jnp.float32)


@functools.partial(jax.jit, static_argnames="config")
def _draw_wall(key, config):
    """Motion of the wall as a fraction of that of the lungs beside it."""
    key_slides, key_fraction = jax.random.split(key)
    slides = jax.random.bernoulli(key_slides, config.sliding)
    return jnp.where(slides, jax.random.uniform(key_fraction), 1.0)


def _position(box, points, shape):
    """Voxels of the anatomy, a(p), of points of the level (X, Y, Z, 3)."""
    ratio = jnp.array([m / n for m, n in zip(box.change.shape, shape, strict=False)])
    change = sample(box.change, (points + 0.5) * _row(ratio) - 0.5)
    left = points[..., 0]
    x = jnp.where(box.mirror, shape[0] - 1.0 - left, left)
    points = jnp.concatenate([x[..., None], points[..., 1:]], axis=-1)
    return _row(box.lower) + points * _row(box.step) + change


def _lobes(anatomy, box, position):
    """Label at voxels of the anatomy, the nearest; changed where the anatomy is mirrored."""
    labels = sample_nearest(anatomy.labels, position)
    mirrored = jnp.array((0, *MIRRORED[LOBES]), labels.dtype)[labels]
    return jnp.where(box.mirror, mirrored, labels)


@functools.partial(jax.jit, static_argnames=("shape", "coarse"))
def _lungs(anatomy, box, *, shape, coarse):
    """Where the lungs are on a coarse grid over the box."""
    points = spread(identity_grid(coarse), shape)
    return _lobes(anatomy, box, _position(box, points, shape)) > 0


@functools.partial(jax.jit, static_argnames="level")
def _sample_anatomy(anatomy, box, v, *, level):
    """Image and lobes at a(x + v(x))."""
    position = _position(box, target_points(v), v.shape[:3])
    scale = 2.0 ** max(level - 2, 0)  # labels stay on the fine grid of the anatomy
    image = sample(anatomy.hu, (position + 0.5) / scale - 0.5)
    return image, _lobes(anatomy, box, position)


@functools.partial(jax.jit, static_argnames="level")
def _sample_sliding(anatomy, box, v, wall, wall_hu, *, level):
    """The same where the wall moves by a fraction of v; what lung leaves open is wall."""
    image, lobes = _sample_anatomy(anatomy, box, v, level=level)
    outside, lobes_outside = _sample_anatomy(anatomy, box, wall * v, level=level)
    outside = jnp.where(lobes_outside > 0, wall_hu, outside)
    return jnp.where((lobes > 0) | (wall == 1.0), image, outside), lobes


@functools.partial(jax.jit, static_argnames=("shape", "config"))
def _draw_lesions(key, spacing_mm, *, shape, config):
    """Centres and radii in voxels of the level, HU and strength, each with a leading axis."""
    keys = jax.random.split(key, 6)
    count, size = config.lesions, jnp.array(shape, jnp.float32)
    centres = jax.random.uniform(keys[0], (count, 3)) * size[None]
    least, most = config.lesion_mm
    radii_mm = least * (most / least) ** jax.random.uniform(keys[1], (count, 1))
    radii_mm *= jax.random.uniform(keys[2], (count, 3), minval=0.7, maxval=1.4)
    hu = jax.random.choice(keys[3], jnp.array(config.lesion_hu), (count,))
    there = jax.random.bernoulli(keys[4], config.lesion, (count,))
    strength = there * jax.random.uniform(keys[5], (count,), minval=0.3)
    return centres, radii_mm / spacing_mm[None], hu, strength


@jax.jit
def _paint(lesions, image, lobes, v, volume):
    """The image with lesions, which keep to the lungs, then of less density where these grew."""
    points = target_points(v)
    for centre, radius, hu, strength in zip(*lesions, strict=True):
        distance = jnp.sqrt(jnp.sum(((points - _row(centre)) / _row(radius)) ** 2, axis=-1) + 1e-6)
        inside = jnp.clip((1.1 - distance) / 0.2, 0.0, 1.0) * (lobes > 0)
        image = image + strength * inside * (hu - image)
    air = jnp.clip((-300.0 - image) / 300.0, 0.0, 1.0) * (lobes > 0)
    return (image + 1000.0) * (1.0 + air * (volume - 1.0)) - 1000.0


@functools.partial(jax.jit, static_argnames=("level", "config"))
def _scan(key, image, *, level, config) -> tuple[Image, Mask]:
    """The image as one scanner shows it (kernel, contrast, noise), and its field of view."""
    keys = jax.random.split(key, 7)
    sharpen = config.kernel * jax.random.uniform(keys[0], minval=-1.0) / level
    scale = 1.0 + config.contrast * jax.random.normal(keys[1])
    offset = config.offset_hu * jax.random.normal(keys[2])
    image = (image + sharpen * (image - binomial(image)) + 1000.0) * scale - 1000.0 + offset
    # independent noise falls with each halving, that of a soft kernel by less
    most = config.noise_hu * 0.35 ** (level - 1) * jax.random.uniform(keys[3])
    image = image + most * jax.random.normal(keys[4], image.shape)
    cut = jax.random.bernoulli(keys[5], config.cut, (2, 3)) * config.cut_depth
    # the far end of the margin is often outside of the field of view as well
    depth = jax.random.uniform(keys[6], (2, 3)) * jnp.maximum(cut, 0.06) - 0.03
    seen = jnp.ones(image.shape, bool)
    for axis, n in enumerate(image.shape):
        relative = (jnp.arange(n) + 0.5) / n
        here = (relative > depth[0, axis]) & (relative < 1.0 - depth[1, axis])
        seen &= jnp.expand_dims(here, [a for a in range(3) if a != axis])
    return jnp.where(seen, jnp.maximum(image, AIR_HU), AIR_HU), seen


@functools.partial(jax.jit, static_argnames="config")
def _example(key, images, lobes, seen, v, spacing_mm, *, config) -> Example:
    """The pair with keypoints at voxels of the moving lungs; sometimes an image and itself."""
    key_same, key_points = jax.random.split(key)
    same = jax.random.bernoulli(key_same, config.identical)
    fixed, moving = images[0], jnp.where(same, *images)
    moving_lobes = jnp.where(same, *lobes)
    q, found = _draw_voxels(key_points, moving_lobes > 0, config.keypoints)
    p = q + sample(jnp.where(same, 0.0, v), q)
    last = jnp.array(fixed.shape)[None] - 1.0
    shown = found & jnp.all((p >= 0.0) & (p <= last), axis=-1)
    shown &= sample_nearest(seen[0], p) & sample_nearest(jnp.where(same, *seen), q)
    return Example(
        fixed=fixed,
        moving=moving,
        mask=(lobes[0] > 0).astype(jnp.float32),
        fixed_labels=_one_hot(lobes[0]),
        moving_labels=_one_hot(moving_lobes),
        fixed_keypoints=p,
        moving_keypoints=q,
        keypoint_weights=shown.astype(jnp.float32),
        spacing_mm=spacing_mm,
    )


def _row(vector):
    return vector[None, None, None]


def _one_hot(lobes):
    return (lobes[..., None] == _row(jnp.arange(1, LOBES + 1))).astype(jnp.float32)


def _draw_voxels(key, mask, number):
    """Voxels (N, 3) of the mask drawn with replacement, and whether there is any."""
    count = jnp.cumsum(mask.reshape(-1).astype(jnp.int32))
    rank = jax.random.randint(key, (number,), 0, jnp.maximum(count[-1], 1))
    index = jnp.minimum(jnp.searchsorted(count, rank, side="right"), mask.size - 1)
    points = jnp.stack(jnp.unravel_index(index, mask.shape), axis=-1).astype(jnp.float32)
    return points, count[-1] > 0
