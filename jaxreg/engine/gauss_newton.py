"""Instance optimisation: registration of one pair by Gauss-Newton steps, coarse to fine.

Minimised over the displacement u in millimetres, level by level, h being the voxel size of u,

    mean over the lungs of (1 - LNCC^2) / 2  +  smoothness h^2 / 2  mean of |Laplace u|^2

as far as both images show lung; where one does not, u returns to 0 over a distance `anchor_mm`
(curvature regularisation, Fischer and Modersitzki 2003, as in Ruehaak et al. 2017 and Hering et
al. 2021, here with Gauss-Newton and LNCC instead of L-BFGS and NGF). The weight grows as h^2
because the squared slopes of a standardised image fall so; the shortest wave the data decide then
stays a fixed number of voxels. It also follows the pair: a field that has proved to bend more is
smoothed less, an image that is noisier more (`jaxreg.engine.balance`). The images of a level have
voxels of h / 2. Each step solves

    (A + S) v = b - S u,   A = mean of J J^T and b = mean of J r in each voxel of u, S smoothness,

and y <- y o (id + f v): the composition of small smooth steps stays one-to-one. Late steps shrink
by a nearly constant ratio, which f sums up (`_extrapolation`). Keypoints add springs to A and b.
What is compared is a function of an image, `Features`, called once for each image and level: by
default the standardised image, so that the sum of squares is that of LNCC. Internally fields are
(3, X, Y, Z) in millimetres.
"""

import functools
import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from jaxreg.config import OptimiserConfig
from jaxreg.engine.balance import balance, bending
from jaxreg.engine.features import Channels, Features, standardised_image
from jaxreg.engine.lncc import linearised_lncc
from jaxreg.engine.multigrid import solve
from jaxreg.engine.normal_equations import normal_equations
from jaxreg.ops.deformation import inside, warp
from jaxreg.ops.filters import binomial, box_mean
from jaxreg.ops.interpolation import resize, sample
from jaxreg.ops.millimetres import (
    Field,
    compose_fields,
    millimetres_first,
    resize_field,
    voxels_last,
)
from jaxreg.ops.precision import in_32_bits
from jaxreg.ops.programs import Kept
from jaxreg.ops.pyramid import double, mean_2x2x2
from jaxreg.ops.symmetric import IDENTITY
from jaxreg.ops.types import AnyArray, Displacement, Image, Mask, Points, Scalar, Shape, Spacing

MULTIPLE = 8  # of the shape of a level: halved once for u, twice in the solver


class _Level(NamedTuple):
    """One resolution: features of both images, and masks.

    Lungs of both images are compared on the grid of u, half of that of the images.
    """

    fixed: Channels
    moving: Channels
    mask: Image
    lungs: Float[AnyArray, "x y z"]
    moving_lungs: Float[AnyArray, "x y z"] | None
    spacing_mm: Float[AnyArray, "3"]


class _Pulls(NamedTuple):
    """Keypoints: places from the corner of the grid and displacements, both mm, (N, 3)."""

    places_mm: Points
    shifts_mm: Points


