"""EMPIRE10 in the challenge's layout, written with SimpleITK, and the submission read with it."""

import numpy as np
import pytest

from jaxreg.datasets import empire10
from jaxreg.geometry.volume import DisplacementField

sitk = pytest.importorskip("SimpleITK")

SHAPE, SPACING_MM = (7, 6, 5), (0.7, 0.8, 1.25)
MOVING_SHAPE, MOVING_SPACING_MM = (8, 5, 6), (0.75, 0.7, 1.0)


def write(path, data, spacing_mm):
    """An array (X, Y, Z) as MetaImage with the origin at 0, as the challenge's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(data.transpose(2, 1, 0))
    image.SetSpacing(spacing_mm)
    sitk.WriteImage(image, str(path))


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for name, shape, spacing_mm in (
        ("Fixed", SHAPE, SPACING_MM),
        ("Moving", MOVING_SHAPE, MOVING_SPACING_MM),
    ):
        for pair in ("01", "07"):
            ct = rng.integers(-1000, 100, shape).astype(np.int16)
            mask = (rng.random(shape) > 0.4).astype(np.uint8)
            nested = tmp_path / "download"
            write(nested / "scans" / f"{pair}_{name}.mhd", ct, spacing_mm)
            write(nested / "lungMasks" / f"{pair}_{name}.mhd", mask, spacing_mm)
    return tmp_path


def test_reads_scans_and_masks_at_any_depth(folder):
    pairs = empire10.find_pairs(folder)
    assert [pair.id for pair in pairs] == ["01", "07"]
    loaded = pairs[1].load()
    assert loaded.fixed.shape == SHAPE and loaded.moving.shape == MOVING_SHAPE
    assert loaded.fixed.spacing_mm == pytest.approx(SPACING_MM)
    expected = sitk.ReadImage(str(folder / "download" / "scans" / "07_Moving.mhd"))
    assert loaded.moving.data[6, 2, 4] == expected[6, 2, 4]
    assert set(np.unique(loaded.moving_mask.data)) == {0, 1}
    assert loaded.fixed_labels is None and loaded.landmarks is None


def test_own_references_lie_beside(folder):
    write(folder / "lobes" / "01_Fixed.mhd", np.ones(SHAPE, np.uint8), SPACING_MM)
    write(folder / "lobes" / "01_Moving.mhd", np.ones(MOVING_SHAPE, np.uint8), MOVING_SPACING_MM)
    (folder / "landmarks").mkdir()
    header = "# space: LPS\nfixed_x,fixed_y,fixed_z,moving_x,moving_y,moving_z\n"
    (folder / "landmarks" / "01.csv").write_text(f"{header}1,2,3,2,2,3\n", encoding="utf-8")
    loaded = empire10.find_pairs(folder)[0].load()
    assert loaded.fixed_labels.data.min() == 1
    np.testing.assert_allclose(loaded.landmarks.fixed, [[-1, -2, 3]])


def test_submission_follows_the_challenges_reading(folder, tmp_path):
    """The steps of the page "Deformation Field Interpretation" lead to the moving voxel."""
    loaded = empire10.find_pairs(folder)[0].load()
    data = np.random.default_rng(1).normal(0, 3, (*SHAPE, 3)).astype(np.float32)
    field = DisplacementField(data, loaded.fixed.affine)
    empire10.write_submission(tmp_path / "out", "01", field, loaded.moving.grid)
    names = {path.name for path in (tmp_path / "out" / "01").iterdir()}
    assert names == {f"def{axis}.{ending}" for axis in "XYZ" for ending in ("mhd", "raw")}
    images = [sitk.ReadImage(str(tmp_path / "out" / "01" / f"def{axis}.mhd")) for axis in "XYZ"]
    for image in images:
        assert image.GetPixelID() == sitk.sitkFloat32 and image.GetSize() == SHAPE
        assert image.GetSpacing() == pytest.approx(SPACING_MM)
        assert image.GetOrigin() == (0, 0, 0)
        assert image.GetDirection() == (1, 0, 0, 0, 1, 0, 0, 0, 1)
    for voxel in [(0, 0, 0), (6, 5, 4), (2, 3, 1)]:
        def_mm = np.array([image[voxel] for image in images])
        physical_moving = np.array(voxel) * SPACING_MM + def_mm
        moving_voxel = physical_moving / MOVING_SPACING_MM
        world = loaded.fixed.world_from_voxel(np.array(voxel)) + data[voxel]
        expected = loaded.moving.voxel_from_world(world)
        np.testing.assert_allclose(moving_voxel, expected, atol=1e-4)
        # with the origin at 0 and no rotation these are ITK's own vectors: LPS mm
        np.testing.assert_allclose(def_mm, data[voxel] * [-1, -1, 1], atol=1e-4)


def test_what_is_missing_says_where_to_get_it(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="scans/01_.*Register at https://empire10"):
        empire10.find_pairs(tmp_path / "nowhere")
    (folder / "download" / "scans" / "07_Moving.mhd").unlink()
    (folder / "download" / "lungMasks" / "07_Moving.mhd").unlink()
    with pytest.raises(FileNotFoundError, match="expected scans/07_Moving.mhd of EMPIRE10"):
        empire10.find_pairs(folder)


def test_two_files_of_one_role_are_refused(folder):
    write(folder / "copy" / "01_Fixed.mhd", np.ones(SHAPE, np.uint8), SPACING_MM)
    with pytest.raises(ValueError, match="expected one fixed of pair 01, got .*copy"):
        empire10.find_pairs(folder)
