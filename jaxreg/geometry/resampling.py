"""Fields and images moved between grids of any orientation, plane by plane to bound the memory.

Grids, volumes and fields are those of `jaxreg.geometry`: affines take voxel indices to world RAS
mm. Every map here is the affine one between two voxel lattices, worked
out in float64, plus a sampled displacement in float32.
"""

import functools
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg.geometry.grid import Grid
from jaxreg.geometry.sampling import PLANES, plane_points
from jaxreg.geometry.separable import interpolate, parallel_axes
from jaxreg.geometry.volume import DisplacementField, Volume
from jaxreg.ops.interpolation import sample, sample_majority, sample_nearest
from jaxreg.ops.jacobian import jacobian_determinant
from jaxreg.ops.types import Displacement, Number
from jaxreg.ops.verification import Verification, verify

SLAB = 16  # planes that are passed to a program at a time


def _slabs(size: int, width: int) -> list[int]:
    """Where slabs of one width begin that cover `size` planes; the last one overlaps."""
    return [*range(0, size - width, width), size - width]


@functools.partial(jax.jit, static_argnames="shape")
def _field_planes(u, lattice, offset, vectors, *, shape):
    def plane(i):
        moved = sample(u, plane_points(i, lattice, shape))
        return plane_points(i, offset, shape) + moved @ vectors.T

    return jax.lax.map(plane, jnp.arange(shape[0]), batch_size=PLANES)


def field_on_grid(
    u: Displacement, source: Grid, grid: Grid, *, matrix: np.ndarray | None = None
) -> DisplacementField:
    """The map x -> matrix (x + d(x)) on another grid, d being a displacement on `source`.

    Args:
        u: d in voxels of `source`, (X, Y, Z, 3); continued outside by its edge value.
        source: the grid of u.
        grid: where the field is wanted, the fixed image's own.
        matrix: (4, 4), world RAS mm, applied last (the prealignment); the identity if None.

    Returns:
        The field T(x) - x in world mm on `grid`.
    """
    matrix = np.eye(4) if matrix is None else matrix
    lattice = np.linalg.inv(source.affine) @ grid.affine  # voxel of grid -> voxel of source
    offset = (matrix - np.eye(4)) @ grid.affine
    vectors = (matrix @ source.affine)[:3, :3]
    axes = parallel_axes(lattice, grid.shape)
    if axes is not None:
        return DisplacementField(
            _field_on_parallel(u, vectors, lattice, offset, grid, axes), grid.affine
        )
    to_device = functools.partial(jnp.asarray, dtype=jnp.float32)
    data = _field_planes(
        to_device(u), to_device(lattice), to_device(offset), to_device(vectors), shape=grid.shape
    )
    return DisplacementField(np.asarray(data), grid.affine)


def on_same_grid(field: DisplacementField, grid: Grid) -> DisplacementField:
    """The field on a grid: itself if it is there, else trilinear, continued by its edge values.

    Args:
        field: world mm.
        grid: where it is wanted.

    Returns:
        The field on `grid`.
    """
    if field.grid.matches(grid):
        return field
    return field_on_grid(field.to_voxels(), field.grid, grid)


def _field_on_parallel(u, vectors, lattice, offset, grid: Grid, axes) -> np.ndarray:
    """The same where the axes of both grids are parallel; (X, Y, Z, 3)."""
    x, y, z = grid.shape
    data = np.empty((x, y, z, 3), np.float32)
    shift_mm = np.moveaxis(np.asarray(u, np.float32) @ vectors.T.astype(np.float32), -1, 0)
    i, j, k = np.arange(x)[:, None, None], np.arange(y)[:, None], np.arange(z)

    def store(planes: slice, values: np.ndarray) -> None:
        for c in range(3):
            row = offset[c]
            linear = (row[1] * j + row[2] * k + row[3])[None] + row[0] * i[planes]
            np.add(values[c], linear, out=data[planes, ..., c], casting="same_kind")

    interpolate(shift_mm, lattice, grid.shape, axes, store)
    return data


_SAMPLERS = {"linear": sample, "nearest": sample_nearest, "majority": sample_majority}


@functools.partial(jax.jit, static_argnames="sampling")
def _warp_planes(image, d_mm, first, lattice, vectors, fill, *, sampling):
    last = jnp.array(image.shape, jnp.float32) - 0.5

    def plane(numbered):
        i, d_plane = numbered
        points = plane_points(i, lattice, d_mm.shape[:3]) + d_plane @ vectors.T
        inside = jnp.all((points >= -0.5) & (points <= last[None, None]), axis=-1)
        return jnp.where(inside, _SAMPLERS[sampling](image, points), fill)

    return jax.lax.map(plane, (first + jnp.arange(d_mm.shape[0]), d_mm), batch_size=PLANES)


def warp_volume(
    volume: Volume,
    field: DisplacementField,
    *,
    fill: Number,
    sampling: Literal["linear", "nearest", "majority"] = "linear",
) -> Volume:
    """The volume at T(x) = x + d(x), on the grid of the field.

    Args:
        volume: image, or labels, whose type is kept.
        field: fixed to moving, world mm.
        fill: value where T(x) lies more than half a voxel outside of the volume, as in ITK.
        sampling: "linear" of images; of labels "nearest", or "majority", the label with the largest
            fraction (`jaxreg.ops.interpolation.sample_majority`).

    Returns:
        The warped volume.
    """
    voxel_from_world = np.linalg.inv(volume.affine)
    data = volume.data.astype(np.float32, copy=False) if sampling == "linear" else volume.data
    data = jnp.asarray(data)
    lattice = jnp.asarray(voxel_from_world @ field.affine, jnp.float32)
    vectors = jnp.asarray(voxel_from_world[:3, :3], jnp.float32)
    value = jnp.asarray(fill, data.dtype)
    warped = np.empty(field.shape, data.dtype)
    width = min(SLAB, field.shape[0])
    for first in _slabs(field.shape[0], width):
        d_mm = jnp.asarray(field.data[first : first + width])
        warped[first : first + width] = _warp_planes(
            data, d_mm, first, lattice, vectors, value, sampling=sampling
        )
    return Volume(warped, field.affine)


