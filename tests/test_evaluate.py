"""`jaxreg evaluate` on small data in the layouts of the data sets, with known fields."""

import dataclasses
import json
import re

import numpy as np
import pytest
from evaluation_data import SHAPE, rows_of, voxel_displacement

from jaxreg.benchmark import cases, published, results
from jaxreg.datasets.dirlab_reference import DATASETS

SPACING_MM = (0.97, 0.97, 2.5)  # of case 6


@pytest.fixture
def dirlab(tmp_path, monkeypatch):
    """Cases 6 and 7 as distributed, on a smaller grid; returns folder and landmarks by case."""
    table = DATASETS["4dct"].cases
    points = {}
    for case in (6, 7):
        monkeypatch.setitem(table, case, dataclasses.replace(table[case], shape=SHAPE))
        rng = np.random.default_rng(case)
        fixed = rng.integers(2, np.array(SHAPE) - 3, (300, 3))
        moving = np.rint(fixed + voxel_displacement(fixed)).astype(int)
        moving += rng.integers(-1, 2, (300, 3)) * (rng.random((300, 1)) < 0.2)
        moving = np.clip(moving, 0, np.array(SHAPE) - 1)
        points[case] = fixed, moving
        folder = tmp_path / "data" / f"Case{case}Pack"
        (folder / "Images").mkdir(parents=True)
        (folder / "extremePhases").mkdir()
        for phase, voxels in zip(("T00", "T50"), points[case], strict=True):
            name = f"case{case}_dirLab300_{phase}_xyz.txt"
            np.savetxt(folder / "extremePhases" / name, voxels + 1, fmt="%d")  # 1-based
            raw = rng.integers(0, 1200, SHAPE[::-1]).astype("<i2")
            raw.tofile(folder / "Images" / f"case{case}_{phase}.img")
    return tmp_path / "data", points


def by_hand(fixed, moving, *, snapped):
    errors = []
    for p, q in zip(fixed, moving, strict=True):
        mapped = p + voxel_displacement(p)
        if snapped:
            mapped = np.floor(mapped + 0.5)
        errors.append(np.sqrt(sum(((mapped[i] - q[i]) * SPACING_MM[i]) ** 2 for i in range(3))))
    return np.array(errors)


def test_dirlab_scores_a_known_field_in_both_protocols(
    evaluate, registered, dirlab, tmp_path, capsys
):
    folder, points = dirlab
    arguments = ["--dirlab", str(folder), "--method", "initial", "classical"]
    assert evaluate([*arguments, "--out", str(tmp_path / "out")]) == 0
    assert registered == ["classical", "classical"]
    table = rows_of(tmp_path / "out" / "dirlab" / "cases-classical.json")
    pooled = {}
    for kind, snapped in (("", False), (" snap", True)):
        errors = [by_hand(*points[case], snapped=snapped) for case in (6, 7)]
        pooled[kind] = np.concatenate(errors)
        expected = [*(e.mean() for e in errors), pooled[kind].mean()]
        assert [row[f"TRE{kind} mm"] for row in table[:3]] == pytest.approx(expected, abs=1e-5)
        expected = [*(e.std() for e in errors), pooled[kind].std()]
        assert [row[f"sd{kind}"] for row in table[:3]] == pytest.approx(expected, abs=1e-5)
        assert table[2][f"p95{kind}"] == pytest.approx(np.percentile(pooled[kind], 95), abs=1e-5)
    assert not np.isclose(pooled[""].mean(), pooled[" snap"].mean(), atol=0.05)
    assert table[0]["folds %"] == 0.0 and table[0]["uncertified %"] == 0.0
    assert [row["case"] for row in table] == ["6", "7", "all landmarks", "mean of cases"]

    start = rows_of(tmp_path / "out" / "dirlab" / "cases-initial.json")
    moved = [np.linalg.norm((p - q) * SPACING_MM, axis=1).mean() for p, q in points.values()]
    assert [row["TRE mm"] for row in start[:2]] == pytest.approx(moved)
    table_5 = rows_of(tmp_path / "out" / "dirlab" / "tre.json")
    assert [row["publ. initial"] for row in table_5[:2]] == [10.89, 11.03]
    assert [row["publ. the paper"] for row in table_5[:2]] == [1.15, 1.05]
    assert [row["initial mm"] for row in table_5[:2]] == pytest.approx(moved)
    for kind, errors in (("", False), (" snap", True)):
        expected = [by_hand(*points[case], snapped=errors).mean() for case in (6, 7)]
        found = [row[f"classical{kind} mm"] for row in table_5[:2]]
        assert found == pytest.approx(expected, abs=1e-5)

    printed, told = capsys.readouterr()
    assert re.sub(r"\d+ s", "N s", told) == "dirlab 6: N s\ndirlab 7: N s\n"
    assert "fixed: T00 (inhale)" in printed
    for entry in published.DIRLAB:
        assert f"published: {entry.method} " in printed
    for name in published.DIRLAB_CASES:
        assert f" publ. {name} |" in printed
    assert f"{pooled[' snap'].mean():.2f}" in printed
    names = {path.name for path in (tmp_path / "out" / "dirlab").iterdir()}
    stems = ("cases-initial", "cases-classical", "comparisons", "methods", "tre")
    tables = {f"{stem}.{ending}" for stem in stems for ending in ("md", "csv", "json")}
    pictures = {"report.html", "tre.png", "images.png", "jacobian.png"}
    assert names == tables | pictures | {"cases"}
    assert (tmp_path / "out" / "dirlab" / "cases" / "6-classical.png").stat().st_size > 10_000
    assert (tmp_path / "out" / "dirlab" / "cases" / "6-classical.npz").is_file()


