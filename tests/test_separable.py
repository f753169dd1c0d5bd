import numpy as np
import pytest
from scipy import ndimage

from jaxreg.geometry.grid import Grid
from jaxreg.geometry.resampling import field_on_grid
from jaxreg.geometry.separable import interpolate, parallel_axes

SHAPE = (23, 9, 14)
PARALLEL = np.array([[0, 0.45, 0, -1.2], [0, 0, -0.8, 12.3], [0.37, 0, 0, 0.4], [0, 0, 0, 1.0]])


def test_equals_trilinear_interpolation_along_permuted_and_reversed_axes():
    source = np.random.default_rng(1).normal(size=(2, 6, 13, 9)).astype(np.float32)
    axes = parallel_axes(PARALLEL, SHAPE)
    assert axes == (2, 0, 1)
    found = np.full((2, *SHAPE), np.nan, np.float32)

    def store(planes, values):
        found[:, planes] = values

    interpolate(source, PARALLEL, SHAPE, axes, store)
    places = np.einsum("ij,j...->i...", PARALLEL[:3, :3], np.indices(SHAPE))
    places += PARALLEL[:3, 3, None, None, None]
    for image, values in zip(source, found, strict=True):
        wanted = ndimage.map_coordinates(image, places, order=1, mode="nearest")
        assert np.abs(values - wanted).max() < 1e-5


def test_oblique_axes_are_told():
    turned = PARALLEL.copy()
    turned[0, 0] = 1e-3
    assert parallel_axes(turned, SHAPE) is None
    assert parallel_axes(np.diag([1.0, 1.0, 1e-9, 1.0]), (5, 5, 5)) == (0, 1, 2)


def test_a_source_of_one_voxel_is_constant():
    found = np.zeros((1, 4, 3, 2), np.float32)

    def store(planes, values):
        found[:, planes] = values

    interpolate(np.full((1, 1, 1, 1), 7, np.float32), np.eye(4), (4, 3, 2), (0, 1, 2), store)
    assert np.all(found == 7)


@pytest.mark.parametrize("turn", [0.0, 1e-3])
def test_a_field_is_the_same_on_parallel_and_on_nearly_parallel_grids(turn):
    rng = np.random.default_rng(2)
    source = Grid((10, 8, 9), np.diag([4.0, 5.0, 4.5, 1.0]))
    affine = np.array([[0, -1.5, 0, 33], [1.7, 0, 0, 2], [0, 0, 2.0, 1], [0, 0, 0, 1.0]])
    affine[2, 0] = turn
    grid, u = Grid((17, 19, 16), affine), rng.normal(size=(10, 8, 9, 3)).astype(np.float32)
    matrix = np.eye(4) + rng.normal(scale=0.05, size=(4, 4)) * [[1], [1], [1], [0]]
    field = field_on_grid(u, source, grid, matrix=matrix)
    voxels = np.moveaxis(np.indices(grid.shape), 0, -1).reshape(-1, 3)
    world = grid.world_from_voxel(voxels)
    places = source.voxel_from_world(world).T
    moved = [ndimage.map_coordinates(u[..., c], places, order=1, mode="nearest") for c in range(3)]
    moved = world + np.stack(moved, -1) @ source.affine[:3, :3].T
    wanted = moved @ matrix[:3, :3].T + matrix[:3, 3] - world
    assert np.abs(field.data.reshape(-1, 3) - wanted).max() < 2e-4
