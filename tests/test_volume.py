"""Volumes, displacement fields and their grids."""

import dataclasses
import itertools
import json

import jax
import numpy as np
import pytest
import SimpleITK as sitk

from jaxreg.geometry import sampling
from jaxreg.geometry.volume import (
    DisplacementField,
    Grid,
    Volume,
    check_ct,
    compact,
    require_same_grid,
    resample,
)

SHAPE = (8, 6, 5)


@pytest.fixture
def affine():
    """Oblique, unequal spacing (1, 1.2, 2.5) mm."""
    c, s = np.cos(0.3), np.sin(0.3)
    matrix = np.eye(4)
    matrix[:3, :3] = np.array([[c, -s, 0], [s, c, 0], [0, 0, -1]]) * (1.0, 1.2, 2.5)
    matrix[:3, 3] = (10.0, -20.0, 30.0)
    return matrix


@pytest.fixture
def data():
    return np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)


def test_geometry(data, affine):
    volume = Volume(data, affine)
    assert volume.shape == SHAPE
    np.testing.assert_allclose(volume.spacing_mm, (1.0, 1.2, 2.5))
    voxel = np.array([[2.0, 3.0, 4.0], [0.5, 0.0, -1.0]])
    world = volume.world_from_voxel(voxel)
    for v, w in zip(voxel, world, strict=True):
        np.testing.assert_allclose(w, (affine @ [*v, 1.0])[:3])
    np.testing.assert_allclose(volume.voxel_from_world(world), voxel, atol=1e-12)


@pytest.mark.parametrize(
    ("given", "kept"),
    [(np.float64, np.float32), (np.float16, np.float32), (np.int16, np.int16), (bool, bool)],
)
def test_floating_data_becomes_float32_and_the_rest_is_kept(given, kept):
    assert Volume(np.zeros(SHAPE, given), np.eye(4)).data.dtype == kept


def test_is_frozen(data, affine):
    volume = Volume(data, affine)
    with pytest.raises(dataclasses.FrozenInstanceError):
        volume.data = data  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(ValueError, match="read-only"):
        volume.data[0, 0, 0] = 1
    with pytest.raises(ValueError, match="read-only"):
        volume.affine[0, 0] = 1
    data[0, 0, 0] = 7  # the caller's own array stays writable


@pytest.mark.parametrize("shape", [(5,), (5, 6), (5, 6, 7, 2), (0, 6, 7)])
def test_refuses_data_that_is_not_3d(shape):
    with pytest.raises(ValueError, match=r"data: expected a 3-D array \(X, Y, Z\), got shape \("):
        Volume(np.zeros(shape), np.eye(4))


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e39])
def test_refuses_data_that_is_not_finite_in_float32(value):
    data = np.zeros(SHAPE)
    data[1, 2, 3] = value
    with pytest.raises(
        ValueError, match="data: expected finite values, got NaN or infinity in 1 of"
    ):
        Volume(data, np.eye(4))


def test_refuses_complex_data():
    with pytest.raises(ValueError, match="data: expected numbers, got type complex128"):
        Volume(np.zeros(SHAPE, complex), np.eye(4))