def test_copdgene_starts_from_its_own_spacing(evaluate, tmp_path, capsys):
    rng = np.random.default_rng(0)
    fixed, moving = (rng.integers(1, (512, 512, 102), (300, 3)) for _ in range(2))
    for phase, points in (("iBH", fixed), ("eBH", moving)):
        np.savetxt(tmp_path / f"copd2_300_{phase}_xyz_r1.txt", points, fmt="%d")
    out = ["--method", "initial", "--out", str(tmp_path / "out")]
    assert evaluate(["--dirlab-copd", str(tmp_path), *out]) == 0
    (row,) = rows_of(tmp_path / "out" / "dirlab-copd" / "cases-initial.json")
    expected = np.linalg.norm((fixed - moving) * (0.645, 0.645, 2.5), axis=1).mean()
    assert row["TRE mm"] == pytest.approx(expected)
    table = rows_of(tmp_path / "out" / "dirlab-copd" / "tre.json")
    assert table[0]["initial mm"] == pytest.approx(expected)
    assert (table[0]["publ. initial"], table[0]["publ. observers"]) == (21.77, 1.06)
    assert "fixed: iBH (inhale)" in (printed := capsys.readouterr().out)
    assert "published: Polzin 2016" in printed


def test_initial_needs_landmark_files_alone(evaluate, dirlab, tmp_path, capsys):
    folder, _ = dirlab
    for image in folder.rglob("*.img"):
        image.unlink()
    out = ["--out", str(tmp_path / "out")]
    assert evaluate(["--dirlab", str(folder), "--method", "initial", *out]) == 0
    assert evaluate(["--dirlab", str(folder), "--method", "classical", *out]) == 1
    assert "expected Case7Pack/Images/case7_T00_s.img" in capsys.readouterr().err


def test_a_bad_case_is_reported_and_the_others_are_done(
    evaluate, registered, dirlab, tmp_path, capsys
):
    folder, _ = dirlab
    path = next(folder.rglob("case6_dirLab300_T50_xyz.txt"))
    whole = path.read_text(encoding="utf-8")
    path.write_text("\n".join(whole.splitlines()[:299]), encoding="utf-8")
    arguments = ["--dirlab", str(folder), "--method", "classical", "--out", str(tmp_path / "out")]
    assert evaluate(arguments) == 1
    assert "dirlab 6 classical: " in (error := capsys.readouterr().err)
    assert "expected 300 landmarks, got 299" in error
    table = rows_of(tmp_path / "out" / "dirlab" / "cases-classical.json")
    assert [row["case"] for row in table] == ["6", "7"]
    assert "299" in table[0]["error"] and table[1]["TRE mm"] > 0
    path.write_text(whole, encoding="utf-8")  # mended: only the case that failed is done again
    assert evaluate(arguments) == 0
    assert registered == ["classical"] * 2


