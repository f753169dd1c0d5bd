"""Exports read by others: ITK transform files by SimpleITK, DICOM by what the standard says."""

import json
import shutil
import sys

import numpy as np
import pydicom
import pytest
import scipy.ndimage
import SimpleITK as sitk
from dicom_data import write_series

from jaxreg.cli.app import main
from jaxreg.geometry.grid import Grid
from jaxreg.geometry.volume import DisplacementField, Volume
from jaxreg.geometry.warping import warp_volume
from jaxreg.io.dicom_series import read_series
from jaxreg.io.dicom_writer import deformable_registration, warped_series
from jaxreg.io.images import read_date, read_grid, read_image
from jaxreg.io.nifti import write_displacement, write_volume

LPS = np.array([-1.0, -1.0, 1.0])
OBLIQUE = (0.96, 0.28, 0, -0.28 * 0.8, 0.96 * 0.8, 0.6)
NORMAL = np.cross(OBLIQUE[:3], OBLIQUE[3:])
STUDY = {"StudyInstanceUID": "1.2.77", "PatientName": "Doe^Jane", "PatientID": "17"}
STUDY |= {"StudyDate": "20260301", "FrameOfReferenceUID": "1.2.77.5", "StudyID": "S"}
EARLIER = {**STUDY, "StudyInstanceUID": "1.2.66", "FrameOfReferenceUID": "1.2.66.5"}
EARLIER |= {"StudyDate": "20251129"}
EVEN = np.array([np.array((-12.0, 30.0, -90.0)) + 2.5 * k * NORMAL for k in range(5)])
LEFT_HANDED = np.diag([-1.4, 1.2, 2.1, 1.0])
SHEARED = np.array([[1.4, 0, 0.3, 5], [0, -1.2, 0, 6], [0, 0.2, 2.1, -9], [0, 0, 0, 1]])


def run(*arguments):
    return main(arguments=[str(a) for a in arguments])


def smooth_field(grid, seed=0):
    """A turn, a stretch and a shift, and smooth random vectors of up to 3 mm."""
    world = grid.world_from_voxel(np.moveaxis(np.indices(grid.shape), 0, -1))
    matrix = np.array([[0.02, -0.05, 0], [0.05, -0.03, 0.01], [0, 0, 0.04]])
    noise = np.random.default_rng(seed).normal(size=(*grid.shape, 3))
    noise = scipy.ndimage.gaussian_filter(noise, 2, axes=(0, 1, 2))
    vectors = world @ matrix.T + (4.0, -3.0, 9.0) + 3 * noise / np.abs(noise).max()
    return DisplacementField(vectors, grid.affine)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("export")
    write_series(path / "fixed", EVEN, directions=OBLIQUE, **STUDY)
    shifted = EVEN + (2.0, -1.0, 3.0)
    write_series(path / "moving", shifted, directions=OBLIQUE, series="1.2.9", **EARLIER)
    (path / "dir").mkdir()
    field = smooth_field(read_grid(path / "fixed"))
    write_displacement(path / "dir" / "displacement.nii.gz", field)
    return path


def points_in(grid, count=100):
    """Points well inside: at the border, a field on a sheared grid is continued."""
    voxels = np.random.default_rng(5).uniform(0.15, 0.85, (count, 3)) * (np.array(grid.shape) - 1)
    return grid.world_from_voxel(voxels)


def assert_same(theirs, ours):
    assert np.linalg.norm(np.asarray(theirs) - ours, axis=1).max() < 0.01


# ITK


@pytest.fixture(params=["oblique", "left-handed", "sheared"])
def case(request, folder, tmp_path):
    """A field and its file."""
    shape = (13, 11, 9)
    grid = {
        "oblique": read_grid(folder / "fixed"),
        "left-handed": Grid(shape, LEFT_HANDED),
        "sheared": Grid(shape, SHEARED),
    }[request.param]
    field = smooth_field(grid)
    if request.param == "sheared":  # a linear field is the same on any grid
        field = DisplacementField(
            np.moveaxis(np.indices(shape), 0, -1) @ np.full((3, 3), 0.05), grid.affine
        )
    write_displacement(tmp_path / "d.nii.gz", field)
    return field, tmp_path / "d.nii.gz"


@pytest.mark.filterwarnings("ignore::jaxreg.io.notes.FileWarning")  # of the sheared grid
@pytest.mark.parametrize("ending", [".tfm", ".h5"])
def test_simpleitk_maps_points_as_the_field(case, ending, tmp_path):
    field, path = case
    assert run("export", path, "--itk", tmp_path / f"t{ending}") == 0
    transform = sitk.ReadTransform(str(tmp_path / f"t{ending}"))
    points = points_in(field.grid)
    theirs = [LPS * transform.TransformPoint((LPS * point).tolist()) for point in points]
    assert_same(theirs, field.transform_points(points))


