"""MetaImage, NRRD and DICOM, and the choice of a reader by the name."""

import builtins

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from jaxreg.io import images as reading
from jaxreg.io import itk

SHAPE = (7, 6, 5)
SPACING = (0.9, 1.1, 2.5)


@pytest.fixture
def image():
    """An oblique int16 image."""
    values = np.random.default_rng(0).integers(-1000, 400, SHAPE).astype(np.int16)
    image = sitk.GetImageFromArray(np.ascontiguousarray(values.T))
    image.SetSpacing(SPACING)
    image.SetOrigin((-12.5, 30.0, -100.0))
    c, s = np.cos(0.2), np.sin(0.2)
    image.SetDirection((c, -s, 0, s, c, 0, 0, 0, -1))
    return image


def assert_same(volume, image):
    assert volume.shape == image.GetSize()
    for index in [(0, 0, 0), (6, 0, 0), (1, 5, 2), (3, 2, 4)]:
        assert volume.data[index] == image[index]
        lps = np.array(image.TransformIndexToPhysicalPoint(index))
        np.testing.assert_allclose(
            volume.world_from_voxel(np.array(index)), lps * (-1, -1, 1), atol=1e-4
        )


@pytest.mark.parametrize("name", ["a.mha", "a.mhd", "a.nrrd", "a.nhdr", "a.nii.gz", "a.nii"])
def test_every_format_gives_the_same_volume(tmp_path, image, name):
    sitk.WriteImage(image, str(tmp_path / name))
    volume = reading.read_image(tmp_path / name)
    assert volume.data.dtype == np.float32
    assert_same(volume, image)
    assert reading.read_grid(tmp_path / name).matches(volume.grid)


def write_dicom(folder, image, *, series="1.2.3.4", slope=1.0, positions=None, first=0):
    """One file a slice, as a scanner writes them."""
    folder.mkdir(exist_ok=True)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    direction = np.reshape(image.GetDirection(), (3, 3))
    for k in range(image.GetSize()[2]):
        corner = (
            image.TransformIndexToPhysicalPoint((0, 0, k)) if positions is None else positions[k]
        )
        part = image[:, :, k]
        tags = {
            "0008|0060": "CT",
            "0020|000d": "1.2.3",
            "0020|000e": series,
            "0008|0018": f"{series}.{first + k}",
            "0020|0013": str(first + k),
            "0020|0032": "\\".join(f"{x:.5f}" for x in corner),
            "0020|0037": "\\".join(f"{x:.9f}" for x in direction[:, :2].T.ravel()),
            "0028|1052": "-1024",
            "0028|1053": str(slope),
        }
        for tag, value in tags.items():
            part.SetMetaData(tag, value)
        writer.SetFileName(str(folder / f"{series}-{first + k:03d}.dcm"))
        writer.Execute(part)
    return folder


def test_dicom_folder(tmp_path, image):
    folder = write_dicom(tmp_path / "scan", image)
    (folder / "README.txt").write_text("not a slice", encoding="utf-8")
    volume = reading.read_image(folder)
    np.testing.assert_allclose(volume.spacing_mm, SPACING, atol=1e-4)
    world = [
        volume.voxel_from_world(np.array(image.TransformIndexToPhysicalPoint(i)) * (-1, -1, 1))
        for i in [(0, 0, 0), (2, 3, 4)]
    ]
    # ITK may stack the slices from the other end: compare at world positions
    for voxel, index in zip(world, [(0, 0, 0), (2, 3, 4)], strict=True):
        assert volume.data[tuple(voxel.round().astype(int))] == pytest.approx(image[index], abs=0.5)
    assert reading.read_grid(folder).matches(volume.grid)


def test_dicom_folder_without_or_with_two_series(tmp_path, image):
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match="none: expected one DICOM series, got none"):
        reading.read_image(tmp_path / "none")
    write_dicom(tmp_path / "two", image)
    write_dicom(tmp_path / "two", image, series="1.2.3.5")
    with pytest.raises(ValueError, match=r"got 1\.2\.3\.4.* \(5 files\), 1\.2\.3\.5.* \(5 files\)"):
        reading.read_image(tmp_path / "two")


def test_dicom_with_a_missing_slice(tmp_path, image):
    folder = write_dicom(tmp_path / "scan", image)
    sorted(folder.iterdir())[2].unlink()
    with pytest.raises(ValueError, match="evenly spaced slices, got distances from 2.5 to 5 mm"):
        reading.read_image(folder)


def test_dicom_with_a_tilted_gantry(tmp_path, image):
    image.SetDirection(np.eye(3).ravel().tolist())
    positions = [(0.0, 0.4 * k, 2.5 * k) for k in range(5)]
    folder = write_dicom(tmp_path / "scan", image, positions=positions)
    with pytest.raises(ValueError, match=r"stacked along their normal, got a tilt of 9\.1 degrees"):
        reading.read_image(folder)


