import numpy as np
import pytest
from thorax import thorax

from jaxreg.geometry.volume import Volume
from jaxreg.lungs.pair import labels_of_pair, lungs_of_pair
from jaxreg.lungs.segmentation import lung_mask


@pytest.fixture(scope="module")
def image():
    return thorax()[0]


@pytest.fixture(scope="module")
def lungs(image):
    return lung_mask(image)


def numbered(lungs, right, left):
    """The lungs with other numbers."""
    data = np.select([lungs.data == 1, lungs.data == 2], [right, left], 0)
    return Volume(data.astype(np.int16), lungs.affine)


def halved(lungs, numbers):
    """Each lung in an upper and a lower half: numbers of right upper, lower, left upper, lower."""
    upper = np.indices(lungs.shape)[2] > np.argwhere(lungs.data > 0)[:, 2].mean()
    right, left = lungs.data == 1, lungs.data == 2
    parts = [right & upper, right & ~upper, left & upper, left & ~upper]
    return Volume(np.select(parts, numbers, 0).astype(np.int16), lungs.affine)


def test_masks_that_are_missing_are_found(image, lungs):
    for found in lungs_of_pair(image, image):
        np.testing.assert_array_equal(found.data, lungs.data)


@pytest.mark.parametrize("numbers", [(1, 2), (2, 3), (20, 30), (2, 1), (255, 255), (1, 1)])
def test_sides_are_told_by_position_whatever_the_numbers(image, lungs, numbers):
    for found in lungs_of_pair(image, image, fixed_mask=numbered(lungs, *numbers)):
        assert found.data.dtype == np.uint8
        np.testing.assert_array_equal(found.data, lungs.data)


@pytest.mark.parametrize("numbers", [(1, 2, 4, 5), (10, 11, 13, 14), (5, 4, 2, 1)])
def test_lobes_count_as_their_lung(image, lungs, numbers):
    for found in lungs_of_pair(image, image, moving_mask=halved(lungs, numbers)):
        np.testing.assert_array_equal(found.data, lungs.data)


@pytest.mark.parametrize("side", [1, 2])
def test_one_lung_alone_keeps_its_side(image, lungs, side):
    mask = Volume((lungs.data == side).astype(np.uint8), lungs.affine)
    found, _ = lungs_of_pair(image, image, fixed_mask=mask)
    np.testing.assert_array_equal(found.data, np.where(mask.data > 0, side, 0))


def test_sides_are_those_of_the_patient_in_any_order_of_axes(image, lungs):
    def turned(volume):
        affine = volume.affine @ np.array(
            [[0, 0, -1, volume.shape[0] - 1], [1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1.0]]
        )
        return Volume(np.moveaxis(volume.data[::-1], 0, 2), affine)

    mask = turned(numbered(lungs, 7, 7))
    found, _ = lungs_of_pair(turned(image), image, fixed_mask=mask)
    np.testing.assert_array_equal(found.data, turned(lungs).data)


def test_labels_of_one_source_stay_and_are_numbered_from_one(lungs):
    lobes = halved(lungs, (10, 11, 13, 14))
    for labels in labels_of_pair(lobes, lobes, (lungs, lungs)):
        np.testing.assert_array_equal(labels.data, halved(lungs, (1, 2, 3, 4)).data)


@pytest.mark.parametrize("moving", [(1, 2, 4, 5), (13, 14, 10, 11), None])
def test_labels_of_two_sources_become_right_and_left(lungs, moving):
    lobes = halved(lungs, (10, 11, 13, 14))
    other = None if moving is None else halved(lungs, moving)
    for labels in labels_of_pair(lobes, other, (lungs, lungs)):
        np.testing.assert_array_equal(labels.data, lungs.data)


def test_where_one_image_shows_one_lung_both_have_either(lungs):
    right = Volume(np.where(lungs.data == 1, 1, 0).astype(np.uint8), lungs.affine)
    fixed, moving = labels_of_pair(right, lungs, (right, lungs))
    np.testing.assert_array_equal(fixed.data, right.data)
    np.testing.assert_array_equal(moving.data, lungs.data > 0)


def test_what_is_wrong_is_named(image):
    empty = Volume(np.zeros(image.shape, np.uint8), image.affine)
    with pytest.raises(ValueError, match="^moving_mask: expected lungs, got no voxel above 0"):
        lungs_of_pair(image, image, fixed_mask=None, moving_mask=empty)
    water = Volume(np.where(image.data > -900, 0, image.data), image.affine)
    with pytest.raises(ValueError, match="^moving: volume: expected a chest CT"):
        lungs_of_pair(image, water)