def test_outside_of_the_grid_the_transform_is_the_affine_map(folder, tmp_path):
    assert run("export", folder / "dir", "--itk", tmp_path / "t.tfm") == 0
    transform = sitk.ReadTransform(str(tmp_path / "t.tfm"))
    assert transform.GetName() == "CompositeTransform" and transform.GetNumberOfTransforms() == 2
    affine = sitk.AffineTransform(transform.GetNthTransform(0))
    far = (300.0, -200.0, 500.0)
    np.testing.assert_allclose(transform.TransformPoint(far), affine.TransformPoint(far))
    assert np.linalg.norm(np.array(affine.TransformPoint(far)) - far) > 5


def test_h5_without_its_package_says_what_to_install(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "h5py", None)
    assert run("export", folder / "dir", "--itk", tmp_path / "t.h5") == 1
    error = capsys.readouterr().err
    assert error.startswith(f"jaxreg: {tmp_path / 't.h5'}: expected the package h5py, which writes")
    assert "pip install h5py" in error
    assert not list(tmp_path.iterdir())


# DICOM


@pytest.fixture(scope="module")
def written(folder):
    words = ("--dicom", folder / "out", "--fixed", folder / "fixed", "--moving", folder / "moving")
    assert run("export", folder / "dir", *words) == 0
    return folder / "out"


def mapped_by_the_standard(dataset, points):
    """x_source = M_post (M_pre x + d(x)) of PS3.3 C.20.3, d trilinear; LPS mm, (N, 3)."""
    (item,) = dataset.DeformableRegistrationSequence
    (grid,) = item.DeformableRegistrationGridSequence
    columns, rows, slices = grid.GridDimensions
    vectors = np.frombuffer(grid.VectorGridData, "<f4").reshape(slices, rows, columns, 3)
    cosines = np.array(grid.ImageOrientationPatient, float).reshape(2, 3)
    axes = np.stack([*cosines, np.cross(*cosines)])
    steps = (points - np.array(grid.ImagePositionPatient, float)) @ axes.T / grid.GridResolution
    d = [
        scipy.ndimage.map_coordinates(vectors[..., c].astype(float), steps[:, ::-1].T, order=1)
        for c in range(3)
    ]
    matrices = []
    for name in ("Pre", "Post"):
        (entry,) = item[f"{name}DeformationMatrixRegistrationSequence"]
        assert entry.FrameOfReferenceTransformationMatrixType == "RIGID"
        matrices.append(np.reshape(entry.FrameOfReferenceTransformationMatrix, (4, 4)))
    moved = points @ matrices[0][:3, :3].T + matrices[0][:3, 3] + np.stack(d, axis=-1)
    return moved @ matrices[1][:3, :3].T + matrices[1][:3, 3]


def test_the_registration_object_maps_points_as_the_field(written, folder):
    dataset = pydicom.dcmread(written / "registration.dcm")
    field = smooth_field(read_grid(folder / "fixed"))
    points = points_in(field.grid)
    theirs = mapped_by_the_standard(dataset, points * LPS) * LPS
    assert_same(theirs, field.transform_points(points))
    assert np.linalg.norm(theirs - points, axis=1).min() > 1


@pytest.mark.filterwarnings("ignore::jaxreg.io.notes.FileWarning")
def test_a_field_on_any_grid_maps_points_as_its_object(case, folder, tmp_path):
    field, path = case
    series = [read_series(folder / name) for name in ("fixed", "moving")]
    dataset = deformable_registration(field, *series)
    dataset.save_as(tmp_path / "r.dcm", enforce_file_format=True)
    points = points_in(field.grid)
    theirs = mapped_by_the_standard(pydicom.dcmread(tmp_path / "r.dcm"), points * LPS) * LPS
    assert_same(theirs, field.transform_points(points))


def test_the_registration_object_belongs_to_the_fixed_study(written, folder):
    dataset = pydicom.dcmread(written / "registration.dcm")
    assert dataset.SOPClassUID.name == "Deformable Spatial Registration Storage"
    assert dataset.Modality == "REG" and dataset.PatientName == "Doe^Jane"
    assert dataset.StudyInstanceUID == "1.2.77" and dataset.FrameOfReferenceUID == "1.2.77.5"
    (item,) = dataset.DeformableRegistrationSequence
    assert item.SourceFrameOfReferenceUID == "1.2.66.5"
    uids = [reference.ReferencedSOPInstanceUID for reference in item.ReferencedImageSequence]
    assert uids == [f"1.2.9.{k}" for k in range(1, 6)]
    (series,) = dataset.ReferencedSeriesSequence
    assert series.SeriesInstanceUID == "1.2.3.4" and len(series.ReferencedInstanceSequence) == 5
    (study,) = dataset.StudiesContainingOtherReferencedInstancesSequence
    assert study.StudyInstanceUID == "1.2.66"
    assert study.ReferencedSeriesSequence[0].SeriesInstanceUID == "1.2.9"


