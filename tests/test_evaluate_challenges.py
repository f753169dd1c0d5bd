"""`jaxreg evaluate` on COPDGene, EMPIRE10 and Learn2Reg, in their layouts and formats."""

import json

import nibabel
import numpy as np
import pytest
from evaluation_data import (
    SHAPE,
    rows_of,
    voxel_displacement,
)
from scipy import ndimage

from jaxreg.geometry.volume import Volume
from jaxreg.io.nifti import write_volume

sitk = pytest.importorskip("SimpleITK")


def test_copdgene_is_table_1(evaluate, registered, labelled, tmp_path, capsys):
    arguments = ["--copdgene", str(labelled[0]), "--out", str(tmp_path / "out")]
    assert evaluate([*arguments, "--method", "classical"]) == 0
    ours, *theirs = rows_of(tmp_path / "out" / "copdgene" / "methods.json")
    assert [row["method"] for row in theirs] == ["published: Ruehaak 2017", "published: the paper"]
    assert (theirs[1]["Dice"], theirs[1]["sd Dice"], theirs[1]["Dice30"]) == (0.95, 0.03, 0.93)
    assert (theirs[1]["seconds"], theirs[1]["GPU seconds"], theirs[1]["device GB"]) == (32, 0.75, 4)
    assert 0 < ours["Dice"] < 1 and ours["Dice30"] <= ours["Dice"] and ours["HD95 mm"] > 0
    pairs = json.loads(labelled[0].read_text(encoding="utf-8"))
    del pairs[1]["fixed_labels"]
    labelled[0].write_text(json.dumps(pairs), encoding="utf-8")
    assert evaluate([*arguments, "--method", "classical"]) == 1
    assert "expected fixed_labels and moving_labels (lobes) of every pair, got none of c." in (
        capsys.readouterr().err
    )
    assert evaluate(["--copdgene", str(tmp_path / "none.json")]) == 1
    assert "Request the scans at https://www.copdgene.org" in capsys.readouterr().err


def test_empire10_is_scored_and_written_for_its_organisers(evaluate, registered, tmp_path, capsys):
    rng = np.random.default_rng(0)
    mask = np.zeros(SHAPE, np.uint8)
    mask[4:10, 4:12, 3:10] = mask[12:18, 4:12, 3:10] = 1
    for folder in ("scans", "lungMasks"):
        (tmp_path / "data" / folder).mkdir(parents=True)
        for role in ("Fixed", "Moving"):
            data = rng.integers(-1000, 200, SHAPE).astype(np.int16) if folder == "scans" else mask
            image = sitk.GetImageFromArray(data.transpose(2, 1, 0))
            image.SetSpacing((2.0, 1.5, 3.0))
            sitk.WriteImage(image, str(tmp_path / "data" / folder / f"21_{role}.mhd"))
    arguments = ["--empire10", str(tmp_path / "data"), "--out", str(tmp_path / "out")]
    assert evaluate([*arguments, "--method", "initial", "classical"]) == 0
    place = tmp_path / "out" / "empire10" / "submission" / "classical" / "21"
    written = [sitk.ReadImage(str(place / f"def{axis}.mhd")) for axis in "XYZ"]
    voxel = (5, 6, 7)  # the field is in voxels and both grids agree: spacing makes it mm
    expected = voxel_displacement(np.array(voxel)) * (2.0, 1.5, 3.0)
    np.testing.assert_allclose([image[voxel] for image in written], expected, rtol=1e-5)
    initial, ours, *theirs = rows_of(tmp_path / "out" / "empire10" / "methods.json")
    assert initial["boundary %"] == 0.0 < ours["boundary %"]
    assert (theirs[1]["boundary %"], theirs[1]["TRE mm"], theirs[1]["folds %"]) == (
        0.07,
        1.01,
        0.02,
    )
    assert evaluate(["--empire10", str(tmp_path / "none")]) == 1
    assert "Register at https://empire10.grand-challenge.org" in capsys.readouterr().err


def test_learn2reg_is_scored_and_written_in_its_format(evaluate, registered, tmp_path):
    """Against the definitions of github.com/MDL-UzL/L2R, computed from the written files alone."""
    rng = np.random.default_rng(0)
    affine, pairs, expected = np.diag([-2.0, 1.5, 3.0, 1.0]), [], {}
    mask = np.zeros(SHAPE, np.uint8)
    mask[4:18, 4:12, 3:10] = 1
    for folder in ("imagesTr", "masksTr", "keypointsTr", "labelsTr"):
        (tmp_path / folder).mkdir()
    for subject in ("0101", "0102"):
        for scan in ("0000", "0001"):
            name = f"NLST_{subject}_{scan}"
            ct = rng.uniform(-1000, 200, SHAPE)
            write_volume(tmp_path / "imagesTr" / f"{name}.nii.gz", Volume(ct, affine))
            for folder in ("masksTr", "labelsTr"):
                write_volume(tmp_path / folder / f"{name}.nii.gz", Volume(mask, affine))
            points = rng.integers(5, 10, (6, 3))
            np.savetxt(tmp_path / "keypointsTr" / f"{name}.csv", points, "%.5f", delimiter=",")
        images = [f"./imagesTr/NLST_{subject}_{scan}.nii.gz" for scan in ("0000", "0001")]
        pairs.append(dict(zip(("fixed", "moving"), images, strict=True)))
    dataset = tmp_path / "NLST_dataset.json"
    dataset.write_text(json.dumps({"name": "NLST", "registration_val": pairs}), encoding="utf-8")
    arguments = ["--learn2reg", str(dataset), "--out", str(tmp_path / "out")]
    assert evaluate([*arguments, "--method", "classical"]) == 0
    out = tmp_path / "out" / "learn2reg"
    for subject in ("0101", "0102"):
        file = out / "submission" / "classical" / f"disp_{subject}_{subject}.nii.gz"
        disp = nibabel.load(file).get_fdata()
        fixed, moving = (
            np.loadtxt(tmp_path / "keypointsTr" / f"NLST_{subject}_{scan}.csv", delimiter=",")
            for scan in ("0000", "0001")
        )
        shift = [ndimage.map_coordinates(disp[..., c], fixed.T) for c in range(3)]
        errors = np.linalg.norm((fixed + np.stack(shift, 1) - moving) * (2, 1.5, 3), axis=1)
        warped = ndimage.map_coordinates(
            mask, np.indices(SHAPE) + disp.transpose(3, 0, 1, 2), order=0
        )
        dice = 2 * np.sum(warped * mask) / (warped.sum() + mask.sum())
        gradients = np.stack(np.gradient(disp, axis=(0, 1, 2)), axis=-1)  # central inside
        determinant = np.linalg.det(gradients + np.eye(3))[2:-2, 2:-2, 2:-2]
        logs = np.log(np.clip(determinant + 3, 1e-9, 1e9))
        expected[subject] = errors.mean(), dice, logs[mask[2:-2, 2:-2, 2:-2] > 0].std()
    rows = rows_of(out / "cases-classical.json")
    for row, (tre, dice, sd_log) in zip(rows, expected.values(), strict=False):
        assert row["keypoint TRE mm"] == pytest.approx(tre, rel=1e-4)
        assert row["Dice"] == pytest.approx(dice, rel=1e-4)
        assert row["SDlogJ"] == pytest.approx(sd_log, abs=1e-5)
        assert row["folded voxels"] == 0.0
    (summary,) = rows_of(out / "methods.json")
    dice = [values[1] for values in expected.values()]
    assert summary["DSC30"] == pytest.approx(np.quantile(dice, 0.3), rel=1e-4)