@pytest.mark.parametrize(
    ("affine", "text"),
    [
        (np.eye(3), r"affine: expected a \(4, 4\) matrix, got shape \(3, 3\)"),
        (np.diag([1.0, 0, 1, 1]), "affine: expected a finite invertible matrix"),
        (np.diag([1.0, np.nan, 1, 1]), "affine: expected a finite invertible matrix"),
        (np.eye(4) + np.eye(4, k=-3), "with last row 0 0 0 1"),
        (np.array([[1.0, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), "invertible"),
    ],
)
def test_refuses_bad_affines(data, affine, text):
    with pytest.raises(ValueError, match=text) as info:
        Volume(data, affine)
    assert "\n" not in str(info.value)


@pytest.mark.parametrize("shape", [SHAPE, (*SHAPE, 2), (3, *SHAPE)])
def test_refuses_fields_that_are_not_vectors(shape):
    with pytest.raises(ValueError, match=r"data: expected displacement vectors \(X, Y, Z, 3\)"):
        DisplacementField(np.zeros(shape), np.eye(4))


def test_displacement_in_voxels_moves_a_voxel_to_the_same_world_point(affine):
    u = np.random.default_rng(1).normal(size=(*SHAPE, 3)).astype(np.float32)
    field = DisplacementField.from_voxels(u, affine)
    for index in itertools.product(*[range(n) for n in SHAPE]):
        target = field.grid.world_from_voxel(np.array(index) + u[index])
        np.testing.assert_allclose(
            field.grid.world_from_voxel(np.array(index)) + field.data[index], target, atol=1e-5
        )
    np.testing.assert_allclose(field.to_voxels(), u, atol=1e-5)
    assert field.data.dtype == field.to_voxels().dtype == np.float32


def test_displacement_field_is_exact_at_and_linear_between_voxels(affine):
    vectors = np.random.default_rng(1).normal(size=(*SHAPE, 3)).astype(np.float32)
    field = DisplacementField(vectors, affine)
    points = field.grid.world_from_voxel(np.array([[2, 3, 4], [2.5, 3, 4], [7, 5, 3.25]]))
    expected = [
        vectors[2, 3, 4],
        (vectors[2, 3, 4] + vectors[3, 3, 4]) / 2,
        0.75 * vectors[7, 5, 3] + 0.25 * vectors[7, 5, 4],
    ]
    np.testing.assert_allclose(field.transform_points(points) - points, expected, atol=1e-5)


def test_displacement_outside_of_the_grid_is_that_of_the_edge(affine):
    vectors = np.random.default_rng(1).normal(size=(*SHAPE, 3)).astype(np.float32)
    field = DisplacementField(vectors, affine)
    points = field.grid.world_from_voxel(np.array([[-5.0, 2, 1], [3, 9, 20]]))
    expected = [vectors[0, 2, 1], vectors[3, 5, 4]]
    np.testing.assert_allclose(field.transform_points(points) - points, expected, atol=1e-5)


def test_resample_to_its_own_grid_changes_nothing(data, affine):
    for order, fill in itertools.product((0, 1), (None, -1000.0)):
        same = resample(Volume(data, affine), affine, SHAPE, order=order, fill=fill)
        np.testing.assert_allclose(same.data, data, atol=1e-5)


def test_resample_equals_simpleitk(data, affine):
    target = np.diag([-0.8, -0.9, 1.1, 1.0])
    target[:3, 3] = (15.0, -14.0, 21.0)
    matrix = np.eye(4)
    matrix[:3, 3] = (0.3, -0.4, 0.5)
    ours = resample(Volume(data, affine), target, (7, 9, 6), matrix=matrix, fill=5.0)
    shift = sitk.TranslationTransform(3, [-0.3, 0.4, 0.5])
    grid = _itk_image(np.zeros((7, 9, 6), np.float32), target)
    image = _itk_image(data, affine)
    theirs = sitk.GetArrayFromImage(sitk.Resample(image, grid, shift, sitk.sitkLinear, 5.0)).T
    inside = np.zeros(ours.shape, bool)
    for index in itertools.product(*[range(n) for n in ours.shape]):
        world = ours.world_from_voxel(np.array(index)) + matrix[:3, 3]
        voxel = Volume(data, affine).voxel_from_world(world)
        inside[index] = np.all((voxel > 0) & (voxel < np.array(SHAPE) - 1))
    assert inside.sum() > 50
    np.testing.assert_allclose(ours.data[inside], theirs[inside], atol=1e-4)


def _itk_image(data, affine):
    image = sitk.GetImageFromArray(np.ascontiguousarray(data.T))
    lps = np.diag([-1.0, -1, 1, 1]) @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    return image


def test_resample_outside_gives_the_fill_or_the_edge():
    volume = Volume(np.full((4, 5, 3), 7.0), np.eye(4))
    far = np.eye(4)
    far[0, 3] = 20.0
    assert np.all(resample(volume, far, (2, 2, 2)).data == 7.0)
    assert np.all(resample(volume, far, (2, 2, 2), fill=-1024.0).data == -1024.0)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int32])