def test_the_warped_image_is_a_series_of_the_fixed_study(written, folder):
    ours = warp_volume(
        read_image(folder / "moving"), smooth_field(read_grid(folder / "fixed")), fill=-1024
    )
    found = read_image(written)
    assert found.grid.matches(read_grid(folder / "fixed"))
    assert np.abs(found.data - ours.data).max() <= 0.51 and ours.data.std() > 50
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(written)))
    theirs = sitk.GetArrayFromImage(reader.Execute()).transpose(2, 1, 0)
    np.testing.assert_array_equal(theirs, found.data)
    slices = [pydicom.dcmread(path) for path in sorted(written.glob("warped_*.dcm"))]
    assert len({d.SOPInstanceUID for d in slices}) == 5
    assert len({d.SeriesInstanceUID for d in slices} | {"1.2.3.4", "1.2.9"}) == 3
    for dataset, position in zip(slices, EVEN, strict=True):
        assert dataset.StudyInstanceUID == "1.2.77" and dataset.PatientID == "17"
        assert dataset.FrameOfReferenceUID == "1.2.77.5"
        assert list(dataset.ImageType) == ["DERIVED", "SECONDARY", "AXIAL"]
        np.testing.assert_allclose(np.array(dataset.ImagePositionPatient, float), position)
        for name in ("PatientBirthDate", "StudyTime", "AccessionNumber", "KVP", "SeriesNumber"):
            assert name in dataset


def test_a_second_export_replaces_the_first(written, folder, capsys):
    other = folder / "other"
    words = ("--dicom", other, "--fixed", folder / "fixed", "--moving", folder / "moving")
    for _ in range(2):
        assert run("export", folder / "dir", *words, "--json") == 0
        names = json.loads(capsys.readouterr().out)["written"]
        assert sorted(names) == sorted(str(path) for path in other.iterdir())
    assert len(names) == 6


def test_a_series_of_a_folder_is_warped(folder, tmp_path, capsys):
    for name in ("fixed", "moving"):
        shutil.copytree(folder / name, tmp_path / "study" / name)
    field = folder / "dir" / "displacement.nii.gz"
    words = ("--field", field, "--fill", "-1024", "--out", tmp_path / "w.nii.gz")
    assert run("warp", tmp_path / "study", *words) == 1
    assert "expected one DICOM series, got 2 that are volumes" in capsys.readouterr().err
    assert run("warp", tmp_path / "study", "--series", "1.2.9", *words) == 0
    ours = warp_volume(
        read_image(folder / "moving"), smooth_field(read_grid(folder / "fixed")), fill=-1024
    )
    np.testing.assert_allclose(read_image(tmp_path / "w.nii.gz").data, ours.data, atol=0.1)


def test_the_date_is_that_of_the_study(folder):
    assert str(read_date(folder / "fixed")) == "2026-03-01"
    assert (read_date(folder / "fixed") - read_date(folder / "moving")).days == 92
    assert read_date(folder / "dir" / "displacement.nii.gz") is None


def test_wrong_calls_end_with_one_line(folder, tmp_path, capsys):
    given = (folder / "dir",)
    dicom = ("--dicom", tmp_path / "o", "--fixed", folder / "fixed")
    write_series(tmp_path / "bare", EVEN, directions=OBLIQUE)
    nifti = folder / "dir" / "displacement.nii.gz"
    for words, text in (
        (given, "expected --itk FILE or --dicom FOLDER, got none"),
        ((*given, *dicom), "--dicom, --fixed, --moving: expected all three or none"),
        ((*given, "--itk", tmp_path / "t.mat"), "expected a name ending in .tfm or .h5"),
        ((*given, *dicom, "--moving", nifti), "--moving: expected a DICOM folder or file, got"),
        ((*given, *dicom, "--moving", tmp_path / "bare"), "expected FrameOfReferenceUID, which"),
    ):
        assert run("export", *words) == 1
        error = capsys.readouterr().err
        assert text in error and error.count("\n") == 1


# What the folder of a registration says of its images


