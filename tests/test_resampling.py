import numpy as np
import pytest
import scipy.ndimage
import SimpleITK as sitk

from jaxreg.geometry import resampling, warping
from jaxreg.geometry.grid import Grid
from jaxreg.geometry.resampling import (
    field_determinant,
    field_on_grid,
    inverse_consistency,
    invert_field,
)
from jaxreg.geometry.volume import DisplacementField, Volume
from jaxreg.geometry.warping import warp_volume
from jaxreg.ops.jacobian import jacobian_determinant


def affine(spacing, angle=0.0, origin=(0.0, 0.0, 0.0), flip=(1, 1, 1)):
    turn = np.array(
        [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
    )
    matrix = np.eye(4)
    matrix[:3, :3] = turn @ np.diag(np.array(spacing) * flip)
    matrix[:3, 3] = origin
    return matrix


SOURCE = Grid((12, 10, 14), affine((2.0, 3.0, 2.5), origin=(-10.0, -12.0, -15.0)))
FIXED = Grid((9, 11, 7), affine((1.5, 1.2, 3.0), 0.2, (14.0, 9.0, -9.0), (-1, -1, 1)))
MOVING = Grid((13, 12, 11), affine((1.7, 2.1, 2.9), -0.1, (-9.0, 14.0, -14.0), (1, -1, 1)))
PREALIGNMENT = affine((1.05, 0.95, 1.1), 0.1, (3.0, -2.0, 1.0))


def voxels(grid):
    return np.stack(np.meshgrid(*(np.arange(n) for n in grid.shape), indexing="ij"), axis=-1)


def smooth_field(grid, seed, size):
    rng = np.random.default_rng(seed)
    u = rng.normal(size=(*grid.shape, 3))
    u = scipy.ndimage.gaussian_filter(u, (3, 3, 3, 0), mode="nearest")
    return (size * u / np.abs(u).max()).astype(np.float32)


def test_field_on_another_grid_is_prealignment_after_displacement():
    u = smooth_field(SOURCE, 0, 1.5)
    field = field_on_grid(u, SOURCE, FIXED, matrix=PREALIGNMENT)
    x = FIXED.world_from_voxel(voxels(FIXED)).reshape(-1, 3)
    deformation = DisplacementField.from_voxels(u, SOURCE.affine)
    moved = deformation.transform_points(x)
    expected = moved @ PREALIGNMENT[:3, :3].T + PREALIGNMENT[:3, 3] - x
    assert np.allclose(field.data.reshape(-1, 3), expected, atol=1e-4)


def test_field_on_its_own_grid_is_itself():
    u = smooth_field(SOURCE, 1, 1.0)
    field = field_on_grid(u, SOURCE, SOURCE)
    assert np.allclose(field.to_voxels(), u, atol=1e-5)


def to_itk(volume):
    image = sitk.GetImageFromArray(volume.data.transpose(2, 1, 0))
    lps = np.diag([-1.0, -1.0, 1.0])
    image.SetOrigin((lps @ volume.affine[:3, 3]).tolist())
    image.SetSpacing(volume.spacing_mm)
    image.SetDirection((lps @ volume.affine[:3, :3] / volume.spacing_mm).ravel().tolist())
    return image


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("nearest", [False, True])
def test_warp_equals_itk(monkeypatch, nearest, large):
    monkeypatch.setattr(warping, "LARGE", 1 if large else 1 << 24)
    rng = np.random.default_rng(2)
    values = rng.integers(0, 9, MOVING.shape).astype(np.uint8 if nearest else np.float32)
    moving = Volume(values, MOVING.affine)
    field = DisplacementField.from_voxels(smooth_field(FIXED, 3, 1.3), FIXED.affine)
    sampling = "nearest" if nearest else "linear"
    ours = warp_volume(moving, field, fill=100, sampling=sampling)
    assert ours.data.dtype == values.dtype

    lps = field.data.astype(np.float64) * [-1, -1, 1]
    displacement = sitk.GetImageFromArray(lps.transpose(2, 1, 0, 3), isVector=True)
    displacement.CopyInformation(to_itk(Volume(np.zeros(FIXED.shape), FIXED.affine)))
    reference = to_itk(Volume(np.zeros(FIXED.shape), FIXED.affine))
    theirs = sitk.Resample(
        to_itk(moving),
        reference,
        sitk.DisplacementFieldTransform(displacement),
        sitk.sitkNearestNeighbor if nearest else sitk.sitkLinear,
        100,
    )
    theirs = sitk.GetArrayFromImage(theirs).transpose(2, 1, 0)
    if nearest:  # ties fall to either side
        assert np.mean(ours.data != theirs) < 0.01
    else:
        assert np.allclose(ours.data, theirs, atol=2e-3)
    assert 0.02 < np.mean(theirs == 100) < 0.9  # the pair does leave the image somewhere


def test_inverse_brings_points_back_and_tells_its_error():
    fixed = Grid((24, 22, 26), SOURCE.affine)
    inner = smooth_field(fixed, 4, 1.5)
    field = field_on_grid(inner, fixed, fixed, matrix=PREALIGNMENT)
    inverse, error = invert_field(field, MOVING, matrix=PREALIGNMENT)
    assert error.data.max() < 1e-3
    q = MOVING.world_from_voxel(voxels(MOVING)).reshape(-1, 3)
    there_and_back = field.transform_points(inverse.transform_points(q))
    assert np.abs(there_and_back - q).max() < 5e-3


def test_inverse_that_does_not_converge_tells_so():
    u = np.zeros((*SOURCE.shape, 3), np.float32)
    u[6:, ..., 0] = 4.0  # slope 4 between two planes: the iteration is no contraction there
    _, error = invert_field(DisplacementField.from_voxels(u, SOURCE.affine), SOURCE)
    assert error.data.max() > 1.0


@pytest.mark.parametrize("edge", [2, 5, 7, 100])
def test_volume_change_in_blocks_is_that_of_the_whole_field(edge, monkeypatch):
    monkeypatch.setattr(resampling, "EDGE", edge)
    field = DisplacementField.from_voxels(smooth_field(FIXED, 5, 2.0), FIXED.affine)
    found = field_determinant(field)
    np.testing.assert_allclose(found.data, jacobian_determinant(field.to_voxels()), atol=1e-6)
    np.testing.assert_array_equal(found.affine, field.affine)


@pytest.mark.parametrize(
    "box",
    [
        (slice(None), slice(None), slice(2, 4)),
        (slice(3, 4), slice(2, 9), slice(None)),
        (slice(8, 9), slice(0, 1), slice(6, 7)),
    ],
)
def test_a_part_of_the_volume_change_and_of_a_warped_image_is_that_of_the_whole(box):
    field = DisplacementField.from_voxels(smooth_field(FIXED, 5, 2.0), FIXED.affine)
    part = field_determinant(field, box=box)
    np.testing.assert_allclose(part.data, field_determinant(field).data[box], rtol=1e-6)
    np.testing.assert_allclose(part.affine, FIXED.part(box).affine)
    values = np.random.default_rng(2).integers(-1000, 500, MOVING.shape).astype(np.int16)
    moving = Volume(values, MOVING.affine)
    whole = warp_volume(moving, field, fill=-1024)
    assert whole.data.dtype == np.float32
    warped = warp_volume(moving, field.part(box), fill=-1024)
    np.testing.assert_allclose(warped.data, whole.data[box], atol=2e-2)


def test_inverse_consistency_is_the_way_there_and_back():
    forward = DisplacementField.from_voxels(smooth_field(FIXED, 6, 2.0), FIXED.affine)
    back = DisplacementField.from_voxels(smooth_field(MOVING, 7, 2.0), MOVING.affine)
    x = FIXED.world_from_voxel(voxels(FIXED)).reshape(-1, 3)
    there_and_back = back.transform_points(forward.transform_points(x))
    expected = np.linalg.norm(there_and_back - x, axis=1).reshape(FIXED.shape)
    np.testing.assert_allclose(inverse_consistency(forward, back).data, expected, atol=1e-4)


def test_inverse_consistency_of_an_inverse_is_nothing():
    forward = field_on_grid(smooth_field(SOURCE, 8, 1.0), SOURCE, SOURCE)
    wide = Grid((30, 30, 30), affine((2.0, 2.0, 2.0), origin=(-20.0, -20.0, -20.0)))
    inverse, _ = invert_field(forward, wide)
    inner = inverse_consistency(forward, inverse).data[2:-2, 2:-2, 2:-2]
    assert inner.max() < 0.2 < np.linalg.norm(forward.data, axis=-1).mean()