@pytest.mark.parametrize("kind", ["slice", "two slices", "series", "vector"])
def test_refuses_what_is_not_one_3d_image(tmp_path, image, kind):
    other = {
        "slice": image[:, :, 0],
        "two slices": image[:, :, :1],
        "series": sitk.JoinSeries([image, image]),
        "vector": sitk.Compose([image, image]),
    }[kind]
    sitk.WriteImage(other, str(tmp_path / "a.mha"))
    for read in (reading.read_image, reading.read_grid):
        with pytest.raises(
            ValueError, match=r"a\.mha: expected a 3-D image with one number per voxel"
        ):
            read(tmp_path / "a.mha")


def test_refuses_missing_broken_and_unknown_files(tmp_path, image):
    with pytest.raises(FileNotFoundError, match=r"a\.mha: expected an image, got no such file"):
        reading.read_image(tmp_path / "a.mha")
    (tmp_path / "b.mha").write_text("hello\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"b\.mha: expected a complete image file, got 'Unable to"):
        reading.read_image(tmp_path / "b.mha")
    sitk.WriteImage(image, str(tmp_path / "c.nrrd"))
    whole = (tmp_path / "c.nrrd").read_bytes()
    (tmp_path / "c.nrrd").write_bytes(whole[:-100])
    with pytest.raises(ValueError, match=r"c\.nrrd: expected a complete image file, got") as info:
        reading.read_image(tmp_path / "c.nrrd")
    assert "\n" not in str(info.value)
    with pytest.raises(
        ValueError, match=r"d\.png: expected a file ending in \.nii, .* got '\.png'"
    ):
        reading.read_image(tmp_path / "d.png")


def test_values_that_are_not_finite_name_the_file(tmp_path):
    values = np.full((5, 6, 7), np.nan, np.float32)
    sitk.WriteImage(sitk.GetImageFromArray(values), str(tmp_path / "a.mha"))
    with pytest.raises(ValueError, match=r"a\.mha: data: expected finite values"):
        reading.read_image(tmp_path / "a.mha")


def test_without_simpleitk_the_extra_is_named(tmp_path, image, monkeypatch):
    sitk.WriteImage(image, str(tmp_path / "a.mha"))
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "SimpleITK":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    for read in (itk.read_volume, itk.read_grid):
        with pytest.raises(
            ImportError, match=r"a\.mha: .* Install it with: pip install 'jaxreg\[itk\]'"
        ):
            read(tmp_path / "a.mha")


def test_labels_are_whole_numbers(tmp_path):
    labels = np.random.default_rng(0).integers(0, 6, SHAPE).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(labels, np.eye(4)), tmp_path / "a.nii.gz")
    read = reading.read_labels(tmp_path / "a.nii.gz")
    assert read.data.dtype == np.int32
    np.testing.assert_array_equal(read.data, labels)
    labels[1, 2, 3] = 2.5
    nibabel.save(nibabel.Nifti1Image(labels, np.eye(4)), tmp_path / "a.nii.gz")
    with pytest.raises(ValueError, match=r"a\.nii\.gz: expected whole numbers .* got 2\.5"):
        reading.read_labels(tmp_path / "a.nii.gz")


@pytest.fixture
def vectors(image):
    """A field of LPS vectors on the oblique grid."""
    values = np.random.default_rng(1).normal(0, 4, (*SHAPE, 3))
    field = sitk.GetImageFromArray(np.ascontiguousarray(values.transpose(2, 1, 0, 3)), True)
    field.CopyInformation(image)
    return field


@pytest.mark.parametrize("name", ["1.mha", "1.mhd", "1.nrrd", "1.nii.gz", "1.nii"])
def test_a_field_maps_points_as_itk_does(tmp_path, vectors, name):
    path = tmp_path / name
    sitk.WriteImage(sitk.Cast(vectors, sitk.sitkVectorFloat32), str(path))
    assert reading.find_displacement(tmp_path, "1") == path
    field = reading.read_displacement(path)
    transform = sitk.DisplacementFieldTransform(sitk.Image(vectors))  # takes its image away
    for index in [(1.0, 2.0, 3.0), (2.5, 3.25, 1.5)]:
        lps = np.array(vectors.TransformContinuousIndexToPhysicalPoint(index))
        expected = np.array(transform.TransformPoint(lps)) * (-1, -1, 1)
        (found,) = field.transform_points((lps * (-1, -1, 1))[None])
        np.testing.assert_allclose(found, expected, atol=1e-4)


def test_fields_that_are_none_are_refused(tmp_path, image, vectors):
    sitk.WriteImage(image, str(tmp_path / "a.mha"))
    with pytest.raises(ValueError, match="a.mha: expected a displacement field, three numbers"):
        reading.read_displacement(tmp_path / "a.mha")
    with pytest.raises(FileNotFoundError, match="expected one displacement field b .* got none"):
        reading.find_displacement(tmp_path, "b")
    sitk.WriteImage(image, str(tmp_path / "a.nrrd"))
    with pytest.raises(FileNotFoundError, match=r"got a\.mha, a\.nrrd"):
        reading.find_displacement(tmp_path, "a")
