"""DICOM: every voxel lies where ImagePositionPatient says, whatever was done to the files."""

import builtins
import re
import shutil

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from dicom_data import (
    SHAPE,
    SPACING,
    SUPINE,
    compress,
    stored_values,
    write_enhanced,
    write_series,
    write_slice,
)

from jaxreg.io import images
from jaxreg.io.notes import FileWarning

EVEN = np.array([(-12.5, 30.0, -100 + 2.5 * k) for k in range(SHAPE[2])])


def assert_voxels(volume, positions, stored=None, *, directions=SUPINE, hu=None):
    """Each voxel of each slice is in the volume at its world position, within 0.01 mm."""
    stored = stored_values() if stored is None else stored
    hu = stored - 1024.0 if hu is None else hu
    assert sorted(volume.shape) == sorted(stored.shape)
    column, row = np.reshape(directions, (2, 3)) / 1.0
    for k, corner in enumerate(positions):
        i, j = np.meshgrid(*(np.arange(n) for n in SHAPE[:2]), indexing="ij")
        world = corner + i[..., None] * column * SPACING[0] + j[..., None] * row * SPACING[1]
        voxels = volume.voxel_from_world(world * (-1, -1, 1))
        nearest = np.rint(voxels).astype(int)
        apart = volume.world_from_voxel(nearest) - world * (-1, -1, 1)
        assert np.linalg.norm(apart, axis=-1).max() < 0.01
        np.testing.assert_allclose(volume.data[tuple(np.moveaxis(nearest, -1, 0))], hu[..., k])


OBLIQUE = (0.96, 0.28, 0, -0.28 * 0.8, 0.96 * 0.8, 0.6)
ORIENTATIONS = {
    "head first supine": SUPINE,
    "head first prone": (-1, 0, 0, 0, -1, 0),
    "feet first supine": (-1, 0, 0, 0, 1, 0),
    "decubitus left": (0, 1, 0, -1, 0, 0),
    "decubitus right": (0, -1, 0, 1, 0, 0),
    "coronal": (1, 0, 0, 0, 0, -1),
    "oblique": OBLIQUE,
}


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("upwards", [True, False])
def test_orientations(tmp_path, orientation, upwards):
    directions = np.array(ORIENTATIONS[orientation], float)
    normal = np.cross(directions[:3], directions[3:]) * (1 if upwards else -1)
    positions = (-12.5, 30.0, -100.0) + 2.5 * np.arange(5)[:, None] * normal
    folder = write_series(tmp_path / "scan", positions, directions=directions)
    (folder / "README.txt").write_text("not a slice", encoding="utf-8")
    volume = images.read_image(folder)
    assert_voxels(volume, positions, directions=directions)
    np.testing.assert_allclose(volume.spacing_mm, (*SPACING, 2.5), atol=1e-6)
    assert images.read_grid(folder).matches(volume.grid)
    assert np.linalg.det(volume.affine[:3, :3]) > 0


def test_the_world_is_that_of_simpleitk(tmp_path):
    folder = write_series(tmp_path / "scan", EVEN)
    names = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))
    theirs, ours = sitk.ReadImage(names), images.read_image(folder)
    for index in [(0, 0, 0), (6, 1, 2), (3, 5, 4)]:
        world = np.array(theirs.TransformIndexToPhysicalPoint(index)) * (-1, -1, 1)
        voxel = np.rint(ours.voxel_from_world(world)).astype(int)
        np.testing.assert_allclose(ours.world_from_voxel(voxel), world, atol=0.01)
        assert ours.data[tuple(voxel)] == theirs[index]


@pytest.mark.parametrize("degrees", [0.2, 0.45, 9.1, -25])
def test_a_tilted_gantry_gives_a_sheared_grid(tmp_path, degrees):
    positions = EVEN + np.arange(5)[:, None] * (0, 2.5 * np.tan(np.radians(degrees)), 0)
    volume = images.read_image(write_series(tmp_path / "scan", positions))
    assert_voxels(volume, positions)
    np.testing.assert_allclose(volume.affine[1, 2], -2.5 * np.tan(np.radians(degrees)), atol=1e-6)


@pytest.mark.parametrize("between", [-2.5, 2.5, 99.0])
def test_spacing_between_slices_is_that_of_their_positions(tmp_path, between):
    folder = write_series(tmp_path / "scan", EVEN, SpacingBetweenSlices=between, SliceThickness=5)
    assert_voxels(images.read_image(folder), EVEN)


def test_each_slice_has_its_own_rescale(tmp_path):
    stored, slopes = stored_values(), [1.0, 0.5, 2.0, 1.25, 0.75]
    folder = tmp_path / "scan"
    folder.mkdir()
    for k, position in enumerate(EVEN):
        more = {"uid": f"1.2.{k}", "slope": slopes[k], "intercept": -1000 - k}
        write_slice(folder / f"{k}.dcm", stored[..., k], position, **more)
    volume = images.read_image(folder)
    assert_voxels(volume, EVEN, hu=stored * np.array(slopes) - 1000 - np.arange(5))


