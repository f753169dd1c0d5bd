"""Which method is better, and how sure that is.

Two means are in use and differ: pooled over all landmarks of all cases, whose standard deviation is
the +- of the paper's tables, and over the means of the cases. Tests and intervals take one value a
case, since the landmarks of one case are not independent.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import scipy.stats
from jaxtyping import Num

_STARS = ((0.001, "***"), (0.01, "**"), (0.05, "*"))


@dataclasses.dataclass(frozen=True)
class Means:
    """Both means of values that come in cases, in the unit of the values.

    Attributes:
        pooled: mean over all values of all cases; a case with more values weighs more.
        pooled_sd: standard deviation over all values: the +- of the published tables.
        per_case: mean over cases of the mean of a case.
        per_case_sd: standard deviation over cases of the mean of a case.
        cases: number of cases.
        values: number of values.
    """

    pooled: float
    pooled_sd: float
    per_case: float
    per_case_sd: float
    cases: int
    values: int


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One-sided Wilcoxon signed-rank test of two methods on the same cases.

    Attributes:
        p: probability of a difference as large, if there were none.
        p_corrected: p times the number of comparisons, at most 1 (Bonferroni).
        stars: "***" below 0.001, "**" below 0.01, "*" below 0.05, else "", of `p_corrected`.
    """

    p: float
    p_corrected: float
    stars: str


def means(values_by_case: Sequence[Num[np.ndarray, "_"]]) -> Means:
    """Returns pooled and per-case means.

    Args:
        values_by_case: values of each case, (N,), N may differ.

    Returns:
        The means and standard deviations, in the unit of the values.

    Raises:
        ValueError: there are no cases, or one has no values.
    """
    if not values_by_case or any(len(values) == 0 for values in values_by_case):
        raise ValueError(
            f"values_by_case: expected cases with at least one value each, got "
            f"{[len(values) for values in values_by_case]}. Leave out cases that failed."
        )
    pooled = np.concatenate(values_by_case).astype(np.float64)
    by_case = np.array([np.mean(values) for values in values_by_case], np.float64)
    return Means(
        pooled=float(pooled.mean()),
        pooled_sd=float(pooled.std()),
        per_case=float(by_case.mean()),
        per_case_sd=float(by_case.std()),
        cases=by_case.size,
        values=pooled.size,
    )


def wilcoxon_less(
    method: Num[np.ndarray, "N"], baseline: Num[np.ndarray, "M"], *, comparisons: int = 1
) -> Comparison:
    """Tests whether `method` is below `baseline`; for overlaps swap the two.

    Ties are left out; where all are ties, p = 1.

    Args:
        method: one value a case, such as its mean TRE.
        baseline: values of the other method on the same cases, in the same order.
        comparisons: number of tests that are shown together.

    Returns:
        Both p and stars.

    Raises:
        ValueError: no cases, or two different numbers of them.
    """
    if len(method) != len(baseline) or len(method) == 0:
        raise ValueError(
            f"method and baseline: expected values of the same cases, got {len(method)} and "
            f"{len(baseline)}. Compare on the cases that both have finished."
        )
    difference = np.subtract(method, baseline, dtype=np.float64)
    difference = difference[difference != 0]
    if difference.size == 0:
        return Comparison(p=1.0, p_corrected=1.0, stars="")
    _, p = map(float, scipy.stats.wilcoxon(difference, alternative="less"))
    corrected = min(1.0, p * comparisons)
    return Comparison(p, corrected, next((s for bound, s in _STARS if corrected < bound), ""))


def bootstrap_interval(
    values: Num[np.ndarray, "N"], *, confidence: float = 0.95, seed: int = 0
) -> tuple[float, float]:
    """Bias-corrected and accelerated bootstrap interval of the mean (Efron 1987), 9999 resamples.

    Args:
        values: one value a case, at least two.
        confidence: probability of the interval.
        seed: of the resampling, so that a table can be repeated.

    Returns:
        Lower and upper end, in the unit of the values.

    Raises:
        ValueError: fewer than two values.
    """
    values = np.asarray(values, np.float64)
    if values.size < 2:
        raise ValueError(
            f"values: expected at least two cases, got {values.size}. Evaluate more cases."
        )
    if np.ptp(values) == 0:  # the correction divides by the standard deviation
        return float(values[0]), float(values[0])
    result = scipy.stats.bootstrap(
        (values,), np.mean, confidence_level=confidence, rng=np.random.default_rng(seed)
    )
    low, high = result.confidence_interval
    return float(low), float(high)
