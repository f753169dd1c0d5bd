"""Files without an orientation, and the one that a person states."""

import json

import nibabel
import numpy as np
import pytest

import jaxreg
from jaxreg.cli.app import main
from jaxreg.geometry.grid import Grid
from jaxreg.io import images
from jaxreg.io.nifti import write_volume
from jaxreg.io.notes import FileWarning
from jaxreg.io.orientation import axes_of
from jaxreg.phantom.pair import phantom_pair

SHAPE = (7, 6, 5)
SPACING = (0.9, 1.1, 2.5)
DATA = np.random.default_rng(0).integers(-1000, 100, SHAPE).astype(np.int16)


def nifti(path, data=DATA, *, unit="mm", scale=1.0):
    image = nibabel.Nifti1Image(data, None)
    image.header.set_zooms(np.array(SPACING) / scale)
    image.header.set_xyzt_units(unit)
    nibabel.save(image, path)
    return path


def nrrd(path, *geometry):
    lines = ["NRRD0004", "type: int16", "dimension: 3", "sizes: 7 6 5", "encoding: raw", *geometry]
    values = DATA.astype("<i2").tobytes(order="F")
    path.write_bytes("\n".join([*lines, "endian: little", "", ""]).encode() + values)
    return path


@pytest.mark.parametrize(
    ("orientation", "columns"),
    [
        ("RAS", [(1, 0, 0), (0, 1, 0), (0, 0, 1)]),
        ("LPS", [(-1, 0, 0), (0, -1, 0), (0, 0, 1)]),
        ("las", [(-1, 0, 0), (0, 1, 0), (0, 0, 1)]),
        ("PIR", [(0, -1, 0), (0, 0, -1), (1, 0, 0)]),
    ],
)
def test_a_stated_orientation_is_nibabels(tmp_path, orientation, columns):
    with pytest.warns(FileWarning, match=f"taken as {orientation.upper()}, as stated") as told:
        image = images.read_image(nifti(tmp_path / "a.nii.gz"), orientation=orientation)
    assert [warning.message.code for warning in told] == ["orientation-stated"]
    np.testing.assert_array_equal(image.data, DATA)
    expected = np.transpose(columns) * SPACING
    np.testing.assert_allclose(image.affine[:3, :3], expected, atol=1e-6)
    np.testing.assert_array_equal(image.affine[:3, 3], 0)
    assert "".join(nibabel.aff2axcodes(image.affine)) == orientation.upper()


@pytest.mark.filterwarnings("ignore::jaxreg.io.notes.FileWarning")
def test_the_unit_of_the_file_counts(tmp_path):
    path = nifti(tmp_path / "a.nii", unit="meter", scale=1000.0)
    np.testing.assert_allclose(
        images.read_image(path, orientation="RAS").spacing_mm, SPACING, rtol=1e-6
    )


@pytest.mark.parametrize(
    "geometry",
    [
        ["spacings: 0.9 1.1 2.5"],
        ["space dimension: 3", "space directions: (0,0.9,0) (1.1,0,0) (0,0,2.5)"],
    ],
)
def test_nrrd_without_a_space(tmp_path, geometry):
    path = nrrd(tmp_path / "a.nrrd", *geometry)
    with pytest.warns(FileWarning, match="a.nrrd: .* taken as LPS, as stated"):
        image = jaxreg.read_image(path, orientation="LPS")
    np.testing.assert_array_equal(image.data, DATA)
    np.testing.assert_allclose(image.affine, np.diag([-0.9, -1.1, 2.5, 1.0]), atol=1e-9)
    with pytest.raises(ValueError, match="expected an orientation, .* or state it where"):
        images.read_image(path)


@pytest.mark.filterwarnings("error")
def test_a_file_that_says_it_is_read_as_it_says(tmp_path):
    affine = np.diag([-0.9, 1.1, 2.5, 1.0])
    nibabel.save(nibabel.Nifti1Image(DATA, affine), tmp_path / "a.nii")
    image = images.read_image(tmp_path / "a.nii", orientation="RAI")
    np.testing.assert_allclose(image.affine, affine, atol=1e-6)
    space = "space: left-posterior-superior", "space directions: (1,0,0) (0,1,0) (0,0,1)"
    image = images.read_image(nrrd(tmp_path / "a.nrrd", *space), orientation="RAI")
    np.testing.assert_allclose(image.affine, np.diag([-1.0, -1, 1, 1]))


