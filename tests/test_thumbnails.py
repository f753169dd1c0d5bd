"""Thumbnails: upright, in the right units, small; a fold stays visible however coarse they are."""

import numpy as np
import pytest
from nibabel.orientations import apply_orientation, axcodes2ornt, inv_ornt_aff, ornt_transform

from jaxreg.figures.thumbnails import (
    determinant_values,
    image_hu,
    make_thumbnail,
    read_thumbnail,
    write_thumbnail,
)
from jaxreg.geometry.volume import Volume

SHAPE = (40, 32, 30)
SPACING_MM = (2.0, 2.5, 3.0)
EDGES = ((15, 25), (12, 20), (10, 20))  # of the lungs, voxels
IMAGES = ("fixed", "moving", "warped", "determinant", "lungs")


def scene():
    """Volumes in RAS whose HU and determinant are linear in world millimetres."""
    affine = np.diag([*SPACING_MM, 1.0])
    affine[:3, 3] = (-30.0, 10.0, 50.0)
    x, y, z = np.meshgrid(*map(np.arange, SHAPE), indexing="ij")
    mask = np.zeros(SHAPE, np.uint8)
    mask[tuple(slice(*edges) for edges in EDGES)] = 1
    return {
        "fixed": Volume(-900.0 + 10.0 * x, affine),
        "moving": Volume(-900.0 + 10.0 * y, affine),
        "warped": Volume(-900.0 + 10.0 * z, affine),
        "determinant": Volume(0.6 + 0.02 * x, affine),
        "mask": Volume(mask, affine),
    }


def turned(volume, codes):
    change = ornt_transform(axcodes2ornt("RAS"), axcodes2ornt(codes))
    data = apply_orientation(volume.data, change)
    return Volume(data, volume.affine @ inv_ornt_aff(change, volume.shape))


@pytest.mark.parametrize("spacing_mm", [2.5, 4.0])
def test_bytes_stand_for_hu_and_determinants_at_the_right_places(spacing_mm):
    taken = make_thumbnail(**scene(), spacing_mm=spacing_mm)
    # the box is the lungs and 15 mm around them, in voxels of the scan: 7..32, 6..25, 5..24
    low, count = np.array([7, 6, 5]), np.array([26, 20, 20])
    assert taken.lungs.shape == tuple(np.rint(count * SPACING_MM / spacing_mm).astype(int))
    steps = spacing_mm / np.array(SPACING_MM)
    voxel = [low[i] - 0.5 + steps[i] * (np.arange(taken.lungs.shape[i]) + 0.5) for i in range(3)]
    along = np.meshgrid(*voxel, indexing="ij")  # voxels of the scan
    inner = (slice(2, -2),) * 3  # smoothing sees the scan's edge elsewhere
    for name, place in zip(("fixed", "moving", "warped"), along, strict=True):
        found = image_hu(getattr(taken, name))
        np.testing.assert_allclose(found[inner], -900 + 10 * place[inner], atol=1200 / 255 / 2 + 1)
    found = determinant_values(taken.determinant)
    np.testing.assert_allclose(found[inner], 0.6 + 0.02 * along[0][inner], rtol=0.01)
    inside = [(v > e[0] - 0.5) & (v < e[1] - 0.5) for v, e in zip(voxel, EDGES, strict=True)]
    np.testing.assert_array_equal(taken.lungs > 0, np.einsum("i,j,k->ijk", *inside))


@pytest.mark.parametrize("codes", ["LPS", "SAL", "PIR"])
def test_a_thumbnail_does_not_depend_on_how_axes_are_stored(codes):
    expected = make_thumbnail(**scene())
    taken = make_thumbnail(**{name: turned(volume, codes) for name, volume in scene().items()})
    for name in IMAGES:
        difference = getattr(taken, name).astype(int) - getattr(expected, name)
        assert np.abs(difference).max() <= 1, name


def folded():
    """The scene with folds in two voxels, 1-voxel wide, and where they are in world mm."""
    volumes = scene()
    determinant = volumes["determinant"].data.copy()
    determinant[20, 15, 14], determinant[11, 9, 21] = -0.3, 0.0
    return volumes | {"determinant": Volume(determinant, volumes["fixed"].affine)}


@pytest.mark.parametrize("spacing_mm", [1.0, 2.5, 7.0])
def test_a_fold_of_one_voxel_stays_at_any_size(spacing_mm):
    assert (make_thumbnail(**scene()).determinant > 0).all()
    direct = make_thumbnail(**folded(), spacing_mm=spacing_mm)
    at = np.argwhere(direct.determinant == 0)
    expected = (np.array([[11, 9, 21], [20, 15, 14]]) - (7, 6, 5) + 0.5) * SPACING_MM / spacing_mm
    np.testing.assert_allclose(at + 0.5, expected, atol=0.51)
    resized = make_thumbnail(**folded(), spacing_mm=1.0).resized(spacing_mm)
    np.testing.assert_allclose(
        np.argwhere(resized.determinant == 0) + 0.5, expected, atol=0.51 + 0.51 / spacing_mm
    )


def test_resizing_agrees_with_taking_at_that_size():
    expected = make_thumbnail(**scene(), spacing_mm=5.0)
    resized = make_thumbnail(**scene(), spacing_mm=1.0).resized(5.0)
    assert resized.spacing_mm == 5.0
    for name in IMAGES:
        found, wanted = (
            getattr(s, name).astype(int)[1:-1, 1:-1, 1:-1] for s in (resized, expected)
        )
        assert found.shape == wanted.shape and np.abs(found - wanted).max() <= 3, name


def test_extremes_are_clipped_and_coded():
    np.testing.assert_allclose(image_hu(np.array([0, 255], np.uint8)), [-1000, 200], atol=1e-3)
    codes = np.array([0, 1, 128, 255], np.uint8)
    np.testing.assert_allclose(determinant_values(codes), [0, 0.5, 1, 2], rtol=1e-6)
    volumes = scene()
    affine = volumes["fixed"].affine
    volumes["determinant"] = Volume(np.full(SHAPE, 9.0), affine)
    volumes["warped"] = Volume(np.full(SHAPE, 3000.0), affine)
    taken = make_thumbnail(**volumes)
    assert (taken.determinant == 255).all() and (taken.warped == 255).all()


def test_files_hold_all_and_damaged_ones_count_as_missing(tmp_path):
    taken, path = make_thumbnail(**folded()), tmp_path / "a.npz"
    assert read_thumbnail(path) is None
    write_thumbnail(path, taken)
    assert [p.name for p in tmp_path.iterdir()] == ["a.npz"]
    read = read_thumbnail(path)
    assert read.spacing_mm == 2.5
    for name in IMAGES:
        np.testing.assert_array_equal(getattr(read, name), getattr(taken, name))
    whole = path.read_bytes()
    for damaged in (whole[:200], whole[: len(whole) // 2], b"", b"text"):
        path.write_bytes(damaged)
        assert read_thumbnail(path) is None


def test_other_grids_and_empty_masks_are_refused():
    volumes = scene()
    small = Volume(np.ones((4, 5, 6), np.float32), volumes["fixed"].affine)
    with pytest.raises(ValueError, match="fixed and warped: expected one grid, got"):
        make_thumbnail(**volumes | {"warped": small})
    empty = Volume(np.zeros(SHAPE, np.uint8), volumes["fixed"].affine)
    with pytest.raises(ValueError, match="mask: expected lungs, got no voxel above 0"):
        make_thumbnail(**volumes | {"mask": empty})
