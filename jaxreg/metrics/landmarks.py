"""How good a registration is: errors of landmarks and overlap of labels.

All on the host, in float64. Errors come one a landmark, so that the caller may pool them or average
by case (`jaxreg.metrics.statistics`). Distances of surfaces are in `jaxreg.metrics.surfaces`,
folds in `jaxreg.metrics.folding`.
"""

import dataclasses
import math
from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float, Num, Shaped

from jaxreg.ops.types import AnyArray, Labels, Spacing

OtherGrid: TypeAlias = Shaped[np.ndarray, "U V W"]  # held against (X, Y, Z) by `require_shape`

_LOWEST_PERCENT = 30  # of cases, in the paper and in Learn2Reg


class DirlabTre(NamedTuple):
    """Landmark errors in both protocols in use, (N,) mm each.

    Attributes:
        plain: of the mapped points as they are. A perfect field does not reach 0, since the
            landmarks were clicked on whole voxels: it scores 0.78 mm on DIR-Lab 4DCT.
        snapped: of the mapped points rounded to whole voxels of the moving image first.
    """

    plain: Float[np.ndarray, "N"]
    snapped: Float[np.ndarray, "N"]


@dataclasses.dataclass(frozen=True)
class Summary:
    """A distribution in a few numbers, in the unit of the values.

    Attributes:
        count: number of values.
        mean: arithmetic mean.
        sd: standard deviation, divided by `count` as published figures are.
        p25: 25th percentile.
        median: 50th percentile.
        p75: 75th percentile.
        p95: 95th percentile.
        max: greatest value.
    """

    count: int
    mean: float
    sd: float
    p25: float
    median: float
    p75: float
    p95: float
    max: float


def tre(
    mapped_mm: Num[np.ndarray, "N 3"], moving_mm: Num[np.ndarray, "M 3"]
) -> Float[np.ndarray, "N"]:
    """Target registration error |y(p) - q| of each landmark.

    Args:
        mapped_mm: fixed landmarks p taken to the moving image by y, world mm.
        moving_mm: the same landmarks q seen in the moving image, world mm.

    Returns:
        Errors, (N,), mm.

    Raises:
        ValueError: no landmarks, or two different numbers of them.
    """
    _require_pairs(mapped_mm, moving_mm)
    return np.linalg.norm(np.subtract(mapped_mm, moving_mm, dtype=np.float64), axis=1)


def tre_dirlab(
    mapped: Num[np.ndarray, "N 3"], moving: Num[np.ndarray, "M 3"], *, spacing_mm: Spacing
) -> DirlabTre:
    """Errors of landmarks given on whole voxels, with and without rounding the mapped point.

    Args:
        mapped: fixed landmarks taken to the moving image, in its voxels, 0-based.
        moving: the landmarks of the moving image, in its voxels, 0-based.
        spacing_mm: voxel size of the moving image.

    Returns:
        Errors in both protocols, mm.

    Raises:
        ValueError: no landmarks, or two different numbers of them.
    """
    _require_pairs(mapped, moving)
    mapped, moving = np.asarray(mapped, np.float64), np.asarray(moving, np.float64)
    scale = np.asarray(spacing_mm, np.float64)[None, :]
    snapped = np.floor(mapped + 0.5)  # halves go up, as in the Matlab code of DIR-Lab's users
    return DirlabTre(tre(mapped * scale, moving * scale), tre(snapped * scale, moving * scale))


def summary(values: Num[np.ndarray, "N"]) -> Summary:
    """Returns mean, standard deviation and percentiles of values, (N,).

    Raises:
        ValueError: there are none, or one is not finite.
    """
    values = np.asarray(values, np.float64)
    if values.size == 0 or not np.all(np.isfinite(values)):
        raise ValueError(
            f"values: expected at least one finite number, got {values.size} values, "
            f"{int(np.count_nonzero(~np.isfinite(values)))} not finite. Leave out failed cases."
        )
    p25, median, p75, p95 = np.percentile(values, (25, 50, 75, 95)).tolist()
    return Summary(
        count=values.size,
        mean=float(values.mean()),
        sd=float(values.std()),
        p25=p25,
        median=median,
        p75=p75,
        p95=p95,
        max=float(values.max()),
    )


def dice(a: Labels, b: OtherGrid) -> dict[int, float]:
    """Dice overlap 2 |A and B| / (|A| + |B|) of every label above 0 in `a` or `b`.

    A label that only one of them has scores 0. The mean over labels is that of the values.

    Args:
        a: label map.
        b: label map on the same grid.

    Returns:
        Overlap by label, in [0, 1], labels ascending.
    """
    require_shape(a, b)
    size = int(max(a.max(), b.max())) + 1
    in_a = np.bincount(a[a > 0], minlength=size)
    in_b = np.bincount(b[b > 0], minlength=size)
    in_both = np.bincount(a[(a == b) & (a > 0)], minlength=size)
    total = in_a + in_b
    return {int(k): float(2 * in_both[k] / total[k]) for k in np.flatnonzero(total)}


def lowest30(values: Num[np.ndarray, "N"]) -> Float[np.ndarray, "M"]:
    """The 30 % of the values that are lowest, at least one, ascending.

    The paper's Dice30 is the mean of these over cases, and its +- their standard deviation.
    """
    values = np.sort(np.asarray(values, np.float64))
    return values[: math.ceil(values.size * _LOWEST_PERCENT / 100)]


def learn2reg_dsc30(values: Num[np.ndarray, "N"]) -> float:
    """Learn2Reg's DSC30: the 30 % quantile over cases, not a mean."""
    return float(np.quantile(values, _LOWEST_PERCENT / 100))


def learn2reg_tre30(values: Num[np.ndarray, "N"]) -> float:
    """Learn2Reg's TRE30: the 70 % quantile over cases."""
    return float(np.quantile(values, 1 - _LOWEST_PERCENT / 100))


def require_shape(a: AnyArray, b: AnyArray) -> None:
    """Checks that two arrays have one shape.

    Args:
        a: of any shape.
        b: of any shape.

    Raises:
        ValueError: they differ; the text has both shapes.
    """
    if a.shape != b.shape:
        raise ValueError(
            f"a and b: expected one grid, got shapes {a.shape} and {b.shape}. "
            "Warp or resample one onto the other first."
        )


def _require_pairs(mapped, moving):
    if len(mapped) != len(moving) or len(mapped) == 0:
        raise ValueError(
            f"landmarks: expected as many in the fixed as in the moving image, got {len(mapped)} "
            f"and {len(moving)}. Check that both files belong to one case and are complete."
        )
