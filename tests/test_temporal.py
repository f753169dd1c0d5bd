"""Smoothing over time and measures of a cycle, against closed forms and explicit loops."""

import numpy as np
import pytest

from jaxreg.ops.temporal import delay, peak_to_peak, smoothing_matrix

TIMES = np.arange(10) / 10


def harmonic(order, phase=0.0):
    """A harmonic of the cycle less its value at time 0, where the reference lies."""
    wave = np.cos(2 * np.pi * (order * TIMES - phase))
    return wave - wave[0]


def energy(v, u, weight, *, cyclic):
    """What smoothing minimises, by loops."""
    count = len(v)
    last = count if cyclic else count - 3
    rough = sum(
        (v[(t + 3) % count] - 3 * v[(t + 2) % count] + 3 * v[(t + 1) % count] - v[t]) ** 2
        for t in range(last)
    )
    return sum((a - b) ** 2 for a, b in zip(v, u, strict=True)) + weight * rough


@pytest.mark.parametrize("cyclic", [True, False])
def test_smoothed_displacements_minimise_the_energy(cyclic):
    rng = np.random.default_rng(0)
    u = rng.normal(size=9)
    u[2] = 0.0
    v = smoothing_matrix(9, 2, weight=0.4, cyclic=cyclic) @ u
    assert v[2] == 0.0
    least = energy(v, u, 0.4, cyclic=cyclic)
    for t in range(9):
        for step in (-1e-3, 1e-3):
            other = v.copy()
            other[t] += step
            if t != 2:
                assert energy(other, u, 0.4, cyclic=cyclic) > least


def test_a_breath_is_kept_and_noise_is_damped():
    matrix = smoothing_matrix(10, 0, weight=0.03, cyclic=True)
    np.testing.assert_allclose(matrix @ harmonic(1), harmonic(1), atol=0.02)
    np.testing.assert_allclose(matrix @ harmonic(1, 0.2), harmonic(1, 0.2), atol=0.02)
    assert np.abs(matrix @ harmonic(2) - harmonic(2)).max() < 0.2
    noise = np.random.default_rng(1).normal(size=(10, 4000))
    noise[0] = 0.0
    assert (matrix @ noise)[1:].std() < 0.85 * noise[1:].std()


def test_a_line_in_time_is_kept_where_time_does_not_return():
    matrix = smoothing_matrix(6, 5, weight=3.0, cyclic=False)
    line = 2.0 * (np.arange(6) - 5)
    np.testing.assert_allclose(matrix @ line, line, atol=1e-9)


@pytest.mark.parametrize(("phases", "weight"), [(3, 1.0), (5, 1.0), (10, 0.0)])
def test_too_few_phases_or_no_weight_change_nothing(phases, weight):
    matrix = smoothing_matrix(phases, 0, weight=weight, cyclic=True)
    np.testing.assert_array_equal(matrix, np.eye(phases))


def test_peak_to_peak_is_the_largest_distance_of_two_phases():
    u = np.random.default_rng(2).normal(size=(7, 30, 3))
    expected = [
        max(np.linalg.norm(u[a, n] - u[b, n]) for a in range(7) for b in range(7))
        for n in range(30)
    ]
    np.testing.assert_allclose(peak_to_peak(u), expected)


def test_delay_is_the_lag_in_the_cycle():
    lags = np.array([-0.1, 0.0, 0.0, 0.1, 0.25])
    wave = np.cos(2 * np.pi * (TIMES[:, None] - lags[None]))
    direction = np.array([0.3, -0.2, 0.9])
    many = np.zeros((10, 995)) + np.cos(2 * np.pi * TIMES)[:, None]  # the mean has no lag
    u = np.concatenate([wave, many], axis=1)[..., None] * direction
    np.testing.assert_allclose(delay(u)[:5], lags, atol=2e-3)


def test_nothing_that_moves_has_no_delay():
    np.testing.assert_array_equal(delay(np.zeros((10, 4, 3))), np.zeros(4))
