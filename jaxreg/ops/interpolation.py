"""Sampling of images between voxels.

Contract: an image is (X, Y, Z) or (X, Y, Z, C), voxel-centred, so that coordinate (i, j, k) is the
centre of voxel [i, j, k]. Coordinates are in voxels, component c along array axis c. Outside the
image the value of the nearest edge voxel is returned (scipy.ndimage's mode "nearest").
"""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int, Real, Shaped

from jaxreg.ops.types import AnyArray, Coordinates, Shape

_TIE = 1e-4  # fractions closer than this are equal: more than the rounding of a fraction


def _cell(size, coordinate):
    """Index of the voxel below each coordinate along one axis, and the fraction up to the next.

    The last cell of an axis also holds its upper edge; an axis of one voxel has one flat cell.
    """
    coordinate = jnp.clip(coordinate, 0.0, size - 1.0)
    lower = jnp.minimum(coordinate.astype(jnp.int32), jnp.maximum(size - 2, 0))
    return lower, coordinate - lower


def _corners(flat, sizes, coordinates):
    """The eight voxels around each point, each (..., C), and three fractions in that cell, (...).

    The image is in the order of C, (N, *C), N at least its number of voxels. The three coordinates
    are taken apart first: XLA then makes one vectorised pass over the points.
    """
    n_x, n_y, n_z = sizes
    cells = [_cell(n, coordinates[..., axis]) for axis, n in enumerate(sizes)]
    (x, y, z), fractions = zip(*cells, strict=True)
    base = (x * n_y + y) * n_z + z
    step = [n_y * n_z * (n_x > 1), n_z * (n_y > 1), 1 * (n_z > 1)]

    def value(i, j, k):
        return flat.at[base + (i * step[0] + j * step[1] + k * step[2])].get(
            mode="promise_in_bounds"
        )

    if flat.ndim == 2:
        fractions = [fraction[..., None] for fraction in fractions]
    return [[[value(i, j, k) for k in (0, 1)] for j in (0, 1)] for i in (0, 1)], fractions


def _flat(image):
    return image.reshape(math.prod(image.shape[:3]), *image.shape[3:])


def _mix(pair, fraction):
    """Linear interpolation, exact at both ends and for equal values."""
    return jnp.where(fraction < 1.0, pair[0] + fraction * (pair[1] - pair[0]), pair[1])


def _values(image, coordinates):
    """The same with values of a floating type: an image of integers is not copied as a whole."""
    corners, fractions = _corners(_flat(image), image.shape[:3], coordinates)
    dtype = image.dtype if jnp.issubdtype(image.dtype, jnp.inexact) else jnp.float32
    return jax.tree.map(lambda corner: corner.astype(dtype), corners), fractions


def _trilinear(image, coordinates):
    return _within_cell(*_values(image, coordinates))


def _within_cell(corners, fractions):
    fx, fy, fz = fractions
    along_yz = [_mix([_mix(c, fz) for c in row], fy) for row in corners]
    return _mix(along_yz, fx)


def _trilinear_slopes(image, coordinates):
    """Value of the trilinear interpolant and its three partial derivatives, zero outside."""
    corners, (fx, fy, fz) = _values(image, coordinates)
    along_z = [[_mix(c, fz) for c in row] for row in corners]
    slope_z = [[c[1] - c[0] for c in row] for row in corners]
    along_yz = [_mix(c, fy) for c in along_z]
    slope_y = [c[1] - c[0] for c in along_z]
    value = _mix(along_yz, fx)
    slopes = (
        along_yz[1] - along_yz[0],
        _mix(slope_y, fx),
        _mix([_mix(c, fy) for c in slope_z], fx),
    )
    return value, [
        jnp.where(_within(image, coordinates, axis), slope, 0.0)
        for axis, slope in enumerate(slopes)
    ]


def _within(image, coordinates, axis):
    """Where a coordinate lies between the outermost voxel centres, with the rank of the values."""
    coordinate = coordinates[..., axis]
    inside = (coordinate >= 0.0) & (coordinate <= image.shape[axis] - 1.0)
    return inside[..., None] if image.ndim == 4 else inside


@functools.partial(jax.custom_jvp)
def _sample(image, coordinates):
    return _trilinear(image, coordinates)


