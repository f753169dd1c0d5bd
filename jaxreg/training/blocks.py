"""A level trained on blocks of its grid: a step costs what the block costs.

The networks are convolutional, and the motion that the coarser levels leave is small, so a block
teaches the finest level what the whole grid would. The coarser levels always see the whole grid.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Float, PRNGKeyArray

from jaxreg.ops.types import AnyArray, Displacement, Shape
from jaxreg.training.losses import Example


def block_shape(shape: Shape, parts: int) -> Shape:
    """Size of a block of a grid.

    Args:
        shape: (X, Y, Z) of the grid.
        parts: into which each axis is cut; sizes are rounded up.

    Returns:
        (x, y, z) of the block.
    """
    return tuple(-(-n // parts) for n in shape)


def random_block(
    key: PRNGKeyArray, example: Example, u: Displacement, parts: int
) -> tuple[Example, Float[AnyArray, "x y z 3"]]:
    """The same block of all images of a pair, anywhere in the grid with the same probability.

    Args:
        key: random key.
        example: the pair on the grid of the level.
        u: displacement so far in voxels, (X, Y, Z, 3).
        parts: into which each axis is cut.

    Returns:
        The pair and the displacement on the block, (x, y, z) of `block_shape`. Keypoints whose
        fixed point lies outside have no weight.
    """
    shape = example.fixed.shape
    block = block_shape(shape, parts)
    last = jnp.array([n - size for n, size in zip(shape, block, strict=True)])
    start = jax.random.randint(key, (3,), 0, last + 1)

    def cut(array):
        sizes = (*block, *array.shape[3:])
        starts = [*start, *(0 for _ in array.shape[3:])]
        return jax.lax.dynamic_slice(array, starts, sizes)

    fixed_points = example.fixed_keypoints - start[None]
    outermost = jnp.array(block, fixed_points.dtype) - 1.0
    within = jnp.all((fixed_points >= 0.0) & (fixed_points <= outermost[None]), axis=-1)
    cut_example = example._replace(
        fixed=cut(example.fixed),
        moving=cut(example.moving),
        mask=cut(example.mask),
        fixed_labels=cut(example.fixed_labels),
        moving_labels=cut(example.moving_labels),
        fixed_keypoints=fixed_points,
        moving_keypoints=example.moving_keypoints - start[None],
        keypoint_weights=example.keypoint_weights * within,
    )
    return cut_example, cut(u)
