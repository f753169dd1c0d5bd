"""Fields on other grids, composed, inverted and measured, plane by plane to bound the memory.

Grids and fields are those of `jaxreg.geometry`: affines take voxel indices to world RAS mm. Every
map here is the affine one between two voxel lattices, worked out in float64, plus a sampled
displacement in float32.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg.geometry.grid import EVERYWHERE, Box, Grid
from jaxreg.geometry.sampling import PLANES, SLAB, plane_points
from jaxreg.geometry.separable import interpolate, parallel_axes
from jaxreg.geometry.volume import DisplacementField, Volume
from jaxreg.ops.interpolation import sample
from jaxreg.ops.jacobian import jacobian_determinant
from jaxreg.ops.slabs import over_blocks, over_slabs
from jaxreg.ops.types import Displacement
from jaxreg.ops.verification import Verification, verify

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
