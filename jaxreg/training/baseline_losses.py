"""The loss of VoxelMorph (Balakrishnan et al. 2019, IEEE TMI 38(8)), for comparison.

Scaled as in `jaxreg.training.losses`: means over the grid, displacements in voxels, images in HU.
"""

import jax.numpy as jnp

from jaxreg.ops.filters import box_mean
from jaxreg.ops.types import Displacement, Image, Scalar, Spacing

LNCC_RADIUS = 4  # voxels
LNCC_NOISE_HU = 20.0  # local deviations well below it count as flat


def diffusion(u: Displacement, *, spacing_mm: Spacing) -> Scalar:
    """Diffusion energy: sum over axes of the mean squared forward difference |du/dx_a|^2.

    VoxelMorph's smoothness (Balakrishnan et al. 2019, IEEE TMI 38(8), eq. 8), in mm per mm.

    Args:
        u: displacement in voxels, (X, Y, Z, 3), at least two voxels along each axis.
        spacing_mm: millimetres a voxel, (3,).

    Returns:
        Energy without unit, ().
    """
    spacing = jnp.asarray(spacing_mm, u.dtype)
    u_mm = u * spacing[None, None, None]
    squares = [
        jnp.mean(jnp.sum((jnp.diff(u_mm, axis=axis) / spacing[axis]) ** 2, axis=-1))
        for axis in range(3)
    ]
    return squares[0] + squares[1] + squares[2]


def lncc(warped: Image, fixed: Image, *, radius: int = LNCC_RADIUS) -> Scalar:
    """1 less the mean squared local correlation of both images, 0 (linearly related) to 1.

    Mean over the grid of 1 - cov(W, F)^2 / ((var W + e) (var F + e)) in cubes of 2 radius + 1
    voxels, cut at the border, e = `LNCC_NOISE_HU`^2: VoxelMorph's similarity (Balakrishnan et al.
    2019, IEEE TMI 38(8), eq. 7), there with 9 voxels. Flat places count 1.

    Args:
        warped: moving image at y(x), HU, (X, Y, Z).
        fixed: HU, (X, Y, Z).
        radius: voxels on each side of the middle of a cube.

    Returns:
        Distance in [0, 1], ().
    """
    w, f = (warped - jnp.mean(warped)) / 100.0, (fixed - jnp.mean(fixed)) / 100.0
    mean_w, mean_f = box_mean(w, radius=radius), box_mean(f, radius=radius)
    noise = (LNCC_NOISE_HU / 100.0) ** 2
    variance_w = jnp.maximum(box_mean(w * w, radius=radius) - mean_w**2, 0.0) + noise
    variance_f = jnp.maximum(box_mean(f * f, radius=radius) - mean_f**2, 0.0) + noise
    covariance = box_mean(w * f, radius=radius) - mean_w * mean_f
    return 1.0 - jnp.mean((covariance / variance_w) * (covariance / variance_f))