@pytest.mark.filterwarnings("ignore::jaxreg.io.notes.FileWarning")
def test_labels_without_an_orientation(tmp_path):
    path = nifti(tmp_path / "a.nii", np.abs(DATA))
    grid = Grid(SHAPE, np.diag([-0.9, -1.1, 2.5, 1.0]))
    labels = images.read_labels(path, grid=grid, orientation="LPS")
    np.testing.assert_array_equal(labels.data, np.abs(DATA))


@pytest.mark.parametrize("orientation", ["", "RA", "RRS", "RLS", "XYZ", "RASS", "R,A"])
def test_other_letters_are_refused(tmp_path, orientation):
    with pytest.raises(ValueError, match=f"orientation: expected three .*got '{orientation}'. M"):
        axes_of(orientation)
    nibabel.save(nibabel.Nifti1Image(DATA, np.eye(4)), tmp_path / "a.nii")
    with pytest.raises(ValueError, match="orientation: expected three letters"):
        images.read_image(tmp_path / "a.nii", orientation=orientation)


def test_without_a_statement_the_message_names_the_option(tmp_path):
    path = nifti(tmp_path / "a.nii")
    with pytest.raises(ValueError, match="a.nii: expected an orientation, .* --orientation LPS of"):
        images.read_image(path)
    path = nifti(tmp_path / "b.nii")
    raw = bytearray(path.read_bytes())
    raw[80:84] = np.float32(0).tobytes()  # pixdim[1]
    path.write_bytes(raw)
    with (
        pytest.warns(FileWarning),
        pytest.raises(ValueError, match="b.nii: affine: expected a finite"),
    ):
        images.read_image(path, orientation="LPS")


def run(*arguments):
    return main(arguments=[str(argument) for argument in arguments])


def without_codes(path, volume):
    image = nibabel.Nifti1Image(volume.data.astype(np.int16), None)
    image.header.set_zooms(volume.spacing_mm)
    nibabel.save(image, path)
    return path


@pytest.mark.usefixtures("quick_compilation")
def test_register_takes_files_without_an_orientation(tmp_path, capsys):
    pair = phantom_pair(3, shape=(48, 40, 44))
    words = ["--method", "affine", "--set", "grid.shape=[48,40,48]", "--json", "--quiet"]
    fields = []
    for name, save in (("told", write_volume), ("stated", without_codes)):
        (tmp_path / name).mkdir()
        for kind in ("fixed", "moving", "fixed_labels", "moving_labels"):
            save(tmp_path / name / f"{kind}.nii.gz", getattr(pair, kind))
        paths = [tmp_path / name / f"{kind}.nii.gz" for kind in ("fixed", "moving")]
        for image in ("fixed", "moving"):
            paths += [f"--{image}-mask", tmp_path / name / f"{image}_labels.nii.gz"]
        more = ["--orientation", "RAS"] if name == "stated" else []
        assert run("register", *paths, *words, *more, "--out", tmp_path / name / "out") == 0
        summary = json.loads(capsys.readouterr().out)
        fields.append(images.read_displacement(tmp_path / name / "out" / "displacement.nii.gz"))
    codes = [warning["code"] for warning in summary["warnings"]]
    assert codes[:4] == ["orientation-stated"] * 4  # both images and both masks
    assert np.all(np.diag(pair.fixed.affine)[:3] > 0)  # RAS
    moved = pair.fixed.affine[:3, 3] - pair.moving.affine[:3, 3]  # by how much the worlds were
    np.testing.assert_allclose(fields[1].data, fields[0].data + moved, atol=0.2)

    stated = tmp_path / "stated"
    words = [
        "--field",
        stated / "out",
        "--fill",
        "-1024",
        "--quiet",
        "--out",
        tmp_path / "w.nii.gz",
    ]
    assert run("warp", stated / "moving.nii.gz", *words) == 1
    assert "--orientation LPS" in capsys.readouterr().err
    assert run("warp", stated / "moving.nii.gz", *words, "--orientation", "RAS") == 0
    warped, written = (
        images.read_image(path) for path in (tmp_path / "w.nii.gz", stated / "out/warped.nii.gz")
    )
    np.testing.assert_allclose(warped.data, written.data, atol=1.0)
    words = ["--fixed", stated / "fixed.nii.gz", "--labels", stated / "fixed_labels.nii.gz"]
    words += ["--quiet", "--orientation", "RAS", "--out", tmp_path / "ventilation"]
    assert run("ventilation", stated / "out", *words) == 0


def test_register_says_what_a_wrong_orientation_is(tmp_path, capsys):
    path = nifti(tmp_path / "a.nii")
    assert run("register", path, path, "--orientation", "XYZ", "--out", tmp_path / "out") == 1
    assert "orientation: expected three letters, one each of R or L" in capsys.readouterr().err