def test_a_run_goes_on_where_it_was_stopped(evaluate, registered, dirlab, tmp_path, monkeypatch):
    folder, _ = dirlab
    arguments = ["--dirlab", str(folder), "--method", "classical", "--out", str(tmp_path / "out")]
    assert evaluate([*arguments, "--cases", "7"]) == 0
    assert evaluate(arguments) == 0
    assert registered == ["classical"] * 2  # case 7 once
    table = tmp_path / "out" / "dirlab" / "cases-classical.csv"
    first = table.read_text(encoding="utf-8")
    assert evaluate(arguments) == 0
    assert table.read_text(encoding="utf-8") == first and len(registered) == 2
    assert evaluate([*arguments, "--cases", "7", "--fresh"]) == 0
    assert len(registered) == 3
    monkeypatch.setattr("jaxreg.benchmark.run.versions", lambda: {"jaxreg": "another"})
    assert evaluate([*arguments, "--cases", "7"]) == 0
    assert len(registered) == 4


def test_methods_without_networks_do_not_depend_on_weights(
    evaluate, registered, dirlab, tmp_path, monkeypatch
):
    arguments = ["--dirlab", str(dirlab[0]), "--cases", "7", "--out", str(tmp_path / "out")]
    params = {"level_1": {"kernel": np.zeros(3, np.float32)}}
    monkeypatch.setattr("jaxreg.network.weights.load_named", lambda name: (params, None))
    assert evaluate([*arguments, "--method", "classical"]) == 0
    assert evaluate([*arguments, "--method", "classical", "cascade"]) == 0
    assert registered == ["classical", "cascade"]
    params["level_1"]["kernel"] += 1  # other weights
    assert evaluate([*arguments, "--method", "classical", "cascade"]) == 0
    assert registered == ["classical", "cascade", "cascade"]


def test_the_phantom_is_the_default(evaluate, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cases, "PHANTOM_SHAPE", (32, 26, 30))
    monkeypatch.setattr(cases, "PHANTOM_CASES", 1)
    assert evaluate(["--method", "initial", "--out", str(tmp_path)]) == 0
    (row,) = rows_of(tmp_path / "phantom" / "cases-initial.json")
    assert row["TRE mm"] > 1 and 0.5 < row["Dice"] < 1
    labels = [row["label"] for row in rows_of(tmp_path / "phantom" / "labels.json")]
    assert labels == ["right upper", "right middle", "right lower", "left upper", "left lower"]
    assert "fixed: inhale" in capsys.readouterr().out
    assert evaluate(["--method", "initial", "--out", str(tmp_path), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["phantom"]
    assert told["failed"] == [] and told["tables"]["cases-initial"] == [row]


def test_what_is_missing_is_named(evaluate, dirlab, tmp_path, capsys):
    out = ["--out", str(tmp_path / "out"), "--method", "initial"]
    assert evaluate(["--dirlab", str(tmp_path / "nowhere"), *out]) == 1
    assert "Request the data at https://" in capsys.readouterr().err
    assert evaluate(["--dirlab", str(dirlab[0]), "--cases", "6", "11", *out]) == 1
    assert "cases: expected some of 6, 7, got 11." in capsys.readouterr().err
    assert evaluate(["--manifest", str(tmp_path / "none.json"), *out]) == 1
    assert "none.json: expected a manifest, got no such file" in capsys.readouterr().err
    missing = str(tmp_path / "w.npz")
    assert evaluate(["--dirlab", str(dirlab[0]), "--method", "full", "--weights", missing]) == 1
    assert "weights" in capsys.readouterr().err


def test_a_record_in_words():
    record = results.Record("1", "full", tre_mm=[1.0, 3.0], seconds=12.34)
    change = {"determinant": {"folds": 0.0001}, "uncertified": 0.0}
    assert dataclasses.replace(record, **change).lines() == (
        "2 landmarks: TRE 2.00 ± 1.00 mm, 95th percentile 2.90 mm",
        "lungs: 0.01 % of voxels folded (central differences), "
        "0 % of cells not certified free of folds",
        "12.3 s",
    )
    assert results.Record("1", "full", error="no").lines() == ()


def test_damaged_records_are_done_again(tmp_path):
    record = results.Record("1", "full", tre_mm=[1.0, 2.0], tre_snapped_mm=[1.0, 1.0], seconds=3.0)
    path = tmp_path / "1.json"
    results.write_record(path, record, inputs={"a": (1, 2)})
    assert results.read_record(path, inputs={"a": (1, 2)}) == record
    assert results.read_record(path, inputs={"a": (1, 3)}) is None
    path.write_text(path.read_text(encoding="utf-8")[:50], encoding="utf-8")
    assert results.read_record(path, inputs={"a": (1, 2)}) is None
    results.write_record(path, dataclasses.replace(record, error="no"), inputs={})
    assert results.read_record(path, inputs={}) is None
