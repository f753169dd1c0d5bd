"""`jaxreg evaluate` with several methods side by side, on a manifest."""

import jax
import numpy as np
import pytest
from evaluation_data import constant_field, rows_of

from jaxreg.config import NetworkConfig
from jaxreg.geometry.volume import Volume
from jaxreg.io.nifti import write_displacement
from jaxreg.network.cascade import init_level
from jaxreg.network.weights import save_weights

sitk = pytest.importorskip("SimpleITK")


def test_manifest_scores_labels_and_landmarks(evaluate, registered, labelled, tmp_path):
    arguments = ["--manifest", str(labelled[0]), "--out", str(tmp_path / "out")]
    assert evaluate([*arguments, "--method", "initial", "affine", "--cases", "a/b"]) == 0
    (start,) = rows_of(tmp_path / "out" / "manifest" / "cases-initial.json")
    assert start["TRE mm"] == start["keypoint TRE mm"] == pytest.approx(5.0, abs=1e-3)
    assert (start["Dice"], start["ASD mm"], start["HD mm"], start["HD95 mm"]) == (1.0, 0, 0, 0)
    assert start["boundary %"] == 0.0
    assert "TRE snap mm" not in start
    (moved,) = rows_of(tmp_path / "out" / "manifest" / "cases-affine.json")
    assert 0 < moved["Dice"] < 1 and moved["HD mm"] > 0 and moved["seconds"] >= 0
    assert moved["process GB"] > 0.1 and moved["inverse-consistency mm"] < 0.01
    labels = rows_of(tmp_path / "out" / "manifest" / "labels.json")
    assert [(row["method"], row["label"]) for row in labels] == [
        *[("initial", "1"), ("initial", "2"), ("affine", "1"), ("affine", "2")]
    ]


def test_fields_of_other_tools_are_scored_alike(evaluate, labelled, tmp_path, capsys):
    manifest, ct = labelled
    truth, none = constant_field(ct, [3.0, 0.0, 4.0]), constant_field(ct, [0.0, 0.0, 0.0])
    for tool, field in (("perfect", truth), ("still", none)):
        (tmp_path / tool).mkdir()
        for case in ("a%2Fb", "c"):
            write_displacement(tmp_path / tool / f"{case}.nii.gz", field)
    lps = sitk.GetImageFromArray((truth.data * [-1, -1, 1]).transpose(2, 1, 0, 3), isVector=True)
    lps.SetSpacing((2.0, 1.5, 3.0))
    lps.SetDirection((1, 0, 0, 0, -1, 0, 0, 0, 1))  # the affine above in LPS
    (tmp_path / "perfect" / "c.nii.gz").unlink()
    sitk.WriteImage(lps, str(tmp_path / "perfect" / "c.mha"))
    arguments = ["--manifest", str(manifest), "--out", str(tmp_path / "out"), "--fields"]
    arguments += [f"{tool}={tmp_path / tool}" for tool in ("perfect", "still")]
    assert evaluate(arguments) == 0
    scores = rows_of(tmp_path / "out" / "manifest" / "methods.json")
    assert [row["method"] for row in scores] == ["initial", "perfect", "still"]
    assert [row["TRE mm"] for row in scores] == pytest.approx([5.0, 0.0, 5.0], abs=1e-3)
    assert "seconds" not in scores[0]  # reading a file is no registration
    assert scores[2]["Dice"] == 1.0
    compared = rows_of(tmp_path / "out" / "manifest" / "comparisons.json")
    assert {row["tests"] for row in compared} == {6}
    assert "which method is better" in capsys.readouterr().out

    write_displacement(tmp_path / "still" / "c.nii.gz", truth)  # another field: done again
    (tmp_path / "perfect" / "c.mha").unlink()
    assert evaluate(arguments) == 1
    error = capsys.readouterr().err
    assert "manifest c perfect: " in error and "expected one displacement field c ending" in error
    rows = rows_of(tmp_path / "out" / "manifest" / "cases-still.json")
    assert [row["TRE mm"] for row in rows[:2]] == pytest.approx([5.0, 0.0], abs=1e-3)

    other = Volume(np.zeros((5, 6, 7), np.float32), ct.affine)
    write_displacement(tmp_path / "still" / "c.nii.gz", constant_field(other, [0.0, 0.0, 0.0]))
    assert evaluate(arguments) == 1
    assert "expected one grid, got 22 x 18 x 14 voxels" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["ants", "ants=", "=x", "full=x", "a/b=x"])