@in_32_bits
def refine(
    fixed: Image,
    moving: Image,
    mask: Mask,
    *,
    spacing_mm: Spacing,
    moving_mask: Mask | None = None,
    initial: Displacement | None = None,
    keypoints: tuple[Points, Points] | None = None,
    features: Features | None = None,
    config: OptimiserConfig = OptimiserConfig(),
) -> Displacement:
    """Displacement that aligns a pair, by optimisation on the pair itself.

    A pure function; finite for any finite images (0 where nothing is to be seen, 0 for an empty
    mask).

    Args:
        fixed: HU, (X, Y, Z).
        moving: HU on the same grid, linearly prealigned.
        mask: where the images must agree, nonzero in the lungs of the fixed image, (X, Y, Z).
        spacing_mm: voxel size along each axis, mm.
        moving_mask: the same of the moving image; the images are compared where both show lung
            (`both_show`). The moving image shows lung everywhere if None.
        initial: displacement to start from, voxels, (X, Y, Z, 3); zero if None.
        keypoints: points of the fixed image and those of the moving one to which they belong,
            voxels of this grid, (N, 3) each; they pull towards each other.
        features: what is compared, a function from an image (X, Y, Z) in HU to channels
            (C, X, Y, Z) of mean 0 and deviation about 1 in each window, called at every level; a
            `jax.tree_util.Partial` where it has parameters. The standardised image if None.
        config: settings, static under `jax.jit`.

    Returns:
        u in voxels, (X, Y, Z, 3).

    Raises:
        ValueError: the arrays do not share a grid.
    """
    shape = fixed.shape
    masks = [mask] if moving_mask is None else [mask, moving_mask]
    if any(image.shape != shape for image in (moving, *masks)):
        raise ValueError(
            f"fixed, moving and masks must share a grid: got shapes {shape}, {moving.shape} and "
            f"{', '.join(str(m.shape) for m in masks)}. Resample them to one grid."
        )
    spacing = jnp.asarray(spacing_mm, jnp.float32)
    fixed, moving = (jnp.clip(jnp.asarray(image), *config.window_hu) for image in (fixed, moving))
    masks = [(jnp.asarray(m) > 0).astype(jnp.float32) for m in masks]
    u = jnp.zeros((3, 1, 1, 1)) if initial is None else millimetres_first(initial, spacing)
    points = (np.zeros((0, 3), np.float32),) * 2 if keypoints is None else keypoints
    pulls = _Pulls((points[0] + 0.5) * spacing[None], (points[1] - points[0]) * spacing[None])
    run_level = _run_level
    if features is not None:
        run_level = functools.partial(_run_level_on, jax.tree_util.Partial(features))
    for images in _pyramid((fixed, moving, *masks), coarsest=config.coarsest):
        scale = [n / m for n, m in zip(shape, images[0].shape, strict=True)]
        u = run_level(images, pulls, u, spacing * jnp.array(scale), config=config)
    return _finish(u, spacing, shape=shape)


