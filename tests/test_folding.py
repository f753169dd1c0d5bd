"""Determinant statistics and fold shares against loops and known deformations."""

import itertools

import numpy as np
import pytest

from jaxreg.metrics import folding
from jaxreg.ops.jacobian import jacobian_determinant

SHAPE = (9, 8, 7)


@pytest.fixture
def determinant():
    return np.random.default_rng(0).normal(0.6, 0.5, SHAPE).astype(np.float32)


@pytest.fixture
def mask():
    result = np.zeros(SHAPE, bool)
    result[2:7, 1:6, 2:6] = True
    return result


def test_summary_is_the_explicit_loop(determinant, mask):
    values = [float(determinant[voxel]) for voxel in np.ndindex(*SHAPE) if mask[voxel]]
    result = folding.determinant_summary(determinant, mask)
    assert result.folds == sum(value <= 0 for value in values) / len(values) > 0
    assert (result.minimum, result.maximum) == (min(values), max(values))
    np.testing.assert_allclose(
        [result.p1, result.p5, result.median, result.p95, result.p99],
        np.percentile(values, (1, 5, 50, 95, 99)),
        rtol=1e-5,
    )
    logs = [np.log(max(value, 1e-9)) for value in values]
    assert result.sd_log == pytest.approx(np.std(logs), rel=1e-5)


def test_a_determinant_that_is_not_a_number_counts_as_fold(determinant, mask):
    clean = folding.determinant_summary(np.abs(determinant), mask)
    broken = np.abs(determinant)
    broken[3, 3, 3] = np.nan
    assert clean.folds == 0
    assert folding.determinant_summary(broken, mask).folds == pytest.approx(1 / mask.sum())


def test_learn2reg_folds_are_counted_where_its_code_counts_none():
    u = np.zeros((12, 11, 10, 3), np.float32)
    u[6, 5, 5, 0], u[4, 5, 5, 0] = -2.0, 2.0  # mirrors the line between them
    determinant = np.asarray(jacobian_determinant(u))
    everywhere = np.ones(determinant.shape, bool)
    assert determinant.min() == pytest.approx(-1.0)
    assert folding.determinant_summary(determinant, everywhere).folds > 0
    inner = list(itertools.product(range(2, 10), range(2, 9), range(2, 8)))
    clipped = {voxel: np.clip(determinant[voxel] + 3, 1e-9, 1e9) for voxel in inner}
    assert not any(value <= 0 for value in clipped.values())  # the reference code's count
    result = folding.learn2reg_folding(determinant)
    assert result.folds == sum(determinant[voxel] <= 0 for voxel in inner) > 0
    assert result.sd_log == pytest.approx(np.std(np.log(list(clipped.values()))), rel=1e-5)

    mask = np.zeros(determinant.shape, bool)
    mask[5:9, 3:8, :] = True
    masked = folding.learn2reg_folding(determinant, mask=mask)
    logs = [np.log(value) for voxel, value in clipped.items() if mask[voxel]]
    assert masked.sd_log == pytest.approx(np.std(logs), rel=1e-5)
    assert masked.folds == result.folds


def test_uncertified_fraction_is_the_explicit_loop(mask):
    uncertified = np.random.default_rng(1).random((8, 7, 6)) < 0.3
    touched = [
        cell
        for cell in np.ndindex(8, 7, 6)
        if any(mask[tuple(np.add(cell, c))] for c in np.ndindex(2, 2, 2))
    ]
    expected = sum(bool(uncertified[cell]) for cell in touched) / len(touched)
    assert folding.uncertified_fraction(uncertified, mask) == pytest.approx(expected)


def test_wrong_grids_and_empty_masks_are_refused(determinant, mask):
    with pytest.raises(ValueError, match=r"expected one cell less than voxels, \(8, 7, 6\), got"):
        folding.uncertified_fraction(np.zeros(SHAPE), mask)
    with pytest.raises(ValueError, match="mask: expected at least one voxel, got an empty mask"):
        folding.determinant_summary(determinant, np.zeros(SHAPE, bool))
    with pytest.raises(ValueError, match=r"got shapes \(9, 8, 7\) and \(9, 8, 6\)"):
        folding.determinant_summary(determinant, mask[..., 1:])
