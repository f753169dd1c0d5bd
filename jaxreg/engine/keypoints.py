"""Keypoints: distinctive places in the fixed lungs, and where the moving image has them.

Detected where the structure tensor A, the smoothed outer product of the gradient, is large along
all axes: local maxima of 1 / trace(A^-1) (Foerstner and Guelch 1987, ISPRS), the best of each block
first, so that they spread evenly. Matched both ways by `engine.matching`; a point is kept only
if its match leads back to it (Ruehaak et al. 2017, doi 10.1109/TMI.2017.2691259).
"""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int
from scipy import ndimage

from jaxreg.config import KeypointConfig
from jaxreg.engine.descriptors import descriptors
from jaxreg.engine.matching import match
from jaxreg.ops import symmetric
from jaxreg.ops.filters import binomial, image_gradient
from jaxreg.ops.interpolation import sample
from jaxreg.ops.types import AnyArray, Image, Mask, Spacing


@jax.jit
def distinctiveness(image: Image, spacing_mm: Float[AnyArray, "3"]) -> Image:
    """1 / trace(A^-1) = det A / (sum of its principal 2x2 minors), 0 at the border.

    Args:
        image: HU, (X, Y, Z).
        spacing_mm: voxel size, mm, (3,).

    Returns:
        Squared slopes, HU^2/mm^2, (X, Y, Z).
    """
    products = symmetric.outer(image_gradient(image, spacing=spacing_mm))
    # two passes: a standard deviation of one voxel
    tensor = jnp.stack([binomial(binomial(product)) for product in products])
    cofactors = symmetric.cofactors(tensor)
    minors = cofactors[0] + cofactors[3] + cofactors[5]
    return symmetric.determinant(tensor, cofactors) / (minors + 1e-6)


@jax.jit
def _peaks(distinct, flat_hu2):
    """Where no neighbour of the 26 is more distinctive."""
    window = (3, 3, 3)
    top = jax.lax.reduce_window(distinct, -jnp.inf, jax.lax.max, window, (1, 1, 1), "SAME")
    return (distinct >= top) & (distinct > flat_hu2)


def detect(
    image: Image, mask: Mask, *, spacing_mm: Spacing, config: KeypointConfig = KeypointConfig()
) -> Int[np.ndarray, "N 3"]:
    """The most distinctive voxels, the best of each block first, then the second, and so on.

    Args:
        image: HU, (X, Y, Z).
        mask: lungs, nonzero inside, (X, Y, Z); keypoints keep off its border.
        spacing_mm: voxel size, mm.
        config: settings.

    Returns:
        Voxels in lexical order, (N, 3); N is 0 where nothing is distinct.
    """
    spacing = np.asarray(spacing_mm, np.float32)
    distinct = distinctiveness(jnp.asarray(image), jnp.asarray(spacing))
    inner = ndimage.binary_erosion(np.asarray(mask) > 0, iterations=config.rim)
    places = np.argwhere(np.asarray(_peaks(distinct, config.flat_hu2)) & inner)
    values = np.asarray(distinct)[tuple(places.T)]
    blocks = np.floor(places * spacing / config.block_mm).astype(int)
    order = np.lexsort((-values, *blocks.T))
    sorted_blocks = blocks[order]
    first = np.any(sorted_blocks != np.roll(sorted_blocks, 1, axis=0), axis=1)
    first[:1] = True
    index = np.arange(len(order))
    rank = index - np.maximum.accumulate(np.where(first, index, 0))
    chosen = order[np.lexsort((-values[order], rank))[: config.count]]
    return places[np.sort(chosen)]


def find_keypoints(
    fixed: Image,
    moving: Image,
    mask: Mask,
    *,
    spacing_mm: Spacing,
    config: KeypointConfig = KeypointConfig(),
) -> tuple[Float[np.ndarray, "N 3"], Float[np.ndarray, "N 3"]]:
    """Keypoints of a pair that lies on one grid.

    Args:
        fixed: HU, (X, Y, Z).
        moving: HU on the same grid, linearly prealigned.
        mask: lungs of the fixed image, nonzero inside, (X, Y, Z).
        spacing_mm: voxel size, mm.
        config: settings.

    Returns:
        Points of the fixed image and those of the moving one to which they belong, voxels, (N, 3).
    """
    spacing = np.asarray(spacing_mm, np.float32)
    points = detect(fixed, mask, spacing_mm=spacing, config=config).astype(np.float32)
    if len(points) == 0:
        return points, points
    seen_fixed, seen_moving = (
        descriptors(jnp.asarray(image), config=config) for image in (fixed, moving)
    )
    matched = match(seen_fixed, seen_moving, points, spacing_mm=spacing, config=config)
    back = match(seen_moving, seen_fixed, matched, spacing_mm=spacing, config=config)
    kept = np.linalg.norm((back - points) * spacing, axis=1) < config.return_mm
    distinct = distinctiveness(jnp.asarray(moving), jnp.asarray(spacing))
    kept &= (
        np.asarray(sample(distinct, matched)) > config.flat_hu2
    )  # a flat image leads back as well
    return points[kept], matched[kept]
