"""How far a registration can be trusted: its quality, and what a person should look at."""

import dataclasses
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from jaxreg.config import RegistrationConfig
from jaxreg.engine.prealignment import at_limit
from jaxreg.geometry.grid import Grid, transform
from jaxreg.geometry.lung_grid import voxel_box
from jaxreg.geometry.separable import interpolate, parallel_axes
from jaxreg.geometry.volume import Volume, resample
from jaxreg.lungs.view import cut_fraction
from jaxreg.ops.deformation import target_points
from jaxreg.ops.interpolation import sample_nearest
from jaxreg.ops.jacobian import jacobian_determinant
from jaxreg.ops.types import Displacement
from jaxreg.pipeline.align import AlignedPair
from jaxreg.pipeline.comparison import Compared, agreement_of, compared
from jaxreg.trust import findings
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
    pair: AlignedPair,
    u: Displacement,
    *,
    fixed_mask: Volume | None = None,
    config: RegistrationConfig = RegistrationConfig(),
) -> Assessment:
    """Assesses a registration.

    Args:
        pair: both images on the lung grid.
        u: displacement on that grid, voxels, (X, Y, Z, 3).
        fixed_mask: lungs of the fixed image on the grid on which the assessment is wanted; those of
            the pair if None.
        config: settings.

    Returns:
        The assessment.
    """
    seen = compared(pair, np.asarray(u), config=config)
    found = _quality(pair, seen, config)
    warnings = tuple(_doubts(pair, found, seen.half, config))
    mask = pair.masks[0] if fixed_mask is None else fixed_mask
    quality, valid = _in_lungs(found, seen.half, mask)
    return Assessment(
        quality=quality,
        valid=valid,
        lungs={name: lung._asdict() for name, lung in found.lungs.items()},
        warnings=warnings,
    )


def _in_lungs(found: Quality, source: Grid, mask: Volume) -> tuple[Volume, Volume]:
    """Quality and what was measured on the grid of a mask, linear from `source`; 0 outside."""
    images = np.stack([found.probability, found.shown]).astype(np.float32)
    quality, valid = np.zeros(mask.shape, np.float32), np.zeros(mask.shape, np.uint8)
    box = voxel_box(mask.data)
    part, inside = mask.grid.part(box), mask.data[box] > 0

    def store(planes: slice, values: np.ndarray) -> None:
        probability, shown = values
        np.multiply(probability, inside[planes], out=quality[box][planes])
        kind = np.where(shown > 0.5, np.uint8(MEASURED), np.uint8(CONTINUED))
        np.multiply(kind, inside[planes], out=valid[box][planes])

    lattice = np.linalg.inv(source.affine) @ part.affine
    axes = parallel_axes(lattice, part.shape)
    if axes is None:
        volumes = [Volume(image, source.affine) for image in images]
        store(slice(None), np.stack([resample(v, part.affine, part.shape).data for v in volumes]))
    else:
        interpolate(images, lattice, part.shape, axes, store)
    return Volume(quality, mask.affine), Volume(valid, mask.affine)


def _quality(pair: AlignedPair, seen: Compared, config: RegistrationConfig) -> Quality:
    fixed, moving = pair.images
    lungs = Volume(seen.moving_lungs, seen.grid.affine)
    lungs = resample(lungs, seen.half.affine, seen.half.shape, order=0)
    warped, determinant = _moved(lungs.data, seen.u)
    return estimate_quality(
        agreement_of(seen, config=config),
        seen.u,
        seen.log_volume,
        seen.fixed_lungs,
        seen.moving_lungs,
        np.asarray(warped),
        np.asarray(determinant),
        (
            _in_scan(seen.half, seen.u, moving.grid, matrix=pair.matrix),
            _in_scan(seen.half, -seen.u, fixed.grid, matrix=np.eye(4)),
        ),
        volumes_ml=(_volumes_ml(pair.masks[0]), _volumes_ml(pair.masks[1])),
        config=config.trust,
    )


def _in_scan(half: Grid, u: Displacement, scan: Grid, *, matrix: np.ndarray) -> np.ndarray:
    """Whether voxels of a grid end in a scan, moved by u and `matrix`."""
    voxels = np.moveaxis(np.indices(half.shape, np.float32), 0, -1) + u
    places = transform(np.linalg.inv(scan.affine) @ matrix @ half.affine, voxels)
    return np.all((places >= -0.5) & (places <= np.array(scan.shape) - 0.5), axis=-1)


def _volumes_ml(mask: Volume) -> tuple[float, float]:
    """Volumes of the right and of the left lung."""
    voxel_ml = abs(np.linalg.det(mask.affine[:3, :3])) / 1e3
    right, left = (float(voxel_ml * np.count_nonzero(mask.data == label)) for label in (1, 2))
    return right, left


@jax.jit
def _moved(labels, u):
    return sample_nearest(jnp.asarray(labels), target_points(u)), jacobian_determinant(u)


def _doubts(
    pair: AlignedPair, found: Quality, half: Grid, config: RegistrationConfig
) -> Iterator[findings.Finding]:
    yield from findings.doubts_of_masks(pair.masks, config=config.trust)
    cut = [
        cut_fraction(*scan, config=config.lungs)
        for scan in zip(pair.images, pair.masks, strict=True)
    ]
    yield from findings.doubt_of_view((cut[0], cut[1]), config=config.trust)
    yield from findings.doubt_of_stretch(pair.matrix, config=config.trust)
    if config.prealignment.enabled:
        yield from findings.doubt_of_prealignment(at_limit(pair.matrix, config.prealignment))
    yield from findings.doubt_of_jumps(found.jumps, half, config=config.trust)
    doubts = list(findings.doubts_of_lungs(found.lungs, config=config.trust))
    if not config.deforms:  # a linear map alone leaves images of one person apart
        expected = ("images-disagree", "low-quality")
        doubts = [doubt for doubt in doubts if doubt.code not in expected]
    yield from doubts
    if any(doubt.code == "images-disagree" for doubt in doubts):
        similarity = similarity_by_orientation(
            *pair.images, *pair.masks, config=config.prealignment
        )
        yield from findings.doubt_of_orientation(similarity, config=config.trust)