def test_resample_of_labels_takes_the_nearest_and_keeps_the_type(dtype):
    labels = (np.arange(24).reshape(4, 3, 2) % 2).astype(dtype)
    finer = resample(
        Volume(labels, np.diag([1.0, 1, 2, 1])), np.diag([0.5, 1, 2, 1]), (8, 3, 2), order=0
    )
    assert finer.data.dtype == dtype
    np.testing.assert_array_equal(finer.data[::2], labels)


def test_shrinking_smooths_and_keeps_a_ramp():
    noise = np.random.default_rng(0).normal(size=(40, 36, 32))
    volume = Volume(noise, np.eye(4))
    coarse = resample(volume, np.diag([4.0, 4, 4, 1]), (10, 9, 8))
    # variance of Gaussian-filtered white noise: (2 sqrt(pi) sigma)^-1 per axis
    sigma = np.sqrt(15 / (8 * np.log(2)))
    assert coarse.data[2:-2, 2:-2, 2:-2].std() == pytest.approx(
        (2 * np.sqrt(np.pi) * sigma) ** -1.5, rel=0.15
    )
    ramp = np.broadcast_to(np.arange(40.0)[:, None, None], noise.shape)
    coarse = resample(Volume(ramp, np.eye(4)), np.diag([4.0, 4, 4, 1]), (10, 9, 8))
    np.testing.assert_allclose(coarse.data[2:8, 4, 4], 4 * np.arange(2, 8), atol=1e-4)


def test_no_smoothing_where_the_step_is_short():
    noise = np.random.default_rng(0).normal(size=(12, 6, 5)).astype(np.float32)
    step = np.diag([1.4, 1, 1, 1])
    coarse = resample(Volume(noise, np.eye(4)), step, (8, 6, 5))
    np.testing.assert_array_equal(coarse.data[5], noise[7])


def test_grids_match_up_to_rounding_of_headers(data, affine):
    rounded = affine.astype(np.float32).astype(float)
    rounded[:3, 3] += 0.01
    require_same_grid(Volume(data, affine), Volume(data, rounded), ("a", "b"))
    require_same_grid(Grid(SHAPE, affine), Volume(data, affine), ("a", "b"))
    assert Grid(SHAPE, affine).matches(Grid(SHAPE, rounded))


@pytest.mark.parametrize("what", ["shape", "origin", "spacing", "axes"])
def test_another_grid_is_refused_and_both_are_named(data, affine, what):
    other, shape = affine.copy(), SHAPE
    if what == "shape":
        shape = (8, 6, 4)
    elif what == "origin":
        other[0, 3] += 0.5
    elif what == "spacing":
        other[:3, 2] *= 1.02
    else:
        other[:3, :2] *= -1
    with pytest.raises(
        ValueError, match="fixed and fixed_mask: expected one grid, got 8 x 6 x 5"
    ) as e:
        require_same_grid(
            Volume(data, affine), Volume(np.zeros(shape), other), ("fixed", "fixed_mask")
        )
    assert str(Grid(shape, other)) in str(e.value)
    assert "voxels of 1 x 1.2 x 2.5 mm, axes RAI, origin (10.00, -20.00, 30.00)" in str(e.value)
    assert "jaxreg.geometry.volume.resample" in str(e.value)


def test_check_ct(data):
    check_ct(Volume(data * 100 - 900, np.eye(4)), "fixed")
    with pytest.raises(ValueError, match="fixed: expected a CT image, got the value 3 in every"):
        check_ct(Volume(np.full(SHAPE, 3.0), np.eye(4)), "fixed")
    stored = np.clip(data * 1000 + 1500, 0, 4095).round()
    with pytest.raises(
        ValueError, match="moving: expected Hounsfield units with air near -1000, got"
    ):
        check_ct(Volume(stored, np.eye(4)), "moving")


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (np.linspace(0, 1, 240), "They were scaled for a network or a picture"),
        (np.arange(240), "It is an 8-bit picture"),
        (np.linspace(-120, 90, 240), "Air is missing: give an uncropped CT"),
        (np.linspace(0, 3000, 240), "Convert them first: HU = stored value"),
    ],
)
def test_values_that_are_no_hounsfield_units_have_a_remedy(values, text):
    with pytest.raises(ValueError, match=f"fixed: expected Hounsfield units .*{text}"):
        check_ct(Volume(values.reshape(SHAPE), np.eye(4)), "fixed")


