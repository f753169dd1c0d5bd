"""Measures of a displacement field for `jaxreg jacobian` and `jaxreg check`."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxreg.geometry.volume import DisplacementField, Volume


def determinant_measures(
    field: "DisplacementField", path: Path, mask: Path | None
) -> "tuple[Volume, dict[str, Any]]":
    """The Jacobian determinant of a field and its measures.

    Args:
        field: with at least two voxels along each axis.
        path: of the field, for messages.
        mask: file of a mask on the grid of the field; None for the whole grid.

    Returns:
        The determinant, and voxels, folded_voxels and jacobian_percentiles within the mask.

    Raises:
        ValueError: the field has a single slice, or the mask is empty.
    """
    import numpy as np

    from jaxreg.geometry.resampling import field_determinant
    from jaxreg.io.images import read_labels
    from jaxreg.metrics.folding import determinant_summary

    if min(field.shape) < 2:
        raise ValueError(
            f"{path}: expected at least two voxels along each axis, got {field.shape}. A single "
            "slice has no volume to measure."
        )
    determinant = field_determinant(field)
    where = np.ones(field.shape, np.uint8)
    if mask is not None:
        where = read_labels(mask, grid=field.grid).data
        if not (where > 0).any():
            raise ValueError(f"{mask}: expected a mask, got no voxel above 0. Check the file.")
    summary = dataclasses.asdict(determinant_summary(determinant.data, where))
    names = {"minimum": "0", "p1": "1", "p5": "5", "median": "50", "p95": "95", "p99": "99"}
    names["maximum"] = "100"
    voxels = int(np.count_nonzero(where > 0))
    return determinant, {
        "voxels": voxels,
        "folded_voxels": round(summary["folds"] * voxels),
        "jacobian_percentiles": {rank: summary[name] for name, rank in names.items()},
    }


def determinant_lines(measures: dict[str, Any], *, masked: bool) -> list[str]:
    """The measures of a Jacobian determinant in words.

    Args:
        measures: as `determinant_measures` returns them.
        masked: whether they are those of a mask, not of the whole grid.

    Returns:
        Lines of text.
    """
    where = "in the mask" if masked else "of the grid"
    values = measures["jacobian_percentiles"]
    ranks = ", ".join(f"{rank} % {values[rank]:.3f}" for rank in ("1", "5", "50", "95", "99"))
    return [
        f"folded voxels (central differences): {measures['folded_voxels']} of "
        f"{measures['voxels']} {where}",
        f"Jacobian determinant: {ranks}; {values['0']:.3f} to {values['100']:.3f} (above 1: volume "
        "that grows from the fixed to the moving image)",
    ]
