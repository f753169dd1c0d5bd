import numpy as np
import pytest

from jaxreg.config import LungGridConfig, RegistrationConfig
from jaxreg.geometry.grid import Grid
from jaxreg.geometry.reduction import (
    expanded,
    factors_between,
    factors_to,
    reduced,
    reduced_labels,
)
from jaxreg.geometry.volume import Volume
from jaxreg.lungs.pair import labels_of_pair
from jaxreg.phantom.pair import phantom_pair
from jaxreg.pipeline.align import align, working_factors
from jaxreg.pipeline.registration import register_volumes
from jaxreg.training.pairs import prepare

AFFINE = np.array([[0, -0.7, 0, 5], [0.6, 0, 0, -3], [0, 0, -2.0, 9], [0, 0, 0, 1.0]])


@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize("dtype", [np.int16, np.float32])
def test_blocks_are_averaged_where_they_lie(order, dtype):
    rng = np.random.default_rng(3)
    data = np.array(rng.integers(-1000, 1000, (37, 20, 11)), dtype, order=order)
    small = reduced(Volume(data, AFFINE), (2, 3, 1))
    padded = np.pad(data, ((0, 1), (0, 1), (0, 0)), mode="edge").astype(np.float64)
    for i, j, k in ((0, 0, 0), (9, 4, 10), (18, 6, 3)):
        block = padded[2 * i : 2 * i + 2, 3 * j : 3 * j + 3, k]
        assert small.data[i, j, k] == pytest.approx(block.mean(), abs=1e-3)
        centre = AFFINE @ [2 * i + 0.5, 3 * j + 1, k, 1]
        assert small.world_from_voxel(np.array([i, j, k])) == pytest.approx(centre[:3])


def test_labels_keep_their_numbers_and_come_back():
    labels = np.zeros((8, 6, 9), np.int32)
    labels[2:6, 2:4, 3:9] = 30_000_001
    small = reduced_labels(Volume(labels, AFFINE), (2, 2, 3))
    assert small.data.dtype == np.int32
    back = expanded(small, Volume(labels, AFFINE).grid)
    assert np.array_equal(back.data, labels)


def test_only_fine_and_large_grids_are_reduced():
    def factors(shape, *spacing):
        return working_factors(Grid(shape, np.diag([*spacing, 1.0])), RegistrationConfig().grid)

    assert factors((512, 512, 400), 0.6, 0.6, 0.6) == (2, 2, 2)
    assert factors((512, 512, 60), 0.7, 0.7, 5.0) == (2, 2, 1)
    assert factors((226, 187, 127), 1.4, 1.4, 2.5) == (1, 1, 1)
    assert factors((1024, 1024, 900), 0.3, 0.3, 0.5) == (5, 5, 3)
    assert factors((300, 300, 500), 0.05, 0.05, 0.05) == (1, 1, 2)  # a mouse
    assert factors_to(Grid((9, 9, 9), np.eye(4)), 50.0, least=4) == (2, 2, 2)


@pytest.mark.slow
def test_a_reduced_pair_ends_where_the_pair_does():
    def config(working_mm):
        return RegistrationConfig(grid=LungGridConfig(shape=(48, 40, 48), working_mm=working_mm))

    pair = phantom_pair(4, shape=(112, 96, 108), spacing_mm=(2.8, 2.8, 2.8))
    aligned = align(pair.fixed, pair.moving, config=config(5.6))
    assert aligned.images[0].shape == (56, 48, 54)
    errors = []
    for working_mm in (0.1, 5.6):
        result = register_volumes(pair.fixed, pair.moving, config=config(working_mm))
        assert result.fixed_mask.shape == result.valid.shape == pair.fixed.shape
        points = result.map_points(pair.fixed_landmarks)
        errors.append(np.linalg.norm(points - pair.moving_landmarks, axis=1).mean())
        lungs, found = pair.fixed_labels.data > 0, result.fixed_mask.data > 0
        assert 2 * (lungs & found).sum() / (lungs.sum() + found.sum()) > 0.95
    assert errors[1] < errors[0] + 0.2 and errors[0] < 2.0, errors  # mm


def test_labels_of_a_fine_scan_are_trained_on():
    pair = phantom_pair(4, shape=(72, 60, 68))
    small = np.diag([0.12, 0.12, 0.12, 1.0])  # voxels below a millimetre, and a tiny chest
    scans = [
        Volume(volume.data, small @ volume.affine)
        for volume in (pair.fixed, pair.moving, pair.fixed_labels, pair.moving_labels)
    ]
    points = [small[0, 0] * p for p in (pair.fixed_landmarks, pair.moving_landmarks)]
    assert max(working_factors(scans[0].grid, LungGridConfig(shape=(24, 16, 24)))) > 1
    prepared = prepare(*scans, (points[0], points[1]), grid=(24, 16, 24))
    fixed, moving = prepared.fixed_labels > 0, prepared.moving_labels > 0
    assert 2 * (fixed & moving).sum() / (fixed.sum() + moving.sum()) > 0.8


def test_lobes_keep_their_numbers_when_they_are_reduced():
    pair = phantom_pair(4, shape=(72, 60, 68))
    config = RegistrationConfig(grid=LungGridConfig(shape=(24, 24, 24), working_mm=12.0))
    lobes = (pair.fixed_labels, pair.moving_labels)
    aligned = align(
        pair.fixed, pair.moving, fixed_mask=lobes[0], moving_mask=lobes[1], config=config
    )
    given = [
        reduced_labels(labels, factors_between(labels.grid, image.grid))
        for labels, image in zip(lobes, aligned.images, strict=True)
    ]
    for labels, image in zip(labels_of_pair(*given, aligned.masks), aligned.images, strict=True):
        assert labels.shape == image.shape != pair.fixed.shape
        assert set(np.unique(labels.data)) == set(range(6))


def test_an_image_of_integers_that_is_not_reduced_becomes_floating():
    image = Volume(np.arange(60, dtype=np.int16).reshape(3, 4, 5), np.eye(4))
    found = reduced(image, (1, 1, 1))
    assert found.data.dtype == np.float32
    np.testing.assert_array_equal(found.data, image.data)
