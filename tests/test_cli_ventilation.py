"""`jaxreg ventilation` on a folder of `jaxreg register`, on two images, and on messy input."""

import csv
import json
import shutil

import nibabel
import numpy as np
import pytest

from jaxreg.cli.app import main
from jaxreg.geometry.volume import Volume
from jaxreg.io.images import read_image
from jaxreg.io.nifti import write_displacement, write_volume
from jaxreg.metrics.ventilation import UNITS
from jaxreg.phantom.pair import phantom_pair
from jaxreg.pipeline.ventilation import VENTILATION_SET

pytestmark = pytest.mark.usefixtures("quick_compilation")
QUICK = ("--method", "affine", "--set", "grid.shape=[64, 56, 64]")


def run(*arguments):
    return main(arguments=[str(a) for a in arguments])


@pytest.fixture(scope="module")
def files(tmp_path_factory, quick_compilation):
    folder = tmp_path_factory.mktemp("pair")
    pair = phantom_pair(3, shape=(60, 48, 52), spacing_mm=(6.0, 6.0, 6.0), fixed_phase="exhale")
    for name in ("fixed", "moving"):
        write_volume(folder / f"{name}.nii.gz", getattr(pair, name))
        write_volume(folder / f"{name}_mask.nii.gz", getattr(pair, f"{name}_labels"))
    write_displacement(folder / "field.nii.gz", pair.displacement)
    words = (*QUICK, "--quiet", "--out", folder / "dir")
    assert run("register", *images(folder), *masks(folder), *words) == 0
    return folder


def images(folder):
    return folder / "fixed.nii.gz", folder / "moving.nii.gz"


def masks(folder):
    names = ("fixed", "moving")
    return [word for n in names for word in (f"--{n}-mask", folder / f"{n}_mask.nii.gz")]


