"""Random changes of a training pair, on the device, without changing what is true about it.

Both images may be mirrored left to right and moved by one small affine map (another anatomy); the
moving one by a second, smaller map (what prealignment leaves). Intensities are scaled, shifted and
made noisy, each image by itself. Label maps and keypoints follow.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float, Integer, PRNGKeyArray

from jaxreg.fields.deformation import identity_grid
from jaxreg.fields.interpolation import sample, sample_nearest
from jaxreg.shapes import AnyArray

# Labels after mirroring, entry l is what label l becomes: none, 2 lungs, 5 lobes (RU RM RL LU LL).
MIRRORED = {1: (0, 1), 2: (0, 2, 1), 5: (0, 4, 2, 5, 1, 3)}

LINEAR = 0.08  # sd of the entries of the common affine's linear part
RESIDUAL_LINEAR = 0.02  # the same of the moving image's own
RESIDUAL_SHIFT = 0.01  # sd of its translation, as a share of the grid
CONTRAST = 0.05  # sd of the intensity scale about -1000 HU
OFFSET_HU = 10.0  # sd of the intensity shift
NOISE_HU = 40.0  # largest sd of the noise


class Pair(NamedTuple):
    """A prepared training pair on the network grid.

    Attributes:
        fixed: HU, (X, Y, Z).
        moving: HU on the same lattice, (X, Y, Z).
        fixed_labels: 0 background, 1..K, (X, Y, Z); nonzero is lung.
        moving_labels: the same of the moving image.
        fixed_keypoints: voxels, (N, 3).
        moving_keypoints: where they went, voxels, (N, 3).
        keypoint_weights: 1, or 0 for places that only fill up the array, (N,).
        spacing_mm: millimetres a voxel, (3,).
    """

    fixed: Float[AnyArray, "*batch X Y Z"]
    moving: Float[AnyArray, "*batch X Y Z"]
    fixed_labels: Integer[AnyArray, "*batch X Y Z"]
    moving_labels: Integer[AnyArray, "*batch X Y Z"]
    fixed_keypoints: Float[AnyArray, "*batch N 3"]
    moving_keypoints: Float[AnyArray, "*batch N 3"]
    keypoint_weights: Float[AnyArray, "*batch N"]
    spacing_mm: Float[AnyArray, "*batch 3"]


def _random_affine(key, shape, linear, shift):
    """Points map x -> c + A (x - c) + b about the middle c of the grid; returns (A, c, b)."""
    key_linear, key_shift = jax.random.split(key)
    size = jnp.array(shape, jnp.float32)
    a = jnp.eye(3) + linear * jax.random.normal(key_linear, (3, 3))
    b = shift * size * jax.random.normal(key_shift, (3,))
    return a, (size - 1.0) / 2.0, b


def _mirror(pair: Pair, count: int) -> Pair:
    last = pair.fixed.shape[0] - 1
    names = jnp.array(MIRRORED.get(count, tuple(range(count + 1))))

    def points(p):
        return jnp.array([last, 0.0, 0.0])[None] + p * jnp.array([-1.0, 1.0, 1.0])[None]

    return pair._replace(
        fixed=pair.fixed[::-1],
        moving=pair.moving[::-1],
        fixed_labels=names[pair.fixed_labels[::-1]].astype(pair.fixed_labels.dtype),
        moving_labels=names[pair.moving_labels[::-1]].astype(pair.moving_labels.dtype),
        fixed_keypoints=points(pair.fixed_keypoints),
        moving_keypoints=points(pair.moving_keypoints),
    )


def _intensity(key, image):
    key_scale, key_offset, key_level, key_noise = jax.random.split(key, 4)
    scale = 1.0 + CONTRAST * jax.random.normal(key_scale)
    offset = OFFSET_HU * jax.random.normal(key_offset)
    noise = NOISE_HU * jax.random.uniform(key_level) * jax.random.normal(key_noise, image.shape)
    return (image + 1000.0) * scale - 1000.0 + offset + noise


def augment(key: PRNGKeyArray, pair: Pair, *, labels: int) -> Pair:
    """The pair, changed at random.

    Args:
        key: random key.
        pair: unbatched; use `jax.vmap`.
        labels: K, number of labels.

    Returns:
        A pair of the same shapes; fixed(x) becomes fixed(A x), so keypoints become A^-1 p.
    """
    shape = pair.fixed.shape
    key_flip, key_both, key_moving, key_fixed_hu, key_moving_hu = jax.random.split(key, 5)
    flip = jax.random.bernoulli(key_flip)
    pair = jax.tree.map(lambda a, b: jnp.where(flip, a, b), _mirror(pair, labels), pair)

    a, centre, _ = _random_affine(key_both, shape, LINEAR, 0.0)
    r, _, shift = _random_affine(key_moving, shape, RESIDUAL_LINEAR, RESIDUAL_SHIFT)
    offsets = identity_grid(shape) - centre[None, None, None]
    fixed_points = offsets @ a.T + centre[None, None, None]
    moving_points = (offsets @ r.T + shift[None, None, None]) @ a.T + centre[None, None, None]

    def back(points, matrix, b):  # solves c + matrix (x - c) + b = p for x
        moved = (points - centre[None] - b[None]).T
        return jnp.linalg.solve(matrix, moved).T + centre[None]

    return pair._replace(
        fixed=_intensity(key_fixed_hu, sample(pair.fixed, fixed_points)),
        moving=_intensity(key_moving_hu, sample(pair.moving, moving_points)),
        fixed_labels=sample_nearest(pair.fixed_labels, fixed_points),
        moving_labels=sample_nearest(pair.moving_labels, moving_points),
        fixed_keypoints=back(pair.fixed_keypoints, a, jnp.zeros(3)),
        moving_keypoints=back(pair.moving_keypoints, a @ r, a @ shift),
    )
