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

from jaxreg.engine.descriptors import descriptors
from jaxreg.engine.matching import match
from jaxreg.geometry.grid import transform
from jaxreg.geometry.lung_grid import FRAME, lung_frame, pair_to_frame
from jaxreg.geometry.volume import Volume
from jaxreg.io.points import Landmarks
from jaxreg.ops import symmetric
from jaxreg.ops.filters import binomial, image_gradient
from jaxreg.ops.interpolation import sample
from jaxreg.ops.types import AnyArray, Image, Mask, Spacing

COUNT = 4096  # detected at most
BLOCK_MM = 20.0  # edge of the blocks over which they spread
FLAT_HU2 = 1.0  # per mm^2: less distinct than that is noise
RIM = 2  # voxels inside of the mask's border without keypoints: the chest wall moves otherwise
RETURN_MM = 2.0  # a match and its way back part by less


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
def _peaks(distinct):
    """Where no neighbour of the 26 is more distinct."""
    window = (3, 3, 3)
    top = jax.lax.reduce_window(distinct, -jnp.inf, jax.lax.max, window, (1, 1, 1), "SAME")
    return (distinct >= top) & (distinct > FLAT_HU2)


def detect(image: Image, mask: Mask, *, spacing_mm: Spacing) -> Int[np.ndarray, "N 3"]:
    """The COUNT most distinct voxels, the best of each block first, then the second, and so on.

    Args:
        image: HU, (X, Y, Z).
        mask: lungs, nonzero inside, (X, Y, Z); keypoints keep off its border by RIM.
        spacing_mm: voxel size, mm.

    Returns:
        Voxels in lexical order, (N, 3); N is 0 where nothing is distinct.
    """
    spacing = np.asarray(spacing_mm, np.float32)
    distinct = distinctiveness(jnp.asarray(image), jnp.asarray(spacing))
    inner = ndimage.binary_erosion(np.asarray(mask) > 0, iterations=RIM)
    places = np.argwhere(np.asarray(_peaks(distinct)) & inner)
    values = np.asarray(distinct)[tuple(places.T)]
    blocks = np.floor(places * spacing / BLOCK_MM).astype(int)
    order = np.lexsort((-values, *blocks.T))
    sorted_blocks = blocks[order]
    first = np.any(sorted_blocks != np.roll(sorted_blocks, 1, axis=0), axis=1)
    first[:1] = True
    index = np.arange(len(order))
    rank = index - np.maximum.accumulate(np.where(first, index, 0))
    chosen = order[np.lexsort((-values[order], rank))[:COUNT]]
    return places[np.sort(chosen)]


def find_keypoints(
    fixed: Image, moving: Image, mask: Mask, *, spacing_mm: Spacing
) -> tuple[Float[np.ndarray, "N 3"], Float[np.ndarray, "N 3"]]:
    """Keypoints of a pair that lies on one grid.

    Args:
        fixed: HU, (X, Y, Z).
        moving: HU on the same grid, linearly prealigned.
        mask: lungs of the fixed image, nonzero inside, (X, Y, Z).
        spacing_mm: voxel size, mm.

    Returns:
        Points of the fixed image and those of the moving one to which they belong, voxels, (N, 3).
    """
    spacing = np.asarray(spacing_mm, np.float32)
    points = detect(fixed, mask, spacing_mm=spacing).astype(np.float32)
    if len(points) == 0:
        return points, points
    seen_fixed, seen_moving = descriptors(jnp.asarray(fixed)), descriptors(jnp.asarray(moving))
    matched = match(seen_fixed, seen_moving, points, spacing_mm=spacing)
    back = match(seen_moving, seen_fixed, matched, spacing_mm=spacing)
    kept = np.linalg.norm((back - points) * spacing, axis=1) < RETURN_MM
    distinct = distinctiveness(jnp.asarray(moving), jnp.asarray(spacing))
    kept &= np.asarray(sample(distinct, matched)) > FLAT_HU2  # a flat image leads back as well
    return points[kept], matched[kept]


def find_keypoints_mm(
    fixed: Volume, moving: Volume, fixed_mask: Volume, moving_mask: Volume, matrix: np.ndarray
) -> Landmarks:
    """Keypoints of two images in the world.

    Args:
        fixed: CT, HU.
        moving: CT, HU, on any grid.
        fixed_mask: lungs on the grid of `fixed`, nonzero inside.
        moving_mask: lungs on the grid of `moving`.
        matrix: (4, 4), prealignment, fixed world to moving world, RAS mm.

    Returns:
        Points of kind "keypoint", RAS mm; none where nothing is to be seen.
    """
    frame = lung_frame(fixed_mask, moving_mask, matrix, shape=FRAME)
    pair_and_lungs = pair_to_frame(fixed, moving, fixed_mask, frame, matrix)
    points, matched = find_keypoints(*pair_and_lungs, spacing_mm=frame.spacing_mm)
    return Landmarks(
        frame.world_from_voxel(points),
        transform(matrix, frame.world_from_voxel(matched)),
        np.full(len(points), "keypoint"),
    )
