"""Quality of a registration: for each voxel and each lung, how likely the error is below 2 mm.

A logistic model of what is measured around a voxel (`jaxreg.trust.agreement`),

    q = 1 / (1 + exp(-z)),    z = b0 + b1 s C + b2 |log det| + b3 log e,

with C the correlation in the whole lung, s how far both images show lung, e the local uncertainty
(standard error of a displacement fitted to the surroundings). The coefficients are settings;
`benchmarks/trust.py` fits them and says how far they can be believed. Beside a jump of the field
(`jaxreg.trust.jumps`), where the images agree and tissue is missing between, q is multiplied by
`beside_jump`.
"""

import dataclasses
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from jaxreg.config import TrustConfig
from jaxreg.ops.pyramid import mean_2x2x2
from jaxreg.ops.types import AnyArray, Displacement
from jaxreg.trust.agreement import Agreement
from jaxreg.trust.jumps import Jumps, jumps_of

NAMES = {1: "right", 2: "left"}


class Lung(NamedTuple):
    """Measures of one lung.

    Attributes:
        fixed_ml: its volume in the fixed image.
        moving_ml: in the moving one.
        agreement: correlation of both images where they can be compared, weighted by texture.
        shown: fraction of the fixed lung that the moving image shows.
        covered: fraction of the moving lung that the fixed image shows.
        in_view: fraction of the fixed lung that ends within the moving scan; the rest has left it.
        moving_in_view: fraction of the moving lung that ends within the fixed scan.
        quality: mean over the lung, 0 to 1.
    """

    fixed_ml: float
    moving_ml: float
    agreement: float
    shown: float
    covered: float
    in_view: float
    moving_in_view: float
    quality: float


@dataclasses.dataclass(frozen=True, eq=False)
class Quality:
    """Quality on half of the grid that is compared, (X, Y, Z) each.

    Attributes:
        probability: that the error is below 2 mm, 0 to 1.
        shown: how far both images show lung, 0 to 1.
        lungs: by "right" and "left", those that the fixed image shows.
        jumps: of the field across planes of the third axis.
    """

    probability: np.ndarray
    shown: np.ndarray
    lungs: dict[str, Lung]
    jumps: Jumps


def estimate_quality(
    measures: Agreement,
    u: Displacement,
    log_volume: np.ndarray,
    fixed_lungs: np.ndarray,
    moving_lungs: np.ndarray,
    warped_lungs: np.ndarray,
    determinant: np.ndarray,
    in_scan: tuple[np.ndarray, np.ndarray],
    *,
    volumes_ml: tuple[tuple[float, float], tuple[float, float]],
    config: TrustConfig = TrustConfig(),
) -> Quality:
    """Quality of a registration from its measures.

    Args:
        measures: on half of the grid of the lungs.
        u: displacement on half of the grid, voxels of that, (X/2, Y/2, Z/2, 3).
        log_volume: |log det| of the deformation beside the prealignment, of the field as fine as it
            was found, on half of the grid.
        fixed_lungs: 1 right, 2 left, on the grid of twice as many voxels along each axis.
        moving_lungs: the same of the moving image, prealigned.
        warped_lungs: `moving_lungs` taken through the registration, on half of the grid.
        determinant: of its Jacobian, on half of the grid.
        in_scan: on half of the grid, where the fixed lungs end within the moving scan, and
            where the moving ones end within the fixed scan.
        volumes_ml: of right and left lung, in the fixed and in the moving image.
        config: settings.

    Returns:
        The quality, for each lung that the fixed image has.
    """
    measures = Agreement(*(np.asarray(m, np.float64) for m in measures))
    correlation, texture, shown, _ = measures
    fraction, quality = np.zeros(shown.shape), np.zeros(shown.shape)
    measured, either = {}, _weight(fixed_lungs > 0)
    jumps = jumps_of(u, either > 0.5, shown)
    believed = np.where(jumps.near(config.largest_jump), config.beside_jump, 1.0)
    for label, name in NAMES.items():
        in_lung = fixed_lungs == label
        if not in_lung.any():
            continue
        weight = _weight(in_lung)
        seen = weight * shown * texture
        agreement = float((seen * correlation).sum() / max(seen.sum(), 1e-6))
        inputs = model_inputs(measures, log_volume, agreement)
        found = _logistic(inputs, config.quality) * believed
        fraction += weight
        quality += weight * found
        moving = _weight(moving_lungs == label)
        met = float((determinant * either)[warped_lungs == label].sum())
        measured[name] = Lung(
            fixed_ml=volumes_ml[0][label - 1],
            moving_ml=volumes_ml[1][label - 1],
            agreement=agreement,
            shown=_share(weight, shown),
            covered=min(1.0, met / float(moving.sum())) if moving.any() else 0.0,
            in_view=_share(weight, in_scan[0]),
            moving_in_view=_share(moving, in_scan[1]),
            quality=_share(weight, found),
        )
    nearest = _nearest(fraction > 0)
    quality /= np.maximum(fraction, 1e-6)
    probability, shown = (np.asarray(image, np.float32)[nearest] for image in (quality, shown))
    return Quality(probability, shown, measured, jumps)


def model_inputs(
    measures: Agreement, log_volume: np.ndarray, agreement: AnyArray | float
) -> tuple[np.ndarray, ...]:
    """What the coefficients of the logistic model belong to: s C, |log det| and log e.

    Args:
        measures: at voxels or points.
        log_volume: |log det| there.
        agreement: that of the lung, or of the lung of each of them.

    Returns:
        Three arrays of the shape of the measures.
    """
    return np.asarray(measures.shown * agreement), log_volume, np.log(measures.uncertainty)


def _nearest(known: np.ndarray) -> tuple[np.ndarray, ...]:
    """Index of the nearest known voxel, for values to interpolate with at the border of lungs."""
    nearest = ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True)
    return tuple(np.asarray(nearest))


def _weight(mask: np.ndarray) -> np.ndarray:
    """Fraction of each voxel of half of the grid in a mask."""
    return np.asarray(mean_2x2x2(mask.astype(np.float32)), np.float64)


def _share(weight, part) -> float:
    weight = np.asarray(weight, np.float64)
    return float((weight * part).sum() / max(weight.sum(), 1e-6))


def _logistic(inputs, coefficients):
    intercept, *slopes = coefficients
    logit = intercept + sum(slope * x for slope, x in zip(slopes, inputs, strict=True))
    return 1.0 / (1.0 + np.exp(-logit))
