"""An image at every voxel of another grid, by the fastest of three ways that give one result.

Axis by axis where the axes of both grids are parallel; a compiled program for a large oblique grid;
scipy for a small one, which is done sooner than a program is loaded.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import scipy.ndimage

from jaxreg.geometry.separable import interpolate, parallel_axes
from jaxreg.ops.interpolation import sample, sample_nearest

_LARGE = 1 << 22  # voxels of a grid for which a program pays
_PLANES = 4  # planes worked on at a time, which bounds the memory


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
    large = math.prod(shape) >= _LARGE and image.dtype.itemsize <= 4
    if axes is None and not large:
        return _by_scipy(image, lattice, shape, order, fill)
    if fill is not None:  # a border of one voxel holds all that lies outside
        image = np.pad(image, 1, constant_values=image.dtype.type(fill))
        lattice = lattice.copy()
        lattice[:3, 3] += 1
    if axes is None:
        program = _linear if order else _nearest
        return np.asarray(program(image, lattice.astype(np.float32), shape=shape))
    if order == 0:
        return _nearest_on_parallel(image, lattice, shape, axes)
    found = np.empty((1, *shape), np.float32)

    def store(planes: slice, values: np.ndarray) -> None:
        found[:, planes] = values

    interpolate(image[None], lattice, shape, axes, store)
    return found[0]


def _by_scipy(image, lattice, shape, order, fill) -> np.ndarray:
    return scipy.ndimage.affine_transform(
        image,
        lattice[:3, :3],
        offset=lattice[:3, 3],  # pyright: ignore[reportArgumentType] (scipy takes arrays)
        output_shape=shape,
        order=order,
        # not "constant": it would fill voxels that rounding puts 1e-12 outside
        mode="nearest" if fill is None else "grid-constant",
        cval=0.0 if fill is None else fill,
    )


def _nearest_on_parallel(image, lattice, shape, axes) -> np.ndarray:
    for i, (axis, size) in enumerate(zip(axes, shape, strict=True)):
        places = np.floor(lattice[axis, i] * np.arange(size) + lattice[axis, 3] + 0.5)
        image = image.take(np.clip(places, 0, image.shape[axis] - 1).astype(int), axis)
    return np.ascontiguousarray(np.transpose(image, axes))


def _by_planes(at, image, lattice, *, shape):
    """A sampler at each voxel of a grid, a few planes at a time."""
    j, k = (jnp.arange(n, dtype=jnp.float32) for n in shape[1:])
    column = lattice[:3].T[:, None, None]

    def plane(i):
        places = i * column[0] + j[:, None, None] * column[1] + k[None, :, None] * column[2]
        return at(image, places + column[3])

    return jax.lax.map(plane, jnp.arange(shape[0], dtype=jnp.float32), batch_size=_PLANES)


_linear = jax.jit(functools.partial(_by_planes, sample), static_argnames="shape")
_nearest = jax.jit(functools.partial(_by_planes, sample_nearest), static_argnames="shape")
