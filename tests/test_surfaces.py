"""Distances of surfaces against explicit loops and SimpleITK, on anisotropic random shapes."""

import itertools

import numpy as np
import pytest
from scipy import ndimage

from jaxreg.metrics import surfaces

sitk = pytest.importorskip("SimpleITK")

SPACINGS_MM = [(1.0, 1.1, 2.5), (0.7, 2.0, 1.3)]
SHAPE = (26, 23, 19)


def random_shape(seed, shape=SHAPE):
    """A smooth blob that does not touch the border."""
    noise = np.random.default_rng(seed).standard_normal(shape)
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    bump = 1.0 - 2.2 * sum(axis**2 for axis in axes)
    mask = bump + 1.5 * ndimage.gaussian_filter(noise, 1.5) / 0.08 * 0.3 > 0.3
    mask[[0, -1]] = mask[:, [0, -1]] = mask[:, :, [0, -1]] = False
    return mask


def image(mask, spacing_mm):
    result = sitk.GetImageFromArray(mask.astype(np.uint8).T)
    result.SetSpacing(spacing_mm)
    return result


def surface_loop(mask):
    found = []
    for voxel in np.argwhere(mask):
        for axis, step in itertools.product(range(3), (-1, 1)):
            other = voxel.copy()
            other[axis] += step
            outside = not 0 <= other[axis] < mask.shape[axis]
            if outside or not mask[tuple(other)]:
                found.append(voxel)
                break
    return np.array(found)


@pytest.mark.parametrize("spacing_mm", SPACINGS_MM)
def test_surface_distances_are_the_explicit_loop(spacing_mm):
    a, b = random_shape(0, (9, 8, 7)), random_shape(1, (9, 8, 7))
    a[0, 3:5, 3] = True  # touches the border, which is surface
    points = [surface_loop(mask) * np.array(spacing_mm)[None] for mask in (a, b)]
    expected = [
        [min(np.linalg.norm(p - q) for q in points[1 - i]) for p in points[i]] for i in range(2)
    ]
    found = surfaces.surface_distances(a, b, spacing_mm=spacing_mm)
    for distances, truth in zip(found, expected, strict=True):
        np.testing.assert_allclose(distances, truth)
    pooled = np.concatenate(expected)
    assert surfaces.asd(found) == pytest.approx(pooled.mean())
    assert surfaces.hd(surfaces.surface_distances(a, b, spacing_mm=spacing_mm)) == pytest.approx(
        pooled.max()
    )
    assert surfaces.hd95(found) == pytest.approx(
        max(np.percentile(distances, 95) for distances in expected)
    )


@pytest.mark.parametrize("spacing_mm", SPACINGS_MM)
@pytest.mark.parametrize("seed", [0, 2, 4])
def test_agrees_with_simpleitk(seed, spacing_mm):
    a, b = random_shape(seed), random_shape(seed + 1)
    contours = [
        sitk.BinaryContour(image(mask, spacing_mm), fullyConnected=False) for mask in (a, b)
    ]
    hausdorff = sitk.HausdorffDistanceImageFilter()
    hausdorff.Execute(*contours)
    found = surfaces.surface_distances(a, b, spacing_mm=spacing_mm)
    assert surfaces.hd(found) == pytest.approx(hausdorff.GetHausdorffDistance(), rel=1e-5)
    directed = []
    for i in range(2):  # distance to one surface, read on the other
        distance = sitk.SignedMaurerDistanceMap(
            contours[1 - i], squaredDistance=False, useImageSpacing=True
        )
        on_surface = sitk.GetArrayFromImage(contours[i]).T > 0
        directed.append(np.abs(sitk.GetArrayFromImage(distance).T[on_surface]))
    assert surfaces.asd(found) == pytest.approx(np.concatenate(directed).mean(), rel=1e-5)
    assert surfaces.hd95(found) == pytest.approx(
        max(np.percentile(distances, 95) for distances in directed), rel=1e-5
    )


@pytest.mark.parametrize("axis", range(3))
def test_a_shifted_box_is_off_by_its_shift(axis):
    a = np.zeros(SHAPE, bool)
    a[5:12, 6:14, 4:11] = True
    b = np.roll(a, 2, axis)
    spacing_mm = (1.0, 1.1, 2.5)
    assert surfaces.hd(surfaces.surface_distances(a, b, spacing_mm=spacing_mm)) == pytest.approx(
        2 * spacing_mm[axis]
    )
    assert surfaces.asd(surfaces.surface_distances(a, a, spacing_mm=spacing_mm)) == 0.0


def test_an_empty_mask_is_refused():
    full = random_shape(0)
    with pytest.raises(ValueError, match="b: expected a mask with at least one voxel, got an em"):
        surfaces.surface_distances(full, np.zeros(SHAPE, bool), spacing_mm=(1.0, 1.0, 1.0))
