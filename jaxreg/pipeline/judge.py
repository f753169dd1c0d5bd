"""A displacement field of any tool, assessed as a registration of jaxreg is."""

import dataclasses
from collections.abc import Callable

import numpy as np

from jaxreg.config import RegistrationConfig
from jaxreg.geometry.grid import transform
from jaxreg.geometry.inversion import affine_part
from jaxreg.geometry.reduction import expanded
from jaxreg.geometry.volume import DisplacementField, Volume
from jaxreg.pipeline.align import align, working_factors
from jaxreg.pipeline.assess import assess
from jaxreg.pipeline.result import Registration
from jaxreg.trust.findings import doubt_of_correlation


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
        fixed_mask: lungs, nonzero inside, on the grid of `fixed`; found if None.
        moving_mask: the same for `moving`.
        config: settings; the field's own affine part takes the place of the prealignment.
        progress: called with the name of each stage when it begins.

    Returns:
        The field on the grid of `fixed` with quality, what was compared, and in its summary
        measures and warnings.

    Raises:
        ValueError: as `jaxreg.register_volumes`.
    """
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
    progress("quality")
    on_pair = field.on_grid(pair.grid)
    voxels = np.moveaxis(np.indices(pair.grid.shape, np.float32), 0, -1)
    world = pair.grid.world_from_voxel(voxels)
    ends = transform(np.linalg.inv(matrix), world + on_pair.data)
    u = (pair.grid.voxel_from_world(ends) - voxels).astype(np.float32)
    lungs = expanded(pair.masks[0], fixed.grid, working_factors(fixed.grid, config.grid))
    assessment = assess(pair, u, fixed_mask=lungs, config=config)
    registration = Registration(
        fixed,
        moving,
        field if field.grid.matches(fixed.grid) else field.on_grid(fixed.grid),
        lungs,
        matrix,
        {"method": "field", "lungs": assessment.lungs},
        quality=assessment.quality,
        valid=assessment.valid,
    )
    measures = registration.measures()
    before, after = measures["correlation_before"], measures["correlation_after"]
    fell = doubt_of_correlation(before, after, config=config.trust)
    warnings = [doubt._asdict() for doubt in (*assessment.warnings, *fell)]
    summary = {**registration.summary, **measures, "warnings": warnings}
    return dataclasses.replace(registration, summary=summary)