def test_nan_in_a_field_is_not_mended_by_air():
    vectors = np.full((*SHAPE, 3), np.nan)
    with pytest.raises(ValueError, match="NaN .* Register anew, or replace them by 0"):
        DisplacementField(vectors, np.eye(4))


def test_grids_that_share_a_lattice_or_overlap(affine):
    grid = Grid(SHAPE, affine)
    part = affine.copy()
    part[:3, 3] = affine[:3] @ (2, 1, 4, 1)
    turned = part[:, [1, 2, 0, 3]] * (1, -1, 1, 1)
    assert grid.has_lattice_of(Grid((3, 3, 2), part)) and grid.has_lattice_of(
        Grid((3, 2, 3), turned)
    )
    assert not grid.has_lattice_of(Grid(SHAPE, affine @ np.diag([1.0, 1, 1.1, 1])))
    shifted = affine.copy()
    shifted[:3, 3] += 0.3 * affine[:3, 0]
    assert not grid.has_lattice_of(Grid(SHAPE, shifted))
    assert grid.overlaps(Grid(SHAPE, shifted))
    shifted[:3, 3] += 20 * affine[:3, 1]
    assert not grid.overlaps(Grid(SHAPE, shifted))


def test_a_rectangular_grid_covers_a_sheared_one(affine):
    sheared = affine.copy()
    sheared[:3, 2] += 0.3 * affine[:3, 1]
    grid = Grid(SHAPE, sheared)
    other = grid.rectangular()
    assert grid.is_sheared() and not other.is_sheared() and not Grid(SHAPE, affine).is_sheared()
    np.testing.assert_allclose(other.spacing_mm, grid.spacing_mm)
    corners = np.array(list(itertools.product(*[(0, n - 1) for n in SHAPE])))
    voxels = other.voxel_from_world(grid.world_from_voxel(corners))
    assert np.all(voxels > -0.01) and np.all(voxels < np.array(other.shape) - 0.99)


def obliquely(dtype):
    """An image and a lattice that turns a little, with places outside of the image."""
    rng = np.random.default_rng(7)
    image = (40 * rng.normal(size=(9, 7, 8))).astype(dtype)
    lattice = np.eye(4)
    lattice[:3, :3] = np.diag([0.7, 0.9, 0.8]) + 0.03 * rng.normal(size=(3, 3))
    lattice[:3, 3] = -1.7, -0.4, 0.2
    return image, lattice


@pytest.mark.parametrize("fill", [None, 5.0])
@pytest.mark.parametrize(("order", "dtype"), [(0, np.int16), (0, np.uint8), (1, np.float32)])
@pytest.mark.parametrize("parallel", [True, False])
def test_all_ways_to_sample_give_what_scipy_gives(monkeypatch, order, dtype, fill, parallel):
    image, lattice = obliquely(dtype)
    if parallel:
        lattice = np.diag([*np.diag(lattice)[:3], 1.0]) + lattice * [0, 0, 0, 1] * (lattice != 1)
        lattice = lattice[[2, 0, 1, 3]]  # axes of the image along others of the grid
    monkeypatch.setattr(sampling, "LARGE", 1)
    assert (sampling.parallel_axes(lattice, (13, 8, 11)) is not None) == parallel
    found = sampling.sampled(image, lattice, (13, 8, 11), order=order, fill=fill)
    wanted = sampling._by_scipy(image, lattice, (13, 8, 11), order, fill)
    assert found.dtype == image.dtype
    np.testing.assert_allclose(found, wanted, atol=1e-3 if order else 0)


def test_labels_beyond_32_bits_are_kept_on_a_large_oblique_grid(monkeypatch):
    image, lattice = obliquely(np.int64)
    image += 1 << 40
    monkeypatch.setattr(sampling, "LARGE", 1)
    found = sampling.sampled(image, lattice, (13, 8, 11), order=0, fill=0.0)
    assert np.isin(found, [0, *np.unique(image)]).all() and found.max() > 1 << 39


