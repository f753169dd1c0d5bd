"""The training loss of Hering et al. 2021 (Med Image Anal 72, 102139), section 3.

Each term is a mean, so that its weight does not depend on the size of the grid: over the lung mask
of the fixed image (ngf), over the grid (curvature, volume change, masks), over the keypoints.
Displacements are in voxels, (X, Y, Z, 3); lengths enter in millimetres through `spacing_mm`, (3,).
Images are in HU. An empty mask gives 0, flat or identical images give finite values and gradients.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float, Shaped

from jaxreg.config import LossConfig
from jaxreg.ops.deformation import inside, target_points, transform_points
from jaxreg.ops.filters import image_gradient
from jaxreg.ops.interpolation import sample
from jaxreg.ops.jacobian import jacobian_determinant
from jaxreg.ops.types import AnyArray, Displacement, Image, Mask, Number, Points, Scalar, Spacing
from jaxreg.training.baseline_losses import diffusion, lncc

SMOOTH_MM = 0.1  # distances well below it count as squared
SMALLEST_EDGE = 1e-2  # HU/mm; keeps 0/0 away where an image has no gradient at all


class Example(NamedTuple):
    """What the loss of one pair is computed from, everything on one grid.

    Attributes:
        fixed: HU, (X, Y, Z).
        moving: HU on the same lattice, (X, Y, Z).
        mask: lungs of the fixed image, 0 to 1, (X, Y, Z).
        fixed_labels: fraction of each label in each voxel (one-hot, then smoothed), (X, Y, Z, K).
        moving_labels: the same of the moving image, (X, Y, Z, K).
        fixed_keypoints: voxels of this grid, (N, 3).
        moving_keypoints: where they went, voxels of this grid, (N, 3).
        keypoint_weights: 1, or 0 for places that only fill up the array, (N,).
        spacing_mm: millimetres a voxel, (3,).
    """

    fixed: Float[AnyArray, "X Y Z"]
    moving: Float[AnyArray, "X Y Z"]
    mask: Float[AnyArray, "X Y Z"]
    fixed_labels: Float[AnyArray, "X Y Z K"]
    moving_labels: Float[AnyArray, "X Y Z K"]
    fixed_keypoints: Float[AnyArray, "N 3"]
    moving_keypoints: Float[AnyArray, "N 3"]
    keypoint_weights: Float[AnyArray, "N"]
    spacing_mm: Float[AnyArray, "3"]


def masked_mean(values: Float[AnyArray, "*shape"], mask: Shaped[AnyArray, "*shape"]) -> Scalar:
    """Sum of mask * values over the sum of the mask; 0 where the mask is 0 everywhere.

    Args:
        values: any shape.
        mask: weights >= 0, same shape.

    Returns:
        Mean in the unit of the values, ().
    """
    mask = jnp.asarray(mask, values.dtype)
    return jnp.sum(mask * values) / jnp.maximum(jnp.sum(mask), 1.0)


def automatic_edge(fixed: Image, mask: Mask, *, spacing_mm: Spacing, ratio: Number) -> Scalar:
    """Edge parameter of `ngf`: `ratio` times the mean gradient of the fixed image in the mask.

    Haber and Modersitzki 2006 (MICCAI), eq. 9, with their noise level as the ratio.

    Args:
        fixed: HU, (X, Y, Z).
        mask: lungs of the fixed image, (X, Y, Z).
        spacing_mm: millimetres a voxel, (3,).
        ratio: nu.

    Returns:
        Epsilon in HU/mm, at least `SMALLEST_EDGE`; a constant to derivatives.
    """
    squared = jnp.sum(image_gradient(fixed, spacing=spacing_mm) ** 2, axis=0)
    squared = jax.lax.stop_gradient(squared)  # the root has no derivative where the image is flat
    return jnp.maximum(ratio * masked_mean(jnp.sqrt(squared), mask), SMALLEST_EDGE)


def ngf(
    warped: Image, fixed: Image, mask: Mask, *, spacing_mm: Spacing, edge: Scalar | Number
) -> Scalar:
    """Normalised gradient field distance, 0 (edges aligned) to 1.

    Mean over the mask of 1 - <gW, gF>_e^2 / (|gW|_e^2 |gF|_e^2) with <a, b>_e = a.b + e^2 and
    |a|_e^2 = <a, a>_e: Hering et al. 2021, eq. 3. Where both images are flat it is 0.

    Args:
        warped: moving image at y(x), HU, (X, Y, Z).
        fixed: HU, (X, Y, Z).
        mask: lungs of the fixed image, (X, Y, Z).
        spacing_mm: millimetres a voxel, (3,).
        edge: e in HU/mm: gradients well below it count as noise; > 0.

    Returns:
        Distance in [0, 1], ().
    """
    gradient_w = image_gradient(warped, spacing=spacing_mm)
    gradient_f = image_gradient(fixed, spacing=spacing_mm)
    edge2 = jnp.asarray(edge, fixed.dtype) ** 2
    product = jnp.sum(gradient_w * gradient_f, axis=0) + edge2
    length2_w = jnp.sum(gradient_w**2, axis=0) + edge2
    length2_f = jnp.sum(gradient_f**2, axis=0) + edge2
    return masked_mean(1.0 - (product / length2_w) * (product / length2_f), mask)


def curvature(u: Displacement, *, spacing_mm: Spacing) -> Scalar:
    """Curvature energy: mean over inner voxels of sum_j (Laplace u_j)^2, 0 for affine fields.

    Fischer and Modersitzki 2003; Hering et al. 2021, eq. 4, as a mean instead of an integral.

    Args:
        u: displacement in voxels, (X, Y, Z, 3), at least three voxels along each axis.
        spacing_mm: millimetres a voxel, (3,).

    Returns:
        Energy in mm^-2, ().
    """
    spacing = jnp.asarray(spacing_mm, u.dtype)
    u_mm = u * spacing[None, None, None]
    inner = u_mm[1:-1, 1:-1, 1:-1]
    laplace = (
        (u_mm[2:, 1:-1, 1:-1] - 2.0 * inner + u_mm[:-2, 1:-1, 1:-1]) / spacing[0] ** 2
        + (u_mm[1:-1, 2:, 1:-1] - 2.0 * inner + u_mm[1:-1, :-2, 1:-1]) / spacing[1] ** 2
        + (u_mm[1:-1, 1:-1, 2:] - 2.0 * inner + u_mm[1:-1, 1:-1, :-2]) / spacing[2] ** 2
    )
    return jnp.mean(jnp.sum(laplace**2, axis=-1))


def volume_penalty(
    determinant: Float[AnyArray, "*shape"], *, threshold: Number
) -> Float[AnyArray, "*shape"]:
    """psi_t(z): 0 at z = 1, the same for growth by z and shrinkage by 1/z, steep below t.

    psi_t(z) = (z - 1)^2 / z for z >= t, continued with its tangent (1 - 1/t^2) z + 2 (1 - t) / t
    below, so that folds are punished but finite: Hering et al. 2021, eq. 6.

    Args:
        determinant: det of the Jacobian, any shape.
        threshold: t, between 0 and 1.

    Returns:
        Penalty, the same shape.
    """
    t = threshold
    above = jnp.maximum(determinant, t)  # keeps the unused branch finite, and its gradient
    tangent = (1.0 - 1.0 / t**2) * determinant + 2.0 * (1.0 - t) / t
    return jnp.where(determinant >= t, (above - 1.0) ** 2 / above, tangent)


def volume_change(u: Displacement, *, threshold: Number) -> Scalar:
    """Mean over the grid of psi_t(det Jacobian).

    Args:
        u: composed displacement in voxels, (X, Y, Z, 3).
        threshold: t, between 0 and 1.

    Returns:
        Penalty, ().
    """
    return jnp.mean(volume_penalty(jacobian_determinant(u), threshold=threshold))


def mask_ssd(warped: Float[AnyArray, "X Y Z K"], fixed: Float[AnyArray, "X Y Z K"]) -> Scalar:
    """Half the squared difference of label shares, summed over labels, mean over the grid.

    Hering et al. 2021, eq. 7, for any number of labels K.

    Args:
        warped: shares of the moving labels at y(x), (X, Y, Z, K).
        fixed: shares of the fixed labels, (X, Y, Z, K).

    Returns:
        Distance, ().
    """
    return 0.5 * jnp.mean(jnp.sum((warped - fixed) ** 2, axis=-1))


def keypoint(
    u: Displacement,
    fixed: Points,
    moving: Points,
    weights: Float[AnyArray, "N"],
    *,
    spacing_mm: Spacing,
) -> Scalar:
    """Weighted mean squared distance of moving keypoints to y(fixed keypoints).

    Hering et al. 2021, eq. 8, as a mean instead of a sum. 0 without keypoints.

    Args:
        u: displacement in voxels, (X, Y, Z, 3).
        fixed: keypoints in voxels, (N, 3); between voxels allowed.
        moving: their counterparts in voxels, (N, 3).
        weights: (N,), >= 0.
        spacing_mm: millimetres a voxel, (3,).

    Returns:
        Distance in mm^2, ().
    """
    spacing = jnp.asarray(spacing_mm, u.dtype)
    error_mm = (transform_points(u, fixed) - moving) * spacing[None]
    return masked_mean(jnp.sum(error_mm**2, axis=-1), weights)


def keypoint_distance(
    u: Displacement,
    fixed: Points,
    moving: Points,
    weights: Float[AnyArray, "N"],
    *,
    spacing_mm: Spacing,
) -> Scalar:
    """Weighted mean distance of moving keypoints to y(fixed keypoints), rounded near 0.

    Args:
        u: displacement in voxels, (X, Y, Z, 3).
        fixed: keypoints in voxels, (N, 3); between voxels allowed.
        moving: their counterparts in voxels, (N, 3).
        weights: (N,), >= 0.
        spacing_mm: millimetres a voxel, (3,).

    Returns:
        Mean of sqrt(d^2 + SMOOTH_MM^2) - SMOOTH_MM, d the distance, mm, ().
    """
    spacing = jnp.asarray(spacing_mm, u.dtype)
    error_mm = (transform_points(u, fixed) - moving) * spacing[None]
    distance = jnp.sqrt(jnp.sum(error_mm**2, axis=-1) + SMOOTH_MM**2) - SMOOTH_MM
    return masked_mean(distance, weights)


def terms(
    u: Displacement, example: Example, *, config: LossConfig, level: int
) -> dict[str, Scalar]:
    """The unweighted terms of the loss by name.

    Those of the paper always, "lncc" and "diffusion" where they have a weight.

    Args:
        u: composed displacement on the grid of the example, voxels, (X, Y, Z, 3).
        example: images, masks and keypoints.
        config: thresholds and the edge parameter.
        level: 1 (finest) to L; picks the threshold of the volume penalty.

    Returns:
        {"similarity", "smoothness", "volume", "masks", "keypoints", ...}, each ().
    """
    spacing = example.spacing_mm
    mask = jax.lax.stop_gradient(example.mask * inside(u, example.moving.shape))
    edge = config.edge or automatic_edge(
        example.fixed, example.mask, spacing_mm=spacing, ratio=config.edge_ratio
    )
    y = target_points(u)
    warped = sample(example.moving, y)
    points = (example.fixed_keypoints, example.moving_keypoints, example.keypoint_weights)
    values = {
        "similarity": ngf(warped, example.fixed, mask, spacing_mm=spacing, edge=edge),
        "smoothness": curvature(u, spacing_mm=spacing),
        "volume": volume_change(u, threshold=config.volume_threshold[level - 1]),
        "masks": mask_ssd(sample(example.moving_labels, y), example.fixed_labels),
        "keypoints": keypoint(u, *points, spacing_mm=spacing),
    }
    if config.lncc:
        values["lncc"] = lncc(warped, example.fixed)
    if config.diffusion:
        values["diffusion"] = diffusion(u, spacing_mm=spacing)
    if config.distance:
        values["distance"] = keypoint_distance(u, *points, spacing_mm=spacing)
    return values


def weights(config: LossConfig, *, level: int) -> dict[str, float]:
    """Weight of each term at a level.

    Args:
        config: settings of the loss.
        level: 1 is the finest.

    Returns:
        The names of all terms with their weights.
    """
    return {
        "similarity": config.similarity,
        "smoothness": config.smoothness,
        "volume": config.volume,
        "masks": config.masks,
        "keypoints": config.keypoints[level - 1],
        "lncc": config.lncc,
        "diffusion": config.diffusion,
        "distance": config.distance,
    }


def total(
    u: Displacement, example: Example, *, config: LossConfig, level: int
) -> tuple[Scalar, dict[str, Scalar]]:
    """Weighted sum of the terms.

    similarity * NGF + smoothness * curvature + masks * mask_ssd + volume * psi_t
    + keypoints * keypoint distance (Hering et al. 2021, eq. 2) + lncc * LNCC
    + diffusion * diffusion energy (VoxelMorph's terms, off by default). A term of weight 0 adds
    nothing, not even a NaN.

    Args:
        u: composed displacement on the grid of the example, voxels, (X, Y, Z, 3).
        example: images, masks and keypoints.
        config: weights and thresholds.
        level: 1 (finest) to L.

    Returns:
        The loss, (), and the unweighted terms by name.
    """
    values = terms(u, example, config=config, level=level)
    factors = weights(config, level=level)
    loss = sum((factors[name] * values[name] for name in values if factors[name]), jnp.zeros(()))
    return loss, values
