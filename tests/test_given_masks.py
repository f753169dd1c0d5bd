"""Masks that are given in Python on another grid than their image."""

import nibabel
import numpy as np
import pytest

from jaxreg.config import LungGridConfig, RegistrationConfig
from jaxreg.geometry.grid import Grid
from jaxreg.geometry.labels import labels_on_image
from jaxreg.geometry.volume import Volume
from jaxreg.io.notes import FileWarning
from jaxreg.phantom.pair import phantom_pair
from jaxreg.pipeline.judge import registration_of_field
from jaxreg.pipeline.keypoints import match_volumes
from jaxreg.pipeline.masks import masks_on_images
from jaxreg.pipeline.registration import register_volumes
from jaxreg.pipeline.series import register_series
from jaxreg.trust.findings import Finding

pytestmark = pytest.mark.usefixtures("quick_compilation")

CONFIG = RegistrationConfig(grid=LungGridConfig(shape=(48, 40, 48)))


@pytest.fixture(scope="module")
def pair():
    return phantom_pair(3, shape=(48, 40, 44))


@pytest.fixture(scope="module")
def on_grid(pair):
    return register(pair, pair.fixed_labels)


def register(pair, fixed_mask, **more):
    masks = {"fixed_mask": fixed_mask, "moving_mask": pair.moving_labels}
    return register_volumes(
        pair.fixed, pair.moving, method="affine", config=CONFIG, **masks, **more
    )


def reordered(labels):
    """The same voxels with the axes in another order, cropped to what is above 0."""
    image = nibabel.Nifti1Image(labels.data.astype(np.int16), labels.affine)
    box = [np.flatnonzero(np.any(labels.data, axis=other)) for other in ((1, 2), (0, 2), (0, 1))]
    image = image.slicer[tuple(slice(k[0], k[-1] + 1) for k in box)]
    image = image.as_reoriented(np.array([[2, -1], [0, 1], [1, -1]]))
    return Volume(np.asarray(image.dataobj), image.affine)


def halved(labels):
    """Eight voxels for each one: the nearest of them has its label."""
    affine = labels.affine @ np.diag([0.5, 0.5, 0.5, 1.0])
    affine[:3, 3] -= labels.affine[:3, :3] @ (0.25, 0.25, 0.25)
    return Volume(np.kron(labels.data, np.ones((2, 2, 2), labels.data.dtype)), affine)


def beside(labels):
    affine = labels.affine.copy()
    affine[0, 3] += 2000.0
    return Volume(labels.data, affine)


def codes(warnings):
    return [warning["code"] for warning in warnings]


def test_labels_on_another_lattice_take_the_nearest():
    data = np.arange(5 * 4 * 3).reshape(5, 4, 3)
    grid = Grid((4, 6, 5), np.diag([0.7, 0.9, 0.4, 1.0]))
    found, doubt = labels_on_image(Volume(data, np.diag([1.0, 2.0, 1.5, 1.0])), grid, "mask")
    for index in np.ndindex(4, 6, 5):
        nearest = np.rint(np.array(index) * (0.7, 0.9, 0.4) / (1.0, 2.0, 1.5)).astype(int)
        assert found.data[index] == data[tuple(nearest)]
    assert doubt is not None and doubt.startswith("these labels are on another grid than their")


@pytest.mark.parametrize(("change", "noted"), [(reordered, []), (halved, ["other-grid"])])
def test_a_mask_on_another_grid_registers_as_one_on_the_images(pair, on_grid, change, noted):
    note = Finding("sheared-grid", "a.nii: text")
    found = register(pair, change(pair.fixed_labels), notes=[note])
    np.testing.assert_array_equal(found.displacement.data, on_grid.displacement.data)
    assert found.summary["labels"] == on_grid.summary["labels"]
    said = codes(found.warnings)
    assert said == ["sheared-grid", *noted, *codes(on_grid.warnings)]
    if noted:
        text = found.warnings[1]["text"]
        assert text.startswith("fixed_mask: these labels are on another grid than their image")


def test_a_mask_beside_the_image_is_refused(pair):
    with pytest.raises(ValueError, match="fixed_mask: expected labels that overlap with the image"):
        register(pair, beside(pair.fixed_labels))


def test_a_field_is_judged_with_a_mask_on_another_grid(pair, on_grid):
    found = registration_of_field(
        on_grid.displacement,
        *(pair.fixed, pair.moving),
        fixed_mask=pair.fixed_labels,
        moving_mask=halved(pair.moving_labels),
        config=CONFIG,
    )
    assert codes(found.warnings)[0] == "other-grid"
    assert found.warnings[0]["text"].startswith("moving_mask: these labels are on another grid")


@pytest.mark.slow
def test_keypoints_take_such_masks_too(pair):
    masks = pair.fixed_labels, halved(pair.moving_labels)
    with pytest.warns(FileWarning, match="moving_mask: these labels are on another grid") as told:
        points = match_volumes(
            pair.fixed, pair.moving, fixed_mask=masks[0], moving_mask=masks[1], config=CONFIG
        )
    assert [warning.message.code for warning in told] == ["other-grid"]
    same = match_volumes(
        pair.fixed,
        pair.moving,
        fixed_mask=pair.fixed_labels,
        moving_mask=pair.moving_labels,
        config=CONFIG,
    )
    np.testing.assert_array_equal(points.moving, same.moving)


@pytest.mark.slow
def test_a_series_takes_such_masks_too(pair):
    masks = pair.fixed_labels, halved(pair.moving_labels)
    series = register_series([pair.fixed, pair.moving], masks=masks, config=CONFIG)
    assert [note.code for note in series.notes] == ["other-grid"]
    assert series.notes[0].text.startswith("masks[1]: these labels are on another grid")


def test_a_mask_on_the_grid_of_the_other_image_is_refused(pair):
    affine = np.array(pair.moving.affine)
    affine[:3, 3] += (3.3, -2.1, 1.7)
    moving = Volume(pair.moving.data, affine)
    labels = Volume(pair.moving_labels.data, affine)
    for mask in (labels, reordered_whole(labels)):
        with pytest.raises(ValueError, match="fixed_mask: expected labels on the grid of") as told:
            masks_on_images((pair.fixed, moving), (mask, labels))
        text = str(told.value)
        assert f"on the grid of the moving image ({moving.grid}). Give them as those of the" in text
    with pytest.raises(ValueError, match="moving_mask: .* the grid of the fixed image"):
        masks_on_images((pair.fixed, moving), (None, pair.fixed_labels))
    brought, doubts = masks_on_images((pair.fixed, moving), (pair.fixed_labels, labels))
    assert brought == [pair.fixed_labels, labels] and not doubts


def test_images_on_one_grid_may_have_one_mask(pair):
    labels = reordered_whole(pair.fixed_labels)
    brought, doubts = masks_on_images((pair.fixed, pair.fixed), (labels, labels))
    for mask in brought:
        assert mask is not None
        np.testing.assert_array_equal(mask.data, pair.fixed_labels.data)
    assert not doubts


def reordered_whole(labels):
    """The same voxels with the axes in another order."""
    image = nibabel.Nifti1Image(labels.data.astype(np.int16), labels.affine)
    image = image.as_reoriented(np.array([[2, -1], [0, 1], [1, -1]]))
    return Volume(np.asarray(image.dataobj), image.affine)
