"""Images taken through displacement fields, slab by slab to bound the memory.

The place of a voxel in the image is the affine map between both lattices, worked out in float64,
plus the displacement in float32.
"""

import functools
import math
from collections.abc import Callable
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from scipy.ndimage import map_coordinates

from jaxreg.geometry.sampling import LARGE, PLANES, SLAB, plane_points
from jaxreg.geometry.volume import DisplacementField, Volume
from jaxreg.ops.interpolation import sample, sample_majority, sample_nearest
from jaxreg.ops.slabs import over_slabs
from jaxreg.ops.types import Number

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
