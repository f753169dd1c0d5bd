"""Random changes of a training pair, on the device, without changing what is true about it.

Both images may be mirrored left to right and moved by one small affine map (another anatomy); the
moving one by a second affine map and a smooth random deformation (what prealignment leaves, and
other breaths). Intensities are scaled, shifted and made noisy, each image by itself. Label shares
and keypoints follow.
"""

import jax
import jax.numpy as jnp
from jaxtyping import PRNGKeyArray

from jaxreg.config import AugmentationConfig
from jaxreg.ops.deformation import identity_grid
from jaxreg.ops.interpolation import resize, sample
from jaxreg.ops.types import Displacement, Points
from jaxreg.training.losses import Example

# Labels after mirroring, entry l - 1 is what label l becomes: 2 lungs, 5 lobes (RU RM RL LU LL).
MIRRORED = {2: (2, 1), 5: (4, 2, 5, 1, 3)}


def augment(
    key: PRNGKeyArray, example: Example, *, config: AugmentationConfig = AugmentationConfig()
) -> Example:
    """The pair, changed at random.

    The new images are fixed(a(x)) and moving(b(x)) with random maps a and b of the grid, so the new
    keypoints are a^-1(p) and b^-1(q).

    Args:
        key: random key.
        example: unbatched; use `jax.vmap`.
        config: how much it is changed.

    Returns:
        A pair of the same shapes.
    """
    keys = jax.random.split(key, 7)
    shape = example.fixed.shape
    mirrored = _mirror(example)
    flip = jax.random.bernoulli(keys[0])
    example = jax.tree.map(lambda a, b: jnp.where(flip, a, b), mirrored, example)

    nothing = jnp.zeros((2, 2, 2, 3))
    common = _linear(keys[1], config.linear)
    residual = _linear(keys[2], config.residual_linear)
    size = jnp.array(shape, jnp.float32)
    shift = config.residual_shift * size * jax.random.normal(keys[3], (3,))
    points = (config.control_points,) * 3
    key_size, key_control = jax.random.split(keys[4])
    amplitude = config.deformation * jax.random.uniform(key_size) * size
    control = amplitude[None, None, None] * jax.random.normal(key_control, (*points, 3))

    fixed = _Map(common, jnp.zeros(3), nothing, shape, config.inverse_steps)
    moving = _Map(common @ residual, common @ shift, control, shape, config.inverse_steps)
    return example._replace(
        fixed=_intensity(keys[5], sample(example.fixed, fixed.grid()), example.spacing_mm, config),
        moving=_intensity(
            keys[6], sample(example.moving, moving.grid()), example.spacing_mm, config
        ),
        mask=sample(example.mask, fixed.grid()),
        fixed_labels=sample(example.fixed_labels, fixed.grid()),
        moving_labels=sample(example.moving_labels, moving.grid()),
        fixed_keypoints=fixed.inverse(example.fixed_keypoints),
        moving_keypoints=moving.inverse(example.moving_keypoints),
    )


class _Map:
    """x -> c + A (x - c) + b + w(x), c the middle of the grid, w upsampled control points."""

    def __init__(self, matrix, shift, control, shape, inverse_steps):
        self.matrix, self.shift, self.inverse_steps = matrix, shift, inverse_steps
        self.middle = (jnp.array(shape, jnp.float32) - 1.0) / 2.0
        self.deformation = resize(control, shape)

    def grid(self) -> Displacement:
        """The map at every voxel."""
        middle, shift = self.middle[None, None, None], self.shift[None, None, None]
        x = identity_grid(self.deformation.shape[:3])
        return (x - middle) @ self.matrix.T + middle + shift + self.deformation

    def inverse(self, points: Points) -> Points:
        """Where the map takes the value of each point."""
        back = jnp.linalg.inv(self.matrix)

        def step(_, x):
            moved = points - self.middle[None] - self.shift[None] - sample(self.deformation, x)
            return moved @ back.T + self.middle[None]

        return jax.lax.fori_loop(0, self.inverse_steps, step, points)


def _linear(key, size):
    return jnp.eye(3) + size * jax.random.normal(key, (3, 3))


def _mirror(example: Example) -> Example:
    count = example.fixed_labels.shape[-1]
    order = jnp.array(MIRRORED.get(count, tuple(range(1, count + 1)))) - 1
    last = example.fixed.shape[0] - 1

    def points(p):
        return jnp.array([last, 0.0, 0.0])[None] + p * jnp.array([-1.0, 1.0, 1.0])[None]

    return example._replace(
        fixed=example.fixed[::-1],
        moving=example.moving[::-1],
        mask=example.mask[::-1],
        fixed_labels=example.fixed_labels[::-1][..., order],
        moving_labels=example.moving_labels[::-1][..., order],
        fixed_keypoints=points(example.fixed_keypoints),
        moving_keypoints=points(example.moving_keypoints),
    )


def _intensity(key, image, spacing_mm, config):
    key_scale, key_offset, key_level, key_noise = jax.random.split(key, 4)
    scale = 1.0 + config.contrast * jax.random.normal(key_scale)
    offset = config.offset_hu * jax.random.normal(key_offset)
    largest = config.noise_hu * jnp.sqrt(27.0 / jnp.prod(spacing_mm))
    noise = largest * jax.random.uniform(key_level) * jax.random.normal(key_noise, image.shape)
    return (image + 1000.0) * scale - 1000.0 + offset + noise
