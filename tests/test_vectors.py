"""What vectors in files mean: displacements and positions of ITK, NiftyReg and SPM."""

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from jaxreg.geometry.grid import Grid
from jaxreg.io import images
from jaxreg.io.notes import FileWarning

SHAPE = (9, 7, 6)
TURN = np.array([[0.8, -0.6, 0], [0.6, 0.8, 0], [0, 0, 1.0]])
AFFINE = np.eye(4)
AFFINE[:3, :3] = TURN @ np.diag([-1.1, -1.4, 2.5])
AFFINE[:3, 3] = (40.0, -25.0, 310.0)
PLACES = Grid(SHAPE, AFFINE).world_from_voxel(np.moveaxis(np.indices(SHAPE), 0, -1))
MOTION = np.random.default_rng(7).normal(0, 3, (*SHAPE, 3)) + (1.5, -4.0, 9.0)  # RAS mm
SIGNS = np.array([-1.0, -1.0, 1.0])


def save(path, vectors, *, code=1007, name="", kind=0.0):
    image = nibabel.Nifti1Image(vectors[:, :, :, None].astype(np.float32), AFFINE)
    image.header.set_intent(code, name=name)
    image.header["intent_p1"] = kind
    nibabel.save(image, path)
    return path


@pytest.mark.parametrize(
    ("vectors", "header"),
    [
        (MOTION * SIGNS, {}),
        (MOTION, {"code": 1006}),
        (MOTION, {"name": "NREG_TRANS", "kind": 1.0}),
        (PLACES + MOTION, {"name": "NREG_TRANS", "kind": 0.0}),
        (PLACES + MOTION, {"name": "Mapping"}),
    ],
    ids=["itk", "dispvect", "niftyreg-disp", "niftyreg-def", "spm"],
)
@pytest.mark.filterwarnings("error")
def test_fields_of_other_tools_are_one_field(tmp_path, vectors, header):
    field = images.read_displacement(save(tmp_path / "d.nii.gz", vectors, **header))
    np.testing.assert_allclose(field.data, MOTION, atol=1e-4)
    np.testing.assert_allclose(field.affine, AFFINE, atol=1e-5)
    places, moved = PLACES.reshape(-1, 3), (PLACES + MOTION).reshape(-1, 3)
    np.testing.assert_allclose(field.transform_points(places), moved, atol=1e-4)


@pytest.mark.parametrize("code", [1006, 1007])
def test_both_intent_codes_mean_what_they_mean_to_simpleitk(tmp_path, code):
    path = save(tmp_path / "d.nii.gz", MOTION, code=code)
    image = sitk.Cast(sitk.ReadImage(str(path)), sitk.sitkVectorFloat64)
    transform = sitk.DisplacementFieldTransform(image)
    points = PLACES[2:-2, 2:-2, 2:-2].reshape(-1, 3)
    theirs = [np.array(transform.TransformPoint((p * SIGNS).tolist())) * SIGNS for p in points]
    field = images.read_displacement(path)
    np.testing.assert_allclose(field.transform_points(points), theirs, atol=2e-4)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (2, "got a cubic B-spline control point grid of NiftyReg"),
        (5, "got a velocity control point grid of NiftyReg"),
        (7.5, "got an unknown kind of NiftyReg"),
        (np.nan, "got an unknown kind of NiftyReg"),
    ],
)
def test_other_transformations_of_niftyreg_are_refused(tmp_path, kind, text):
    path = save(tmp_path / "d.nii", MOTION, name="NREG_TRANS", kind=kind)
    with pytest.raises(ValueError, match=f"d.nii: expected a .* {text}") as info:
        images.read_displacement(path)
    assert "reg_transform -ref FIXED -disp FILE OUT" in str(info.value)


def test_an_unknown_name_is_told(tmp_path):
    path = save(tmp_path / "d.nii", MOTION * SIGNS, name="Flow")
    with pytest.warns(FileWarning, match="d.nii: the header calls these vectors 'Flow'") as told:
        field = images.read_displacement(path)
    assert [warning.message.code for warning in told] == ["unknown-vectors"]
    np.testing.assert_allclose(field.data, MOTION, atol=1e-4)


@pytest.mark.parametrize("positions", [PLACES, PLACES * SIGNS], ids=["RAS", "LPS"])
@pytest.mark.parametrize("name", ["d.nii.gz", "d.mha", "d.nrrd"])
def test_positions_without_a_word_are_refused(tmp_path, positions, name):
    bend = np.diag([1.15, 0.9, 1.1])  # of a registration
    path = save(tmp_path / "d.nii.gz", (positions + MOTION / 6) @ bend)
    if name != path.name:
        image = sitk.ReadImage(str(path))
        path = tmp_path / name
        sitk.WriteImage(image, str(path))
    text = f"{name}: expected displacements, got vectors that grow with the position of the voxel"
    with pytest.raises(ValueError, match=text):
        images.read_displacement(path)


@pytest.mark.parametrize("factor", [0.6, 1.0, 1.3])
def test_strong_stretches_are_displacements(tmp_path, factor):
    stretch = (PLACES - PLACES.mean((0, 1, 2))) * (factor - 1) + 300.0
    field = images.read_displacement(save(tmp_path / "d.nii", stretch * SIGNS))
    np.testing.assert_allclose(field.data, stretch, atol=1e-3)