@functools.partial(_sample.defjvp, symbolic_zeros=True)
def _sample_jvp(primals, tangents):
    """Derivative with the image's own slopes: nothing is scattered unless the image is varied."""
    image, coordinates = primals
    d_image, d_coordinates = tangents
    zero = jax.custom_derivatives.SymbolicZero
    if isinstance(d_coordinates, zero):
        value, tangent = _trilinear(image, coordinates), None
    else:
        value, slopes = _trilinear_slopes(image, coordinates)
        # split, whose transpose is one concatenation: slices would come back as padded sums
        moved = jax.lax.split(d_coordinates, (1, 1, 1), axis=d_coordinates.ndim - 1)
        moved = [part if image.ndim == 4 else part[..., 0] for part in moved]
        tangent = sum(slope * part for slope, part in zip(slopes, moved, strict=True))
    if not isinstance(d_image, zero):
        varied = _trilinear(d_image, coordinates)
        tangent = varied if tangent is None else tangent + varied
    return value, jnp.zeros_like(value) if tangent is None else tangent


def sample(
    image: Real[AnyArray, "X Y Z *C"], coordinates: Coordinates
) -> Float[AnyArray, "*points_C"]:
    """Trilinear interpolation of an image at any points.

    Affine functions are reproduced exactly inside the image. The derivative with respect to the
    coordinates is that of the trilinear interpolant (one-sided on voxel planes, zero outside);
    reverse mode scatters only when the derivative with respect to the image is asked for.

    Args:
        image: (X, Y, Z) or (X, Y, Z, C); of integers, it is not copied as a whole.
        coordinates: points in voxels, (..., 3).

    Returns:
        Values, (...) or (..., C), of a floating type.
    """
    return _sample(jnp.asarray(image), jnp.asarray(coordinates))


def sample_flat(
    values: Float[AnyArray, "N"], sizes: Int[AnyArray, "3"], coordinates: Coordinates
) -> Float[AnyArray, "*points"]:
    """`sample` of an image whose shape the program need not know when it is compiled.

    Args:
        values: the image in the order of C, and anything after it.
        sizes: of the image along X, Y and Z.
        coordinates: points in voxels, (..., 3).

    Returns:
        Values, (...).
    """
    return _within_cell(*_corners(values, (sizes[0], sizes[1], sizes[2]), coordinates))


def sample_nearest(
    labels: Shaped[AnyArray, "X Y Z"], coordinates: Coordinates
) -> Shaped[AnyArray, "*points"]:
    """Value of the nearest voxel (halves round up), for label maps.

    Args:
        labels: (X, Y, Z), any dtype, which is kept.
        coordinates: points in voxels, (..., 3).

    Returns:
        Values, (...).
    """
    labels = jnp.asarray(labels)
    coordinates = jnp.asarray(coordinates)
    x, y, z = (
        jnp.clip(jnp.floor(coordinates[..., axis] + 0.5), 0, size - 1).astype(jnp.int32)
        for axis, size in enumerate(labels.shape)
    )
    return labels[x, y, z]


def sample_majority(
    labels: Shaped[AnyArray, "X Y Z"], coordinates: Coordinates
) -> Shaped[AnyArray, "*points"]:
    """Label with the largest fraction when every label is interpolated linearly by itself.

    The same as trilinear interpolation of one image per label, 1 in the label and 0 elsewhere, and
    the label whose image is largest; a tie goes to a label and not to the background 0. Structures
    of one voxel stay connected, which the nearest voxel splits.

    Args:
        labels: (X, Y, Z), any integer dtype, which is kept.
        coordinates: points in voxels, (..., 3).

    Returns:
        Labels, (...).
    """
    labels = jnp.asarray(labels)
    corners, fractions = _corners(_flat(labels), labels.shape, jnp.asarray(coordinates))
    places = list(itertools.product((0, 1), repeat=3))
    found = [corners[i][j][k] for i, j, k in places]
    x, y, z = fractions
    weights = [
        (x if i else 1.0 - x) * (y if j else 1.0 - y) * (z if k else 1.0 - z) for i, j, k in places
    ]
    best, most = found[0], jnp.full(found[0].shape, -1.0, x.dtype)
    for label in found:
        fraction = sum(
            jnp.where(label == other, w, 0.0) for other, w in zip(found, weights, strict=True)
        )
        fraction = fraction + jnp.where(label != 0, _TIE, 0.0)
        best, most = jnp.where(fraction > most, label, best), jnp.maximum(fraction, most)
    return best


def resize(image: Float[AnyArray, "X Y Z *C"], shape: Shape) -> Float[AnyArray, "x y z *C"]:
    """Image on a grid of another shape over the same extent, both voxel-centred.

    Linear; where an axis shrinks the kernel widens with it (antialiasing). New voxel i lies at old
    coordinate (i + 1/2) n_old / n_new - 1/2; beyond the outermost centres the edge value holds.

    Args:
        image: (X, Y, Z) or (X, Y, Z, C).
        shape: new (x, y, z).

    Returns:
        Image, (x, y, z) or (x, y, z, C).
    """
    new = (*shape, *image.shape[3:])
    return jax.image.resize(jnp.asarray(image), new, "linear", antialias=True)