@pytest.mark.parametrize("spacing_mm", [0.5, 3.0, 4.1, 1000.0])
def test_a_coarser_grid_has_the_same_corners_and_voxels_no_larger_than_asked_for(spacing_mm):
    turn = np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, -1.0]])
    affine = np.eye(4)
    affine[:3] = np.column_stack([turn * [0.7, 1.1, 5.0], [-10.0, 20.0, 30.0]])
    fine = Grid((14, 9, 1), affine)
    coarse = fine.coarsened(spacing_mm)
    corners = [grid.world_from_voxel(np.array(grid.shape) - 1) for grid in (coarse, fine)]
    np.testing.assert_allclose(*corners)
    np.testing.assert_allclose(coarse.affine[:3, 3], affine[:3, 3])
    expected = {0.5: (14, 9, 1), 3.0: (5, 4, 1), 4.1: (4, 4, 1), 1000.0: (2, 2, 1)}
    assert coarse.shape == expected[spacing_mm]
    for found, own in zip(coarse.spacing_mm[:2], fine.spacing_mm[:2], strict=True):
        assert found <= max(spacing_mm, own) + 1e-9
    assert fine.coarsened(0.0) is fine


def test_whole_numbers_take_half_of_the_memory():
    values = np.arange(-30, 30, dtype=np.float32).reshape(3, 4, 5) * 100
    found = compact(Volume(values, np.eye(4)))
    assert found.data.dtype == np.int16
    np.testing.assert_array_equal(found.data, values)
    shared = jax.device_put(found.data, may_alias=True)  # not copied
    assert shared.unsafe_buffer_pointer() == found.data.ctypes.data
    for other in (values + 0.5, values * 20, values.astype(np.int32)):
        volume = Volume(other, np.eye(4))
        assert compact(volume) is volume


def test_a_part_lies_where_it_lay():
    affine = np.array([[0, -2, 0, 5], [1.5, 0, 0, -7], [0, 0, 3, 2], [0, 0, 0, 1.0]])
    box = (slice(1, 3), slice(None), slice(2, 5))
    values = np.random.default_rng(0).normal(size=(4, 5, 6)).astype(np.float32)
    vectors = np.random.default_rng(1).normal(size=(4, 5, 6, 3)).astype(np.float32)
    for whole in (Volume(values, affine), DisplacementField(vectors, affine)):
        part = whole.part(box)
        np.testing.assert_array_equal(part.data, whole.data[box])
        np.testing.assert_allclose(
            part.grid.world_from_voxel(np.array([1.0, 2.0, 0.0])),
            whole.grid.world_from_voxel(np.array([2.0, 2.0, 2.0])),
        )


def test_the_same_voxels_in_another_order_of_axes_are_told(affine):
    grid = Grid((5, 6, 7), affine)
    turned = np.array([[0, -1, 0, 4], [0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1.0]])
    same = Grid((7, 5, 6), affine @ turned)  # [i, j, k] there is [4 - j, k, i] here
    assert grid.has_voxels_of(grid) and grid.has_voxels_of(same) and same.has_voxels_of(grid)
    part = grid.part((slice(0, 4), slice(None), slice(None)))
    assert not grid.has_voxels_of(part) and not part.has_voxels_of(grid)
    shifted = np.array(affine)
    shifted[:3, 3] += 0.3 * affine[:3, 0]
    assert not grid.has_voxels_of(Grid((5, 6, 7), shifted))


def test_a_grid_comes_back_from_json():
    affine = np.array([[0, -0.75, 0, 12.25], [0, 0, 2.5, -7.5], [0.5, 0, 0, 3], [0, 0, 0, 1]])
    grid = Grid((4, 5, 6), affine)
    found = Grid.from_document(json.loads(json.dumps(grid.document())))
    assert found is not None and found.shape == (4, 5, 6)
    np.testing.assert_array_equal(found.affine, affine)
    for other in (None, str(grid), {}, {"shape": [1, 2], "affine": []}):
        assert Grid.from_document(other) is None
