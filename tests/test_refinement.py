import numpy as np
import pytest
from scipy import ndimage

from jaxreg.geometry.refinement import refined, spline

SHAPE = (23, 19, 14)


def smooth_image(seed=0):
    noise = np.random.default_rng(seed).normal(size=SHAPE)
    return ndimage.gaussian_filter(noise, 1.2).astype(np.float32)


def through(image, lattice, shape):
    return refined(spline(image, lattice), lattice, shape)


def oblique(step):
    turn = np.array([[0.96, -0.28, 0.0], [0.28, 0.96, 0.0], [0.0, 0.0, 1.0]])
    lattice = np.eye(4)
    lattice[:3, :3] = turn * step
    lattice[:3, 3] = (6.0, 4.0, 3.0)
    return lattice


@pytest.mark.parametrize("step", [0.7, 0.3])
def test_samples_are_those_of_the_cubic_spline(step):
    image, shape = smooth_image(), (9, 8, 7)
    fine, lattice = through(image, oblique(step), shape)
    indices = np.indices(fine.shape).reshape(3, -1)
    to_image = oblique(step) @ np.linalg.inv(lattice)  # from a sample to a voxel of the image
    places = to_image[:3, :3] @ indices + to_image[:3, 3:]
    corners = np.stack(np.meshgrid(*((0, n - 1) for n in shape), indexing="ij")).reshape(3, -1)
    corners = oblique(step)[:3, :3] @ corners + oblique(step)[:3, 3:]
    least, most = corners.min(axis=1, keepdims=True), corners.max(axis=1, keepdims=True)
    near = np.all((places >= least) & (places <= most), axis=0)
    assert near.sum() > 100
    expected = ndimage.map_coordinates(image, places[:, near], order=3, mode="mirror")
    np.testing.assert_allclose(fine.ravel()[near], expected, atol=5e-4)
    assert np.all(np.diag(to_image)[:3] <= np.maximum(step, 0.5) + 1e-9)


def test_what_another_grid_needs_is_all_there():
    lattice, shape = oblique(0.7), (9, 8, 7)
    fine, to_fine = through(smooth_image(), lattice, shape)
    ends = np.stack(np.meshgrid(*((0, n - 1) for n in shape), indexing="ij"), -1).reshape(-1, 3)
    reached = ends @ to_fine[:3, :3].T + to_fine[:3, 3]
    inside = ends @ lattice[:3, :3].T + lattice[:3, 3]
    inside = np.all((inside >= 0) & (inside <= np.array(SHAPE) - 1), axis=1)
    assert inside.any()
    assert np.all(reached[inside] >= 0) and np.all(reached[inside] <= np.array(fine.shape) - 1)
    coordinates = np.moveaxis(np.indices(shape), 0, -1).reshape(-1, 3)
    linear = ndimage.map_coordinates(
        fine, (coordinates @ to_fine[:3, :3].T + to_fine[:3, 3]).T, order=1, mode="nearest"
    )
    places = (coordinates @ lattice[:3, :3].T + lattice[:3, 3]).T
    near = np.all((places > 3) & (places < np.array(SHAPE)[:, None] - 4), axis=0)
    spline, plain = (
        ndimage.map_coordinates(smooth_image(), places[:, near], order=order, mode="mirror")
        for order in (3, 1)
    )
    error = np.sqrt(np.mean((linear[near] - spline) ** 2))
    assert error < 0.4 * np.sqrt(np.mean((plain - spline) ** 2))


def test_long_steps_and_axes_of_one_voxel_stay():
    image = smooth_image()[:, :, :1]
    fine, lattice = through(image, np.diag([2.0, 1.0, 1.0, 1.0]), (11, 19, 1))
    assert fine.shape == (22, 37, 1)  # one voxel beyond what is needed
    np.testing.assert_allclose(fine[:, ::2], image[:22], atol=1e-6)
    np.testing.assert_array_equal(lattice, np.diag([2.0, 2.0, 1.0, 1.0]))


def test_a_grid_beside_the_image_gets_something():
    beside = np.eye(4)
    beside[:3, 3] = 100.0
    fine, _ = through(smooth_image(), beside, (5, 5, 5))
    assert min(fine.shape) >= 1