def field_determinant(field: DisplacementField) -> Volume:
    """Jacobian determinant by the stencil of `jaxreg.ops.jacobian`, on the grid of the field.

    Works in slabs, each with a plane more on both sides for the differences.
    """
    size = field.shape[0]
    determinant = np.empty(field.shape, np.float32)
    width = min(size, SLAB + 2)
    for start in [*range(0, size - width, SLAB), size - width]:  # slabs overlap by two planes
        stop = start + width
        inner = slice(start + (start > 0), stop - (stop < size))
        slab = DisplacementField(field.data[start:stop], field.affine)
        values = np.asarray(_determinant(slab.to_voxels()))
        determinant[inner] = values[inner.start - start : inner.stop - start]
    return Volume(determinant, field.affine)


_determinant = jax.jit(jacobian_determinant)


def verify_field(field: DisplacementField) -> Verification:
    """What `jaxreg.ops.verification.verify` says of a field in world mm, as it is written."""
    return verify(field.data, voxel_from_vector=np.linalg.inv(field.affine[:3, :3]))


@jax.jit
def _composed_planes(outer_mm, d_mm, first, lattice, vectors):
    def plane(numbered):
        i, d_plane = numbered
        points = plane_points(i, lattice, d_mm.shape[:3]) + d_plane @ vectors.T
        return d_plane + sample(outer_mm, points)

    return jax.lax.map(plane, (first + jnp.arange(d_mm.shape[0]), d_mm), batch_size=PLANES)


def compose_fields(outer: DisplacementField, inner: DisplacementField) -> DisplacementField:
    """The map x -> T_outer(T_inner(x)), on the grid of `inner`.

    Args:
        outer: applied second, world mm, on any grid; continued outside by its edge value.
        inner: applied first, world mm.

    Returns:
        Its field, exact at the voxels of the grid but for the interpolation of `outer`.
    """
    voxel_from_world = np.linalg.inv(outer.affine)
    outer_mm = jnp.asarray(outer.data)
    lattice = jnp.asarray(voxel_from_world @ inner.affine, jnp.float32)
    vectors = jnp.asarray(voxel_from_world[:3, :3], jnp.float32)
    data = np.empty(inner.data.shape, np.float32)
    width = min(SLAB, inner.shape[0])
    for first in _slabs(inner.shape[0], width):
        d_mm = jnp.asarray(inner.data[first : first + width])
        data[first : first + width] = _composed_planes(outer_mm, d_mm, first, lattice, vectors)
    return DisplacementField(data, inner.affine)


def inverse_consistency(forward: DisplacementField, back: DisplacementField) -> Volume:
    """How far a point ends from where it began: |T_back(T(x)) - x| in mm.

    Args:
        forward: T, fixed to moving, world mm.
        back: T_back, moving to fixed, world mm, on any grid; continued outside by its edge value.

    Returns:
        The error on the grid of `forward`.
    """
    error = np.linalg.norm(compose_fields(back, forward).data, axis=-1)
    return Volume(error, forward.affine)


@functools.partial(jax.jit, static_argnames=("shape", "iterations"))
def _inverse_planes(u, lattice, start, unstretch, *, shape, iterations):
    def plane(i):
        wanted = plane_points(i, lattice, shape)

        def step(_, points):
            return points + (wanted - points - sample(u, points)) @ unstretch.T

        points = jax.lax.fori_loop(0, iterations, step, plane_points(i, start, shape))
        return points - wanted, points + sample(u, points) - wanted

    return jax.lax.map(plane, jnp.arange(shape[0]), batch_size=PLANES)


def invert_field(
    field: DisplacementField,
    grid: Grid,
    *,
    matrix: np.ndarray | None = None,
    iterations: int = 50,
) -> tuple[DisplacementField, Volume]:
    """The inverse map on another grid, and how far it is from one.

    Fixed-point iteration x <- x + M^-1 (q - T(x)) for T(x) = q, with M the 3x3 part of `matrix`; M
    = 1 is that of Chen et al. 2008, Med Phys 35(1), eq. 6, which diverges for large rotations.

    Args:
        field: T(x) = x + d(x), fixed to moving, world mm.
        grid: where the inverse is wanted, the moving image's own.
        matrix: (4, 4), an affine approximation of T to start from; the identity if None.
        iterations: number of steps.

    Returns:
        The field of T^-1 on `grid`, and the inverse-consistency error |T(T^-1(q)) - q| in mm.
    """
    back = np.eye(4) if matrix is None else np.linalg.inv(matrix)
    voxel_from_world = np.linalg.inv(field.affine)
    moved, residual = _inverse_planes(
        jnp.asarray(field.to_voxels()),
        jnp.asarray(voxel_from_world @ grid.affine, jnp.float32),
        jnp.asarray(voxel_from_world @ back @ grid.affine, jnp.float32),
        jnp.asarray((voxel_from_world @ back @ field.affine)[:3, :3], jnp.float32),
        shape=grid.shape,
        iterations=iterations,
    )
    mm = field.affine[:3, :3].T.astype(np.float32)
    error_mm = np.linalg.norm(np.asarray(residual) @ mm, axis=-1)
    return DisplacementField(np.asarray(moved) @ mm, grid.affine), Volume(error_mm, grid.affine)
