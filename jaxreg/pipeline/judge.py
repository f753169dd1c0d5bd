"""Measures and warnings of a registration, or of a field that another tool made."""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np
from scipy import ndimage

from jaxreg.config import RegistrationConfig
from jaxreg.geometry.grid import transform
from jaxreg.geometry.inversion import affine_part
from jaxreg.geometry.reduction import expanded
from jaxreg.geometry.resampling import verify_field
from jaxreg.geometry.volume import DisplacementField, Volume
from jaxreg.ops.types import Displacement
from jaxreg.pipeline.align import AlignedPair, align
from jaxreg.pipeline.assess import MEASURED, assess
from jaxreg.pipeline.masks import masks_on_images
from jaxreg.pipeline.result import Registration
from jaxreg.trust.findings import Finding, doubt_of_correlation, doubt_of_same_image


def judged(
    registration: Registration,
    pair: AlignedPair,
    u: Displacement,
    *,
    labels: Volume | None = None,
    config: RegistrationConfig = RegistrationConfig(),
    notes: Sequence[Finding] = (),
    progress: Callable[[str], None] = lambda stage: None,
) -> Registration:
    """A registration with its quality, what was compared, measures and warnings.

    Args:
        registration: without them; its lungs are replaced by those of `pair` on its fixed grid.
        pair: both images on the lung grid.
        u: displacement on that grid, voxels, (X, Y, Z, 3).
        labels: lungs or lobes of the fixed image on its grid; where there are more than two, the
            summary has measures of each ("labels").
        config: settings.
        notes: what is doubtful about the files; they come first among the warnings.
        progress: called with the name of each stage when it begins.

    Returns:
        The registration.
    """
    progress("quality")
    grid = registration.fixed.grid
    lungs = expanded(pair.masks[0], grid)
    assessment = assess(pair, u, fixed_mask=lungs, config=config)
    summary = {**registration.summary, "lungs": assessment.lungs}
    registration = dataclasses.replace(
        registration,
        fixed_mask=lungs,
        quality=assessment.quality,
        valid=assessment.valid,
        summary=summary,
    )
    progress("measures")
    summary |= registration.measures()
    if labels is not None:
        summary["labels"] = _by_label(registration, labels)
    before, after = summary["correlation_before"], summary["correlation_after"]
    fell = doubt_of_correlation(before, after, config=config.trust)
    same = doubt_of_same_image(registration.fixed, registration.moving)
    doubts = (*notes, *same, *assessment.warnings, *fell)
    summary["warnings"] = [doubt._asdict() for doubt in doubts]
    return registration


def _by_label(registration: Registration, labels: Volume) -> dict[str, dict[str, float]]:
    """Measures of each lobe by its number; none where the labels are no more than two lungs.

    "ml" is the volume in the fixed image, "quality" and "jacobian" are means over it, and
    "measured" is the fraction of it that both images show.
    """
    numbers = np.unique(labels.data[labels.data > 0])
    if len(numbers) < 3:
        return {}
    assert registration.quality is not None and registration.valid is not None
    voxel_ml = abs(np.linalg.det(labels.affine[:3, :3])) / 1e3
    images = {
        "quality": registration.quality.data,
        "jacobian": registration.jacobian_determinant().data,
        "measured": registration.valid.data == MEASURED,
    }
    means = {name: ndimage.mean(image, labels.data, numbers) for name, image in images.items()}
    counts = ndimage.sum_labels(np.ones(labels.shape, np.uint8), labels.data, numbers)
    return {
        str(number): {"ml": float(counts[k] * voxel_ml)}
        | {name: float(values[k]) for name, values in means.items()}
        for k, number in enumerate(numbers)
    }


def registration_of_field(
    field: DisplacementField,
    fixed: Volume,
    moving: Volume,
    *,
    fixed_mask: Volume | None = None,
    moving_mask: Volume | None = None,
    config: RegistrationConfig = RegistrationConfig(),
    progress: Callable[[str], None] = lambda stage: None,
) -> Registration:
    """Assesses a field that brings two images together, whoever made it.

    Args:
        field: T(x) = x + d(x), fixed to moving, on any grid; its edge values hold outside.
        fixed: CT in HU.
        moving: CT in HU.
        fixed_mask: lungs, nonzero inside; found if None. On another grid than `fixed`, each voxel
            takes the nearest label, with a warning "other-grid".
        moving_mask: the same for `moving`.
        config: settings; the field's own affine part takes the place of the prealignment.
        progress: called with the name of each stage when it begins.

    Returns:
        The field on the grid of `fixed` with quality, what was compared, and in its summary
        measures and warnings.

    Raises:
        ValueError: as `jaxreg.register_volumes`.
    """
    (fixed_mask, moving_mask), doubts = masks_on_images((fixed, moving), (fixed_mask, moving_mask))
    matrix = affine_part(field)
    prealignment = dataclasses.replace(config.prealignment, enabled=False)
    config = dataclasses.replace(config, prealignment=prealignment)
    pair = align(
        fixed,
        moving,
        fixed_mask=fixed_mask,
        moving_mask=moving_mask,
        matrix=matrix,
        config=config,
        progress=progress,
    )
    on_pair = field.on_grid(pair.grid)
    voxels = np.moveaxis(np.indices(pair.grid.shape, np.float32), 0, -1)
    world = pair.grid.world_from_voxel(voxels)
    ends = transform(np.linalg.inv(matrix), world + on_pair.data)
    u = (pair.grid.voxel_from_world(ends) - voxels).astype(np.float32)
    on_fixed = field if field.grid.matches(fixed.grid) else field.on_grid(fixed.grid)
    verified = verify_field(on_fixed)
    certificate = {"uncertified": verified.uncertified, "smallest": verified.smallest}
    summary = {"method": "field", "certificate": certificate, "seconds": {}}
    unjudged = Registration(fixed, moving, on_fixed, pair.masks[0], matrix, summary)
    return judged(
        unjudged, pair, u, labels=fixed_mask, config=config, notes=doubts, progress=progress
    )
