"""Verification against sampled determinants, the certificate of the repair, and known folds."""

import itertools

import jax
import numpy as np
import pytest
from test_certificate import alternating, determinant_inside, grid, noise, single_voxel

from jaxreg.ops import verification
from jaxreg.ops.certificate import repair, smallest_coefficient
from jaxreg.ops.verification import verify

SHAPE = (7, 6, 5)


def test_smallest_bounds_the_sampled_determinant_from_below_and_is_sharp():
    u = noise(SHAPE, sigma=1.0, amplitude=0.5)
    points = list(itertools.product(np.linspace(0, 1, 5), repeat=3))
    gaps = []
    for cell in [(0, 0, 0), (5, 4, 3), (2, 1, 3), (3, 2, 0), (1, 4, 2)]:
        alone = u[tuple(slice(i, i + 2) for i in cell)]
        found = verify(alone)
        least = min(determinant_inside(alone, (0, 0, 0), point) for point in points)
        assert found.cells == 1 and found.smallest <= least + 1e-9
        gaps.append(least - found.smallest)
    assert np.median(gaps) < 0.02


@pytest.mark.parametrize("seed", range(3))
def test_it_agrees_with_the_certificate_of_the_repair(seed):
    """Two derivations of one bound; that of the repair is in float32."""
    u = noise((12, 9, 8), sigma=1.0, amplitude=0.6, seed=seed)
    bound = smallest_coefficient(u)
    found = verify(u)
    assert found.cells == bound.size
    assert found.smallest == pytest.approx(bound.min(), abs=1e-4)
    assert 0 < found.uncertified == np.count_nonzero(bound <= 0) < bound.size


@pytest.mark.parametrize("field", [alternating, single_voxel])
def test_folds_are_found_and_gone_after_repair(field):
    assert verify(field()).uncertified > 0
    assert verify(repair(field())[0]).uncertified == 0


def test_one_push_between_two_voxels_is_found_where_it_is():
    """A push past the next voxel folds the cells on that side of it and no other."""
    u = np.zeros((8, 7, 6, 3), np.float32)
    assert verify(u) == (7 * 6 * 5, 0, 1.0)
    u[3, 3, 3, 2] = 1.2
    assert verify(u).uncertified == 4 and verify(u).smallest < 0
    assert verify(u[:4]).uncertified == 2 and verify(u[:3]).uncertified == 0


def test_an_affine_field_has_its_determinant():
    matrix = np.array([[0.2, -0.1, 0.3], [0.4, 0.1, -0.2], [-0.5, 0.3, -0.15]])
    u = grid(SHAPE) @ (0.5 * matrix).T
    expected = np.linalg.det(np.eye(3) + 0.5 * matrix)
    assert verify(u).smallest == pytest.approx(expected, rel=1e-9)


def test_blocks_make_no_difference(monkeypatch):
    u = noise((24, 12, 11), sigma=1.0, amplitude=0.6)
    whole = verify(u)
    monkeypatch.setattr(verification, "EDGE", 5)  # 23 layers: the last block overlaps
    assert verify(u) == whole and whole.uncertified > 0


@pytest.mark.parametrize("amplitude", [0.02, 0.2, 0.6])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_cheap_bound_is_a_bound(amplitude, dtype):
    """Or a cell would be passed over; it is close where a field is smooth."""
    basis = np.array([[0, -1.5, 0], [0.7, 0, 0.1], [0, 0, 2.5]])
    u = (noise((10, 9, 8), sigma=1.0, amplitude=amplitude) @ basis.T).astype(dtype)
    u += dtype(40.0)  # far away, where float32 is coarse
    cells = np.nonzero(np.ones((9, 8, 7)))
    with jax.enable_x64(dtype is np.float64):
        cheap = np.asarray(verification._cheap_bound(u, basis.astype(dtype)))[cells]
    gaps = verification._bounds(u, cells, basis) - cheap
    assert gaps.min() > 0
    assert np.median(gaps) < (0.1 if amplitude == 0.02 else np.inf)


def test_the_smallest_is_found_wherever_it_is():
    """Also between the cells that are worked out first."""
    u = np.zeros((21, 18, 19, 3), np.float32)
    for place in [(7, 6, 9), (2, 2, 2), (19, 16, 17)]:
        dent = u.copy()
        dent[place] = (0.3, -0.2, 0.1)
        cells = np.nonzero(np.ones((20, 17, 18)))
        assert verify(dent).smallest == verification._bounds(dent, cells, np.eye(3)).min() < 0.8


def test_not_a_number_is_uncertified():
    u = np.zeros((5, 4, 6, 3), np.float32)
    u[2, 2, 2, 0] = np.nan
    found = verify(u)
    assert found.uncertified == 8 and np.isnan(found.smallest)


def test_a_single_slice_is_refused():
    with pytest.raises(ValueError, match=r"u: expected .* at least two voxels .* \(5, 4, 1, 3\)"):
        verify(np.zeros((5, 4, 1, 3), np.float32))


def test_vectors_of_another_unit_are_the_same_field():
    u = noise((12, 9, 8), sigma=1.0, amplitude=0.6, seed=4).astype(np.float64)
    matrix = np.array([[0, -1.5, 0], [0.7, 0, 0.1], [0, 0, 2.5]])
    mm = np.asarray(u) @ matrix.T
    found, wanted = verify(mm, voxel_from_vector=np.linalg.inv(matrix)), verify(u)
    assert found[:2] == wanted[:2] and found.smallest == pytest.approx(wanted.smallest, abs=1e-9)
