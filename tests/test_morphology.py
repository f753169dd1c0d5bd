import numpy as np

from jaxreg.geometry.lung_grid import voxel_box
from jaxreg.geometry.reduction import block_mean
from jaxreg.lungs.morphology import (
    ball,
    close,
    distance_mm,
    labelled,
    largest,
    spread,
)

SPACING = np.array([1.0, 2.0, 1.5])


def test_block_mean_is_the_mean_of_each_block():
    image = np.random.default_rng(0).normal(size=(7, 6, 5)).astype(np.float32)
    reduced = block_mean(image, np.array([3, 1, 2]))
    assert reduced.shape == (3, 6, 3)
    np.testing.assert_allclose(reduced[1, 4, 1], image[3:6, 4, 2:4].mean(), rtol=1e-5)
    np.testing.assert_allclose(reduced[2, 0, 2], image[6, 0, 4], rtol=1e-5)


def two_blocks():
    mask = np.zeros((14, 12, 10), bool)
    mask[2:5, 3:8, 2:7] = mask[8:12, 3:8, 2:7] = True
    return mask


def test_ball_is_measured_in_millimetres():
    element = ball(3.0, SPACING)
    assert element.shape == (7, 3, 5)
    assert element[0, 1, 2] and element[3, 0, 2] and not element[0, 0, 2]


def test_box_holds_the_mask_and_nothing_else():
    mask = two_blocks()
    box = voxel_box(mask)
    assert box == (slice(2, 12), slice(3, 8), slice(2, 7))


def test_largest_keeps_one_component_joined_face_to_face():
    mask = two_blocks()  # of 75 and 100 voxels
    mask[12, 8, 7] = True  # touches the larger one by a corner only
    kept = largest(mask)
    assert kept.dtype == bool and kept.sum() == 100 and kept[8:12, 3:8, 2:7].all()
    assert not largest(np.zeros((4, 5, 6), bool)).any()


def test_distance_and_spread_go_by_millimetres():
    mask = two_blocks()
    outside = np.argwhere(~mask) * SPACING
    place = np.array([10, 5, 4])
    expected = np.linalg.norm(outside - place * SPACING, axis=1).min()
    assert distance_mm(mask, SPACING)[tuple(place)] == expected
    labels = labelled(mask)
    assert set(np.unique(labels)) == {0, 1, 2}
    labels = spread(labels, SPACING)
    assert labels[5, 5, 4] == 1 and labels[7, 0, 9] == 2 and labels.all()


def test_close_fills_gaps_up_to_twice_the_radius_and_holes():
    mask = two_blocks()  # 3 mm apart
    mask[10, 5, 4] = False
    narrow, wide = close(mask, 1.0, SPACING), close(mask, 2.0, SPACING)
    assert narrow[10, 5, 4] and not narrow[6, 5, 4]
    assert wide[6, 5, 4] and not wide[0].any()
    assert not close(np.zeros((4, 5, 6), bool), 2.0, SPACING).any()


def test_only_small_holes_of_slices_are_filled():
    mask = np.zeros((20, 20, 4), bool)
    mask[2:18, 2:18, :3] = True
    mask[4:6, 4:6] = mask[10:15, 10:15] = False  # 4 and 25 voxels of 2 mm2 each
    closed = close(mask, 0.5, SPACING, hole_mm2=20.0)
    assert (
        closed[4:6, 4:6, :3].all() and not closed[10:15, 10:15].any() and not closed[:, :, 3].any()
    )
    assert close(mask, 0.5, SPACING)[10:15, 10:15, :3].all()
