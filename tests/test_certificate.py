"""Certificate against sampled determinants and closed forms; repair against its promises."""

import itertools

import numpy as np
import pytest
from scipy import ndimage
from scipy.special import comb

from jaxreg.ops import certificate
from jaxreg.ops.certificate import (
    bernstein_coefficients,
    repair,
    smallest_coefficient,
    uncertified_cells,
)
from jaxreg.ops.jacobian import fold_count, jacobian_determinant

SHAPE = (7, 6, 5)
MATRIX = np.array([[0.2, -0.1, 0.3], [0.4, 0.1, -0.2], [-0.5, 0.3, -0.15]])


def noise(shape, *, sigma, amplitude, seed=0):
    """A smooth random field of the given standard deviation, voxels."""
    random = np.random.default_rng(seed)
    u = ndimage.gaussian_filter(random.normal(size=(*shape, 3)), (sigma, sigma, sigma, 0))
    return (amplitude * u / u.std()).astype(np.float32)


def grid(shape):
    return np.stack(np.indices(shape), axis=-1).astype(np.float64)


def determinant_inside(u, cell, point):
    """det of the trilinear map in a cell at a point of [0, 1]^3, by differences of corners."""
    jacobian = np.zeros((3, 3))
    for corner in itertools.product((0, 1), repeat=3):
        y = np.add(cell, corner) + u[tuple(np.add(cell, corner))]
        for axis in range(3):
            slope = 1.0
            for a in range(3):
                t = point[a] if corner[a] else 1.0 - point[a]
                slope *= (1.0 if corner[a] else -1.0) if a == axis else t
            jacobian[:, axis] += slope * y
    return np.linalg.det(jacobian)


def bernstein(degree, t):
    return comb(2, degree) * t**degree * (1 - t) ** (2 - degree)


@pytest.mark.parametrize("cell", [(0, 0, 0), (5, 4, 3), (2, 1, 3)])
def test_coefficients_are_those_of_the_determinant_in_the_cell(cell):
    u = np.random.default_rng(1).normal(size=(*SHAPE, 3))
    coefficients = np.asarray(bernstein_coefficients(u.astype(np.float32)))[:, *cell]
    for point in np.random.default_rng(2).random((20, 3)):
        value = sum(
            coefficients[9 * a + 3 * b + c]
            * bernstein(a, point[0]) * bernstein(b, point[1]) * bernstein(c, point[2])
            for a, b, c in itertools.product(range(3), repeat=3)
        )  # fmt: skip
        assert value == pytest.approx(determinant_inside(u, cell, point), rel=1e-4, abs=1e-4)


def test_smallest_coefficient_bounds_the_sampled_determinant_from_below():
    u = noise(SHAPE, sigma=1.0, amplitude=0.5)
    bound = smallest_coefficient(u)
    points = list(itertools.product(np.linspace(0, 1, 5), repeat=3))
    gaps = []
    for cell in np.ndindex(bound.shape):
        least = min(determinant_inside(u, cell, point) for point in points)
        assert bound[cell] <= least + 1e-5
        gaps.append(least - bound[cell])
    assert np.median(gaps) < 0.02  # a bound, and a sharp one


@pytest.mark.parametrize("scale", [0.7, -0.5])
def test_affine_fields_have_one_constant_coefficient(scale):
    u = (grid(SHAPE) @ (scale * MATRIX).T).astype(np.float32)
    expected = np.linalg.det(np.eye(3) + scale * MATRIX)
    np.testing.assert_allclose(bernstein_coefficients(u), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("amplitude", "certified"), [(0.99, True), (1.01, False)])
def test_sine_field_is_certified_up_to_the_amplitude_at_which_it_folds(amplitude, certified):
    """u_x = -amplitude / (2 sin(pi/n)) sin(2 pi (x + 1/2) / n): its steepest edge is -amplitude."""
    n = 16
    wave = np.sin(2 * np.pi * (grid((n, 6, 5))[..., 0] - 7.5) / n)
    u = np.zeros((n, 6, 5, 3), np.float32)
    u[..., 0] = -amplitude / (2 * np.sin(np.pi / n)) * wave
    assert smallest_coefficient(u).min() == pytest.approx(1 - amplitude, abs=1e-4)
    assert np.any(uncertified_cells(u)) == (not certified)