def test_names_of_methods_are_checked(evaluate, text, capsys):
    assert evaluate(["--fields", text]) == 2
    message = " ".join(capsys.readouterr().err.split())
    assert "expected NAME=PATH with a name of letters, digits" in message
    assert f"none of initial, affine, cascade, classical, full, got '{text}'" in message


def save_tiny(path, *, levels=1):
    config = NetworkConfig(grid=(16, 16, 16), levels=levels, widths=(2, 2), convs=1)
    keys = jax.random.split(jax.random.key(0), levels)
    params = {f"level_{k + 1}": init_level(keys[k], config) for k in range(levels)}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_weights(path, params, config)


@pytest.mark.slow
def test_networks_of_files_stand_side_by_side(evaluate, registered, labelled, tmp_path):
    for name, levels in (("one", 1), ("two", 2)):
        save_tiny(tmp_path / f"{name}.npz", levels=levels)
    arguments = ["--manifest", str(labelled[0]), "--out", str(tmp_path / "out"), "--networks"]
    arguments += [f"{name}={tmp_path / f'{name}.npz'}" for name in ("one", "two")]
    assert evaluate([*arguments, "--method", "initial", "affine"]) == 0
    assert registered == ["affine", "cascade", "cascade"] * 2
    rows = rows_of(tmp_path / "out" / "manifest" / "methods.json")
    assert [row["method"] for row in rows] == ["initial", "affine", "one", "two"]
    save_tiny(tmp_path / "two.npz", levels=1)  # other weights under the same name
    assert evaluate([*arguments, "--method", "initial", "affine"]) == 0
    assert registered[6:] == ["cascade"] * 2


def test_a_name_stands_for_one_method(evaluate, tmp_path, capsys):
    save_tiny(tmp_path / "w.npz")
    arguments = ["--networks", f"a={tmp_path / 'w.npz'}", "--fields", f"a={tmp_path}"]
    assert evaluate(arguments) == 1
    assert "expected methods of different names" in capsys.readouterr().err


def test_ablation_prints_what_is_trained_and_names_what_is_not(
    evaluate, registered, labelled, tmp_path, capsys
):
    arguments = ["--manifest", str(labelled[0]), "--out", str(tmp_path / "out")]
    arguments += ["--ablation", str(tmp_path / "runs")]
    assert evaluate(arguments) == 1
    assert "not trained yet: beta0, gamma0, delta0, L1, L2, proposed" in capsys.readouterr().err
    for variant in ("proposed", "L1"):
        save_tiny(tmp_path / "runs" / variant / "weights.npz")
    assert evaluate(arguments) == 0
    assert registered == ["cascade"] * 4
    captured = capsys.readouterr()
    assert (
        "not trained yet: beta0, gamma0, delta0, L2; jaxreg train --config ablation/NAME"
        in captured.err
    )
    assert "| gamma = 0 | not trained |" in captured.out
    rows = rows_of(tmp_path / "out" / "manifest" / "ablation.json")
    assert [row["TRE mm"] is None for row in rows] == [True, True, True, False, True, False]
    assert rows[3]["publ. Dice"] == 0.93 and rows[3]["TRE stars"] == ""


def test_export_writes_what_other_tools_read(evaluate, labelled, tmp_path, capsys):
    arguments = ["--manifest", str(labelled[0]), "--export", str(tmp_path / "images")]
    assert evaluate([*arguments, "--cases", "c"]) == 0
    manifest = tmp_path / "images" / "manifest" / "pairs.json"
    assert str(manifest) in capsys.readouterr().out
    again = ["--manifest", str(manifest), "--method", "initial", "--out", str(tmp_path / "out")]
    assert evaluate(again) == 0
    (row,) = rows_of(tmp_path / "out" / "manifest" / "cases-initial.json")
    assert row["TRE mm"] == pytest.approx(5.0, abs=1e-3) and row["Dice"] == 1.0
