"""Commands on displacement fields, against SimpleITK on oblique grids and against formulas."""

import json

import numpy as np
import pytest
import scipy.ndimage
import SimpleITK as sitk

import jaxreg
from jaxreg.cli.app import main
from jaxreg.geometry.grid import Grid
from jaxreg.geometry.volume import DisplacementField, Volume
from jaxreg.io.images import read_image
from jaxreg.io.nifti import write_displacement, write_volume
from jaxreg.io.points import Landmarks, read_landmarks, write_landmarks


def grid(shape, spacing, angle, origin, flip=(1, 1, 1)):
    c, s = np.cos(angle), np.sin(angle)
    about_z = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, c, -s], [0, s, c]])
    turn = about_z @ about_x
    matrix = np.eye(4)
    matrix[:3, :3] = turn @ np.diag(np.array(spacing) * flip)
    matrix[:3, 3] = origin
    return Grid(shape, matrix)


FIXED = grid((21, 17, 14), (1.5, 1.9, 2.7), 0.2, (14.0, 19.0, -19.0), (-1, -1, 1))
MOVING = grid((25, 23, 19), (1.7, 1.6, 2.3), -0.15, (-26.0, 24.0, -26.0), (1, -1, 1))
SIDE = np.array([-1.0, -1.0, 1.0])


def smooth(shape, seed, size, sigma=3):
    values = np.random.default_rng(seed).normal(size=shape)
    values = scipy.ndimage.gaussian_filter(values, sigma, axes=(0, 1, 2))
    return (size * values / np.abs(values).max()).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("fields")
    field = DisplacementField(smooth((*FIXED.shape, 3), 0, 4.0) + 1.0, FIXED.affine)
    write_displacement(path / "field.nii.gz", field)
    second = DisplacementField(smooth((*MOVING.shape, 3), 1, 2.0), MOVING.affine)
    write_displacement(path / "second.nii.gz", second)
    write_volume(path / "moving.nii.gz", Volume(smooth(MOVING.shape, 2, 900.0, 1), MOVING.affine))
    write_volume(path / "fixed.nii.gz", Volume(smooth(FIXED.shape, 3, 900.0, 1), FIXED.affine))
    labels = np.random.default_rng(4).integers(0, 4, MOVING.shape).astype(np.int32)
    labels[labels == 3] = 2**24 + 3
    write_volume(path / "labels.nii.gz", Volume(labels, MOVING.affine))
    return path


def run(*arguments):
    return main(arguments=[str(a) for a in arguments])


def itk_transform(path):
    image = sitk.ReadImage(str(path))
    return sitk.DisplacementFieldTransform(sitk.Cast(image, sitk.sitkVectorFloat64))


def itk_warped(folder, name, sampling, fill):
    return sitk.GetArrayFromImage(
        sitk.Resample(
            sitk.ReadImage(str(folder / name)),
            sitk.ReadImage(str(folder / "fixed.nii.gz")),
            itk_transform(folder / "field.nii.gz"),
            sampling,
            fill,
        )
    ).transpose(2, 1, 0)