def test_a_slice_without_the_rescale_of_the_others_is_refused(tmp_path):
    folder = write_series(tmp_path / "scan", EVEN)
    for path in sorted(folder.iterdir())[2:4]:
        dataset = pydicom.dcmread(path)
        del dataset.RescaleSlope, dataset.RescaleIntercept
        dataset.save_as(path)
    text = (
        "RescaleSlope and RescaleIntercept in all slices, got none in 2 of 5, such as 1.2.3.4-003"
    )
    with pytest.raises(ValueError, match=f"scan: expected {text}"):
        images.read_image(folder)


@pytest.mark.parametrize("slopes", [None, [1.0, 0.5, 2.0, 1.25, 0.75]])
@pytest.mark.parametrize("order", [[0, 1, 2, 3, 4], [3, 0, 4, 1, 2]])
def test_enhanced_multi_frame(tmp_path, slopes, order):
    stored = write_enhanced(tmp_path / "scan.dcm", EVEN[order], slopes=slopes)
    hu = stored * np.array([1.0] * 5 if slopes is None else slopes) - 1024
    for path in (tmp_path / "scan.dcm", tmp_path):
        assert_voxels(images.read_image(path), EVEN[order], hu=hu)


@pytest.mark.parametrize(
    "syntax", ["RLELossless", "JPEG2000Lossless", "JPEGLosslessSV1", "JPEGLSLossless"]
)
def test_compressed_pixels(tmp_path, syntax):
    folder = write_series(tmp_path / "scan", EVEN)
    for path in folder.iterdir():
        compress(path, syntax)
        assert pydicom.dcmread(path).file_meta.TransferSyntaxUID.is_compressed
    assert_voxels(images.read_image(folder), EVEN)


def test_duplicates_are_told_and_used_once(tmp_path):
    folder = write_series(tmp_path / "scan", EVEN)
    shutil.copy(folder / "1.2.3.4-002.dcm", folder / "copy.dcm")
    stored = stored_values()
    write_slice(folder / "resent.dcm", stored[..., 3], EVEN[3], uid="9.9")
    with pytest.warns(FileWarning, match="2 slices are there twice; one of each is used") as told:
        volume = images.read_image(folder)
    assert told[0].message.code == "duplicate-slices"
    assert_voxels(volume, EVEN)


def test_two_phases_in_one_series_are_refused(tmp_path):
    folder = write_series(tmp_path / "scan", EVEN)
    write_series(folder, EVEN, stored=stored_values(1), first=6)
    text = "expected one slice at each position, got 10 slices at 5 positions, .* Two phases"
    with pytest.raises(ValueError, match=text):
        images.read_image(folder)


@pytest.mark.parametrize("kind", ["other size", "other direction"])
def test_a_localizer_within_the_series_is_left_out(tmp_path, kind):
    folder = write_series(tmp_path / "scan", EVEN)
    stored = np.zeros((20, 30) if kind == "other size" else SHAPE[:2], np.int16)
    directions = SUPINE if kind == "other size" else ORIENTATIONS["coronal"]
    for k in range(2):
        write_slice(
            *(folder / f"scout{k}.dcm", stored, (0.0, 30.0 + k, -90.0)),
            **dict(uid=f"8.{k}", directions=directions, ImageType=["ORIGINAL", "LOCALIZER"]),
        )
    with pytest.warns(FileWarning, match="2 images of the series are not parallel") as told:
        volume = images.read_image(folder)
    assert told[0].message.code == "slices-left-out"
    assert_voxels(volume, EVEN)


def test_of_two_series_the_only_volume_is_taken(tmp_path):
    folder = write_series(tmp_path / "scan", EVEN)
    scout = np.zeros((20, 30), np.int16)
    write_slice(folder / "scout.dcm", scout, (0.0, 0, 0), uid="7.1", series="1.2.9", number=1)
    assert_voxels(images.read_image(folder), EVEN)


def test_of_two_volumes_one_must_be_chosen(tmp_path):
    folder = write_series(tmp_path / "scan", EVEN)
    write_series(folder, EVEN, stored=stored_values(1), series="1.2.3.77", number=12)
    text = r"expected one DICOM series, got 2 .*: --series 3 \(5 slices, 'series 3'\); --series "
    with pytest.raises(ValueError, match=text):
        images.read_image(folder)
    for series in ("12", "1.2.3.77", ".77"):
        assert_voxels(images.read_image(folder, series=series), EVEN, stored_values(1))
    with pytest.raises(ValueError, match="expected one DICOM series '5', got 0 among --series 3"):
        images.read_image(folder, series="5")
    # a path to one file stands for its series
    assert_voxels(images.read_image(folder / "1.2.3.4-003.dcm"), EVEN)
    assert_voxels(images.read_image(folder / "1.2.3.77-003.dcm"), EVEN, stored_values(1))


