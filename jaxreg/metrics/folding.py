"""How a deformation changes volume, and where it folds.

Folds are counted in two ways, and tables name which: voxels whose determinant is <= 0 by central
differences (one-sided at the border; `jaxreg.ops.jacobian`), which is what others print, and
cells between voxels that are not proven free of folds (`jaxreg.ops.certificate`), which sees
those that central differences miss.
"""

import dataclasses
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from jaxreg.metrics.landmarks import OtherGrid, require_shape
from jaxreg.ops.types import Image, Mask


@dataclasses.dataclass(frozen=True)
class DeterminantSummary:
    """The Jacobian determinant within a mask.

    Attributes:
        folds: fraction of voxels with determinant <= 0 by central differences.
        minimum: least determinant.
        p1: 1st percentile.
        p5: 5th percentile.
        median: 50th percentile.
        p95: 95th percentile.
        p99: 99th percentile.
        maximum: greatest determinant.
        sd_log: standard deviation of log(max(det, 1e-9)).
    """

    folds: float
    minimum: float
    p1: float
    p5: float
    median: float
    p95: float
    p99: float
    maximum: float
    sd_log: float


def determinant_summary(determinant: Image, mask: OtherGrid) -> DeterminantSummary:
    """Returns folds, percentiles and standard deviation of the determinant within the mask.

    Args:
        determinant: det(I + du/dx), (X, Y, Z), by the stencil of `jaxreg.ops.jacobian`.
        mask: where to look, (X, Y, Z), usually the lungs.

    Raises:
        ValueError: the mask is empty, or on another grid.
    """
    values = _within(determinant, mask)
    p1, p5, median, p95, p99 = np.percentile(values, (1, 5, 50, 95, 99)).tolist()
    return DeterminantSummary(
        folds=float(np.mean(~(values > 0))),
        minimum=float(values.min()),
        p1=p1,
        p5=p5,
        median=median,
        p95=p95,
        p99=p99,
        maximum=float(values.max()),
        sd_log=float(np.log(np.maximum(values, 1e-9)).std()),
    )


class Learn2RegFolding(NamedTuple):
    """Volume change as Learn2Reg's evaluation looks at it: off the two border voxels.

    Attributes:
        sd_log: SDlogJ, sd of log(clip(det + 3, 1e-9, 1e9)), in the mask where there is one.
        folds: number of voxels with det <= 0, mask or not.
    """

    sd_log: float
    folds: int


def learn2reg_folding(determinant: Image, *, mask: OtherGrid | None = None) -> Learn2RegFolding:
    """Returns Learn2Reg's SDlogJ, and the number of folds that it means to count.

    The 3 is in the challenge's code (MDL-UzL/L2R, evaluation) and makes SDlogJ much smaller than
    `DeterminantSummary.sd_log`. The code counts folds where the clipped value is <= 0, which is
    nowhere; here they are counted on the determinant itself.

    Args:
        determinant: det(I + du/dx), (X, Y, Z), at least five voxels along each axis.
        mask: lungs of the fixed image, where the challenge's evaluation is masked.

    Raises:
        ValueError: the mask is empty, or on another grid.
    """
    inner = (slice(2, -2),) * 3
    values = np.asarray(determinant, np.float64)[inner]
    logs = np.log(np.clip(values + 3, 1e-9, 1e9))
    within = logs if mask is None else _within(logs, np.asarray(mask)[inner])
    return Learn2RegFolding(float(within.std()), int(np.count_nonzero(values <= 0)))


def uncertified_fraction(uncertified: Mask, mask: OtherGrid) -> float:
    """Fraction of cells in the lung that are not proven free of folds.

    A cell lies between eight neighbouring voxels, so there is one less than voxels along each axis;
    it counts where one of its corners is in the mask.

    Args:
        uncertified: cells of `jaxreg.ops.certificate.uncertified_cells`, nonzero where unproven.
        mask: voxels, (X, Y, Z).

    Returns:
        Fraction in [0, 1].

    Raises:
        ValueError: the two do not belong to one grid, or no cell is in the mask.
    """
    expected = tuple(n - 1 for n in mask.shape)
    if uncertified.shape != expected:
        raise ValueError(
            f"uncertified: expected one cell less than voxels, {expected}, got "
            f"{uncertified.shape}. Compute both on the fixed image's grid."
        )
    # a maximum over 2x2x2 voxels, whose first voxel is the index of the cell
    touched = ndimage.maximum_filter(np.asarray(mask) > 0, size=2, origin=-1)[:-1, :-1, :-1]
    return float(np.mean(_within(np.asarray(uncertified) != 0, touched)))


def _within(values, mask):
    """Values in the mask; refuses an empty mask and another grid."""
    require_shape(values, mask)
    values = np.asarray(values)[np.asarray(mask) > 0]
    if values.size == 0:
        raise ValueError(
            "mask: expected at least one voxel, got an empty mask. "
            "Check that it belongs to the fixed image."
        )
    return values
