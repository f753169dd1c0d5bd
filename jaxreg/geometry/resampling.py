"""Fields and images moved between grids of any orientation, plane by plane to bound the memory.

Grids, volumes and fields are those of `jaxreg.geometry`: affines take voxel indices to world RAS
mm. Every map here is the affine one between two voxel lattices, worked
out in float64, plus a sampled displacement in float32.
"""

import functools
import math
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from scipy.ndimage import map_coordinates

from jaxreg.geometry.grid import EVERYWHERE, Box, Grid
from jaxreg.geometry.sampling import LARGE, PLANES, plane_points
from jaxreg.geometry.separable import interpolate, parallel_axes
from jaxreg.geometry.volume import DisplacementField, Volume
from jaxreg.ops.interpolation import sample, sample_majority, sample_nearest
from jaxreg.ops.jacobian import jacobian_determinant
from jaxreg.ops.slabs import over_blocks, over_slabs
from jaxreg.ops.types import Displacement, Number
from jaxreg.ops.verification import Verification, verify

SLAB = 16  # planes that are passed to a program at a time
EDGE = 32  # voxels, of a block whose determinant is worked out at once


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
    vectors = vectors.astype(np.float32)
    i, j, k = np.arange(x)[:, None, None], np.arange(y)[:, None], np.arange(z)

    def store(planes: slice, values: np.ndarray) -> None:
        for c in range(3):
            row = offset[c]
            linear = (row[1] * j + row[2] * k + row[3])[None] + row[0] * i[planes]
            shift_mm = sum(vectors[c, a] * values[a] for a in range(3))
            np.add(shift_mm, linear, out=data[planes, ..., c], casting="same_kind")

    components = np.moveaxis(np.asarray(u, np.float32), -1, 0)
    interpolate(components, lattice, grid.shape, axes, store)
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


Sampling = Literal["linear", "nearest", "majority"]


