"""Discrete matching of points between two images, coarse to fine, regularised on their graph.

For a point x of the fixed image each displacement d of a lattice costs

    C(x, d) = mean over a patch p and the channels of |F(x + p) - M(x + d + p)|^2,

F and M being the images' descriptors (`engine.descriptors`) at 1/4, 1/2 and 1/1 of the
resolution. Coarsest first, the cost volumes are exchanged with the neighbours y of x,

    B_x = (C_x + coupling mean over y of min_e B_y(e) + bending |d - e|^2) / (1 + coupling),

a few rounds of min-sum without regard to which neighbour a message came from. Then, at every
resolution, each point takes the d that minimises

    C(x, d) + stiffness |d - v_x|^2,    v_x the affine fit to the d of the points around x,

in turns with v, at growing stiffness (Heinrich, Papiez, Schnabel and Handels 2014, WBIR). That fit
is linear in d and its weights depend on the places alone. Displacements are in millimetres.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int
from scipy.spatial import KDTree

from jaxreg.config import KeypointConfig
from jaxreg.engine.descriptors import Channels, Descriptors
from jaxreg.ops.types import AnyArray, Points, Spacing

SLAB = 64  # points whose costs are worked out at a time
PADDING = 512  # numbers of points are filled up to a multiple of this: few programs to compile


Costs = Float[AnyArray, "N P Q R"]
Indices = Int[AnyArray, "N 3"]


class Graph(NamedTuple):
    """Points around each point, itself first, and the weights of the affine fit there."""

    neighbours: Int[AnyArray, "N K"]
    weights: Float[AnyArray, "N K"]


def graph(places_mm: Float[np.ndarray, "N 3"], config: KeypointConfig) -> Graph:
    """The nearest points of each point, and the weights a of its affine fit v = sum_j a_j d_j.

    Weighted least squares over the neighbours, weights exp(-distance^2 / (2 reach_mm^2)); slopes
    are damped so that the fit exists for any places.

    Args:
        places_mm: mm, (N, 3).
        config: settings.

    Returns:
        The graph; the weights of a point sum to 1.
    """
    count = min(config.neighbours + 1, len(places_mm))
    found = KDTree(places_mm).query(places_mm, count)
    distance, neighbours = (np.reshape(array, (-1, count)) for array in found)
    closeness = np.exp(-(distance**2) / (2 * config.reach_mm**2))
    offsets = (places_mm[neighbours] - places_mm[:, None]) / config.reach_mm
    design = np.concatenate([np.ones((*neighbours.shape, 1)), offsets], axis=-1)
    weighted = closeness[..., None] * design
    normal = np.einsum("nki,nkj->nij", weighted, design) + np.diag([0.0, 0.1, 0.1, 0.1])
    first = np.linalg.solve(normal, np.broadcast_to(np.eye(4)[:, :1], (len(normal), 4, 1)))
    weights = np.einsum("nki,ni->nk", weighted, first[..., 0])
    weights /= weights.sum(axis=1, keepdims=True)
    return Graph(neighbours.astype(np.int32), weights.astype(np.float32))


def match(
    fixed: Descriptors,
    moving: Descriptors,
    points: Points,
    *,
    spacing_mm: Spacing,
    config: KeypointConfig = KeypointConfig(),
) -> Float[np.ndarray, "N 3"]:
    """Where points of the fixed image lie in the moving one.

    Args:
        fixed: descriptors of the fixed image.
        moving: those of the moving image on the same grid.
        points: voxels of the images, (N, 3); the nearest voxel is compared.
        spacing_mm: voxel size of the images.
        config: settings.

    Returns:
        Voxels, between voxels too, (N, 3).
    """
    spacing, count = np.asarray(spacing_mm, np.float32), len(points)
    points = np.asarray(points, np.float32)
    web = graph(points.astype(np.float64) * spacing, config)
    filled = np.arange(-(-count // PADDING) * PADDING) % count
    web, points = Graph(web.neighbours[filled], web.weights[filled]), points[filled]
    d = v = np.zeros_like(points)
    resolutions = zip(fixed, moving, config.searches, strict=True)
    for number, (f, m, search) in enumerate(resolutions):
        size = np.array(f.shape[1:], np.float32)
        factor = fixed[-1].shape[1:] / size
        step_mm, last = (spacing * factor).astype(np.float32), size - 1
        centre = np.clip(np.rint((points + 0.5) / factor - 0.5), 0, last)
        start = np.clip(centre + np.rint(v / step_mm), 0, last)
        costs = displacement_costs(
            f, m, centre.astype(np.int32), start.astype(np.int32),
            radius=search.radius, patch=search.patch,
        )  # fmt: skip
        if number == 0:
            linked = web.neighbours[:, 1 : config.linked + 1]
            costs = exchange(costs, linked, step_mm, config=config)
        offset = ((start - centre) * step_mm).astype(np.float32)
        found = choose(costs, offset, step_mm, v, web, stiffness=search.stiffness)
        d, v = (np.asarray(field) for field in found)
    return (points + d / spacing)[:count]


@functools.partial(jax.jit, static_argnames=("radius", "patch"))
def displacement_costs(
    fixed: Channels,
    moving: Channels,
    centre: Indices,
    start: Indices,
    *,
    radius: tuple[int, int, int],
    patch: int,
) -> Costs:
    """C(x, d) for each point and each displacement of a box of voxels.

    The mixed term of the square is a product of matrices, places p of the patch by voxels x + d + p
    of the moving block; the cost of d is the sum of its entries (p, d + p), axis by axis.

    Args:
        fixed: descriptors, (C, X, Y, Z).
        moving: the same of the moving image.
        centre: voxels x of the fixed descriptors, (N, 3).
        start: voxels of the moving ones about which is searched, (N, 3).
        radius: of the box, voxels, 3 numbers.
        patch: radius of the patch, voxels.

    Returns:
        Costs, (N, 2 radius_x + 1, 2 radius_y + 1, 2 radius_z + 1); edge values beyond the border.
    """
    channels, width = fixed.shape[0], 2 * patch + 1
    box = [2 * r + 1 for r in radius]
    block = [n + 2 * patch for n in box]
    fixed = jnp.pad(fixed, [(0, 0), *[(patch, patch)] * 3], mode="edge")
    moving = jnp.pad(moving, [(0, 0), *[(r + patch,) * 2 for r in radius]], mode="edge")

    def costs(places):
        x, y = places
        f = jax.lax.dynamic_slice(fixed, (0, *x), (channels, width, width, width))
        m = jax.lax.dynamic_slice(moving, (0, *y), (channels, *block))
        f, m = f.reshape(channels, -1), m.reshape(channels, -1)
        squares = jnp.sum(m**2, axis=0)[None] - 2.0 * f.T @ m
        total = squares.reshape(width, width, width, *block)
        for size in box:  # axis 2 of what is left without the patch's first one is the block's next
            parts = (jax.lax.slice_in_dim(total[p], p, p + size, axis=2) for p in range(width))
            total = sum(parts, start=jnp.zeros(()))
        return (total + jnp.sum(f**2)) / (channels * width**3)

    return jax.lax.map(costs, (centre, start), batch_size=SLAB)


@functools.partial(jax.jit, static_argnames="config")
def exchange(
    costs: Costs,
    neighbours: Int[AnyArray, "N K"],
    step_mm: Float[AnyArray, "3"],
    *,
    config: KeypointConfig,
) -> Costs:
    """Costs B after rounds of exchange with the neighbours, see the module docstring.

    Args:
        costs: C, of the same displacements for all points.
        neighbours: of each point, (N, K).
        step_mm: between displacements, mm.
        config: settings.

    Returns:
        B, as `costs`.
    """

    def round_(_, belief):
        message = _lower_envelope(belief, config.bending * step_mm**2)
        message -= jnp.min(message, axis=(1, 2, 3), keepdims=True)
        mean = jnp.mean(message[neighbours], axis=1)
        return (costs + config.coupling * mean) / (1.0 + config.coupling)

    return jax.lax.fori_loop(0, config.exchanges, round_, costs)


def _lower_envelope(costs, bend):
    """min over e of costs(e) + sum over axes of bend_axis (d - e)_axis^2, axis by axis."""
    for axis in range(3):
        place = jnp.arange(costs.shape[axis + 1])
        parabola = bend[axis] * (place[:, None] - place[None]) ** 2.0
        rows = jnp.moveaxis(costs, axis + 1, -1)
        rows = jnp.min(rows[..., None, :] + parabola[None, None, None], axis=-1)
        costs = jnp.moveaxis(rows, -1, axis + 1)
    return costs


@functools.partial(jax.jit, static_argnames="stiffness")
def choose(
    costs: Costs,
    offset: Points,
    step_mm: Float[AnyArray, "3"],
    v: Points,
    web: Graph,
    *,
    stiffness: tuple[float, ...],
) -> tuple[Points, Points]:
    """Displacement of each point, in turns with the fit to those around it.

    Args:
        costs: of the displacements offset + step_mm * (-radius ... radius).
        offset: mm, (N, 3).
        step_mm: between displacements, mm, (3,).
        v: the fit so far, mm, (N, 3).
        web: the graph of the points.
        stiffness: of each turn, 1/mm^2.

    Returns:
        d between the steps (by parabolas through the cost of the best step and its neighbours),
        and the new v, both mm, (N, 3).
    """
    box = costs.shape[1:]
    others = ((2, 3), (1, 3), (1, 2))

    def penalised(v, weight):
        total = costs
        for axis, size in enumerate(box):
            labels = step_mm[axis] * (jnp.arange(size) - size // 2)
            squares = (labels[None] - (v - offset)[:, axis, None]) ** 2
            total += weight * jnp.expand_dims(squares, others[axis])
        return total.reshape(len(costs), -1)

    def fit(d):
        return jnp.einsum("nk,nki->ni", web.weights, d[web.neighbours])

    d = v
    for weight in stiffness:
        total = penalised(v, weight)
        best = jnp.argmin(total, axis=1)
        d = offset + _between(total, best, box) * step_mm[None]
        v = fit(d)
    return d, v


def _between(total, best, box):
    """Steps from the middle of the box to the minimum, refined by parabolas axis by axis."""
    strides = (box[1] * box[2], box[2], 1)
    place = jnp.stack(jnp.unravel_index(best, box), axis=-1)
    refined = []
    for axis, (size, stride) in enumerate(zip(box, strides, strict=True)):
        here = place[:, axis]
        inner = (here > 0) & (here < size - 1)
        index = jnp.where(inner, best, 0)
        lower, middle, upper = (
            jnp.take_along_axis(total, (index + move)[:, None], axis=1)[:, 0]
            for move in (-stride, 0, stride)
        )
        curve = lower - 2.0 * middle + upper
        part = jnp.where(inner & (curve > 0), 0.5 * (lower - upper) / jnp.maximum(curve, 1e-9), 0.0)
        refined.append(here - size // 2 + jnp.clip(part, -0.5, 0.5))
    return jnp.stack(refined, axis=-1)
