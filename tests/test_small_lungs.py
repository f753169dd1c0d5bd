"""Lungs of any size: what is an adult's in millimetres is a mouse's in tenths of them."""

import numpy as np
import pytest

from jaxreg.config import LungGridConfig, RegistrationConfig
from jaxreg.geometry.volume import Volume
from jaxreg.phantom.pair import phantom_pair
from jaxreg.pipeline.align import align
from jaxreg.pipeline.registration import register_volumes

pytestmark = pytest.mark.usefixtures("quick_compilation")

CONFIG = RegistrationConfig(grid=LungGridConfig(shape=(40, 32, 40)))
MOUSE = 0.08


@pytest.fixture(scope="module")
def pair():
    return phantom_pair(31, shape=(84, 68, 82), moving_shift_mm=(30.0, -20.0, 15.0))


def scaled(volume, factor):
    return Volume(volume.data, np.diag([factor, factor, factor, 1.0]) @ volume.affine)


def arguments(pair, factor):
    names = ("fixed", "moving", "fixed_labels", "moving_labels")
    fixed, moving, *masks = (scaled(getattr(pair, name), factor) for name in names)
    return (fixed, moving), {"fixed_mask": masks[0], "moving_mask": masks[1], "config": CONFIG}


def check_lobes(result, lobes):
    """Measures of lobes are means over their voxels."""
    measures = result.summary["labels"]
    assert list(measures) == ["1", "2", "3", "4", "5"]
    voxel_ml = abs(np.linalg.det(result.fixed.affine[:3, :3])) / 1e3
    for name, lobe in measures.items():
        inside = lobes == int(name)
        assert lobe["ml"] == pytest.approx(voxel_ml * inside.sum())
        assert lobe["quality"] == pytest.approx(result.quality.data[inside].mean(), rel=1e-4)
        assert lobe["measured"] == pytest.approx(np.mean(result.valid.data[inside] == 1))
        determinant = result.jacobian_determinant().data[inside]
        assert lobe["jacobian"] == pytest.approx(determinant.mean(), rel=1e-4)


def test_the_grid_of_a_mouse_is_that_of_an_adult_made_smaller(pair):
    images, options = arguments(pair, MOUSE)
    mouse = align(*images, **options)
    images, options = arguments(pair, 1.0)
    adult = align(*images, **options)
    fractions = [np.mean(p.fixed_lungs > 0) for p in (mouse, adult)]
    # the margin of 12 mm is a larger part of a small child, which a mouse is made as large as
    assert 0.4 * fractions[1] < fractions[0] <= fractions[1]
    assert mouse.prealignment == adult.prealignment == "affine"
    np.testing.assert_allclose(mouse.matrix[:3, :3], adult.matrix[:3, :3], atol=0.02)
    for image, own in zip(mouse.images, images, strict=True):
        assert np.allclose(MOUSE * own.grid.affine[:3, 3], image.grid.affine[:3, 3], atol=0.5)


def test_a_mouse_is_registered_as_well_as_an_adult(pair):
    errors = []
    for factor in (1.0, MOUSE):
        images, options = arguments(pair, factor)
        result = register_volumes(*images, **options)
        moved = result.map_points(factor * pair.fixed_landmarks)
        errors.append(np.linalg.norm(moved / factor - pair.moving_landmarks, axis=1).mean())
        assert result.valid.shape == result.quality.shape == pair.fixed.shape
        inside = result.fixed_mask.data > 0
        assert np.array_equal(inside, pair.fixed_labels.data > 0) or factor == 1.0
        assert set(result.summary["lungs"]) == {"right", "left"}
        assert min(lung["quality"] for lung in result.summary["lungs"].values()) > 0.8
        check_lobes(result, pair.fixed_labels.data)
    assert errors[1] < 1.2 * errors[0] + 0.05