def warp_volume(
    volume: Volume, field: DisplacementField, *, fill: Number, sampling: Sampling = "linear"
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
    return warper(volume, fill=fill, sampling=sampling)(field)


def warper(
    volume: Volume, *, fill: Number, sampling: Sampling = "linear"
) -> Callable[[DisplacementField], Volume]:
    """`warp_volume` of one volume by several fields, which is on the device once where it must be.

    Small fields are left to scipy, which needs no program for each shape.

    Args:
        volume: as there.
        fill: as there.
        sampling: as there.

    Returns:
        Function of a field that gives the warped volume.
    """
    on_device: list[jax.Array] = []

    def warp(field: DisplacementField) -> Volume:
        if sampling != "majority" and math.prod(field.shape) < LARGE:
            return Volume(_warped_by_scipy(volume, field, fill, sampling), field.affine)
        if not on_device:
            on_device.append(jax.device_put(volume.data, may_alias=True))  # it is not written to
        return Volume(_warped_by_program(on_device[0], volume, field, fill, sampling), field.affine)

    return warp


def at_voxels(image: np.ndarray, voxels: np.ndarray, *, fill: Number, order: int = 1) -> np.ndarray:
    """Values of an image at points; `fill` more than half a voxel outside of it, as in ITK.

    Args:
        image: (X, Y, Z).
        voxels: points, voxels of the image, (3, ...).
        fill: value outside.
        order: 1 linear, float32; 0 nearest, of the image's type.

    Returns:
        Values, (...).
    """
    last = np.reshape(image.shape, (3, *(1,) * (voxels.ndim - 1))) - 0.5
    inside = np.all((voxels >= -0.5) & (voxels <= last), axis=0)
    output = np.float32 if order else image.dtype.type
    values = map_coordinates(image, voxels, order=order, mode="nearest", output=output)
    return np.where(inside, values, output(fill))


def _warped_by_scipy(volume: Volume, field: DisplacementField, fill, sampling) -> np.ndarray:
    """The volume at x + d(x) of each voxel of the field, (X, Y, Z)."""
    linear = sampling == "linear"
    warped = np.empty(field.shape, np.float32 if linear else volume.data.dtype)
    voxel_from_world = np.linalg.inv(volume.affine)
    lattice, vectors = voxel_from_world @ field.affine, voxel_from_world[:3, :3]
    in_plane = np.einsum("ca,ajk->cjk", lattice[:3, 1:3], np.indices(field.shape[1:]))

    def store(first: int, stop: int) -> None:
        for i in range(first, stop):
            start = lattice[:3, 0] * i + lattice[:3, 3]
            moved = np.einsum("ca,jka->cjk", vectors, field.data[i])
            places = in_plane + moved + start[:, None, None]
            warped[i] = at_voxels(volume.data, places, fill=fill, order=int(linear))

    over_slabs(store, len(warped), SLAB)
    return warped


def _warped_by_program(
    data: jax.Array, volume: Volume, field: DisplacementField, fill, sampling
) -> np.ndarray:
    """The same by a compiled program; `data` is that of the volume on the device."""
    voxel_from_world = np.linalg.inv(volume.affine)
    vectors = jnp.asarray(voxel_from_world[:3, :3], jnp.float32)
    lattice = jnp.asarray(voxel_from_world @ field.affine, jnp.float32)
    value = jnp.asarray(fill, jnp.float32 if sampling == "linear" else data.dtype)
    warped = np.empty(field.shape, value.dtype)

    def store(first: int, stop: int) -> None:
        d_mm = jnp.asarray(field.data[first:stop])
        warped[first:stop] = _warp_planes(
            data, d_mm, first, lattice, vectors, value, sampling=sampling
        )

    over_slabs(store, field.shape[0], SLAB)
    return warped


def field_determinant(field: DisplacementField, *, box: Box = EVERYWHERE) -> Volume:
    """Jacobian determinant by the stencil of `jaxreg.ops.jacobian`.

    Args:
        field: world mm.
        box: where it is wanted; on the grid of the field.

    Returns:
        The determinant on that part of the grid.
    """
    low, high = field.grid.limits(box)
    basis = field.affine[:3, :3].astype(np.float32)
    x, y, z = high - low
    determinant = np.empty((x, y, z), np.float32)
    sizes = np.minimum(field.shape, EDGE + 2)  # differences reach one voxel further

    def store(block: tuple[slice, ...]) -> None:
        first = low + [side.start for side in block]
        corner = np.clip(first - 1, 0, field.shape - sizes)
        part = field.data[tuple(map(slice, corner, corner + sizes))]
        extent = [side.stop - side.start for side in block]
        inner = tuple(map(slice, first - corner, first - corner + extent))
        determinant[block] = np.asarray(_determinant(jnp.asarray(part), basis=basis))[inner]

    over_blocks(store, (int(x), int(y), int(z)), EDGE)
    return Volume(determinant, field.grid.part(box).affine)


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

    def store(first: int, stop: int) -> None:
        d_mm = jnp.asarray(inner.data[first:stop])
        data[first:stop] = _composed_planes(outer_mm, d_mm, first, lattice, vectors)

    over_slabs(store, inner.shape[0], SLAB)
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


@functools.partial(jax.jit, static_argnames=("shape", "planes", "iterations"))
def _inverse_planes(u, first, lattice, start, unstretch, *, shape, planes, iterations):
    def plane(i):
        wanted = plane_points(i, lattice, shape)

        def step(_, points):
            return points + (wanted - points - sample(u, points)) @ unstretch.T

        points = jax.lax.fori_loop(0, iterations, step, plane_points(i, start, shape))
        return points - wanted, points + sample(u, points) - wanted

    return jax.lax.map(plane, first + jnp.arange(planes), batch_size=PLANES)


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
    u = jnp.asarray(field.to_voxels())
    maps = [
        jnp.asarray(map_, jnp.float32)
        for map_ in (
            voxel_from_world @ grid.affine,
            voxel_from_world @ back @ grid.affine,
            (voxel_from_world @ back @ field.affine)[:3, :3],
        )
    ]
    mm = field.affine[:3, :3].T.astype(np.float32)
    moved = np.empty((*grid.shape, 3), np.float32)
    error_mm = np.empty(grid.shape, np.float32)

    def store(first: int, stop: int) -> None:
        shift, residual = _inverse_planes(
            u, first, *maps, shape=grid.shape, planes=stop - first, iterations=iterations
        )
        moved[first:stop] = np.asarray(shift) @ mm
        error_mm[first:stop] = np.linalg.norm(np.asarray(residual) @ mm, axis=-1)

    over_slabs(store, grid.shape[0], SLAB)
    return DisplacementField(moved, grid.affine), Volume(error_mm, grid.affine)
