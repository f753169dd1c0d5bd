"""A field without folds: verified, and repaired where it must be."""

from typing import Any

import numpy as np

from jaxreg.config import CertificateConfig, RegistrationConfig
from jaxreg.geometry.grid import Grid
from jaxreg.geometry.resampling import field_on_grid, verify_field
from jaxreg.geometry.volume import DisplacementField
from jaxreg.ops.certificate import Repair, repair
from jaxreg.ops.types import Displacement


def certified_on_grid(
    u: Displacement,
    source: Grid,
    grid: Grid,
    config: RegistrationConfig,
    *,
    matrix: np.ndarray | None = None,
) -> tuple[DisplacementField, dict[str, Any]]:
    """The field of a registration as it is written: on its grid, without folds.

    Args:
        u: displacement on `source`, voxels, (X, Y, Z, 3).
        source: the lung grid.
        grid: of the fixed image; the field has its voxels, or those of `field_spacing_mm`.
        config: settings.
        matrix: (4, 4), world RAS mm, applied last; the identity if None.

    Returns:
        As `certified`.
    """
    grid = grid.coarsened(config.field_spacing_mm)
    return certified(field_on_grid(u, source, grid, matrix=matrix), config.certificate)


def certified(
    field: DisplacementField, config: CertificateConfig
) -> tuple[DisplacementField, dict[str, Any]]:
    """The field, repaired where a cell could fold.

    Args:
        field: fixed to moving, world mm.
        config: settings.

    Returns:
        The field, and for its summary what was repaired and what verification says of the result.
    """
    found, report = verify_field(field), Repair(cells=0, voxels=0, largest_change_mm=0.0)
    if config.enabled and not found.smallest >= config.margin:
        repaired, report = repair(
            field.to_voxels(),
            spacing_mm=field.spacing_mm,
            margin=config.margin,
            rounds=config.rounds,
        )
        field = DisplacementField.from_voxels(repaired, field.affine)
        found = verify_field(field)
    verified = {"uncertified": found.uncertified, "smallest": found.smallest}
    return field, report._asdict() | verified
