"""Means, the signed-rank test against its definition, and bootstrap intervals."""

import itertools

import numpy as np
import pytest

from jaxreg.metrics import statistics


def test_means_weigh_values_or_cases():
    result = statistics.means([np.array([1.0, 1.0, 1.0]), np.array([3.0])])
    assert (result.pooled, result.per_case) == (1.5, 2.0)
    assert (result.cases, result.values) == (2, 4)
    assert result.pooled_sd == pytest.approx(np.sqrt(0.75))
    assert result.per_case_sd == 1.0


@pytest.mark.parametrize("cases", [[], [np.zeros(3), np.zeros(0)]])
def test_means_refuse_cases_without_values(cases):
    with pytest.raises(ValueError, match="expected cases with at least one value each, got"):
        statistics.means(cases)


def exact_p(difference):
    """P(W+ <= observed) over all signs."""
    ranks = np.argsort(np.argsort(np.abs(difference))) + 1
    observed = ranks[difference > 0].sum()
    sums = [np.dot(signs, ranks) for signs in itertools.product((0, 1), repeat=len(ranks))]
    return np.mean(np.array(sums) <= observed)


@pytest.mark.parametrize("shift", [-0.6, 0.0, 0.6])
def test_wilcoxon_is_the_sum_over_all_signs(shift):
    rng = np.random.default_rng(0)
    baseline = rng.normal(2.0, 1.0, 9)
    method = baseline + rng.normal(shift, 0.5, 9)
    result = statistics.wilcoxon_less(method, baseline, comparisons=3)
    assert result.p == pytest.approx(exact_p(method - baseline))
    assert result.p_corrected == pytest.approx(min(1.0, 3 * result.p))


@pytest.mark.parametrize(
    "cases, comparisons, stars", [(4, 1, ""), (5, 1, "*"), (5, 2, ""), (7, 1, "**"), (12, 1, "***")]
)
def test_stars_are_of_the_corrected_p(cases, comparisons, stars):
    method = np.arange(cases, dtype=float)  # below in each case: p = 2^-cases
    baseline = method + 1 + np.arange(cases) / 100
    result = statistics.wilcoxon_less(method, baseline, comparisons=comparisons)
    assert result.p == pytest.approx(0.5**cases)
    assert result.stars == stars


def test_a_method_does_not_beat_itself():
    values = np.arange(10.0)
    assert statistics.wilcoxon_less(values, values) == statistics.Comparison(1.0, 1.0, "")


def test_wilcoxon_needs_the_same_cases():
    with pytest.raises(ValueError, match="expected values of the same cases, got 10 and 9"):
        statistics.wilcoxon_less(np.zeros(10), np.zeros(9))


def test_bootstrap_interval_covers_the_mean_and_repeats():
    values = np.random.default_rng(0).normal(1.0, 0.2, 40)
    low, high = statistics.bootstrap_interval(values)
    error = values.std(ddof=1) / np.sqrt(40)
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.3 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.3 * error)
    assert statistics.bootstrap_interval(values) == (low, high)
    inner = statistics.bootstrap_interval(values, confidence=0.5)
    assert low < inner[0] < inner[1] < high


def test_bootstrap_of_equal_values_and_of_one():
    assert statistics.bootstrap_interval(np.full(5, 2.0)) == (2.0, 2.0)
    with pytest.raises(ValueError, match="expected at least two cases, got 1"):
        statistics.bootstrap_interval(np.ones(1))
