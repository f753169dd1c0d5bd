"""A field without folds: verified, and repaired where it must be."""

from typing import Any

from jaxreg.config import CertificateConfig
from jaxreg.geometry.resampling import verify_field
from jaxreg.geometry.volume import DisplacementField
from jaxreg.ops.certificate import Repair, repair


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