def document(folder):
    return json.loads((folder / "ventilation.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def out(files):
    words = ("--fixed", files / "fixed.nii.gz", "--labels", files / "fixed_mask.nii.gz")
    assert run("ventilation", files / "dir", *words, "--strict", "--out", files / "vent") == 0
    return files / "vent"


def test_a_folder_of_register_gives_maps_a_table_and_a_picture(files, out):
    assert {path.name for path in out.iterdir()} == set(VENTILATION_SET)
    found = document(out)
    assert found["inhale"] == "moving" and found["inhale_by"] == "where the lungs are larger"
    assert found["config"]["smoothing_mm"] == 15.0
    measured = read_image(files / "dir" / "valid.nii.gz").data == 1
    regions = read_image(out / "ventilation_regions.nii.gz")
    np.testing.assert_array_equal(regions.data > 0, measured)
    for name, unit in UNITS.items():
        image = nibabel.load(out / f"ventilation_{name}.nii.gz")
        text = image.header["descrip"].item().decode("ascii")
        assert text.endswith(f", {unit}; 0: not measured") and " by " in text
        data = image.get_fdata()
        assert np.isfinite(data).all() and not data[~measured].any()
        assert found["measures"][name]["unit"] == unit
        median = found["regions"][0][f"{name}_p50"]
        assert np.median(data[measured]) == pytest.approx(median, rel=1e-5)
        assert median > 0


def test_the_csv_is_the_table_of_the_json(out):
    with open(out / "ventilation.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    regions = document(out)["regions"]
    names = ["lungs", "right lung", "left lung", "right upper third"]
    assert [row["region"] for row in rows][:4] == names
    assert {f"label {label}" for label in range(1, 6)} <= {row["region"] for row in rows}
    for row, region in zip(rows, regions, strict=True):
        assert list(row) == list(region)
        for name in list(row)[2:]:
            assert float(row[name]) == pytest.approx(region[name], rel=1e-4)


def test_two_images_are_registered_first_and_the_result_is_kept(files, out, tmp_path, capsys):
    words = (*QUICK, "--json", "--quiet", "--out", tmp_path)
    assert run("ventilation", *images(files), *masks(files), *words) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == document(tmp_path)
    by_name = {row["region"]: row for row in document(out)["regions"]}
    for row in printed["regions"]:
        for name, value in list(row.items())[2:]:
            assert value == pytest.approx(by_name[row["region"]][name], rel=1e-4, abs=1e-4)
    again = ("--fixed", files / "fixed.nii.gz", "--out", tmp_path)
    assert run("ventilation", tmp_path, *again) == 0
    assert (tmp_path / "displacement.nii.gz").is_file()


def test_a_field_of_another_tool(files, tmp_path):
    words = ("--field", files / "field.nii.gz", *QUICK[2:], "--out", tmp_path / "v")
    assert run("ventilation", *images(files), *masks(files), *words) == 0
    assert document(tmp_path / "v")["regions"][0]["volume_change_ml"] > 100
    assert not (tmp_path / "v" / "summary.json").exists()


def test_the_side_that_is_told_and_the_smoothing(files, tmp_path, capsys):
    words = ("--fixed", files / "fixed.nii.gz", "--inhale", "fixed", "--smoothing", "0")
    more = ("--kernel", "box", "--no-mass-correction", "--out", tmp_path)
    assert run("ventilation", files / "dir", *words, *more, "--strict") == 3
    printed = capsys.readouterr()
    assert "warning: the fixed image was given as the inhaled one, but the lungs are" in (
        printed.err
    )
    assert "inhaled: the fixed image (as told)" in printed.out
    found = document(tmp_path)
    assert found["regions"][0]["volume_jacobian_p50"] < 0
    config = found["config"]
    assert config["kernel"] == "box" and config["smoothing_mm"] == 0.0
    assert config["mass_correction"] is False


def test_the_folder_of_the_demo_holds_its_fixed_image(files, tmp_path):
    shutil.copytree(files / "dir", tmp_path / "demo")
    shutil.copy(files / "fixed.nii.gz", tmp_path / "demo")
    assert run("ventilation", tmp_path / "demo", "--out", tmp_path / "v") == 0


def test_dates_that_a_registration_wrote_down_tell_two_visits(files, tmp_path, capsys):
    shutil.copytree(files / "dir", tmp_path / "dir")
    path = tmp_path / "dir" / "summary.json"
    summary = json.loads(path.read_text(encoding="utf-8"))
    dates = {"fixed": {"study_date": "2026-01-10"}, "moving": {"study_date": "2025-01-10"}}
    path.write_text(json.dumps({**summary, "images": dates}), encoding="utf-8")
    given = ("--fixed", files / "fixed.nii.gz", "--out", tmp_path / "v")
    assert run("ventilation", tmp_path / "dir", *given) == 0
    printed = capsys.readouterr()
    text = "warning: the scans are of two visits (fixed 2026-01-10, moving 2025-01-10)"
    assert text in printed.err and "exhaled (moving less fixed): volume +" in printed.out
    assert [warning["code"] for warning in document(tmp_path / "v")["warnings"]] == ["two-visits"]


def test_small_regions_are_told_with_decimals(files, out, tmp_path, capsys):
    data = np.zeros(read_image(files / "fixed.nii.gz").shape, np.uint8)
    lung = np.argwhere(read_image(out / "ventilation_regions.nii.gz").data == 2)
    x, y, z = lung[len(lung) // 2]
    data[x - 1 : x + 2, y - 1 : y + 2, z - 1 : z + 2] = 1  # 27 voxels of 0.216 ml at most
    affine = read_image(files / "fixed.nii.gz").affine
    write_volume(tmp_path / "l.nii.gz", Volume(data, affine))
    words = ("--fixed", files / "fixed.nii.gz", "--labels", tmp_path / "l.nii.gz")
    assert run("ventilation", files / "dir", *words, "--out", tmp_path / "v") == 0
    printed = capsys.readouterr().out
    (line,) = [line.split() for line in printed.splitlines() if line.startswith("label 1 ")]
    (row,) = [row for row in document(tmp_path / "v")["regions"] if row["region"] == "label 1"]
    assert 0 < row["volume_fixed_ml"] < 10 and line[2] == f"{row['volume_fixed_ml']:.2f}"
    assert line[3] == f"{row['volume_change_ml']:+.2f}" and "of air change, %" in printed


def refused(capsys, *words):
    """The one line that a call that cannot succeed ends with."""
    assert run("ventilation", *words) in (1, 2)
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    return error


def test_messy_input_is_named(files, tmp_path, capsys):
    out = ("--out", tmp_path / "v")
    fixed, moving = images(files)
    given = ("--fixed", fixed)
    folder = files / "dir"
    text = refused(capsys, folder, *out)
    assert text.startswith("jaxreg: --fixed: expected the fixed image that was registered, as")
    text = refused(capsys, folder, "--fixed", moving, *out)  # same grid, other image
    assert "fixed: expected the image that was registered as FIXED, whose correlation" in text
    text = refused(capsys, files, *out)
    assert "expected a folder that jaxreg register wrote, got one without warped.nii.gz" in text
    text = refused(capsys, fixed, *out)
    assert f"{fixed}: expected a folder that jaxreg register wrote, got no folder. Give" in text
    text = refused(capsys, folder, fixed, *out)
    assert f"{folder}: expected an image, got a folder that jaxreg register wrote. Give" in text
    text = refused(capsys, fixed, moving, *given, *out)
    assert "--fixed: expected with DIR only, got FIXED and MOVING too." in text
    text = refused(capsys, fixed, moving, fixed, *out)
    assert "expected DIR, or FIXED and MOVING, got 3 names." in text
    shutil.copytree(folder, tmp_path / "copy")
    (tmp_path / "copy" / "summary.json").write_text('["mine"]', encoding="utf-8")
    text = refused(capsys, tmp_path / "copy", *given, *out)
    assert "summary.json: expected the summary of a registration, got another file." in text
    text = refused(capsys, folder, *given, "--method", "affine", *out)
    assert "--method: expected FIXED and MOVING with it, got DIR, which is registered" in text
    text = refused(capsys, folder, *given, "--set", "optimiser.radius=3", *out)
    assert "--set: expected FIXED and MOVING with it" in text
    text = refused(capsys, folder, *given, "--smoothing", "-3", *out)
    assert "smoothing_mm: expected 0 (none) to 100 mm, got -3.0" in text
    image = read_image(fixed)
    far = np.array(image.affine)
    far[0, 3] += 1000
    write_volume(tmp_path / "far.nii.gz", Volume(np.ones(image.shape, np.uint8), far))
    text = refused(capsys, folder, *given, "--labels", tmp_path / "far.nii.gz", *out)
    assert "expected labels that overlap with the image" in text
    write_volume(tmp_path / "other.nii.gz", Volume(image.data, far))
    text = refused(capsys, folder, "--fixed", tmp_path / "other.nii.gz", *out)
    assert "fixed: expected the image that was registered, on the grid" in text
    assert not list((tmp_path / "v").glob("*"))


def test_labels_on_another_grid_are_brought_to_the_fixed_image(files, tmp_path, capsys):
    lobes = read_image(files / "fixed_mask.nii.gz")
    coarse = np.diag([1.7, 1.7, 1.7, 1.0])
    coarse[:3, 3] = 0.35
    data = lobes.data[::2, ::2, ::2].astype(np.uint8)
    write_volume(tmp_path / "lobes.nii.gz", Volume(data, lobes.affine @ coarse))
    words = ("--fixed", files / "fixed.nii.gz", "--labels", tmp_path / "lobes.nii.gz")
    assert run("ventilation", files / "dir", *words, "--strict", "--out", tmp_path / "v") == 3
    assert "these labels are on another grid than their image" in capsys.readouterr().err
    groups = [row["group"] for row in document(tmp_path / "v")["regions"]]
    assert groups.count("label") > 3


@pytest.fixture(scope="module")
def shifted(files):
    """The moving image and its lobes on another grid than the fixed one, and their registration."""
    folder = files / "shifted"
    folder.mkdir()
    for name in ("moving", "moving_mask"):
        image = read_image(files / f"{name}.nii.gz")
        affine = np.array(image.affine)
        affine[:3, 3] += (2.0, -1.5, 2.5)
        data = image.data if name == "moving" else image.data.astype(np.uint8)
        write_volume(folder / f"{name}.nii.gz", Volume(data, affine))
    pair = (files / "fixed.nii.gz", folder / "moving.nii.gz")
    given = ("--fixed-mask", files / "fixed_mask.nii.gz")
    given += ("--moving-mask", folder / "moving_mask.nii.gz")
    assert run("register", *pair, *given, *QUICK, "--quiet", "--out", folder / "dir") == 0
    return folder


def test_labels_of_the_other_image_are_refused(files, shifted, tmp_path, capsys):
    fixed, moving, lobes = (
        files / "fixed.nii.gz", shifted / "moving.nii.gz", shifted / "moving_mask.nii.gz"
    )  # fmt: skip
    out = ("--out", tmp_path / "v")
    text = refused(capsys, shifted / "dir", "--fixed", fixed, "--labels", lobes, *out)
    assert f"{lobes}: expected labels on the grid of their image" in text
    assert "got labels on the grid of the moving image (60 x 48 x 52 voxels of" in text
    text = refused(capsys, fixed, moving, "--fixed-mask", lobes, *QUICK, *out)
    assert f"{lobes}: expected labels on the grid of their image" in text
    assert "exchange the images. If they belong here all the same, resample" in text
    lobes = files / "fixed_mask.nii.gz"
    text = refused(capsys, fixed, moving, "--moving-mask", lobes, *QUICK, *out)
    assert "got labels on the grid of the fixed image" in text
    assert not list((tmp_path / "v").glob("*"))
