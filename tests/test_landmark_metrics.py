"""Landmark errors and overlap by hand, by explicit loops and against SimpleITK."""

import itertools

import numpy as np
import pytest

from jaxreg.metrics import landmarks as metrics

sitk = pytest.importorskip("SimpleITK")

SPACING_MM = (1.0, 1.1, 2.5)
SHAPE = (13, 11, 9)


def test_tre_by_hand():
    mapped_mm = np.array([[0.0, 0.0, 0.0], [1.0, 2.0, 3.0], [-1.0, 0.0, 4.0]])
    moving_mm = np.array([[3.0, 4.0, 0.0], [1.0, 2.0, 3.0], [-1.0, 2.0, 4.0]])
    np.testing.assert_allclose(metrics.tre(mapped_mm, moving_mm), [5.0, 0.0, 2.0])


def test_tre_dirlab_by_hand_on_three_points():
    moving = np.array([[10, 20, 30], [5, 5, 5], [0, 0, 0]])
    mapped = moving + np.array([[0.4, 0.0, 0.0], [0.0, 0.6, 0.0], [1.0, -2.4, 0.5]])
    plain, snapped = metrics.tre_dirlab(mapped, moving, spacing_mm=SPACING_MM)
    last = np.sqrt(1.0 + (2.4 * 1.1) ** 2 + (0.5 * 2.5) ** 2)
    np.testing.assert_allclose(plain, [0.4, 0.66, last])
    last = np.sqrt(1.0 + (2 * 1.1) ** 2 + 2.5**2)  # a half goes up
    np.testing.assert_allclose(snapped, [0.0, 1.1, last])


def test_tre_dirlab_knows_the_axes():
    moving = np.zeros((3, 3), int)
    mapped = np.eye(3)
    for errors in metrics.tre_dirlab(mapped, moving, spacing_mm=SPACING_MM):
        np.testing.assert_allclose(errors, SPACING_MM)


@pytest.mark.parametrize(
    "score", [metrics.tre, lambda a, b: metrics.tre_dirlab(a, b, spacing_mm=SPACING_MM)]
)
@pytest.mark.parametrize("counts", [(300, 299), (0, 0)])
def test_unequal_counts_of_landmarks_are_refused(score, counts):
    with pytest.raises(ValueError, match=f"got {counts[0]} and {counts[1]}. Check that both"):
        score(np.zeros((counts[0], 3)), np.zeros((counts[1], 3)))


def test_summary_of_known_values():
    result = metrics.summary(np.arange(101.0))
    assert (result.count, result.mean, result.max) == (101, 50.0, 100.0)
    assert (result.p25, result.median, result.p75, result.p95) == (25.0, 50.0, 75.0, 95.0)
    np.testing.assert_allclose(result.sd, np.sqrt((101**2 - 1) / 12))


@pytest.mark.parametrize("values", [np.zeros(0), np.array([1.0, np.nan])])
def test_summary_refuses_what_has_no_mean(values):
    with pytest.raises(ValueError, match="expected at least one finite number, got"):
        metrics.summary(values)


def random_labels(seed):
    return np.random.default_rng(seed).integers(0, 4, SHAPE)


def test_dice_is_the_explicit_loop():
    a, b = random_labels(0), random_labels(1)
    a[a == 3] = 2  # label 3 in b alone
    expected = {}
    for label in (1, 2, 3):
        both = size = 0
        for voxel in itertools.product(*map(range, SHAPE)):
            both += a[voxel] == label and b[voxel] == label
            size += int(a[voxel] == label) + int(b[voxel] == label)
        expected[label] = 2 * both / size
    assert metrics.dice(a, b) == pytest.approx(expected)
    assert expected[3] == 0.0


def test_dice_agrees_with_simpleitk():
    a, b = random_labels(2), random_labels(3)
    measures = sitk.LabelOverlapMeasuresImageFilter()
    measures.Execute(sitk.GetImageFromArray(a), sitk.GetImageFromArray(b))
    expected = {label: measures.GetDiceCoefficient(label) for label in (1, 2, 3)}
    assert metrics.dice(a, b) == pytest.approx(expected)


def test_dice_of_background_alone_is_empty():
    assert metrics.dice(np.zeros(SHAPE, int), np.zeros(SHAPE, int)) == {}


def test_dice_refuses_two_grids():
    with pytest.raises(ValueError, match=r"got shapes \(2, 3, 4\) and \(2, 3, 5\)"):
        metrics.dice(np.zeros((2, 3, 4), int), np.zeros((2, 3, 5), int))


@pytest.mark.parametrize("count, lowest", [(1, 1), (3, 1), (10, 3), (11, 4), (200, 60)])
def test_dice30_is_over_three_of_ten(count, lowest):
    values = np.random.default_rng(0).permutation(np.arange(count, dtype=float))
    assert metrics.lowest30(values).tolist() == list(range(lowest))


def test_learn2reg_scores_are_quantiles():
    values = np.arange(11.0)[::-1]
    assert metrics.learn2reg_dsc30(values) == pytest.approx(3.0)
    assert metrics.learn2reg_tre30(values) == pytest.approx(7.0)
    assert metrics.lowest30(values).mean() == 1.5  # not the same thing