def test_series_in_folders_below_and_files_without_ending(tmp_path):
    folder = write_series(tmp_path / "scan", EVEN)
    for path in folder.iterdir():
        path.rename(path.with_suffix(""))
    assert_voxels(images.read_image(tmp_path), EVEN)
    assert_voxels(images.read_image(next(folder.iterdir())), EVEN)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"spacing": None}, "expected PixelSpacing, the size of a voxel, got none"),
        ({"spacing": (0.9, 0.0)}, "expected PixelSpacing above 0, got 0 and 0.9 mm"),
        ({"directions": (1, 0, 0, 1, 0, 0)}, "expected ImageOrientationPatient to be two direct"),
    ],
)
def test_slices_without_geometry_are_refused(tmp_path, change, text):
    folder = write_series(tmp_path / "scan", EVEN, **change)
    with pytest.raises(ValueError, match=rf"\.dcm: {text}"):
        images.read_image(folder)


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("RescaleSlope", "x", "expected a complete DICOM file, got 'could not convert"),
        ("RescaleSlope", "1\\2", "expected a complete DICOM file, got 'float"),
        ("RescaleSlope", "nan", "expected RescaleSlope to be a number that gives HU, got nan"),
        ("RescaleSlope", "0", "expected RescaleSlope to be a number that gives HU, got 0"),
        ("RescaleIntercept", "inf", "expected RescaleIntercept to be .* gives HU, got inf"),
        ("ImagePositionPatient", "1\\2", "expected 3 finite numbers of position"),
        ("SeriesNumber", "inf", "expected a complete DICOM file, got 'cannot convert"),
    ],
)
def test_values_that_are_none_are_refused_in_words(tmp_path, name, value, text):
    folder = write_series(tmp_path / "scan", EVEN)
    path = folder / "1.2.3.4-003.dcm"
    dataset = pydicom.dcmread(path)
    dataset[name]._value = value  # past the checks of what is written
    dataset.save_as(path)
    for read in (images.read_image, images.read_grid, images.read_date):
        with pytest.raises(ValueError, match=rf"1\.2\.3\.4-003\.dcm: {text}"):
            read(folder)


def test_missing_slices_are_told(tmp_path):
    folder = write_series(tmp_path / "scan", EVEN)
    (folder / "1.2.3.4-003.dcm").unlink()
    with pytest.raises(
        ValueError, match="evenly spaced slices, got distances from 2.5 to 5 mm, the widest after"
    ):
        images.read_image(folder)


def test_positions_that_were_rounded_are_even(tmp_path):
    positions = EVEN + np.array([0, 0.004, -0.004, 0.003, 0])[:, None] * (0, 0, 1)
    assert_voxels(images.read_image(write_series(tmp_path / "scan", positions)), positions)


def test_what_is_no_scan_is_refused(tmp_path):
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match="none: expected a DICOM series of slices .* got none"):
        images.read_image(tmp_path / "none")
    one = write_series(tmp_path / "one", EVEN[:1], stored=stored_values())
    with pytest.raises(ValueError, match="one: expected a DICOM series .* got --series 3 "):
        images.read_image(one)
    with pytest.raises(FileNotFoundError, match="no.dcm: expected a file or folder, got no such"):
        images.read_image(tmp_path / "no.dcm")
    with pytest.raises(ValueError, match="one: expected a displacement field, got DICOM"):
        images.read_displacement(one)


@pytest.mark.parametrize("keep", [400, 700, -40])
def test_a_truncated_file_is_named(tmp_path, keep):
    folder = write_series(tmp_path / "scan", EVEN)
    path = folder / "1.2.3.4-003.dcm"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match="003.dcm: expected|evenly spaced slices|left out"):
        images.read_image(folder)


def test_without_pydicom_the_extra_is_named(tmp_path, monkeypatch):
    folder = write_series(tmp_path / "scan", EVEN)
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "pydicom":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"Install it with: pip install 'jaxreg\[dicom\]'"):
        images.read_image(folder)


def test_a_folder_of_everything_is_not_searched(tmp_path, monkeypatch):
    monkeypatch.setattr("jaxreg.io.dicom._MAX_FILES", 20)
    (tmp_path / "below").mkdir()
    for k in range(30):
        (tmp_path / "below" / f"{k}.txt").write_text("x", encoding="utf-8")
    with pytest.raises(ValueError, match="expected a folder with the files of one scan, got more"):
        images.read_image(tmp_path)


def test_series_that_share_a_number_are_chosen_by_the_end_of_their_uid(tmp_path):
    for uid, date in (("1.2.51234", "20250110"), ("1.2.61234", "20260110")):
        write_series(tmp_path / "both", EVEN, series=uid, StudyDate=date)
    write_series(tmp_path / "both", EVEN, series="1.2.7", number=5)
    listed = (
        "got 3 that are volumes: --series 51234 (2025-01-10, 5 slices, 'series 3'); "
        "--series 61234 (2026-01-10, 5 slices, 'series 3'); --series 5 (5 slices, 'series 5'). "
    )
    with pytest.raises(ValueError, match=re.escape(listed)):
        images.read_image(tmp_path / "both")
    for choice in ("51234", "61234", "5"):
        images.read_image(tmp_path / "both", series=choice)
    with pytest.raises(ValueError, match="one DICOM series '3', got 2 among --series 51234"):
        images.read_image(tmp_path / "both", series="3")
