import numpy as np
import pytest
from thorax import thorax

from jaxreg.geometry.volume import Volume
from jaxreg.lungs.pair import lungs_of_pair
from jaxreg.lungs.segmentation import lung_mask


@pytest.fixture(scope="module")
def image():
    return thorax()[0]


def test_masks_that_are_missing_are_found(image):
    for found in lungs_of_pair(image, image):
        np.testing.assert_array_equal(found.data, lung_mask(image).data)


def test_masks_given_keep_their_labels(image):
    given = lung_mask(image)
    lungs = lungs_of_pair(image, image, fixed_mask=given, moving_mask=given)
    assert lungs == (given, given)


@pytest.mark.parametrize("name", ["fixed_mask", "moving_mask"])
def test_a_mask_of_one_label_leaves_none_to_tell_right_from_left(image, name):
    found = lung_mask(image)
    one = Volume(np.where(found.data > 0, 7, 0).astype(np.int16), found.affine)
    for lungs in lungs_of_pair(image, image, **{name: one}):
        assert lungs.data.dtype == np.uint8
        np.testing.assert_array_equal(lungs.data, found.data > 0)


def test_what_is_wrong_is_named(image):
    empty = Volume(np.zeros(image.shape, np.uint8), image.affine)
    with pytest.raises(ValueError, match="^moving_mask: expected lungs, got no voxel above 0"):
        lungs_of_pair(image, image, fixed_mask=None, moving_mask=empty)
    water = Volume(np.where(image.data > -900, 0, image.data), image.affine)
    with pytest.raises(ValueError, match="^moving: volume: expected a chest CT"):
        lungs_of_pair(image, water)
