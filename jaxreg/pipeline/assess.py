"""How far a registration can be trusted: its quality, and what a person should look at."""

import dataclasses
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg.config import RegistrationConfig
from jaxreg.engine.prealignment import at_limit
from jaxreg.geometry.grid import Grid
from jaxreg.geometry.volume import Volume, resample
from jaxreg.ops.deformation import target_points
from jaxreg.ops.interpolation import sample_nearest
from jaxreg.ops.jacobian import jacobian_determinant
from jaxreg.ops.types import Displacement
from jaxreg.pipeline.align import AlignedPair
from jaxreg.trust import findings
from jaxreg.trust.agreement import agreement
from jaxreg.trust.orientation import similarity_by_orientation
from jaxreg.trust.quality import Quality, estimate_quality

MEASURED, CONTINUED = 1, 2  # in valid.nii.gz; 0 outside the lungs


@dataclasses.dataclass(frozen=True, eq=False)
class Assessment:
    """Quality of a registration on the grid of the fixed image.

    Attributes:
        quality: estimated probability that the error is below 2 mm, 0 to 1; 0 outside the lungs.
        valid: 1 where both images show lung and the field was measured, 2 where it was continued,
            0 outside the lungs; uint8.
        lungs: measures by "right" and "left".
        warnings: findings, none where nothing is doubtful.
    """

    quality: Volume
    valid: Volume
    lungs: dict[str, dict[str, float]]
    warnings: tuple[findings.Finding, ...]


def assess(
    fixed: Volume,
    moving: Volume,
    pair: AlignedPair,
    u: Displacement,
    *,
    config: RegistrationConfig = RegistrationConfig(),
) -> Assessment:
    """Assesses a registration.

    Args:
        fixed: HU.
        moving: HU.
        pair: the same on the lung grid.
        u: displacement on that grid, voxels, (X, Y, Z, 3).
        config: settings.

    Returns:
        The assessment.
    """
    found = _quality(pair, u, config)
    warnings = tuple(_doubts(fixed, moving, pair, found, config))
    x, y, z = found.shown.shape
    half = Grid((x, y, z), pair.grid.affine @ _HALF)
    quality, shown = (
        resample(Volume(image, half.affine), fixed.affine, fixed.shape).data
        for image in (found.probability, found.shown)
    )
    in_lungs = pair.masks[0].data > 0
    valid = np.where(shown > 0.5, MEASURED, CONTINUED) * in_lungs
    return Assessment(
        quality=Volume(np.where(in_lungs, quality, np.float32(0)), fixed.affine),
        valid=Volume(valid.astype(np.uint8), fixed.affine),
        lungs={name: lung._asdict() for name, lung in found.lungs.items()},
        warnings=warnings,
    )


_HALF = np.diag([2.0, 2.0, 2.0, 1.0])
_HALF[:3, 3] = 0.5  # centre of the first block of two


def _quality(pair: AlignedPair, u: Displacement, config: RegistrationConfig) -> Quality:
    measures = agreement(
        pair.fixed,
        pair.moving,
        pair.fixed_lungs > 0,
        pair.moving_lungs > 0,
        u,
        rim=config.optimiser.rim,
        config=config.trust,
    )
    warped, determinant = _moved(pair.moving_lungs, u)
    return estimate_quality(
        measures,
        pair.fixed_lungs,
        pair.moving_lungs,
        np.asarray(warped),
        np.asarray(determinant),
        voxel_ml=float(np.prod(pair.spacing_mm)) / 1e3,
        scale=float(np.linalg.det(pair.matrix[:3, :3])),
        config=config.trust,
    )


@jax.jit
def _moved(labels, u):
    return sample_nearest(jnp.asarray(labels), target_points(u)), jacobian_determinant(u)


def _doubts(
    fixed: Volume, moving: Volume, pair: AlignedPair, found: Quality, config: RegistrationConfig
) -> Iterator[findings.Finding]:
    yield from findings.doubts_of_masks(pair.masks, config=config.trust)
    if config.prealignment.enabled:
        yield from findings.doubt_of_prealignment(at_limit(pair.matrix, config.prealignment))
    doubts = list(findings.doubts_of_lungs(found.lungs, config=config.trust))
    yield from doubts
    if any(doubt.code == "images-disagree" for doubt in doubts):
        similarity = similarity_by_orientation(
            fixed, moving, *pair.masks, config=config.prealignment
        )
        yield from findings.doubt_of_orientation(similarity, config=config.trust)