def alternating():
    """Neighbouring voxels change places along z, which central differences cannot see."""
    u = np.zeros((9, 8, 10, 3), np.float32)
    u[..., 2] = 0.6 * (-1.0) ** np.arange(10)
    return u


def single_voxel():
    """One voxel pushed past its neighbour along x, y and z."""
    u = np.zeros((9, 8, 10, 3), np.float32)
    u[4, 3, 5] = 1.5
    return u


@pytest.mark.parametrize("field", [alternating, single_voxel])
def test_folds_that_central_differences_miss_are_rejected_and_repaired(field):
    u = field()
    interior = np.zeros(u.shape[:3])
    interior[1:-1, 1:-1, 1:-1] = 1
    assert fold_count(jacobian_determinant(u), interior) == 0
    assert uncertified_cells(u).any()
    repaired, report = repair(u)
    assert not uncertified_cells(repaired).any()
    assert report.cells == uncertified_cells(u).sum()


def test_repair_leaves_a_certified_field_bit_for_bit():
    u = noise((12, 11, 10), sigma=2.0, amplitude=0.5)
    repaired, report = repair(u)
    assert np.array_equal(repaired, u)
    assert report == (0, 0, 0.0)


def test_repair_changes_only_the_neighbourhood_and_tells_by_how_many_mm():
    u = noise((40, 36, 32), sigma=4.0, amplitude=0.8)
    u[20, 18, 16, 2] += 2.0
    repaired, report = repair(u, spacing_mm=(1.0, 2.0, 2.5))
    changed = np.argwhere(np.any(repaired != u, axis=-1))
    assert len(changed) == report.voxels < 300
    assert np.all(np.abs(changed - [20, 18, 16]) <= 6)
    change = (repaired - u) * np.array([1.0, 2.0, 2.5])
    assert report.largest_change_mm == pytest.approx(
        np.linalg.norm(change, axis=-1).max(), rel=1e-5
    )
    assert report.largest_change_mm < 5.5  # it takes back the push of 2 voxels of 2.5 mm


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("sigma", "amplitude"), [(3.0, 1.5), (0.5, 3.0), (2.0, 20.0)])
def test_repair_always_ends_with_every_cell_certified(seed, sigma, amplitude):
    u = noise((24, 20, 17), sigma=sigma, amplitude=amplitude, seed=seed)
    repaired, report = repair(u)
    assert smallest_coefficient(repaired).min() >= 1e-3
    assert report.cells > 0


def test_a_wider_margin_repairs_more():
    u = noise((24, 20, 17), sigma=3.0, amplitude=1.5)
    reports = []
    for margin in (1e-3, 0.2):
        repaired, report = repair(u, margin=margin, rounds=4)
        assert smallest_coefficient(repaired).min() >= margin
        reports.append(report)
    assert reports[0].cells < reports[1].cells and reports[0].voxels < reports[1].voxels


def test_repair_ends_where_no_local_mean_helps():
    """A reflection is folded everywhere, and smoothing reproduces linear fields."""
    u = (-2.0 * grid((12, 9, 8)) * [1, 0, 0]).astype(np.float32)
    assert not uncertified_cells(repair(u)[0]).any()


def test_certificate_survives_storage_in_millimetres():
    """Rounding of vectors of 100 mm stays below the margin."""
    u, _ = repair(noise((30, 28, 26), sigma=3.0, amplitude=1.5) + np.float32(100))
    spacing = np.array([0.7, 1.1, 2.5], np.float32)
    assert smallest_coefficient((u * spacing) / spacing).min() > 0


def test_slabs_make_no_difference(monkeypatch):
    u = noise((23, 12, 11), sigma=1.0, amplitude=0.5)
    whole = smallest_coefficient(u)
    monkeypatch.setattr(certificate, "SLAB_CELLS", 5 * 11 * 10)
    np.testing.assert_array_equal(smallest_coefficient(u), whole)


def test_not_a_number_is_uncertified_and_refused():
    u = np.zeros((5, 4, 6, 3), np.float32)
    u[2, 2, 2, 0] = np.nan
    assert uncertified_cells(u)[1:3, 1:3, 1:3].all()
    with pytest.raises(ValueError, match="u: expected finite displacements, got 1 that are not"):
        repair(u)


def test_a_single_slice_is_refused():
    with pytest.raises(ValueError, match=r"u: expected .* at least two voxels .* \(5, 4, 1, 3\)"):
        uncertified_cells(np.zeros((5, 4, 1, 3), np.float32))
