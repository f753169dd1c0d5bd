"""An image at every voxel of another grid, by the fastest of three ways that give one result.

Axis by axis where the axes of both grids are parallel; a compiled program for a large oblique grid;
scipy for a smaller one, which is done sooner than a program is compiled for its shape.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import scipy.ndimage
from jaxtyping import Float, Int

from jaxreg.geometry.refinement import refined, spline
from jaxreg.geometry.separable import interpolate, parallel_axes
from jaxreg.ops.interpolation import sample_flat
from jaxreg.ops.slabs import over_slabs
from jaxreg.ops.types import AnyArray, Shape

LARGE = 1 << 24  # voxels of a grid for which a program pays
PLANES = 4  # worked on at a time, which bounds the memory
SLAB = 16  # planes that one thread works on at a time


def sampled(
    image: np.ndarray,
    lattice: np.ndarray,
    shape: tuple[int, int, int],
    *,
    order: int,
    fill: float | None,
) -> np.ndarray:
    """An image at the voxels of another grid.

    Args:
        image: (X, Y, Z), float32 for order 1.
        lattice: (4, 4), voxel of the other grid to voxel of the image.
        shape: of the other grid.
        order: 0 nearest, halves rounded up, of any type, which is kept; 1 linear.
        fill: value of all voxels outside of the image, to which order 1 passes over within one
            voxel; the nearest edge value if None.

    Returns:
        Values, `shape`.
    """
    axes = parallel_axes(lattice, shape)
    if axes is None and (order == 0 or math.prod(shape) < LARGE):
        return _by_scipy(image, lattice, shape, order, fill)
    image, lattice = _bordered(image, lattice, fill)
    if axes is None:
        return _by_program(image, lattice, shape)
    if order == 0:
        return _nearest_on_parallel(image, lattice, shape, axes)
    found = np.empty((1, *shape), np.float32)

    def store(planes: slice, values: np.ndarray) -> None:
        found[:, planes] = values

    interpolate(image[None], lattice, shape, axes, store)
    return found[0]


def sampled_cubic(
    image: np.ndarray,
    lattice: np.ndarray,
    shape: tuple[int, int, int],
    *,
    fill: float | None,
) -> np.ndarray:
    """An image at the voxels of another grid, nearly cubic (`jaxreg.geometry.refinement`).

    The refined lattice is made for some planes of the other grid at a time, which bounds the
    memory, on all cores. The values do not depend on their number.

    Args:
        image: (X, Y, Z), float32.
        lattice: (4, 4), voxel of the other grid to voxel of the image.
        shape: of the other grid.
        fill: value outside of the image; the nearest edge value if None.

    Returns:
        Values, float32, `shape`.
    """
    coefficients = spline(image, lattice)
    found = np.empty(shape, np.float32)
    oblique = parallel_axes(lattice, shape) is None

    def store(first: int, stop: int) -> None:
        place = np.eye(4)
        place[0, 3] = first
        planes = (stop - first, *shape[1:])
        part, to_part = refined(coefficients, lattice @ place, planes)
        if oblique:
            found[first:stop] = _by_program(*_bordered(part, to_part, fill), planes)
        else:
            found[first:stop] = sampled(part, to_part, planes, order=1, fill=fill)

    over_slabs(store, shape[0], SLAB)
    return found


def _bordered(image, lattice, fill) -> tuple[np.ndarray, np.ndarray]:
    """The image with a border of one voxel, which holds all that lies outside, and its lattice."""
    if fill is None:
        return image, lattice
    place = np.eye(4)
    place[:3, 3] = 1
    return np.pad(image, 1, constant_values=image.dtype.type(fill)), place @ lattice


def _by_scipy(image, lattice, shape, order, fill) -> np.ndarray:
    found = np.empty(shape, image.dtype)

    def store(first: int, stop: int) -> None:
        scipy.ndimage.affine_transform(
            image,
            lattice[:3, :3],
            offset=lattice[:3, 3] + first * lattice[:3, 0],
            output_shape=(stop - first, *shape[1:]),
            output=found[first:stop],
            order=order,
            # not "constant": it would fill voxels that rounding puts 1e-12 outside
            mode="nearest" if fill is None else "grid-constant",
            cval=0.0 if fill is None else fill,
        )

    over_slabs(store, shape[0], SLAB)
    return found


def _nearest_on_parallel(image, lattice, shape, axes) -> np.ndarray:
    for i, (axis, size) in enumerate(zip(axes, shape, strict=True)):
        places = np.round(lattice[axis, i] * np.arange(size) + lattice[axis, 3], 9)
        nearest = np.floor(places + 0.5).astype(int)
        image = image.take(np.clip(nearest, 0, image.shape[axis] - 1), axis)
    return np.ascontiguousarray(np.transpose(image, axes))


def plane_points(
    i: Int[AnyArray, ""], matrix: Float[AnyArray, "4 4"], shape: Shape
) -> Float[AnyArray, "Y Z 3"]:
    """Where the voxels of one plane of a grid lie: matrix @ (i, j, k, 1) for all j and k.

    Args:
        i: of the plane, along the first axis.
        matrix: voxel of the grid to wherever.
        shape: of the grid, (X, Y, Z).

    Returns:
        Points, (Y, Z, 3).
    """
    j = jnp.arange(shape[1], dtype=jnp.float32)[:, None, None]
    k = jnp.arange(shape[2], dtype=jnp.float32)[None, :, None]
    column = matrix[:3, :].T[:, None, None]
    return i.astype(jnp.float32) * column[0] + j * column[1] + k * column[2] + column[3]


def _by_program(image: np.ndarray, lattice: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A program for each power of two, which images fill in part, and not for each shape."""
    values = np.empty(1 << math.ceil(math.log2(image.size)), np.float32)
    values[: image.size] = image.ravel()
    return np.asarray(_linear(values, np.array(image.shape), np.float32(lattice), shape=shape))


@functools.partial(jax.jit, static_argnames="shape")
def _linear(values, sizes, lattice, *, shape):
    """Linear interpolation at each voxel of a grid, a few planes at a time."""

    def plane(i):
        return sample_flat(values, sizes, plane_points(i, lattice, shape))

    return jax.lax.map(plane, jnp.arange(shape[0]), batch_size=PLANES)
