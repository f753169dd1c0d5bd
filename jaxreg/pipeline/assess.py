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
from jaxreg.ops.deformation import resize_displacement, target_points
from jaxreg.ops.interpolation import sample_nearest
from jaxreg.ops.jacobian import jacobian_determinant
from jaxreg.ops.pyramid import mean_2x2x2
from jaxreg.ops.types import Displacement
from jaxreg.pipeline.align import AlignedPair
from jaxreg.trust import findings
from jaxreg.trust.agreement import Agreement, agreement
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
    pair, u = _with_even_shape(*comparable(pair, np.asarray(u), config=config))
    found = _quality(pair, u, config)
    warnings = tuple(_doubts(pair, found, config))
    x, y, z = found.shown.shape
    half = Grid((x, y, z), pair.grid.affine @ _HALF)
    mask = pair.masks[0] if fixed_mask is None else fixed_mask
    quality, valid = _in_lungs(found, half, mask)
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


_HALF = np.diag([2.0, 2.0, 2.0, 1.0])
_HALF[:3, 3] = 0.5  # centre of the first block of two


def comparable(
    pair: AlignedPair, u: np.ndarray, *, config: RegistrationConfig
) -> tuple[AlignedPair, np.ndarray]:
    """A pair and its field on the grid on which agreement means the same for all pairs.

    Args:
        pair: both images on the lung grid.
        u: displacement, voxels of that grid, (X, Y, Z, 3).
        config: settings; with `grid.shape` the lung grid is kept.

    Returns:
        Both on `trust.shape`, the field in its voxels.
    """
    shape = config.trust.shape
    if config.grid.shape is not None or pair.grid.shape == shape:
        return pair, u
    return pair.resized(shape), np.asarray(resize_displacement(u, shape))


def _with_even_shape(pair: AlignedPair, u: np.ndarray) -> tuple[AlignedPair, np.ndarray]:
    """The pair and the field on a grid that can be halved: a plane more along each odd axis."""
    odd = [(0, n % 2) for n in pair.grid.shape]
    if odd == [(0, 0)] * 3:
        return pair, u
    x, y, z = (n + more for n, (_, more) in zip(pair.grid.shape, odd, strict=True))
    names = ("fixed", "moving", "fixed_lungs", "moving_lungs")
    arrays = {name: np.pad(getattr(pair, name), odd, mode="edge") for name in names}
    grid = Grid((x, y, z), pair.grid.affine)
    return dataclasses.replace(pair, grid=grid, **arrays), np.pad(u, [*odd, (0, 0)], mode="edge")


def agreement_of(
    pair: AlignedPair, u: Displacement, *, config: RegistrationConfig = RegistrationConfig()
) -> Agreement:
    """How well an aligned pair agrees around each voxel under a displacement (`agreement`).

    Args:
        pair: images and lungs on the lung grid.
        u: displacement, voxels of the lung grid, (X, Y, Z, 3).
        config: settings.

    Returns:
        The agreement, on the lung grid.
    """
    return agreement(
        pair.fixed,
        pair.moving,
        pair.fixed_lungs > 0,
        pair.moving_lungs > 0,
        u,
        rim=config.optimiser.rim,
        config=config.trust,
    )


def _quality(pair: AlignedPair, u: Displacement, config: RegistrationConfig) -> Quality:
    fixed, moving = pair.images
    measures = agreement_of(pair, u, config=config)
    warped, determinant = _moved(pair.moving_lungs, u)
    return estimate_quality(
        measures,
        pair.fixed_lungs,
        pair.moving_lungs,
        np.asarray(warped),
        np.asarray(determinant),
        (
            _in_scan(pair, u, moving.grid, matrix=pair.matrix),
            _in_scan(pair, -np.asarray(u), fixed.grid, matrix=np.eye(4)),
        ),
        volumes_ml=(_volumes_ml(pair.masks[0]), _volumes_ml(pair.masks[1])),
        config=config.trust,
    )


def _in_scan(pair: AlignedPair, u: Displacement, scan: Grid, *, matrix: np.ndarray) -> np.ndarray:
    """Whether voxels of half of the lung grid end in a scan, moved by u and `matrix`."""
    step = np.stack([np.asarray(mean_2x2x2(u[..., axis])) for axis in range(3)], axis=-1)
    voxels = 2.0 * np.moveaxis(np.indices(step.shape[:3]), 0, -1) + 0.5 + step
    places = scan.voxel_from_world(transform(matrix, pair.grid.world_from_voxel(voxels)))
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
    pair: AlignedPair, found: Quality, config: RegistrationConfig
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
    doubts = list(findings.doubts_of_lungs(found.lungs, config=config.trust))
    if not config.deforms:  # a linear map alone leaves images of one person apart
        doubts = [doubt for doubt in doubts if doubt.code != "images-disagree"]
    yield from doubts
    if any(doubt.code == "images-disagree" for doubt in doubts):
        similarity = similarity_by_orientation(
            *pair.images, *pair.masks, config=config.prealignment
        )
        yield from findings.doubt_of_orientation(similarity, config=config.trust)
