"""A new training pair for every step, drawn on the device: anatomy at rest, breath, scan.

From a still s (`jaxreg.training.anatomies`) with random smooth maps a, another anatomy, and psi, a
breath, on the grid of a level:

    fixed(x) = s(a(x)),    moving(q) = s(a(psi(q))),    psi(q) = q + v(q)

so that the moving point q is the fixed point psi(q): the truth at voxels q is exact and nothing has
to be inverted. v (`jaxreg.training.respiratory_motion`) is on the moving grid. Lung density
follows their volume, lesions lie on the fixed grid and move with it, and each image gets its own
kernel, contrast, noise and field of view.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from jaxreg.geometry.lung_grid import AIR_HU
from jaxreg.ops.deformation import identity_grid, target_points
from jaxreg.ops.filters import binomial
from jaxreg.ops.interpolation import sample, sample_nearest
from jaxreg.ops.types import Image, Shape
from jaxreg.training.anatomies import LOBES, Still
from jaxreg.training.augmentation import MIRRORED
from jaxreg.training.losses import Example
from jaxreg.training.respiratory_motion import draw_breath, spread, waves

KEYPOINTS = 2048
IDENTICAL = 1 / 16  # share of pairs of one image with itself, which must not move
SIZE = 0.15  # most by which a person is larger or smaller along an axis
FRAME_MM = (4.0, 30.0)  # between lungs and face of the frame
TURN = 0.04  # sd of the entries of the linear part of a
ANATOMY_MM = (8.0, 2.5)  # largest root mean square of a at the first and second size
ANATOMY_LATTICE = 24  # points along an axis between which a is linear
ANATOMY_PARTS = (6, 12)  # control points along an axis at both sizes
LESIONS = 4  # at most
LESION = 0.25  # probability of each
LESION_HU = (40.0, -500.0, -960.0)  # solid, ground glass, emphysema
KERNEL = 0.7  # most smoothing or sharpening
CONTRAST = 0.04  # sd of the intensity scale about -1000 HU
OFFSET_HU = 10.0  # sd of the intensity shift
NOISE_HU = 45.0  # largest sd of the noise on the network grid
CUT = 0.1  # probability that a field of view ends within the lungs' box at a face of the frame
CUT_DEPTH = 0.3  # how far in at most, as a share of the frame


class Frame(NamedTuple):
    """Box of a still that becomes the grid of a level.

    Attributes:
        lower: place of the first voxel of the level in voxels of the still, (3,).
        step: voxels of the still a voxel of the level, (3,).
        mirror: whether left and right change places, ().
        anatomy: control displacements of a on a coarse lattice, voxels of the still, (A, B, C, 3).
        spacing_mm: millimetres a voxel of the level, (3,).
    """

    lower: jax.Array
    step: jax.Array
    mirror: jax.Array
    anatomy: jax.Array
    spacing_mm: jax.Array


def level_shape(grid: Shape, level: int) -> Shape:
    """Voxels of a level."""
    for _ in range(level - 1):
        grid = tuple(-(-n // 2) for n in grid)
    return grid


def draw(key: PRNGKeyArray, bank: Still, *, grid: Shape, level: int) -> Example:
    """A pair drawn at random.

    Args:
        key: random key; at every level the same anatomy and breath come from it.
        bank: stills with a leading axis, of `load_bank` for this level.
        grid: network grid.
        level: on whose grid the pair is, 1 (finest) to L.

    Returns:
        The pair; its keypoints are moving voxels and where they are in the fixed image.
    """
    keys = jax.random.split(key, 8)
    shape = level_shape(grid, level)
    still = _pick(keys[0], bank)
    frame = _draw_frame(keys[1], still, shape=shape)
    lungs = _lungs(still, frame, shape=shape, coarse=tuple(-(-n // 4) for n in grid))
    breath = draw_breath(keys[2], lungs, frame.spacing_mm, shape, grid=grid, level=level)
    fixed, fixed_lobes = _sample_still(still, frame, jnp.zeros_like(breath.v), level=level)
    moving, moving_lobes = _sample_still(still, frame, breath.v, level=level)
    lesions = _draw_lesions(keys[3], frame.spacing_mm, shape=shape)
    fixed = _paint(lesions, fixed, fixed_lobes, jnp.zeros_like(breath.v), jnp.ones(shape))
    moving = _paint(lesions, moving, moving_lobes, breath.v, breath.volume)
    fixed = _scan(keys[4], fixed, level=level)
    moving = _scan(keys[5], moving, level=level)
    return _example(keys[6], fixed, moving, fixed_lobes, moving_lobes, breath.v, frame.spacing_mm)


@jax.jit
def _pick(key, bank) -> Still:
    number = jax.random.randint(key, (), 0, bank.hu.shape[0])
    still = jax.tree.map(lambda a: a[number], bank)
    return still._replace(hu=jnp.asarray(still.hu, jnp.float32))


@functools.partial(jax.jit, static_argnames="shape")
def _draw_frame(key, still, *, shape):
    keys = jax.random.split(key, 5)
    margin = jax.random.uniform(keys[0], (2, 3), minval=FRAME_MM[0], maxval=FRAME_MM[1])
    lower = still.box[0] - margin[0] / still.spacing_mm
    step = (still.box[1] + margin[1] / still.spacing_mm - lower) / jnp.array(shape)
    size = 1.0 + SIZE * jax.random.uniform(keys[1], (3,), minval=-1.0)
    lattice = (ANATOMY_LATTICE,) * 3
    place = identity_grid(lattice) / _row(jnp.array(lattice) - 1.0) - 0.5  # -1/2 to 1/2
    extent_mm = jnp.array(shape) * step * still.spacing_mm
    anatomy = (place * _row(extent_mm)) @ (TURN * jax.random.normal(keys[2], (3, 3)))
    for sub, parts, most in zip(jax.random.split(keys[3]), ANATOMY_PARTS, ANATOMY_MM, strict=True):
        anatomy += waves(sub, (parts,) * 3, lattice, most)
    return Frame(
        lower=lower + 0.5 * step,
        step=step,
        mirror=jax.random.bernoulli(keys[4]),
        anatomy=anatomy / _row(still.spacing_mm),
        spacing_mm=step * still.spacing_mm * size,
    )


def _place(frame, points, shape):
    """Voxels of the still, a(p), of points of the level (X, Y, Z, 3)."""
    ratio = jnp.array([m / n for m, n in zip(frame.anatomy.shape, shape, strict=False)])
    change = sample(frame.anatomy, (points + 0.5) * _row(ratio) - 0.5)
    left = points[..., 0]
    x = jnp.where(frame.mirror, shape[0] - 1.0 - left, left)
    points = jnp.concatenate([x[..., None], points[..., 1:]], axis=-1)
    return _row(frame.lower) + points * _row(frame.step) + change


def _lobes(still, frame, place):
    """Label at voxels of the still, the nearest; names changed where the still is mirrored."""
    names = sample_nearest(still.labels, place)
    mirrored = jnp.array((0, *MIRRORED[LOBES]), names.dtype)[names]
    return jnp.where(frame.mirror, mirrored, names)


@functools.partial(jax.jit, static_argnames=("shape", "coarse"))
def _lungs(still, frame, *, shape, coarse):
    """Where the lungs are on a coarse grid over the frame."""
    return _lobes(still, frame, _place(frame, spread(identity_grid(coarse), shape), shape)) > 0


@functools.partial(jax.jit, static_argnames="level")
def _sample_still(still, frame, v, *, level):
    """Image and lobes at a(x + v(x))."""
    place = _place(frame, target_points(v), v.shape[:3])
    scale = 2.0 ** max(level - 2, 0)  # labels stay on the fine grid of the still
    return sample(still.hu, (place + 0.5) / scale - 0.5), _lobes(still, frame, place)


@functools.partial(jax.jit, static_argnames="shape")
def _draw_lesions(key, spacing_mm, *, shape):
    """Centres and radii in voxels of the level, HU and strength, each with a leading axis."""
    keys = jax.random.split(key, 5)
    size = jnp.array(shape, jnp.float32)
    centres = jax.random.uniform(keys[0], (LESIONS, 3)) * size[None]
    radii_mm = 4.0 * 12.0 ** jax.random.uniform(keys[1], (LESIONS, 1))  # 4 to 48 mm
    radii_mm *= jax.random.uniform(keys[2], (LESIONS, 3), minval=0.7, maxval=1.4)
    hu = jax.random.choice(keys[3], jnp.array(LESION_HU), (LESIONS,))
    strength = jax.random.uniform(keys[4], (LESIONS,), minval=-1.0, maxval=LESION / (1 - LESION))
    return centres, radii_mm / spacing_mm[None], hu, jnp.clip(8.0 * strength, 0.0, 1.0)


@jax.jit
def _paint(lesions, image, names, v, volume):
    """The image with lesions, which keep to the lungs, then of less density where these grew."""
    points = target_points(v)
    for centre, radius, hu, strength in zip(*lesions, strict=True):
        distance = jnp.sqrt(jnp.sum(((points - _row(centre)) / _row(radius)) ** 2, axis=-1) + 1e-6)
        inside = jnp.clip((1.1 - distance) / 0.2, 0.0, 1.0) * (names > 0)
        image = image + strength * inside * (hu - image)
    air = jnp.clip((-300.0 - image) / 300.0, 0.0, 1.0) * (names > 0)
    return (image + 1000.0) * (1.0 + air * (volume - 1.0)) - 1000.0


@functools.partial(jax.jit, static_argnames="level")
def _scan(key, image, *, level) -> Image:
    """The image as one scanner shows it: kernel, contrast, noise, field of view."""
    keys = jax.random.split(key, 7)
    sharpen = KERNEL * jax.random.uniform(keys[0], minval=-1.0) / level
    scale = 1.0 + CONTRAST * jax.random.normal(keys[1])
    offset = OFFSET_HU * jax.random.normal(keys[2])
    image = (image + sharpen * (image - binomial(image)) + 1000.0) * scale - 1000.0 + offset
    # independent noise falls with each halving, that of a soft kernel by less
    most = NOISE_HU * 0.35 ** (level - 1) * jax.random.uniform(keys[3])
    noise = jax.random.normal(keys[4], image.shape)
    image = image + most * noise
    cut = jax.random.bernoulli(keys[5], CUT, (2, 3)) * CUT_DEPTH
    # the far end of the margin is often outside of the field of view as well
    depth = jax.random.uniform(keys[6], (2, 3)) * jnp.maximum(cut, 0.06) - 0.03
    for axis, n in enumerate(image.shape):
        place = (jnp.arange(n) + 0.5) / n
        seen = (place > depth[0, axis]) & (place < 1.0 - depth[1, axis])
        image = jnp.where(jnp.expand_dims(seen, [a for a in range(3) if a != axis]), image, AIR_HU)
    return jnp.maximum(image, AIR_HU)


@jax.jit
def _example(key, fixed, moving, fixed_lobes, moving_lobes, v, spacing_mm) -> Example:
    """The pair with keypoints at voxels of the moving lungs; sometimes an image and itself."""
    key_same, key_points = jax.random.split(key)
    same = jax.random.bernoulli(key_same, IDENTICAL)
    moving = jnp.where(same, fixed, moving)
    moving_lobes = jnp.where(same, fixed_lobes, moving_lobes)
    q, found = _draw_voxels(key_points, moving_lobes > 0)
    p = q + sample(jnp.where(same, 0.0, v), q)
    within = jnp.all((p >= 0.0) & (p <= jnp.array(fixed.shape)[None] - 1.0), axis=-1)
    return Example(
        fixed=fixed,
        moving=moving,
        mask=(fixed_lobes > 0).astype(jnp.float32),
        fixed_labels=_shares(fixed_lobes),
        moving_labels=_shares(moving_lobes),
        fixed_keypoints=p,
        moving_keypoints=q,
        keypoint_weights=(within & found).astype(jnp.float32),
        spacing_mm=spacing_mm,
    )


def _row(vector):
    return vector[None, None, None]


def _shares(names):
    return (names[..., None] == _row(jnp.arange(1, LOBES + 1))).astype(jnp.float32)


def _draw_voxels(key, mask):
    """Voxels (N, 3) of the mask drawn with replacement, and whether there is any."""
    count = jnp.cumsum(mask.reshape(-1).astype(jnp.int32))
    rank = jax.random.randint(key, (KEYPOINTS,), 0, jnp.maximum(count[-1], 1))
    index = jnp.minimum(jnp.searchsorted(count, rank, side="right"), mask.size - 1)
    return jnp.stack(jnp.unravel_index(index, mask.shape), axis=-1).astype(jnp.float32), count[
        -1
    ] > 0