@pytest.fixture
def recorded(tmp_path):
    """A function that writes two series, and the folder of their registration; its path."""

    def write(shift):
        """The moving series is shifted by some millimetres."""
        moved = EVEN + np.array(shift)
        write_series(tmp_path / "moving", moved, directions=OBLIQUE, series="1.2.9", **EARLIER)
        moving = read_image(tmp_path / "moving")
        affine = np.array(moving.affine)
        affine[:3, 3] -= np.array(shift) * LPS
        grid = Grid(moving.shape, affine)
        field = DisplacementField(smooth_field(grid).data * 0.1, grid.affine)
        warped = warp_volume(moving, field, fill=-1024)
        stored = np.rint(warped.data + 1024).astype(np.int16)
        write_series(tmp_path / "fixed", EVEN, stored=stored, directions=OBLIQUE, **STUDY)
        (tmp_path / "result").mkdir()
        write_displacement(tmp_path / "result" / "displacement.nii.gz", field)
        write_volume(tmp_path / "result" / "warped.nii.gz", warped)
        valid = Volume(np.ones(warped.shape, np.uint8), warped.affine)
        write_volume(tmp_path / "result" / "valid.nii.gz", valid)
        summary = {"fixed_grid": grid.document(), "moving_grid": moving.grid.document()}
        text = json.dumps(summary | {"correlation_after": 1.0})
        (tmp_path / "result" / "summary.json").write_text(text, encoding="utf-8")
        return tmp_path

    return write


def export(path, fixed, moving):
    words = ("--fixed", path / fixed, "--moving", path / moving)
    return run("export", path / "result", "--dicom", path / "out", *words)


@pytest.mark.parametrize(
    ("shift", "text"),
    [
        ((4.0, -3.0, 2.0), "It is on the grid of the moving image: exchange --fixed and --moving."),
        ((0.0, 0.0, 0.0), "--moving: expected the image that was registered as MOVING, got one"),
    ],
    ids=["two grids", "one grid"],
)
def test_exchanged_series_are_refused(recorded, capsys, shift, text):
    path = recorded(shift)
    assert export(path, "moving", "fixed") == 1
    assert text in capsys.readouterr().err
    assert not list((path / "out").iterdir())
    assert export(path, "fixed", "moving") == 0


def test_a_series_given_twice_and_another_phase_are_refused(recorded, capsys):
    path = recorded((0.0, 0.0, 0.0))
    assert export(path, "moving", "moving") == 1
    assert "--fixed, --moving: expected two series, got the same one twice" in (
        capsys.readouterr().err
    )
    write_series(path / "other", EVEN, directions=OBLIQUE, series="1.2.10", **STUDY)
    assert export(path, "other", "moving") == 1
    assert "--fixed: expected the image that was registered as FIXED" in capsys.readouterr().err
    assert export(path, "fixed", "moving") == 0


def test_a_folder_of_images_with_turned_axes_is_that_of_its_series(recorded):
    """NIfTI files that were made from DICOM have their rows the other way round."""
    path = recorded((4.0, -3.0, 2.0))
    grid = read_grid(path / "fixed")
    turn = np.diag([1.0, -1.0, 1.0, 1.0])
    turn[1, 3] = grid.shape[1] - 1
    summary = {"fixed_grid": Grid(grid.shape, grid.affine @ turn).document()}
    summary["moving_grid"] = read_grid(path / "moving").document()
    assert summary["fixed_grid"] != grid.document()
    text = json.dumps(summary)
    (path / "result" / "summary.json").write_text(text, encoding="utf-8")
    assert export(path, "fixed", "moving") == 0


def test_one_file_is_one_file(folder, tmp_path, capsys):
    assert run("export", folder / "dir", "--itk", tmp_path / "t.tfm") == 0
    assert capsys.readouterr().out == f"1 file written: {tmp_path / 't.tfm'}\n"


def test_what_is_written_says_which_scan_was_warped(written, folder):
    warped = pydicom.dcmread(written / "warped_0001.dcm")
    assert warped.SeriesDescription == "jaxreg: 20251129 series 3, warped"
    assert warped.SeriesNumber == 30001 and warped.StudyDate == "20260301"
    assert warped.DerivationDescription == (
        "20251129 series 3, warped to 20260301 series 3 by deformable registration"
    )
    registration = pydicom.dcmread(written / "registration.dcm")
    assert registration.SeriesDescription == "jaxreg: to 20251129 series 3"
    assert registration.SeriesNumber == 30002


def test_a_long_description_is_cut_and_an_absent_number_made(tmp_path):
    given = {"SeriesDescription": "d" * 64, "number": None}
    series = []
    for name, study in (("fixed", STUDY), ("moving", EARLIER)):
        write_series(tmp_path / name, EVEN, series=f"1.2.{len(name)}", **study, **given)
        series.append(read_series(tmp_path / name))
    image = read_image(tmp_path / "fixed")
    dataset = warped_series(image, *series)[0]
    assert dataset.SeriesDescription == f"jaxreg: 20251129 {'d' * 47}"
    assert dataset.SeriesNumber == 1
    series[1].header.SeriesDescription = "größer"
    assert warped_series(image, *series)[0].SeriesDescription == "jaxreg: 20251129 gr??er, warped"