@in_32_bits
def prepare(shape: Shape, *, config: OptimiserConfig = OptimiserConfig()) -> None:
    """Loads the programs that `refine` will need from the disk, in a thread beside other work.

    Args:
        shape: of the images, (X, Y, Z), which come with both masks.
        config: settings.
    """
    float32 = functools.partial(jax.ShapeDtypeStruct, dtype=jnp.float32)
    pulls = _Pulls(*(np.zeros((0, 3), np.float32),) * 2)
    levels = level_shapes(shape, coarsest=config.coarsest)
    for coarse, fine in itertools.pairwise(levels):
        _resized.load(float32(fine), shape=coarse)
    u = float32((3, 1, 1, 1))
    for level in levels:
        _run_level.load([float32(level)] * 4, pulls, u, float32((3,)), config=config)
        u = float32((3, *(n // 2 for n in level)))
    _finish.load(u, float32((3,)), shape=shape)


def continue_outside(
    u: Displacement,
    mask: Mask,
    *,
    spacing_mm: Spacing,
    config: OptimiserConfig = OptimiserConfig(),
) -> Displacement:
    """The field of a mask, continued outside with little curvature.

    Minimises mean of mask |w - u|^2 + continuation h^4 |Laplace w|^2 over w, h being the voxel
    size: what networks say far from the lungs may fold.

    Args:
        u: displacement in voxels, (X, Y, Z, 3).
        mask: where u counts, nonzero in the lungs of the fixed image, (X, Y, Z).
        spacing_mm: voxel size along each axis, mm.
        config: settings.

    Returns:
        w in voxels, nearly u in the mask (smoothed over less than a voxel); 0 for an empty mask.
    """
    spacing = jnp.asarray(spacing_mm, jnp.float32)
    within = (jnp.asarray(mask) > 0).astype(jnp.float32)[None]
    known = within * millimetres_first(u, spacing)
    a = (within + config.damping) * IDENTITY
    weight = config.continuation * jnp.prod(spacing) ** (4 / 3)
    w = _solve(
        a,
        known,
        jnp.zeros_like(known),
        weight=weight,
        spacing_mm=spacing,
        steps=config.solver_steps,
    )
    return voxels_last(w, spacing)


_solve = jax.jit(solve, static_argnames="steps")


def level_shapes(shape: Shape, *, coarsest: int) -> list[Shape]:
    """Shapes of the levels, coarsest first, over one extent.

    Each is half of the next, rounded up to what the solver can halve; the finest is the images'
    own. They depend on the shape alone, so that one set of compiled programs serves all pairs that
    are brought to one shape.

    Args:
        shape: of the images; their voxels should be nearly cubic.
        coarsest: voxels along the shortest axis of the first level, at least.

    Returns:
        Shapes (X, Y, Z).
    """
    count = 1 + max(0, math.floor(math.log2(min(shape) / coarsest)))
    return [
        tuple(MULTIPLE * math.ceil(n / (MULTIPLE * 2**level)) for n in shape)
        for level in reversed(range(count))
    ]


def _pyramid(images: Sequence[Image], *, coarsest: int) -> list[list[jax.Array]]:
    """The images at each level, coarsest first, each reduced from the next."""
    levels, images = [], [jnp.asarray(image) for image in images]
    for shape in reversed(level_shapes(images[0].shape, coarsest=coarsest)):
        if images[0].shape != shape:
            images = [_resized(image, shape=shape) for image in images]
        levels.append(images)
    return levels[::-1]


_resized = Kept(resize, static=("shape",))


@functools.partial(Kept, static=("config",))
def _run_level(images, pulls, u, spacing_mm, *, config: OptimiserConfig) -> Field:
    """`_run_level_on` with the standardised image."""
    features = jax.tree_util.Partial(functools.partial(standardised_image, config=config))
    return _run_level_on(features, images, pulls, u, spacing_mm, config=config)


@functools.partial(jax.jit, static_argnames="config")
def _run_level_on(features, images, pulls, u, spacing_mm, *, config: OptimiserConfig) -> Field:
    """Gauss-Newton on one grid until the steps are small.

    `images` are the fixed and the moving one and one or two masks, (X, Y, Z), with voxels of
    `spacing_mm`; u is the field in mm, before on any grid, after on half of that one.
    """
    u = resize_field(u, tuple(n // 2 for n in images[0].shape))
    fixed, moving, mask, *others = images
    channels = features(binomial(fixed))
    moved = features(binomial(moving))
    lungs, *moving_lungs = map(mean_2x2x2, (mask, *others))
    other = moving_lungs[0] if moving_lungs else None
    level = _Level(channels, moved, mask, lungs, other, spacing_mm)
    weight = lungs / jnp.maximum(jnp.sum(lungs), 1e-6)
    tolerance = config.smallest_step * 2 * jnp.prod(spacing_mm) ** (1 / 3)

    def body(state):
        u, count, last, _ = state
        v = _step(level, pulls, u, weight, config)
        longer = _shortened(_extrapolation(v, last, weight, config) * v, 2 * spacing_mm, config)
        size = jnp.sum(jnp.sqrt(jnp.sum(v**2, axis=0)) * weight)
        return compose_fields(u, longer, 2 * spacing_mm), count + 1, v, size

    def unfinished(state):
        return (state[1] < config.most_steps) & (state[3] > tolerance)

    start = (u, 0, jnp.zeros_like(u), jnp.float32(jnp.inf))
    return jax.lax.while_loop(unfinished, body, start)[0]


def _extrapolation(v: Field, last: Field, weight: Image, config: OptimiserConfig) -> Scalar:
    """By how much a step grows: 1 / (1 - ratio), the sum of all steps that would follow.

    The ratio is that of this step to the last one, along the last one (Aitken's method). Steps that
    turn round are not shortened: they have overshot by then. Steps are in mm; `weight` is that of
    the lungs in their voxels.
    """
    along, length = (jnp.sum(field * last * weight[None]) for field in (v, last))
    return 1.0 / (1.0 - jnp.clip(along / jnp.maximum(length, 1e-12), 0.0, config.largest_ratio))


def _shortened(v: Field, spacing_mm: Float[AnyArray, "3"], config: OptimiserConfig) -> Field:
    """A step no longer than `longest_step` anywhere."""
    length = jnp.sqrt(jnp.sum((v / spacing_mm[:, None, None, None]) ** 2, axis=0))
    return v / jnp.maximum(1.0, length / config.longest_step)[None]


@functools.partial(Kept, static=("shape",))
def _finish(u, spacing_mm, *, shape: Shape) -> Displacement:
    """The field on the grid of the images, in voxels, components last."""
    return voxels_last(resize_field(u, shape), spacing_mm)


def _step(level: _Level, pulls: _Pulls, u: Field, lungs: Image, config: OptimiserConfig) -> Field:
    """One Gauss-Newton step v in mm; `lungs` sums to 1 on the grid of u."""
    spacing_mm = 2 * level.spacing_mm
    displaced = voxels_last(double(u), level.spacing_mm)
    warped = [warp(channel, displaced) for channel in level.moving]  # faster than jax.vmap
    shown, seen = level.lungs, level.mask * inside(displaced, level.mask.shape)
    if level.moving_lungs is not None:
        warped_lungs = warp(level.moving_lungs, voxels_last(u, spacing_mm))
        both = both_show(level.lungs, warped_lungs, radius=config.rim)
        shown, seen = shown * both, seen * double(both)
    a, b, remainder = _normal_equations(level, warped, seen, config)
    strength, force = _pull(pulls, u, spacing_mm, config.keypoint_mm3)
    weight = config.smoothness * jnp.prod(spacing_mm) ** (2 / 3)
    bent = bending(u, lungs, spacing_mm)
    weight *= balance(remainder, bent, at=config.balance, most=config.most_balance)
    anchor = (1.0 - shown) * weight / config.anchor_mm**4
    a = a + (config.damping + strength + anchor)[None] * IDENTITY
    b = b + force - anchor[None] * u
    return solve(a, b, u, weight=weight, spacing_mm=spacing_mm, steps=config.solver_steps)


def both_show(mask: Image, warped_mask: Image, *, radius: int) -> Image:
    """How far the images can be compared: 1 where their lungs meet, 0 where only one has lung.

    Lungs that differ by no more than a quarter of the window around a voxel count in full: their
    borders have yet to be brought together. Where they differ by half of it or more, one image
    shows something else there (fluid, a field of view that ends), which nothing corresponds to.

    Args:
        mask: lungs of the fixed image, 0 to 1, (X, Y, Z).
        warped_mask: lungs of the moving image, warped, 0 to 1, (X, Y, Z).
        radius: of the window, voxels.

    Returns:
        Weights from 0 to 1, (X, Y, Z).
    """
    return jnp.clip(2.0 - 4.0 * box_mean(jnp.abs(mask - warped_mask), radius=radius), 0.0, 1.0)


def _normal_equations(
    level: _Level, warped: Sequence[Image], seen: Image, config
) -> tuple[Float[AnyArray, "6 x y z"], Float[AnyArray, "3 x y z"], Scalar]:
    """A and b on the grid of u, means over its voxels, and the mean squared residual where seen.

    All three are sums over the channels.
    """
    found = []
    for fixed, moved in zip(level.fixed, warped, strict=True):
        residual, slopes = linearised_lncc(
            fixed,
            moved,
            radius=config.radius,
            gain_floor=config.gain_floor,
            spacing_mm=level.spacing_mm,
        )
        squares = jnp.sum(residual**2 * seen)
        found.append((*normal_equations(slopes, residual, seen), squares))
    a, b, squares = (functools.reduce(jnp.add, terms) for terms in zip(*found, strict=True))
    return a, b, squares / jnp.maximum(jnp.sum(seen), 1e-6)


def _pull(pulls, u, spacing_mm, keypoint_mm3):
    """Part of the keypoints in the system, in the voxel of u nearest to each.

    The sum over points of keypoint_mm3 |shift - u(place)|^2 / 2, in units of a voxel's volume.
    """
    shape = u.shape[1:]
    places = pulls.places_mm / spacing_mm[None] - 0.5
    missing = pulls.shifts_mm - sample(jnp.moveaxis(u, 0, -1), places)
    nearest = jnp.round(places).astype(jnp.int32)
    x, y, z = (jnp.clip(nearest[:, axis], 0, n - 1) for axis, n in enumerate(shape))
    weight = keypoint_mm3 / jnp.prod(spacing_mm)
    strength = jnp.zeros(shape).at[x, y, z].add(weight)
    return strength, jnp.zeros_like(u).at[:, x, y, z].add(weight * missing.T)
