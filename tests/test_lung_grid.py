import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from jaxreg.config import LungGridConfig
from jaxreg.geometry.lung_grid import (
    AIR_HU,
    grid_around_boxes,
    grid_around_lungs,
    image_on_grid,
    labels_on_grid,
    lung_box,
    points_on_grid,
)
from jaxreg.geometry.volume import Volume

OBLIQUE = np.array(
    [
        [-1.5 * np.cos(0.3), 2.0 * np.sin(0.3), 0.0, 40.0],
        [-1.5 * np.sin(0.3), -2.0 * np.cos(0.3), 0.0, -7.0],
        [0.0, 0.0, 2.5, 11.0],
        [0.0, 0.0, 0.0, 1.0],
    ]
)


def box_mask(affine):
    data = np.zeros((14, 12, 10), np.uint8)
    data[3:9, 4:10, 2:7] = 1
    return Volume(data, affine)


def shift(x, y, z):
    matrix = np.eye(4)
    matrix[:3, 3] = (x, y, z)
    return matrix


@pytest.mark.parametrize("affine", [np.diag([1.0, 2.0, 3.0, 1.0]), OBLIQUE])
def test_box_holds_every_mask_voxel(affine):
    mask = box_mask(affine)
    points = mask.world_from_voxel(np.argwhere(mask.data > 0))
    lower, upper = lung_box(mask)
    assert np.all(points >= lower - 1e-9) and np.all(points <= upper + 1e-9)
    assert np.allclose(lower, points.min(axis=0))


def test_box_of_a_turned_mask_of_any_form_is_that_of_all_its_voxels():
    rng = np.random.default_rng(0)
    mask = Volume((rng.uniform(size=(14, 12, 10)) > 0.97).astype(np.uint8), OBLIQUE)
    matrix = Rotation.from_rotvec([0.3, -0.8, 0.5]).as_matrix()
    points = mask.world_from_voxel(np.argwhere(mask.data > 0)) @ matrix.T
    turn = np.eye(4)
    turn[:3, :3] = matrix
    lower, upper = lung_box(mask, matrix=turn)
    assert np.allclose(lower, points.min(axis=0)) and np.allclose(upper, points.max(axis=0))


def test_box_of_an_empty_mask_is_refused():
    with pytest.raises(ValueError, match="mask: expected lungs, got no voxel above 0"):
        lung_box(Volume(np.zeros((3, 4, 5), np.uint8), np.eye(4)))


def test_the_grid_covers_both_lungs_and_a_margin_after_prealignment():
    fixed = box_mask(np.diag([1.0, 2.0, 3.0, 1.0]))
    moving = Volume(fixed.data, shift(100.0, 0.0, 6.0) @ fixed.affine)
    grid = grid_around_lungs(
        fixed,
        moving,
        shift(100.0, 0.0, 0.0),
        voxels_mm=[(1.0, 1.0, 1.0)],
        config=LungGridConfig((20, 16, 24)),
    )
    low = grid.world_from_voxel(np.array([-0.5, -0.5, -0.5]))
    high = grid.world_from_voxel(np.array(grid.shape) - 0.5)
    lower, upper = lung_box(fixed)
    assert np.allclose(low, lower - 12.0)
    assert np.allclose(high, upper + 12.0 + np.array([0.0, 0.0, 6.0]))


@pytest.mark.parametrize("affine", [np.diag([2.0, 2.0, 2.5, 1.0]), OBLIQUE])
def test_an_image_linear_in_the_world_keeps_its_values_on_another_grid(affine):
    voxels = np.stack(np.meshgrid(*(np.arange(n) for n in (40, 38, 30)), indexing="ij"), axis=-1)
    mask = np.zeros(voxels.shape[:3], np.uint8)
    mask[18:22, 17:20, 13:16] = 1
    world = voxels @ affine[:3, :3].T + affine[:3, 3]
    image = Volume(world @ np.array([1.0, 2.0, -3.0]), affine)
    matrix = shift(1.5, -2.0, 0.5)  # grid world -> image world
    grid = grid_around_lungs(
        Volume(mask, affine),
        Volume(mask, affine),
        np.eye(4),
        voxels_mm=[(1.0, 1.0, 1.0)],
        config=LungGridConfig((23, 19, 21)),
    )
    got = image_on_grid(image, grid, matrix=matrix)
    index = np.stack(np.meshgrid(*(np.arange(n) for n in grid.shape), indexing="ij"), axis=-1)
    expected = (grid.world_from_voxel(index) + [1.5, -2.0, 0.5]) @ np.array([1.0, 2.0, -3.0])
    assert np.allclose(got, expected, atol=1e-2)


def test_values_below_air_are_raised_and_outside_is_air():
    mask = box_mask(np.eye(4))
    image = Volume(np.full(mask.shape, -2000.0, np.float32), np.eye(4))
    grid = grid_around_lungs(
        mask, mask, np.eye(4), voxels_mm=[(1.0, 1.0, 1.0)], config=LungGridConfig((17, 16, 18))
    )
    assert np.all(image_on_grid(image, grid) == AIR_HU)


def test_labels_and_points_agree_with_the_prealignment():
    mask = box_mask(OBLIQUE)
    matrix = shift(30.0, -20.0, 10.0)  # fixed world -> moving world
    moving = Volume(mask.data, matrix @ mask.affine)
    grid = grid_around_lungs(
        mask, moving, matrix, voxels_mm=[(1.0, 1.0, 1.0)], config=LungGridConfig((40, 42, 38))
    )
    labels = labels_on_grid(moving, grid, matrix=matrix)
    assert np.array_equal(labels, labels_on_grid(mask, grid))
    centre = moving.world_from_voxel(np.argwhere(moving.data > 0)).mean(axis=0)
    got = points_on_grid(centre[None], grid, matrix=matrix)[0]
    assert np.allclose(got, np.argwhere(labels > 0).mean(axis=0), atol=0.1)


@pytest.mark.parametrize(
    ("voxels_mm", "index"),
    [
        ([(3.5, 3.5, 3.5), (1.0, 1.0, 1.0)], 0),  # the coarser image counts
        ([(2.0, 2.0, 2.5), (2.0, 2.0, 2.5)], 1),
        ([(0.7, 0.7, 5.0), (2.1, 2.1, 2.1)], 1),
        ([(1.4, 1.4, 2.5), (1.4, 1.4, 2.5)], 2),
        ([(0.2, 0.2, 0.2), (0.2, 0.2, 0.2)], 2),  # the finest there is
    ],
)
def test_the_shape_suits_the_voxels_of_the_images(voxels_mm, index):
    boxes = [np.array([[-140.0, -110.0, 0.0], [135.0, 105.0, 290.0]])]
    config = LungGridConfig()
    grid = grid_around_boxes(boxes, voxels_mm=voxels_mm, config=config)
    assert grid.shape == config.shapes[index]
    given = grid_around_boxes(boxes, voxels_mm=voxels_mm, config=LungGridConfig((17, 19, 23)))
    assert given.shape == (17, 19, 23)
    volume = np.prod(grid.spacing_mm)
    allowed = 0.78**3 * max(np.prod(lengths) for lengths in voxels_mm)
    assert index == 2 or volume <= allowed
    coarser = volume * np.prod(grid.shape) / np.prod(config.shapes[max(index - 1, 0)])
    assert index == 0 or coarser > allowed