def test_warped_image_is_that_of_itk(folder, tmp_path, capsys):
    out = tmp_path / "w.nii.gz"
    words = ("--field", folder / "field.nii.gz", "--fill", "-1024", "--out", out)
    assert run("warp", folder / "moving.nii.gz", *words) == 0
    ours, theirs = read_image(out), itk_warped(folder, "moving.nii.gz", sitk.sitkLinear, -1024)
    assert ours.grid.matches(FIXED)
    np.testing.assert_allclose(ours.data, theirs, atol=0.05)
    assert ours.data.std() > 50
    capsys.readouterr()
    assert run("warp", folder / "moving.nii.gz", *words, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["voxels"] == ours.data.size
    assert 0 < told["outside_voxels"] <= np.count_nonzero(ours.data == -1024)


def test_warped_labels_are_those_of_itk_and_exact(folder, tmp_path):
    out = tmp_path / "w.nii.gz"
    words = ("--field", folder / "field.nii.gz", "--labels", "--out", out)
    assert run("warp", folder / "labels.nii.gz", *words) == 0
    ours = sitk.GetArrayFromImage(sitk.ReadImage(str(out))).transpose(2, 1, 0)
    theirs = itk_warped(folder, "labels.nii.gz", sitk.sitkNearestNeighbor, 0)
    assert np.issubdtype(ours.dtype, np.integer) and ours.max() == 2**24 + 3
    assert np.mean(ours != theirs) < 0.005  # ties


def test_soft_labels_have_the_largest_interpolated_fraction(folder, tmp_path):
    out = tmp_path / "w.nii.gz"
    words = ("--field", folder / "field.nii.gz", "--soft-labels", "--out", out)
    assert run("warp", folder / "labels.nii.gz", *words) == 0
    ours = sitk.GetArrayFromImage(sitk.ReadImage(str(out))).transpose(2, 1, 0)
    labels = sitk.ReadImage(str(folder / "labels.nii.gz"))
    field, transform = (
        sitk.ReadImage(str(folder / "fixed.nii.gz")),
        itk_transform(folder / "field.nii.gz"),
    )
    names = np.unique(sitk.GetArrayFromImage(labels))
    fractions = np.stack(
        [
            sitk.GetArrayFromImage(
                sitk.Resample(
                    sitk.Cast(labels == int(name), sitk.sitkFloat32),
                    *(field, transform, sitk.sitkLinear, float(name == 0)),
                )
            ).transpose(2, 1, 0)
            for name in names
        ]
    )
    assert np.mean(ours != names[fractions.argmax(axis=0)]) < 0.002


def test_a_thin_sheet_between_voxels_stays_whole_as_soft_labels(tmp_path):
    sheet = np.zeros((9, 8, 7), np.uint8)
    sheet[np.arange(9), np.arange(9) // 2 + 1] = 5  # an oblique sheet, one voxel thick
    affine = np.diag([1.0, 1.2, 1.5, 1.0])
    write_volume(tmp_path / "l.nii.gz", Volume(sheet, affine))
    half = np.zeros((*sheet.shape, 3), np.float32)
    half[..., 1] = 0.6
    write_displacement(tmp_path / "f.nii.gz", DisplacementField(half, affine))
    words = ("--field", tmp_path / "f.nii.gz", "--soft-labels", "--out", tmp_path / "w.nii.gz")
    assert run("warp", tmp_path / "l.nii.gz", *words) == 0
    warped = read_image(tmp_path / "w.nii.gz").data
    assert scipy.ndimage.label(warped)[1] == 1 and set(np.unique(warped)) == {0, 5}
    assert (warped.max(axis=1) == 5).all()


def test_warping_back_by_the_inverse(folder, tmp_path, capsys):
    words = ("--field", folder / "field.nii.gz", "--inverse", "--out", tmp_path / "w.nii.gz")
    assert run("warp", folder / "fixed.nii.gz", *words) == 1
    assert "--inverse: expected --to IMAGE, the grid to warp to" in capsys.readouterr().err
    assert run("warp", folder / "fixed.nii.gz", *words, "--to", folder / "moving.nii.gz") == 0
    back = read_image(tmp_path / "w.nii.gz")
    assert back.grid.matches(MOVING)
    # the value at T(x) is that of the fixed image at x
    x = FIXED.world_from_voxel(np.array([[8, 7, 6], [12, 9, 7], [10, 8, 5]]))
    y = jaxreg.read_displacement(folder / "field.nii.gz").transform_points(x)
    at_y = scipy.ndimage.map_coordinates(back.data, MOVING.voxel_from_world(y).T, order=1)
    fixed = read_image(folder / "fixed.nii.gz")
    at_x = scipy.ndimage.map_coordinates(fixed.data, FIXED.voxel_from_world(x).T, order=1)
    assert np.abs(at_y - at_x).max() < 0.5 * fixed.data.std()
    assert np.corrcoef(at_y, at_x)[0, 1] > 0.9


def points_file(path, seed=5, count=40):
    low, high = np.array([2, 2, 2]), np.array(FIXED.shape) - 3
    voxels = np.random.default_rng(seed).uniform(low, high, (count, 3))
    points = FIXED.world_from_voxel(voxels)
    write_landmarks(path, Landmarks(points, points + 1.0, np.full(count, "a")), space="LPS")
    return points


def test_points_are_those_of_itk_and_come_back(folder, tmp_path, capsys):
    points = points_file(tmp_path / "p.csv")
    words = ("--field", folder / "field.nii.gz")
    assert run("points", tmp_path / "p.csv", *words, "--out", tmp_path / "q.csv") == 0
    assert "distance of the mapped points from those in the file" in capsys.readouterr().out
    found = read_landmarks(tmp_path / "q.csv")
    transform = itk_transform(folder / "field.nii.gz")
    theirs = [np.array(transform.TransformPoint((p * SIDE).tolist())) * SIDE for p in points]
    np.testing.assert_allclose(found.moving, theirs, atol=0.01)
    assert (tmp_path / "q.csv").read_text(encoding="utf-8").startswith("# space: LPS\n")
    assert run("points", tmp_path / "q.csv", *words, "--inverse", "--out", tmp_path / "r.csv") == 0
    np.testing.assert_allclose(read_landmarks(tmp_path / "r.csv").fixed, points, atol=0.01)
    capsys.readouterr()
    again = ("--out", tmp_path / "q.csv", "--json")
    assert run("points", tmp_path / "p.csv", *words, *again) == 0
    told = json.loads(capsys.readouterr().out)
    apart = np.linalg.norm(found.moving - points - 1.0, axis=1)
    assert told["points"] == len(points)
    assert told["distance_mm"]["mean"] == pytest.approx(apart.mean(), abs=0.01)
    assert told["distance_mm"]["95"] == pytest.approx(np.percentile(apart, 95), abs=0.01)


def test_points_outside_are_counted(folder, tmp_path, capsys):
    text = "# space: RAS\nlabel,x,y,z\nfar,1000,0,0\nnear,0,0,0\n"
    (tmp_path / "p.csv").write_text(text, encoding="utf-8")
    words = ("--field", folder / "field.nii.gz", "--out", tmp_path / "q.csv")
    assert run("points", tmp_path / "p.csv", *words) == 0
    assert "warning: 1 of 2 points lie outside of the field's grid" in capsys.readouterr().err
    assert run("points", tmp_path / "p.csv", *words, "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"points": 2, "distance_mm": {}}
    assert "far,999.5582" in (tmp_path / "q.csv").read_text(encoding="utf-8")


def test_inverse_of_a_field_with_a_large_rotation(tmp_path, capsys):
    """The plain fixed-point iteration diverges here."""
    turn = grid((2, 2, 2), (1.0, 1.0, 1.0), 1.6, (0, 0, 0)).affine[:3, :3]
    x = FIXED.world_from_voxel(np.moveaxis(np.indices(FIXED.shape), 0, -1))
    field = DisplacementField(
        (x @ (turn - np.eye(3)).T).astype(np.float32) + smooth((*FIXED.shape, 3), 6, 1.5),
        FIXED.affine,
    )
    write_displacement(tmp_path / "f.nii.gz", field)
    corners = field.transform_points(x.reshape(-1, 3))
    low, high = corners.min(axis=0) + 3, corners.max(axis=0) - 3
    around = Grid((12, 11, 10), np.diag([*((high - low) / (11, 10, 9)), 1.0]))
    affine = np.array(around.affine)
    affine[:3, 3] = low
    write_volume(tmp_path / "m.nii.gz", Volume(np.zeros(around.shape, np.uint8), affine))
    words = ("--to", tmp_path / "m.nii.gz", "--out", tmp_path / "i.nii.gz")
    assert run("invert", tmp_path / "f.nii.gz", *words) == 0
    printed = capsys.readouterr()
    assert "mm (median)" in printed.out and "no inverse" not in printed.err
    inverse = jaxreg.read_displacement(tmp_path / "i.nii.gz")
    q = inverse.grid.world_from_voxel(np.moveaxis(np.indices(inverse.shape), 0, -1)).reshape(-1, 3)
    y = q + inverse.data.reshape(-1, 3)
    voxels = FIXED.voxel_from_world(y)
    inside = np.all((voxels >= 0) & (voxels <= np.array(FIXED.shape) - 1), axis=1)
    assert inside.sum() > 100
    assert np.abs(field.transform_points(y) - q)[inside].max() < 0.01
    assert run("invert", tmp_path / "f.nii.gz", *words, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["voxels"] == len(q) and 100 < told["measured_voxels"] <= len(q)
    assert told["lost_voxels"] == 0 and told["inverse_consistency_mm"]["100"] < 0.01


def test_composition_is_one_map_after_the_other(folder, tmp_path, capsys):
    out = tmp_path / "c.nii.gz"
    files = (folder / "field.nii.gz", folder / "second.nii.gz")
    assert run("compose", *files, "--json", "--out", out) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["voxels"] == np.prod(FIXED.shape) and 0 < told["outside_voxels"] < told["voxels"]
    composed = jaxreg.read_displacement(out)
    assert composed.grid.matches(FIXED)
    voxels = np.argwhere(np.ones((5, 4, 3))) * 3 + 4
    x = FIXED.world_from_voxel(voxels)
    first, second = (itk_transform(folder / f"{name}.nii.gz") for name in ("field", "second"))
    theirs = [
        np.array(second.TransformPoint(first.TransformPoint((p * SIDE).tolist()))) * SIDE for p in x
    ]
    inside = MOVING.voxel_from_world(np.array(theirs))
    inside = np.all((inside > 1) & (inside < np.array(MOVING.shape) - 2), axis=1)
    assert inside.sum() > 20
    np.testing.assert_allclose(
        composed.transform_points(x)[inside], np.array(theirs)[inside], atol=0.01
    )


def test_jacobian_of_a_linear_map(tmp_path, capsys):
    matrix = np.array([[1.1, 0.05, 0.0], [0.0, 0.9, 0.1], [0.02, 0.0, 1.3]])
    x = FIXED.world_from_voxel(np.moveaxis(np.indices(FIXED.shape), 0, -1))
    field = DisplacementField(x @ (matrix - np.eye(3)).T, FIXED.affine)
    write_displacement(tmp_path / "f.nii.gz", field)
    out = tmp_path / "j.nii.gz"
    assert run("jacobian", tmp_path / "f.nii.gz", "--out", out, "--json") == 0
    measures = json.loads(capsys.readouterr().out)
    np.testing.assert_allclose(read_image(out).data, np.linalg.det(matrix), atol=2e-4)
    assert measures["folded_voxels"] == 0 and measures["voxels"] == np.prod(FIXED.shape)
    assert measures["jacobian_percentiles"]["50"] == pytest.approx(np.linalg.det(matrix), abs=1e-4)


@pytest.mark.parametrize("ending", [".nii.gz", ".mha", ".mhd", ".nrrd"])
def test_check_certifies_fields_as_other_tools_write_them(folder, tmp_path, capsys, ending):
    image = sitk.ReadImage(str(folder / "field.nii.gz"))
    sitk.WriteImage(image, str(tmp_path / f"f{ending}"))
    assert run("check", tmp_path / f"f{ending}") == 0
    printed = capsys.readouterr().out
    assert "certified: the field does not fold, in any of 4160 cells" in printed
    assert "This says nothing about whether the field is right" in printed
    norm = np.linalg.norm(sitk.GetArrayFromImage(image), axis=-1).max()
    assert f"largest displacement: {norm:.2f} mm" in printed


@pytest.mark.parametrize("option", ["--fixed", "--fixed-mask"])
def test_check_wants_both_images(folder, capsys, option):
    name = folder / "fixed.nii.gz"
    assert run("check", folder / "field.nii.gz", option, name) == 1
    printed = capsys.readouterr().err
    assert "--fixed and --moving" in printed or "--fixed-mask and --moving-mask" in printed


def test_check_of_a_folded_field_ends_with_status_3(folder, tmp_path, capsys):
    field = jaxreg.read_displacement(folder / "field.nii.gz")
    data = np.array(field.data)
    data[10, 8, 7] += FIXED.affine[:3, 0] * 3.0
    write_displacement(tmp_path / "f.nii.gz", DisplacementField(data, field.affine))
    assert run("check", tmp_path / "f.nii.gz") == 3
    assert "not certified: the field may fold in" in capsys.readouterr().out
    mask = np.zeros(FIXED.shape, np.uint8)
    mask[:4] = 1
    write_volume(tmp_path / "m.nii.gz", Volume(mask, FIXED.affine))
    assert run("check", tmp_path / "f.nii.gz", "--mask", tmp_path / "m.nii.gz", "--json") == 3
    measures = json.loads(capsys.readouterr().out)
    assert measures["uncertified_cells"] > 0 == measures["folded_voxels"]
    assert measures["voxels"] == mask.sum()


def test_outputs_are_never_inputs(folder, capsys):
    field = folder / "field.nii.gz"
    before = field.read_bytes()
    for words in (["invert", field], ["compose", field, field], ["jacobian", field]):
        assert run(*words, "--out", field) == 1
        assert "--out: expected another file than the input" in capsys.readouterr().err
    assert field.read_bytes() == before


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a0GenericAffine.mat", "expected a displacement field as an image of vectors, got a"),
        ("moving.nii.gz", "expected a displacement field in ITK's convention"),
        ("no.nii.gz", "no such file"),
        ("image.mha", "expected a displacement field, three numbers per voxel"),
    ],
)
def test_what_is_no_field_is_named(folder, tmp_path, capsys, name, text):
    sitk.WriteImage(sitk.ReadImage(str(folder / "fixed.nii.gz")), str(folder / "image.mha"))
    (folder / "a0GenericAffine.mat").write_bytes(b"affine")
    assert run("check", folder / name) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"jaxreg: {folder / name}: ") and text in error
    assert error.count("\n") == 1


def test_an_image_that_the_field_does_not_reach_is_refused(folder, tmp_path, capsys):
    far = np.array(MOVING.affine)
    far[0, 3] += 1000.0
    write_volume(tmp_path / "far.nii.gz", Volume(np.ones(MOVING.shape, np.uint8), far))
    words = ("--field", folder / "field.nii.gz", "--out", tmp_path / "w.nii.gz")
    assert run("warp", tmp_path / "far.nii.gz", *words) == 1
    assert "IMAGE: expected an image that the field reaches" in capsys.readouterr().err
    assert not (tmp_path / "w.nii.gz").exists()


def test_the_demo_does_not_write_over_scans(tmp_path, capsys):
    (tmp_path / "fixed.nii.gz").write_bytes(b"mine")
    assert run("demo", "--out", tmp_path) == 1
    assert "expected a folder without scans of yours" in capsys.readouterr().err
    assert (tmp_path / "fixed.nii.gz").read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("name", "options", "text"),
    [
        ("fixed", [], "IMAGE lies on the grid of the fixed image; without --inverse it must lie"),
        ("moving", ["--inverse"], "IMAGE lies on the grid of the moving image; with --inverse it"),
        ("moving", [], ""),
        ("fixed", ["--inverse"], ""),
    ],
)
def test_an_image_in_the_wrong_space_is_told(folder, tmp_path, capsys, name, options, text):
    (tmp_path / "displacement.nii.gz").write_bytes((folder / "field.nii.gz").read_bytes())
    summary = {"fixed_grid": FIXED.document(), "moving_grid": MOVING.document()}
    (tmp_path / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    to = ["--to", folder / "moving.nii.gz"] if options else []
    words = ["--field", tmp_path / "displacement.nii.gz", "--out", tmp_path / "w.nii.gz"]
    assert run("warp", folder / f"{name}.nii.gz", *words, *options, *to) == 0
    told = [line for line in capsys.readouterr().err.splitlines() if "IMAGE" in line]
    assert [line[: len(f"warning: {text}")] for line in told] == ([f"warning: {text}"] * bool(text))


def test_a_label_map_that_is_interpolated_is_told(folder, tmp_path, capsys):
    words = ("--field", folder / "field.nii.gz", "--out", tmp_path / "w.nii.gz")
    assert run("warp", folder / "labels.nii.gz", *words) == 0
    told = capsys.readouterr().err
    assert "IMAGE looks like a label map: few different values, all whole. Add --labels" in told
    for name, more in (("labels", ["--labels"]), ("moving", [])):
        assert run("warp", folder / f"{name}.nii.gz", *words, *more) == 0
        assert "label map" not in capsys.readouterr().err


def test_a_folder_of_results_stands_for_its_field(folder, tmp_path, capsys):
    (tmp_path / "displacement.nii.gz").write_bytes((folder / "field.nii.gz").read_bytes())
    for field, name in ((tmp_path, "a"), (folder / "field.nii.gz", "b")):
        out = tmp_path / f"{name}.nii.gz"
        assert run("warp", folder / "moving.nii.gz", "--field", field, "--out", out) == 0
        assert run("check", field) == 0
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()
    same = ("--out", tmp_path / "displacement.nii.gz")
    assert run("invert", tmp_path, *same) == 1
    assert "--out: expected another file than the input" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert run("check", tmp_path / "empty") == 1
    assert "displacement.nii.gz: expected a file or folder, got no such" in capsys.readouterr().err
