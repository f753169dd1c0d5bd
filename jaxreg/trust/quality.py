"""Quality of a registration: for each voxel and each lung, how likely the error is below 2 mm.

A logistic model of what is measured around a voxel (`jaxreg.trust.agreement`),

    q = 1 / (1 + exp(-z)),    z = b0 + b1 s max(c, 0) + b2 s C + b3 |log det|,

with c the local correlation, C that of the whole lung, s how far both images show lung. The
coefficients are settings; `benchmarks/trust.py` fits them and says how far they can be believed.
"""

import dataclasses
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from jaxreg.config import TrustConfig
from jaxreg.ops.pyramid import mean_2x2x2
from jaxreg.trust.agreement import Agreement

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
        abrupt: fraction of what both images show of the lung whose volume changes, beside the
            linear part, by more than the factor `local_change`.
    """

    fixed_ml: float
    moving_ml: float
    agreement: float
    shown: float
    covered: float
    in_view: float
    moving_in_view: float
    quality: float
    abrupt: float


@dataclasses.dataclass(frozen=True, eq=False)
class Quality:
    """Quality on half of the lung grid, (X, Y, Z) each.

    Attributes:
        probability: that the error is below 2 mm, 0 to 1.
        shown: how far both images show lung, 0 to 1.
        lungs: by "right" and "left", those that the fixed image shows.
    """

    probability: np.ndarray
    shown: np.ndarray
    lungs: dict[str, Lung]


def estimate_quality(
    measures: Agreement,
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
        measures: on half of the lung grid.
        fixed_lungs: 1 right, 2 left, on the lung grid.
        moving_lungs: the same of the moving image, prealigned.
        warped_lungs: `moving_lungs` taken through the registration.
        determinant: of its Jacobian on the lung grid.
        in_scan: on half of the lung grid, where the fixed lungs end within the moving scan, and
            where the moving ones end within the fixed scan.
        volumes_ml: of right and left lung, in the fixed and in the moving image.
        config: settings.

    Returns:
        The quality, for each lung that the fixed image has.
    """
    correlation, texture, shown, log_volume = (np.asarray(m, np.float64) for m in measures)
    fraction, quality = np.zeros(shown.shape), np.zeros(shown.shape)
    measured = {}
    for label, name in NAMES.items():
        in_lung = fixed_lungs == label
        if not in_lung.any():
            continue
        weight = np.asarray(mean_2x2x2(in_lung.astype(np.float32)), np.float64)
        seen = weight * shown * texture
        agreement = float((seen * correlation).sum() / max(seen.sum(), 1e-6))
        inputs = (shown * np.maximum(correlation, 0.0), shown * agreement, log_volume)
        found = _logistic(inputs, config.quality)
        fraction += weight
        quality += weight * found
        moving = np.count_nonzero(moving_lungs == label)
        met = float(determinant[(fixed_lungs > 0) & (warped_lungs == label)].sum())
        measured[name] = Lung(
            fixed_ml=volumes_ml[0][label - 1],
            moving_ml=volumes_ml[1][label - 1],
            agreement=agreement,
            shown=_share(weight, shown),
            covered=min(1.0, met / float(moving)) if moving else 0.0,
            in_view=_share(weight, in_scan[0]),
            moving_in_view=_share(mean_2x2x2((moving_lungs == label) * 1.0), in_scan[1]),
            quality=_share(weight, found),
            abrupt=_share(weight * shown, log_volume > np.log(config.local_change)),
        )
    probability, shown = (
        _continued(image, fraction > 0).astype(np.float32)
        for image in (quality / np.maximum(fraction, 1e-6), shown)
    )
    return Quality(probability, shown, measured)


def _continued(image: np.ndarray, known: np.ndarray) -> np.ndarray:
    """The image with the nearest known value elsewhere, for interpolation at the border."""
    nearest = ndimage.distance_transform_edt(~known, return_distances=False, return_indices=True)
    return image[tuple(np.asarray(nearest))]


def _share(weight, part) -> float:
    weight = np.asarray(weight, np.float64)
    return float((weight * part).sum() / max(weight.sum(), 1e-6))


def _logistic(inputs, coefficients):
    intercept, *slopes = coefficients
    logit = intercept + sum(slope * x for slope, x in zip(slopes, inputs, strict=True))
    return 1.0 / (1.0 + np.exp(-logit))
